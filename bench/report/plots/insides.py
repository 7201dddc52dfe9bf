"""Where trained models look: attention of heads, blocks and the whole net, and the pixels that matter."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.classes import colours_of
from bench.report.plots.samples import GAP, MARGIN, ContactSheet, as_pixels, colours, first_with, height_of, squares
from bench.report.plots.style import FAINT, INK, TITLE_INCHES, WIDTH, class_labels

IMAGES, MOST_HEADS, MOST_BLOCKS = 3, 6, 6  # of the picture of heads
NAME = 11
HEAD, BESIDE, BAR = 0.3, 0.25, 0.85  # inches kept free: above the first row, before the first column, for a scale
OPACITY = 0.7  # of maps over images
WARM: Any = matplotlib.colormaps["inferno"]


def attention_heads(gallery: Gallery) -> Figure | None:
    """What each head of the last block takes from each patch, and each block's mean over its heads."""
    found = first_with(gallery, "attention_heads", "attention_depths")
    if found is None or gallery.images is None:
        return None
    shown, inside = found
    assert inside.attention_heads is not None
    assert inside.attention_depths is not None
    heads, blocks = inside.attention_heads.shape[1], inside.attention_depths.shape[1]
    some_heads, some_blocks = _spread(heads, MOST_HEADS), _spread(blocks, MOST_BLOCKS)
    chosen = _spread(len(gallery.looked), IMAGES)
    maps = [
        [*(inside.attention_heads[i, h] for h in some_heads), *(inside.attention_depths[i, b] for b in some_blocks)]
        for i in chosen
    ]
    names = [f"head {h + 1}" for h in some_heads] + [f"block {b + 1}" for b in some_blocks]
    tiles = _times_equal_share(maps)
    apart = 0.2  # inches more between heads and blocks
    side, pitch = squares(1 + len(names), aside=BESIDE + apart + BAR)
    xs = [MARGIN + BESIDE + i * pitch + (i > len(some_heads)) * apart for i in range(1 + len(names))]
    ys = [TITLE_INCHES + HEAD + i * (side + GAP) for i in range(len(chosen))]
    sheet, labels = ContactSheet(height_of(HEAD + len(ys) * (side + GAP))), class_labels(gallery.class_names, 9)
    scale = _share_bar(sheet, xs[-1] + side + 0.15, ys[0], ys[-1] + side, tiles)
    for y, image, line in zip(ys, gallery.looked[chosen], tiles, strict=True):
        sheet.image(xs[0], y, side, as_pixels(gallery.images[image]))
        _beside(sheet, y + side / 2, labels[gallery.labels[image]], INK)
        for x, tile in zip(xs[1:], line, strict=True):
            sheet.image(x, y, side, _overlay(gallery.images[image], tile, scale))
    for x, name in zip(xs[1:], names, strict=True):
        sheet.write(x + side / 2, ys[0] - 0.08, name, fontsize=9)
    said = f"{shown.label}: {_some(len(some_heads), heads, 'head')} of the last block; then the mean over heads in "
    said += f"{_some(len(some_blocks), blocks, 'block')}"
    return sheet.finish("Attention, head by head and block by block", said)


def attention_rollout(gallery: Gallery) -> Figure | None:
    """How much of each patch reaches the head through all blocks, for images of several classes."""
    found = first_with(gallery, "rollout")
    if found is None or gallery.images is None:
        return None
    shown, inside = found
    assert inside.rollout is not None
    tiles = _times_equal_share([list(inside.rollout)])
    side, pitch = squares(len(gallery.looked), aside=BAR)
    sheet, y = _with_images(gallery, side, pitch, rows=1, left=MARGIN)
    right = MARGIN + (len(gallery.looked) - 1) * pitch + side
    scale = _share_bar(sheet, right + 0.15, y - side - GAP, y + side, tiles)
    for column, image in enumerate(gallery.looked):
        sheet.image(MARGIN + column * pitch, y, side, _overlay(gallery.images[image], tiles[0][column], scale))
    said = f"{shown.label}: attention followed through all blocks and their shortcuts; 1 is an equal share"
    return sheet.finish("Attention rollout: which patches reach the answer", said)


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
            sheet.image(x, y, side, colours(values, WARM, 0, float(values.max())))
        _beside(sheet, y + side / 2, gallery.models[model].name, colours_of(gallery)[model])
        y += side + GAP
    said = "how much each pixel moves the right class's logit (gradient); brighter is more, each map on its own scale"
    return sheet.finish("Saliency: which pixels matter", said)


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
    sheet = ContactSheet(height_of(HEAD + (1 + rows) * (side + GAP)))
    labels, top = class_labels(gallery.class_names, NAME), TITLE_INCHES + HEAD
    for column, image in enumerate(gallery.looked):
        x = left + column * pitch
        sheet.image(x, top, side, as_pixels(gallery.images[image]))
        sheet.write(x + side / 2, top - 0.08, labels[gallery.labels[image]], fontsize=9)
    return sheet, top + side + GAP


