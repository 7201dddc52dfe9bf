"""Plots of what trained models look at and have learned: attention, filters, position embeddings."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.analysis.formatting import listed
from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.classes import class_name
from bench.report.plots.contact_sheet import (
    GAP,
    HEAT,
    MARGIN,
    ContactSheet,
    as_pixels,
    colours,
    overlay,
    signed_colours,
    squares,
)
from bench.report.plots.plot import gallery_plot
from bench.report.plots.style import FAINT, INK, TITLE_INCHES, WIDTH, class_labels

FEWEST_PATCHES = 4  # a side; of fewer, maps show nothing
IMAGES, MOST_HEADS, MOST_BLOCKS = 3, 6, 6  # of the plot of heads
NAME = 11  # letters of a class's name above an image
HEAD, BESIDE, BAR = 0.3, 0.25, 0.85  # inches kept free: above the first row, before the first column, for a scale
APART = 0.2  # inches more between heads and blocks
COSINE: Any = matplotlib.colormaps["viridis"]


def _first_with(gallery: Gallery, *names: str) -> Any:
    """The first model that has all of these of `Insides`, and these arrays; None where no model has."""
    for shown, inside in zip(gallery.models, gallery.insides, strict=True):
        arrays = [getattr(inside, name) for name in names]
        if all(array is not None for array in arrays):
            return shown, *arrays
    return None


def _heads_alt(gallery: Gallery) -> str:
    _, heads, depths = _first_with(gallery, "attention_heads", "attention_depths")
    return (
        f"Heat maps over {heads.shape[-2]} by {heads.shape[-1]} patches: {heads.shape[1]} heads of the last block and "
        f"{depths.shape[1]} blocks. The strongest head gives one patch {_times_equal_share(heads).max():.1f} times an "
        f"equal share, the first block's mean {_times_equal_share(depths[:, 0]).max():.1f} times."
    )


@gallery_plot("Attention, head by head and block by block", alt=_heads_alt)
def attention_heads(gallery: Gallery) -> Figure | None:
    """Where the answer looks, as multiples of an equal share for every patch: the class token's attention or, in a net
    without one, the mean over all tokens.
    """
    found = _first_with(gallery, "attention_heads", "attention_depths")
    if found is None or gallery.images is None or found[1].shape[-1] < FEWEST_PATCHES:
        return None
    shown, heads, depths = found
    chosen = _spread(len(gallery.looked), IMAGES)
    some_heads, some_blocks = _spread(heads.shape[1], MOST_HEADS), _spread(depths.shape[1], MOST_BLOCKS)
    maps = np.concatenate([heads[chosen][:, some_heads], depths[chosen][:, some_blocks]], axis=1)
    names = [*(f"head {h + 1}" for h in some_heads), *(f"block {b + 1}" for b in some_blocks)]
    tiles, looked = _times_equal_share(maps), gallery.looked[chosen]
    scale = _share_scale(tiles)
    rows = []
    for image, line in zip(gallery.images[looked], tiles, strict=True):
        pixels = as_pixels(image)
        rows.append([pixels, *(overlay(pixels, tile, scale) for tile in line)])
    labels = class_labels(gallery.class_names, 9)
    beside = [(labels[k], INK) for k in gallery.labels[looked]]
    sheet = _grid(rows, ["", *names], beside, scale, apart=1 + len(some_heads))
    of_heads, of_blocks = _some(some_heads, heads.shape[1], "head"), _some(some_blocks, depths.shape[1], "block")
    subtitle = f"{shown.label}: {of_heads} of the last block; then the mean over heads in {of_blocks}"
    return sheet.finish(attention_heads.title, subtitle)


def _rollout_alt(gallery: Gallery) -> str:
    shares = _times_equal_share(_first_with(gallery, "rollout")[1])
    names = listed([class_name(gallery, k) for k in gallery.labels[gallery.looked]])
    return f"Heat maps over test images of {names}: patches get {shares.min():.2f} to {shares.max():.2f} equal shares."


@gallery_plot("Attention rollout: which patches reach the answer", alt=_rollout_alt)
def attention_rollout(gallery: Gallery) -> Figure | None:
    """Attention multiplied through all blocks, with their shortcuts counted as half (Abnar & Zuidema 2020): an estimate
    of what reaches the answer, no proof of what it rests on. n = {looked} images.
    """
    found = _first_with(gallery, "rollout")
    if found is None or gallery.images is None or found[1].shape[-1] < FEWEST_PATCHES:
        return None
    shown, tiles = found[0], _times_equal_share(found[1])
    pictures = [as_pixels(image) for image in gallery.images[gallery.looked]]
    scale = _share_scale(tiles)
    over = [overlay(image, tile, scale) for image, tile in zip(pictures, tiles, strict=True)]
    subtitle = f"{shown.label}: attention followed through all blocks and their shortcuts; 1 is an equal share"
    return _grid([pictures, over], _names(gallery), scale=scale).finish(attention_rollout.title, subtitle)


def _grid(
    rows: list[list[Array]],
    above: Sequence[str],
    beside: Sequence[tuple[str, str]] = (),
    scale: PowerNorm | None = None,
    apart: int = 0,
) -> ContactSheet:
    """A sheet of equal squares.

    Args:
        above, beside: names of columns, and of rows with their colours.
        scale: of attention, for a bar at the right.
        apart: the first column that stands further from those before it.
    """
    left, room = BESIDE * bool(beside), APART * bool(apart)
    side, pitch = squares(len(above), aside=left + room + BAR * (scale is not None))
    sheet, top = ContactSheet(HEAD + len(rows) * (side + GAP)), TITLE_INCHES + HEAD
    xs = [MARGIN + left + i * pitch + room * (i >= apart) for i in range(len(above))]
    for x, name in zip(xs, above, strict=True):
        sheet.write(x + side / 2, top - 0.08, name, fontsize=9)
    how: dict[str, Any] = {"fontweight": "bold", "fontsize": 9, "rotation": 90, "va": "center"}
    for i, (row, (name, colour)) in enumerate(zip(rows, [*beside, *[("", INK)] * len(rows)], strict=False)):
        y = top + i * (side + GAP)
        sheet.write(MARGIN + 0.08, y + side / 2, name, color=colour, **how)
        for x, pixels in zip(xs, row, strict=True):
            sheet.image(x, y, side, pixels)
    if scale is not None:
        height = len(rows) * (side + GAP) - GAP
        bar = sheet.scale(xs[-1] + side + 0.15, top, height, ScalarMappable(scale, HEAT), "times an equal share")
        if scale.gamma != 1:
            bar.set_ticks([tick for tick in (0, 0.25, 1, 4, 16, 64, 256) if tick <= (scale.vmax or 0)])
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return sheet


def _names(gallery: Gallery) -> list[str]:
    """Classes of the images that were looked at."""
    labels = class_labels(gallery.class_names, NAME)
    return [labels[k] for k in gallery.labels[gallery.looked]]


def _share_scale(tiles: Array) -> PowerNorm:
    """One scale for all maps of a sheet; by square roots where single patches get many times the share of most."""
    return PowerNorm(0.5 if tiles.max() > 4 else 1, 0, float(tiles.max()))


def _times_equal_share(maps: Array) -> Array:
    """Attention by patch (..., s, s) as multiples of an equal share for each."""
    return maps.astype(np.float32) * (maps.shape[-1] * maps.shape[-2])


def _spread(count: int, most: int) -> Array:
    """Indices of at most so many things, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _some(shown: Array, of: int, noun: str) -> str:
    """ "both heads", "all 4 blocks", "6 of 12 heads", "its one head"."""
    if len(shown) < of:
        return f"{len(shown)} of {of} {noun}s"
    return {1: f"its one {noun}", 2: f"both {noun}s"}.get(of, f"all {of} {noun}s")


