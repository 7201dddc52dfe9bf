"""Plots of what trained models look at and have learned: attention, saliency, filters, position embeddings."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.analysis.formatting import listed
from bench.inference.gallery_file import Array, Gallery, Shown
from bench.report.plots.classes import class_name, colours_of
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

IMAGES, MOST_HEADS, MOST_BLOCKS = 3, 6, 6  # of the plot of heads
NAME = 11  # letters of a class's name above an image
HEAD, BESIDE, BAR = 0.3, 0.25, 0.85  # inches kept free: above the first row, before the first column, for a scale
COSINE: Any = matplotlib.colormaps["viridis"]


def _heads_alt(gallery: Gallery) -> str:
    _, heads, depths = _first_with(gallery, "attention_heads", "attention_depths")
    return (
        f"Heat maps over {heads.shape[-2]} by {heads.shape[-1]} patches: {heads.shape[1]} heads of the last block and "
        f"{depths.shape[1]} blocks. The strongest head gives one patch {_times_equal_share(heads).max():.1f} times an "
        f"equal share, the first block's mean {_times_equal_share(depths[:, 0]).max():.1f} times."
    )


@gallery_plot(
    "Attention, head by head and block by block",
    caption="Where the answer looks, as multiples of an equal share for every patch: the class token's attention or, "
    "in a net without one, the mean over all tokens.",
    alt=_heads_alt,
)
def attention_heads(gallery: Gallery) -> Figure | None:
    """What each head of the last block takes from each patch, and each block's mean over its heads."""
    found = _first_with(gallery, "attention_heads", "attention_depths")
    if found is None or gallery.images is None:
        return None
    shown, all_heads, depths = found
    heads, blocks = all_heads.shape[1], depths.shape[1]
    some_heads, some_blocks = _spread(heads, MOST_HEADS), _spread(blocks, MOST_BLOCKS)
    chosen = _spread(len(gallery.looked), IMAGES)
    maps = np.concatenate([all_heads[chosen][:, some_heads], depths[chosen][:, some_blocks]], axis=1)
    names = [f"head {h + 1}" for h in some_heads] + [f"block {b + 1}" for b in some_blocks]
    tiles = _times_equal_share(maps)
    apart = 0.2  # inches more between heads and blocks
    side, pitch = squares(1 + len(names), aside=BESIDE + apart + BAR)
    xs = [MARGIN + BESIDE + i * pitch + (i > len(some_heads)) * apart for i in range(1 + len(names))]
    ys = [TITLE_INCHES + HEAD + i * (side + GAP) for i in range(len(chosen))]
    sheet, labels = ContactSheet(HEAD + len(ys) * (side + GAP)), class_labels(gallery.class_names, 9)
    scale = _share_bar(sheet, xs[-1] + side + 0.15, ys[0], ys[-1] + side, tiles)
    for y, image, line in zip(ys, gallery.looked[chosen], tiles, strict=True):
        pixels = as_pixels(gallery.images[image])
        sheet.image(xs[0], y, side, pixels)
        _name_row(sheet, y + side / 2, labels[gallery.labels[image]], INK)
        for x, tile in zip(xs[1:], line, strict=True):
            sheet.image(x, y, side, overlay(pixels, tile, scale))
    for x, name in zip(xs[1:], names, strict=True):
        sheet.write(x + side / 2, ys[0] - 0.08, name, fontsize=9)
    of_heads, of_blocks = _some(len(some_heads), heads, "head"), _some(len(some_blocks), blocks, "block")
    subtitle = f"{shown.label}: {of_heads} of the last block; then the mean over heads in {of_blocks}"
    return sheet.finish(attention_heads.title, subtitle)


def _rollout_alt(gallery: Gallery) -> str:
    shares = _times_equal_share(_first_with(gallery, "rollout")[1])
    names = listed([class_name(gallery, k) for k in gallery.labels[gallery.looked]])
    return f"Heat maps over test images of {names}: patches get {shares.min():.2f} to {shares.max():.2f} equal shares."


@gallery_plot(
    "Attention rollout: which patches reach the answer",
    caption=lambda gallery: (
        "Attention multiplied through all blocks, with their shortcuts counted as half (Abnar & "
        "Zuidema 2020): an estimate of what reaches the answer, no proof of what it rests on. "
        f"n = {len(gallery.looked)} images."
    ),
    alt=_rollout_alt,
)
def attention_rollout(gallery: Gallery) -> Figure | None:
    """How much of each patch reaches the head through all blocks, for images of several classes."""
    found = _first_with(gallery, "rollout")
    if found is None or gallery.images is None:
        return None
    shown, maps = found
    tiles = _times_equal_share(maps)
    side, pitch = squares(len(gallery.looked), aside=BAR)
    sheet, y = _with_images(gallery, side, pitch, rows=1, left=MARGIN)
    right = MARGIN + (len(gallery.looked) - 1) * pitch + side
    scale = _share_bar(sheet, right + 0.15, y - side - GAP, y + side, tiles)
    for column, image in enumerate(gallery.looked):
        pixels = overlay(as_pixels(gallery.images[image]), tiles[column], scale)
        sheet.image(MARGIN + column * pitch, y, side, pixels)
    subtitle = f"{shown.label}: attention followed through all blocks and their shortcuts; 1 is an equal share"
    return sheet.finish(attention_rollout.title, subtitle)