def _times_equal_share(maps: Any) -> Array:
    """Attention by patch as multiples of an equal share for each."""
    values = np.asarray(maps, dtype=np.float32)
    return values * values.shape[-1] * values.shape[-2]


def _overlay(image: Array, tile: Array, scale: Normalize) -> Array:
    """A map (s, s) over its image (C, H, W), which shows through in grey; (H, W, 3) or, for finer maps, larger."""
    grey = image.mean(axis=0)
    times = -(-tile.shape[0] // grey.shape[0])
    grey = grey.repeat(times, axis=0).repeat(times, axis=1)
    rows, columns = (np.arange(size) * len(tile) // size for size in grey.shape)
    warm = WARM(scale(tile)[rows[:, None], columns])[..., :3]
    return (255 * OPACITY * warm + (1 - OPACITY) * grey[..., None]).round().astype(np.uint8)


def _share_bar(sheet: ContactSheet, x: float, top: float, bottom: float, tiles: Array) -> Normalize:
    """One scale for all maps of a sheet; by square roots where single patches get many times the share of most."""
    scale = PowerNorm(0.5 if tiles.max() > 4 else 1, 0, float(tiles.max()))
    bar = sheet.scale(x, top, bottom - top, ScalarMappable(scale, WARM), "times an equal share")
    if scale.gamma != 1:
        bar.set_ticks([tick for tick in (0, 0.25, 1, 4, 16, 64, 256) if tick <= tiles.max()])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return scale


def _beside(sheet: ContactSheet, y: float, text: str, colour: str) -> None:
    style: dict[str, Any] = {"color": colour, "fontweight": "bold", "fontsize": 9, "rotation": 90, "va": "center"}
    sheet.write(MARGIN + 0.08, y, text, **style)


# What trained models learned: filters of patches and of the first convolution, positions.
SIGNED: Any = matplotlib.colormaps["RdBu_r"]
COSINE: Any = matplotlib.colormaps["viridis"]


def patch_filters(gallery: Gallery) -> Figure | None:
    """The filters of the patch embedding, the strongest first."""
    found = first_with(gallery, "patch_filters")
    if found is None:
        return None
    shown, inside = found
    assert inside.patch_filters is not None
    sheet = _filters(inside.patch_filters)
    side = inside.patch_filters.shape[-1]
    said = f"{shown.label}: {_colour_words(inside.patch_filters)}; {side} × {side} pixels, strongest first"
    return sheet.finish(f"Patch filters of the {shown.name}: what a token is made of", said)


def position_similarity(gallery: Gallery) -> Figure | None:
    """Cosine of position embeddings: each panel is one position beside all others, where it lies in the image."""
    found = first_with(gallery, "similarity", "similar_to")
    if found is None:
        return None
    shown, inside = found
    assert inside.similarity is not None
    assert inside.similar_to is not None
    side, panels = inside.similarity.shape[-1], int(len(inside.similar_to) ** 0.5)
    top, square = TITLE_INCHES + 0.1, 4.0  # inches
    sheet, pitch = ContactSheet(height_of(square + 0.45)), (square + GAP) / panels
    similarity = inside.similarity.astype(np.float32)
    low = min(0.0, float(similarity.min()))
    for index, (values, place) in enumerate(zip(similarity, inside.similar_to, strict=True)):
        x, y = MARGIN + index % panels * pitch, top + index // panels * pitch
        sheet.image(x, y, pitch - GAP, colours(values, COSINE, low, 1))
        row, column = ((at + 0.5) / side * (pitch - GAP) for at in divmod(int(place), side))
        sheet.write(x + column, y + row, "+", color="black", fontsize=7, va="center_baseline")
    sheet.scale(MARGIN + square + 0.12, top, square, ScalarMappable(Normalize(low, 1), COSINE), "cosine")
    left = MARGIN + square + 1.8
    _by_distance(sheet.axes(left, top, WIDTH - MARGIN - left, square), similarity, inside.similar_to)
    said = f"{shown.label}: each panel compares the position that it lies at (+) with all {side} × {side}"
    return sheet.finish(f"Position embeddings: which places look alike to the {shown.name}", said)


def _by_distance(axes: Axes, similarity: Array, places: Array) -> None:
    """Cosines of pairs of positions against how far apart they lie, and their means."""
    side = similarity.shape[-1]
    rows, columns = np.indices((side, side))
    apart = np.hypot(rows[None] - (places // side)[:, None, None], columns[None] - (places % side)[:, None, None])
    others = apart > 0  # with itself it is always 1
    distances, which = np.unique(apart[others].round(3), return_inverse=True)
    means = np.bincount(which, similarity[others]) / np.bincount(which)
    axes.plot(apart[others], similarity[others], ls="", marker="o", ms=3, color=FAINT, alpha=0.25, mew=0)
    axes.plot(distances, means, color=INK, lw=1.8, marker="o", ms=4, label="mean")
    axes.set_xlabel("distance between the two, patches")
    axes.set_ylabel("cosine")
    axes.legend(loc="upper right")


def first_filters(gallery: Gallery) -> Figure | None:
    """The kernels of the first convolution, and what each makes of one image."""
    found = first_with(gallery, "first_filters")
    if found is None:
        return None
    shown, inside = found
    filters, responses = inside.first_filters, inside.first_responses
    assert filters is not None
    sheet = _filters(filters, responses if gallery.images is not None else None)
    side = filters.shape[-1]
    below = "; below each, its answer to one image" if responses is not None else ""
    said = f"{shown.label}: {_colour_words(filters)}; {side} × {side} pixels, strongest first{below}"
    return sheet.finish(f"First filters of the {shown.name}", said)


def _filters(filters: Array, responses: Array | None = None) -> ContactSheet:
    """Filters in rows of 16; with what they make of an image below each."""
    filters = filters.astype(np.float32)
    columns = min(16, max(8, len(filters)))
    side, pitch = squares(columns)
    answered = side + GAP / 2 if responses is not None else 0.0
    height = side + answered + 2 * GAP
    sheet = ContactSheet(height_of(0.1 + -(-len(filters) // columns) * height))
    largest = float(np.abs(filters).max()) or 1.0
    for index, kernel in enumerate(filters):
        row, column = divmod(index, columns)
        x, y = MARGIN + column * pitch, TITLE_INCHES + 0.1 + row * height
        sheet.image(x, y, side, _kernel(kernel, largest))
        if responses is not None:
            answer = responses[index].astype(np.float32)
            most = float(np.abs(answer).max()) or 1.0
            sheet.image(x, y + answered, side, colours(answer, SIGNED, -most, most))
    return sheet


def _kernel(kernel: Array, largest: float) -> Array:
    """A filter (C, k, k): of RGB as colours on its own scale, others by sign on the scale of all. (k, k, 3), uint8"""
    if len(kernel) == 3:
        own = 0.5 + 0.5 * kernel / (float(np.abs(kernel).max()) or 1.0)
        return np.moveaxis(255 * own, 0, -1).round().astype(np.uint8)
    return colours(kernel.mean(axis=0), SIGNED, -largest, largest)


def _colour_words(filters: Array) -> str:
    count = f"{len(filters)} filters"
    return f"{count} as colours, grey is 0" if filters.shape[1] == 3 else f"{count}, red adds and blue takes away"
