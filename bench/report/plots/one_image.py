"""The figure of one image and what a saved model makes of it. Arrays in, no torch."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.errors import UserError
from bench.inference.gallery_file import Array, ImageView
from bench.report.plots.contact_sheet import GAP, HEAT, MARGIN, ContactSheet, colours, overlay, signed_colours, squares
from bench.report.plots.style import INK, TITLE_INCHES, WIDTH, class_labels, house_style, save, shortened
from bench.system.files import write_atomically

MOST_BARS = 10  # classes with a bar of their own
MOST_COLUMNS, MOST_ROWS = 12, 12  # small images beside each other, and rows of them
LARGE, LINE = 2.1, 0.22  # inches: the images above, and a line of text
ROOM_FOR_WORD = 0.85  # inches under a small image
Tile = tuple[str, Array, str]  # text above a small image, its pixels, text below


def picture_of(look: ImageView) -> Figure:
    """The image, what the model says and where it looks; below, every head of every block, or the first filters."""
    heading, rows, together = "", list[list[Tile]](), 1  # columns that stand closer together
    if look.attention is not None:
        heading, rows, together = _heads(look.image, look.attention)
    elif look.kernels is not None and look.responses is not None:
        heading, rows, together = _filters(look.kernels, look.responses)
    side, pitch = squares(len(rows[0]) if rows else 1, (len(rows[0]) // together - 1) * 2 * GAP if rows else 0, 1.5)
    pitch_down = side + (2 * LINE if look.attention is not None else GAP)
    with house_style([look.title, *look.class_names]):
        sheet = ContactSheet(LINE + LARGE + (2.5 * LINE + len(rows) * pitch_down if rows else 0))
        _large_images(sheet, look)
        top = TITLE_INCHES + LARGE + 3.5 * LINE
        sheet.write(MARGIN, top - LINE - 0.07, heading, ha="left", fontsize=9.5)
        for row in rows:
            for column, (above, pixels, below) in enumerate(row):
                x = MARGIN + column * pitch + column // together * 2 * GAP
                sheet.image(x, top, side, pixels)
                sheet.write(x, top - 0.06, above, ha="left", fontsize=8.5, fontweight="bold")
                word = "head " if below and side > ROOM_FOR_WORD else ""
                sheet.write(x, top + side + 0.15, word + below, ha="left")
            top += pitch_down
        return sheet.finish(shortened(look.title, 90), shortened(look.said, 150))


def save_picture(path: Path, figure: Figure) -> None:
    """A PNG, whole or not at all. Raises: UserError where it can't be written."""
    with house_style():
        content = save(figure, "png")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file") from None


def _large_images(sheet: ContactSheet, look: ImageView) -> None:
    """The image, the probabilities of the classes, and maps of what they rest on."""
    top, right = TITLE_INCHES + LINE, WIDTH - LARGE - MARGIN
    truth = [] if look.truth is None else class_labels([look.class_names[look.truth]], 24)
    second = ("saliency, pixel by pixel", colours(look.saliency, HEAT, 0, float(look.saliency.max())))
    if look.rollout is not None:
        second = ("attention rollout", overlay(look.image, look.rollout))
    for x, heading, pixels in (
        (MARGIN, ": ".join(["the image", *truth]), look.image),
        (2.75, "how sure the model is, %", None),
        (right - LARGE - 0.25, *second),
        (right, "saliency over the image", overlay(look.image, look.saliency)),
    ):
        sheet.write(x, top - 0.07, heading, ha="left", fontsize=9.5)
        if pixels is not None:
            sheet.image(x, top, LARGE, pixels)
    _probabilities(sheet.axes(4.0, top, 1.6, LARGE), look)


def _probabilities(axes: Axes, look: ImageView) -> None:
    """A bar a class, in the classes' order; of many classes the likeliest, and the truth. The prediction is dark."""
    likely = np.argsort(-look.probabilities, kind="stable")[:MOST_BARS].tolist()
    if look.truth is not None and look.truth not in likely:
        likely[-1] = look.truth
    shown = sorted(likely) if len(look.probabilities) <= MOST_BARS else likely
    shares = 100 * look.probabilities[shown]
    shades = [INK if index == look.probabilities.argmax() else "#bdbdbd" for index in shown]
    bars = axes.barh(range(len(shown)), shares, height=0.72, color=shades)
    texts = ["<0.1" if share < 0.05 else f"{share:.1f}" for share in shares]
    axes.bar_label(bars, texts, padding=2.3, fontsize=8, color=INK)
    labels = class_labels([look.class_names[i] for i in shown], 13)
    names = [f"{name} (truth)" if i == look.truth else name for i, name in zip(shown, labels, strict=True)]
    axes.set_yticks(range(len(shown)), names, fontsize=9)
    for name, index in zip(axes.get_yticklabels(), shown, strict=True):
        name.set_fontweight("bold" if index == look.truth else "normal")
    axes.set(xlim=(0, 100), ylim=(max(len(shown), 5) - 0.4, -0.6), xticks=[])
    axes.grid(visible=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _heads(image: Array, attention: Array) -> tuple[str, list[list[Tile]], int]:
    """Every head of every block; of very deep nets evenly spread blocks, of very wide ones the first heads."""
    depth, heads, *sides = attention.shape
    shown_heads = min(heads, MOST_COLUMNS)
    beside = min(max(1, 10 // shown_heads), depth)  # blocks
    blocks = np.linspace(0, depth - 1, min(depth, MOST_ROWS * beside)).round().astype(int).tolist()
    even = f"evenly spread: {100 / np.prod(sides):.2g}%"
    heading = f"attention of each head, and its largest share for one patch ({even})"
    heading += "" if len(blocks) == depth else f"; {len(blocks)} of {depth} blocks"
    heading += "" if shown_heads == heads else f"; {shown_heads} of {heads} heads"
    tiles = []
    for block in blocks:
        for head, share in enumerate(attention[block, :shown_heads]):
            above = "" if head else f"block {block + 1}"
            tiles.append((above, overlay(image, share), f"{head + 1}: {100 * share.max():.0f}%"))
    columns = beside * shown_heads
    return heading, [tiles[start : start + columns] for start in range(0, len(tiles), columns)], shown_heads


def _filters(kernels: Array, responses: Array) -> tuple[str, list[list[Tile]], int]:
    """The first convolution's kernels that answer most to the image, and their answers; each in a scale of its own."""
    order = np.argsort(-np.abs(responses).mean(axis=(1, 2)), kind="stable")[:MOST_COLUMNS].tolist()
    count = f"{len(order)} of {len(kernels)}, the strongest" if len(order) < len(kernels) else "the strongest first"
    heading = f"first filters ({count}) and what they make of the image; red adds, blue subtracts"
    rows = [[("", signed_colours(each[index]), "") for index in order] for each in (kernels, responses)]
    return heading, rows, len(order)
