"""The picture of one image and what a model makes of it. Arrays in, no torch.

The pieces (`draw_image`, `draw_overlay`, `draw_tile`, `draw_probabilities`) draw into anybody's axes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.errors import UserError
from bench.inference.gallery_file import ImageView
from bench.report.plots.style import DPI, FAINT, INK, LITERAL, WIDTH, class_labels, house_style, save, shortened

Array = NDArray[Any]

HEAT = LinearSegmentedColormap.from_list("heat", ["#000000", "#6d1b6b", "#e2571e", "#ffe14d"])
SIGNED = "PuOr"  # of kernels: a colour for each sign, white for zero; colour-blind readers tell them apart
IMAGE_SHARE = 0.4  # of an image's brightness under the heat that lies over it
MOST_BARS = 10  # classes with a bar of their own
MOST_COLUMNS, MOST_ROWS = 12, 12  # small pictures beside each other, and rows of them
TITLE, LARGE, LINE, GAP, EDGE = 0.72, 2.1, 0.22, 0.1, 0.14  # inches: title; large panels; a line of text; between; rim
ROOM_FOR_WORDS = 0.85  # inches under a small picture


def picture_of(look: ImageView) -> Figure:
    """The image, what the model says and where it looks; below, every head of every block, or the first filters."""
    with house_style([look.title, *look.class_names]):
        sheet = _Sheet(_height(look))
        sheet.text(EDGE, 0.24, shortened(look.title, 90), fontsize=13, fontweight="bold")
        sheet.text(EDGE, 0.47, shortened(look.said, 150), fontsize=9, color=FAINT)
        down, lower = TITLE + LINE, TITLE + LARGE + 3 * LINE
        truth = [] if look.truth is None else class_labels([look.class_names[look.truth]], 24)
        sheet.heading(EDGE, down, ": ".join(["the image", *truth]))
        draw_image(sheet.axes(EDGE, down, LARGE), look.image)
        sheet.heading(2.75, down, "how sure the model is, %")
        draw_probabilities(sheet.axes(4.0, down, 1.6, LARGE), look.probabilities, look.class_names, look.truth)
        left, right = WIDTH - 2 * LARGE - EDGE - 0.25, WIDTH - LARGE - EDGE
        if look.rollout is None:
            sheet.heading(left, down, "saliency, pixel by pixel")
            draw_tile(sheet.axes(left, down, LARGE), look.saliency, HEAT)
        else:
            sheet.heading(left, down, "attention rollout")
            draw_overlay(sheet.axes(left, down, LARGE), look.image, look.rollout)
        sheet.heading(right, down, "saliency over the image")
        draw_overlay(sheet.axes(right, down, LARGE), look.image, look.saliency)
        if look.attention is not None:
            _attention(sheet, lower, look.image, look.attention)
        elif look.kernels is not None and look.responses is not None:
            _filters(sheet, lower, look.kernels, look.responses)
    return sheet.figure


def save_picture(path: Path, figure: Figure) -> None:
    """A PNG, whole or not at all. Raises: UserError where it can't be written."""
    with house_style([]):
        content = save(figure, "png")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file") from None


def draw_image(axes: Axes, image: Array) -> None:
    """An image (H, W) or (H, W, 3), uint8, pixel by pixel."""
    _bare(axes)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")


def draw_tile(axes: Axes, values: Array, colours: Any, reach: float | None = None) -> None:
    """Numbers (H, W) as colours: from 0 to their largest, or from -reach to reach."""
    _bare(axes)
    low, high = (0.0, float(values.max())) if reach is None else (-reach, reach)
    axes.imshow(values, cmap=colours, vmin=low, vmax=high or 1.0, interpolation="nearest", aspect="auto")