def _filters_alt(gallery: Gallery) -> str:
    filters = _first_with(gallery, "first_filters")[1]
    size, most = filters.shape[-1], float(np.abs(filters.astype(np.float64)).max())
    return f"{len(filters)} filters of {size} by {size} pixels, weights up to {most:.2f}."


@gallery_plot("First filters", alt=_filters_alt)
def first_filters(gallery: Gallery) -> Figure | None:
    """The kernels of the first convolution and, below each, what it makes of a test image. Those of RGB are colours,
    each on its own scale; others are drawn by sign, on the scale of all.
    """
    found = _first_with(gallery, "first_filters")
    if found is None:
        return None
    shown, filters = found
    inside = gallery.insides[gallery.models.index(shown)]
    responses = inside.first_responses if gallery.images is not None else None
    filters = filters.astype(np.float32)
    columns = min(16, max(8, len(filters)))
    side, pitch = squares(columns)
    below = side + GAP / 2 if responses is not None else 0.0
    height, largest = side + below + 2 * GAP, float(np.abs(filters).max())
    sheet, in_colours = ContactSheet(0.1 + -(-len(filters) // columns) * height), filters.shape[1] == 3
    for index, kernel in enumerate(filters):
        x, y = MARGIN + index % columns * pitch, TITLE_INCHES + 0.1 + index // columns * height
        own = kernel / (float(np.abs(kernel).max()) or 1.0)
        as_colours = as_pixels((127.5 + 127.5 * own).round().astype(np.uint8))
        sheet.image(x, y, side, as_colours if in_colours else signed_colours(kernel.mean(axis=0), largest))
        if responses is not None:
            sheet.image(x, y + below, side, signed_colours(responses[index].astype(np.float32)))
    meaning = "as colours, grey is 0" if in_colours else "red adds and blue subtracts"
    size = f"{filters.shape[-1]} × {filters.shape[-1]} pixels, strongest first"
    answers = "; below each, its answer to one image" if responses is not None else ""
    return sheet.finish(first_filters.title, f"{shown.label}: {len(filters)} filters, {meaning}; {size}{answers}")


def _similarity_alt(gallery: Gallery) -> str:
    _, values, places = _first_with(gallery, "similarity", "similar_to")
    side, apart = values.shape[-1], _distances(values, places)
    far = "between places further apart than half the image"
    means = [
        f"{values.astype(np.float64)[chosen].mean():.2f} {where}"
        for chosen, where in ((apart == 1, "between neighbours"), (apart > side / 2, far))
        if chosen.any()
    ]
    return f"Cosines of {side * side} position embeddings; on average {listed(means)}."


@gallery_plot("Position embeddings: which places look alike", alt=_similarity_alt)
def position_similarity(gallery: Gallery) -> Figure | None:
    """On the right, how alike two places' embeddings are by how far they lie apart. Where near ones are more alike than
    far ones, the net has learned where patches lie.
    """
    found = _first_with(gallery, "similarity", "similar_to")
    if found is None or found[1].shape[-1] < FEWEST_PATCHES:
        return None
    shown, values, places = found
    side, panels = values.shape[-1], int(len(places) ** 0.5)
    top, square = TITLE_INCHES + 0.1, 4.0  # inches
    sheet, pitch = ContactSheet(square + 0.45), (square + GAP) / panels
    similarity = values.astype(np.float32)
    low = min(0.0, float(similarity.min()))
    for index, (panel, place) in enumerate(zip(similarity, places, strict=True)):
        x, y = MARGIN + index % panels * pitch, top + index // panels * pitch
        sheet.image(x, y, pitch - GAP, colours(panel, COSINE, low, 1))
        row, column = ((at + 0.5) / side * (pitch - GAP) for at in divmod(int(place), side))
        sheet.write(x + column, y + row, "+", color="black", fontsize=7, va="center_baseline")
    sheet.scale(MARGIN + square + 0.12, top, square, ScalarMappable(Normalize(low, 1), COSINE), "cosine")
    left, apart = MARGIN + square + 1.8, _distances(similarity, places)
    axes, others = sheet.axes(left, top, WIDTH - MARGIN - left, square), apart > 0  # with itself it is always 1
    means = pd.Series(similarity[others]).groupby(apart[others].round(3)).mean()
    axes.plot(apart[others], similarity[others], ls="", marker="o", ms=3, color=FAINT, alpha=0.25, mew=0)
    axes.plot(means.index, means, color=INK, lw=1.8, marker="o", ms=4, label="mean")
    axes.set(xlabel="distance between the two, patches", ylabel="cosine")
    axes.legend(loc="upper right")
    subtitle = f"{shown.label}: each panel compares the position that it lies at (+) with all {side} × {side}"
    return sheet.finish(position_similarity.title, subtitle)


def _distances(similarity: Array, places: Array) -> Array:
    """Patches between each of `places` (n,) and every position. (n, s, s)"""
    side = similarity.shape[-1]
    rows, columns = np.indices((side, side))
    return np.hypot(rows[None] - (places // side)[:, None, None], columns[None] - (places % side)[:, None, None])
