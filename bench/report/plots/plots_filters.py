"""What trained models learned: filters of patches and of the first convolution, positions."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.contact_sheet import GAP, MARGIN, ContactSheet, colours, height_of, squares
from bench.report.plots.samples import first_with
from bench.report.plots.style import FAINT, INK, TITLE_INCHES, WIDTH

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