def draw_overlay(axes: Axes, image: Array, values: Array) -> None:
    """Numbers >= 0 of any size as heat over an image (H, W) or (H, W, 3), scaled to their own largest."""
    _bare(axes)
    grey = image.astype(float) / 255
    grey = grey if grey.ndim == 2 else grey.mean(axis=2)
    rows, columns = (np.arange(n) * size // n for n, size in zip(grey.shape, values.shape, strict=True))
    spread = values[rows][:, columns].astype(float)
    heat = HEAT(spread / (spread.max() or 1.0))[..., :3]
    mixed = IMAGE_SHARE * grey[..., None] + (1 - IMAGE_SHARE) * heat
    axes.imshow(mixed, interpolation="nearest", aspect="auto")


def draw_probabilities(axes: Axes, probabilities: Array, class_names: Sequence[str], truth: int | None) -> None:
    """A bar a class, in the classes' order; of many classes the likeliest, and the truth. The prediction is dark."""
    likely = np.argsort(-probabilities, kind="stable")[:MOST_BARS].tolist()
    if truth is not None and truth not in likely:
        likely[-1] = truth
    shown = sorted(likely) if len(probabilities) <= MOST_BARS else likely
    shares = 100 * probabilities[shown]
    places = list(range(len(shown)))
    colours = [INK if index == probabilities.argmax() else "#bdbdbd" for index in shown]
    axes.barh(places, shares, height=0.72, color=colours)
    for place, share in zip(places, shares.tolist(), strict=True):
        axes.text(share + 2, place, _percent(share), va="center", fontsize=8, color=INK)
    labels = class_labels([class_names[i] for i in shown], 13)
    names = [f"{name} (truth)" if i == truth else name for i, name in zip(shown, labels, strict=True)]
    axes.set_yticks(places, names, fontsize=9, **LITERAL)
    for text, index in zip(axes.get_yticklabels(), shown, strict=True):
        text.set_fontweight("bold" if index == truth else "normal")
    axes.set(xlim=(0, 100), ylim=(max(len(shown), 5) - 0.4, -0.6), xticks=[])
    axes.grid(visible=False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _percent(share: float) -> str:
    return "<0.1" if share < 0.05 else f"{share:.1f}"


class _Sheet:
    """A figure whose places are inches from its upper left corner, so that small pictures stay square and flush."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI)

    def axes(self, left: float, top: float, width: float, height: float | None = None) -> Axes:
        high = height or width
        return self.figure.add_axes((left / WIDTH, 1 - (top + high) / self.height, width / WIDTH, high / self.height))

    def text(self, left: float, down: float, text: str, **style: Any) -> None:
        self.figure.text(left / WIDTH, 1 - down / self.height, text, va="center", **LITERAL, **style)

    def heading(self, left: float, down: float, text: str) -> None:
        """Above what begins at `down`."""
        self.text(left, down - LINE / 2, text, fontsize=9.5)


@dataclass(frozen=True)
class _Grid:
    """Where small pictures lie: blocks of `width` of them beside each other, `blocks` in a row."""

    width: int
    blocks: int
    rows: int

    @property
    def side(self) -> float:
        columns, gaps = self.width * self.blocks, (self.blocks - 1) * 2 * GAP
        return min(1.5, (WIDTH - 2 * EDGE - gaps + GAP) / columns - GAP)

    def left(self, block: int, column: int) -> float:
        place = block % self.blocks
        return EDGE + (place * self.width + column) * (self.side + GAP) + place * 2 * GAP

    def height(self, lines: int) -> float:
        """Inches of all rows, each with so many lines of text."""
        return self.rows * (self.side + lines * LINE + GAP)


def _attention_grid(attention: Array) -> _Grid:
    depth, heads = attention.shape[:2]
    width = min(heads, MOST_COLUMNS)
    blocks = min(max(1, 10 // width), depth)
    return _Grid(width, blocks, min(MOST_ROWS, -(-depth // blocks)))


def _filter_grid(kernels: Array) -> _Grid:
    return _Grid(min(len(kernels), MOST_COLUMNS), 1, 2)


def _height(look: ImageView) -> float:
    top = TITLE + LINE + LARGE + EDGE
    if look.attention is not None:
        return top + 2 * LINE + _attention_grid(look.attention).height(2)
    return top + (2 * LINE + _filter_grid(look.kernels).height(0) if look.kernels is not None else 0)


def _attention(sheet: _Sheet, down: float, image: Array, attention: Array) -> None:
    """Every head of every block; of very deep nets evenly spread blocks, of very wide ones the first heads."""
    depth, heads, *sides = attention.shape
    grid = _attention_grid(attention)
    shown = np.linspace(0, depth - 1, min(depth, grid.rows * grid.blocks)).round().astype(int).tolist()
    said = f"attention of each head, and its largest share for one patch (evenly spread: {100 / np.prod(sides):.2g}%)"
    said += "" if len(shown) == depth else f"; {len(shown)} of {depth} blocks"
    said += "" if grid.width == heads else f"; {grid.width} of {heads} heads"
    word = "head " if grid.side > ROOM_FOR_WORDS else ""
    sheet.heading(EDGE, down, said)
    for place, block in enumerate(shown):
        top = down + LINE + place // grid.blocks * (grid.side + 2 * LINE + GAP)
        sheet.text(grid.left(place, 0), top - LINE / 2, f"block {block + 1}", fontsize=8.5, fontweight="bold")
        for head in range(grid.width):
            left, share = grid.left(place, head), attention[block, head]
            draw_overlay(sheet.axes(left, top, grid.side), image, share)
            sheet.text(left, top + grid.side + LINE / 2, f"{word}{head + 1}: {100 * share.max():.0f}%", fontsize=8)


def _filters(sheet: _Sheet, down: float, kernels: Array, responses: Array) -> None:
    """The first convolution's kernels that answer most to the image, and their answers; each in a scale of its own."""
    grid = _filter_grid(kernels)
    order = np.argsort(-np.abs(responses).mean(axis=(1, 2)), kind="stable")[: grid.width].tolist()
    count = f"{len(order)} of {len(kernels)}, the strongest" if len(order) < len(kernels) else "the strongest first"
    said = f"first filters ({count}) and what they make of the image; purple adds, orange subtracts"
    sheet.heading(EDGE, down, said)
    for column, index in enumerate(order):
        for row, values in enumerate((kernels[index], responses[index])):
            top = down + row * (grid.side + GAP)
            draw_tile(sheet.axes(grid.left(0, column), top, grid.side), values, SIGNED, float(np.abs(values).max()))


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