def _saliency_alt(gallery: Gallery) -> str:
    parts = []
    for model, inside in zip(gallery.models, gallery.insides, strict=True):
        if inside.saliency is not None:
            maps = np.sort(inside.saliency.astype(np.float64).reshape(len(inside.saliency), -1), axis=1)
            top = maps[:, -max(1, maps.shape[1] // 10) :].sum() / max(maps.sum(), 1e-30)
            parts.append(f"{100 * top:.0f}% of the {model.name}'s gradient")
    return f"Maps of {len(gallery.looked)} test images. The strongest tenth of the pixels holds {listed(parts)}."


@gallery_plot(
    "Saliency: which pixels matter",
    caption=lambda gallery: (
        "The gradient of the true class's logit by each pixel (Simonyan et al. 2014): where a "
        f"small change of the image would move the answer most. n = {len(gallery.looked)} images."
    ),
    alt=_saliency_alt,
)
def saliency(gallery: Gallery) -> Figure | None:
    """How much each pixel moves the right class's logit."""
    rows = [(i, inside.saliency) for i, inside in enumerate(gallery.insides) if inside.saliency is not None]
    if not rows or gallery.images is None:
        return None
    side, pitch = squares(len(gallery.looked), aside=BESIDE)
    sheet, y = _with_images(gallery, side, pitch, len(rows), left=MARGIN + BESIDE)
    for model, maps in rows:
        for column, values in enumerate(np.asarray(maps, dtype=np.float32)):
            x = MARGIN + BESIDE + column * pitch
            sheet.image(x, y, side, colours(values, HEAT, 0, float(values.max())))
        _name_row(sheet, y + side / 2, gallery.models[model].name, colours_of(gallery)[model])
        y += side + GAP
    subtitle = "how much each pixel moves the right class's logit (gradient); brighter is more, each map by itself"
    return sheet.finish(saliency.title, subtitle)


def _spread(count: int, most: int) -> Array:
    """Indices of at most so many things, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _some(shown: int, of: int, noun: str) -> str:
    """ "both heads", "all 4 blocks", "6 of 12 heads", "its one head"."""
    if shown < of:
        return f"{shown} of {of} {noun}s"
    return {1: f"its one {noun}", 2: f"both {noun}s"}.get(of, f"all {of} {noun}s")


def _with_images(gallery: Gallery, side: float, pitch: float, rows: int, left: float) -> tuple[ContactSheet, float]:
    """A sheet with the images that were looked at and their classes above so many rows, and where these begin."""
    assert gallery.images is not None
    sheet = ContactSheet(HEAD + (1 + rows) * (side + GAP))
    labels, top = class_labels(gallery.class_names, NAME), TITLE_INCHES + HEAD
    for column, image in enumerate(gallery.looked):
        x = left + column * pitch
        sheet.image(x, top, side, as_pixels(gallery.images[image]))
        sheet.write(x + side / 2, top - 0.08, labels[gallery.labels[image]], fontsize=9)
    return sheet, top + side + GAP


def _times_equal_share(maps: Array) -> Array:
    """Attention by patch (..., s, s) as multiples of an equal share for each."""
    return maps.astype(np.float32) * (maps.shape[-1] * maps.shape[-2])


def _share_bar(sheet: ContactSheet, x: float, top: float, bottom: float, tiles: Array) -> Normalize:
    """One scale for all maps of a sheet; by square roots where single patches get many times the share of most."""
    scale = PowerNorm(0.5 if tiles.max() > 4 else 1, 0, float(tiles.max()))
    bar = sheet.scale(x, top, bottom - top, ScalarMappable(scale, HEAT), "times an equal share")
    if scale.gamma != 1:
        bar.set_ticks([tick for tick in (0, 0.25, 1, 4, 16, 64, 256) if tick <= tiles.max()])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return scale


def _name_row(sheet: ContactSheet, y: float, text: str, colour: str) -> None:
    style: dict[str, Any] = {"color": colour, "fontweight": "bold", "fontsize": 9, "rotation": 90, "va": "center"}
    sheet.write(MARGIN + 0.08, y, text, **style)


@gallery_plot(
    "Patch filters: what a token is made of",
    caption="Each number of a token starts as the sum of a patch's pixels, weighted like this.",
    alt=lambda gallery: _filters_alt(_first_with(gallery, "patch_filters")[1]),
)
def patch_filters(gallery: Gallery) -> Figure | None:
    """The filters of the patch embedding, the strongest first."""
    found = _first_with(gallery, "patch_filters")
    if found is None:
        return None
    shown, filters = found
    return _filters(filters).finish(patch_filters.title, _filters_subtitle(shown, filters))


@gallery_plot(
    "First filters",
    caption="The kernels of the first convolution and, below each, what it makes of a test image.",
    alt=lambda gallery: _filters_alt(_first_with(gallery, "first_filters")[1]),
)
def first_filters(gallery: Gallery) -> Figure | None:
    """The kernels of the first convolution, and what each makes of one image."""
    found = _first_with(gallery, "first_filters")
    if found is None:
        return None
    shown, filters = found
    responses = gallery.insides[gallery.models.index(shown)].first_responses if gallery.images is not None else None
    below = "; below each, its answer to one image" if responses is not None else ""
    return _filters(filters, responses).finish(first_filters.title, _filters_subtitle(shown, filters) + below)


def _filters_alt(filters: Array) -> str:
    size, most = filters.shape[-1], float(np.abs(filters.astype(np.float64)).max())
    return f"{len(filters)} filters of {size} by {size} pixels, weights up to {most:.2f}."


def _filters_subtitle(shown: Shown, filters: Array) -> str:
    meaning = "as colours, grey is 0" if filters.shape[1] == 3 else "red adds and blue subtracts"
    size = f"{filters.shape[-1]} × {filters.shape[-1]} pixels"
    return f"{shown.label}: {len(filters)} filters, {meaning}; {size}, strongest first"


def _filters(filters: Array, responses: Array | None = None) -> ContactSheet:
    """Filters (n, C, k, k) in rows of 16, with what they make of an image below each.

    Those of RGB are colours, each on its own scale; others are drawn by sign, on the scale of all.
    """
    filters = filters.astype(np.float32)
    columns = min(16, max(8, len(filters)))
    side, pitch = squares(columns)
    below = side + GAP / 2 if responses is not None else 0.0
    height = side + below + 2 * GAP
    sheet = ContactSheet(0.1 + -(-len(filters) // columns) * height)
    largest = float(np.abs(filters).max()) or 1.0
    for index, kernel in enumerate(filters):
        row, column = divmod(index, columns)
        x, y = MARGIN + column * pitch, TITLE_INCHES + 0.1 + row * height
        if len(kernel) == 3:
            own = 0.5 + 0.5 * kernel / (float(np.abs(kernel).max()) or 1.0)
            sheet.image(x, y, side, as_pixels((255 * own).round().astype(np.uint8)))
        else:
            sheet.image(x, y, side, signed_colours(kernel.mean(axis=0), largest))
        if responses is not None:
            sheet.image(x, y + below, side, signed_colours(responses[index].astype(np.float32)))
    return sheet


def _similarity_alt(gallery: Gallery) -> str:
    _, values, places = _first_with(gallery, "similarity", "similar_to")
    side, apart = values.shape[-1], _distances(values, places)
    means = [
        f"{values.astype(np.float64)[chosen].mean():.2f} {where}"
        for chosen, where in (
            (apart == 1, "between neighbours"),
            (apart > side / 2, "between places further apart than half the image"),
        )
        if chosen.any()
    ]
    return f"Cosines of {side * side} position embeddings; on average {listed(means)}."


@gallery_plot(
    "Position embeddings: which places look alike",
    caption="If a net has learned where patches lie, near ones have more similar embeddings than far ones; a falling "
    "line on the right shows it.",
    alt=_similarity_alt,
)
def position_similarity(gallery: Gallery) -> Figure | None:
    """Cosine of position embeddings: each panel is one position beside all others, where it lies in the image."""
    found = _first_with(gallery, "similarity", "similar_to")
    if found is None:
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
    left = MARGIN + square + 1.8
    _by_distance(sheet.axes(left, top, WIDTH - MARGIN - left, square), similarity, places)
    subtitle = f"{shown.label}: each panel compares the position that it lies at (+) with all {side} × {side}"
    return sheet.finish(position_similarity.title, subtitle)


def _by_distance(axes: Axes, similarity: Array, places: Array) -> None:
    """Cosines of pairs of positions against how far apart they lie, and their means."""
    apart = _distances(similarity, places)
    others = apart > 0  # with itself it is always 1
    distances, which = np.unique(apart[others].round(3), return_inverse=True)
    means = np.bincount(which, similarity[others]) / np.bincount(which)
    axes.plot(apart[others], similarity[others], ls="", marker="o", ms=3, color=FAINT, alpha=0.25, mew=0)
    axes.plot(distances, means, color=INK, lw=1.8, marker="o", ms=4, label="mean")
    axes.set(xlabel="distance between the two, patches", ylabel="cosine")
    axes.legend(loc="upper right")


def _distances(similarity: Array, places: Array) -> Array:
    """Patches between each of `places` (n,) and every position. (n, s, s)"""
    side = similarity.shape[-1]
    rows, columns = np.indices((side, side))
    return np.hypot(rows[None] - (places // side)[:, None, None], columns[None] - (places % side)[:, None, None])


def _first_with(gallery: Gallery, *names: str) -> Any:
    """The first model that has all of these of `Insides`, and these arrays; None where no model has."""
    for shown, inside in zip(gallery.models, gallery.insides, strict=True):
        arrays = [getattr(inside, name) for name in names]
        if all(array is not None for array in arrays):
            return shown, *arrays
    return None
