"""What trained models learned: filters of patches and of the first convolution, positions."""

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.canvas import FAINT, INK, WIDTH
from bench.gallery_file import Array, Gallery
from bench.plots_gallery import entitle
from bench.plots_samples import first_with, image_grid

SIGNED: Any = sns.color_palette("RdBu_r", as_cmap=True)
COSINE: Any = sns.color_palette("viridis", as_cmap=True)


def patch_filters(gallery: Gallery) -> Figure | None:
    """The filters of the patch embedding, the strongest first."""
    found = first_with(gallery, "patch_filters")
    if found is None:
        return None
    shown, inside = found
    assert inside.patch_filters is not None
    figure = _filters(inside.patch_filters)
    side = inside.patch_filters.shape[-1]
    said = f"{shown.label}: {_colour_words(inside.patch_filters)}; {side} × {side} pixels, strongest first"
    entitle(figure, f"Patch filters of the {shown.name}: what a token is made of", said)
    return figure


def position_similarity(gallery: Gallery) -> Figure | None:
    """Cosine of position embeddings: each panel is one position beside all others, where it lies in the image."""
    found = first_with(gallery, "similarity", "similar_to")
    if found is None:
        return None
    shown, inside = found
    assert inside.similarity is not None
    assert inside.similar_to is not None
    side, panels = inside.similarity.shape[-1], int(len(inside.similar_to) ** 0.5)
    figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1), squeeze=False)[0]
    grid = left.subplots(panels, panels, squeeze=False)
    similarity = inside.similarity.astype(np.float32)
    low = min(0.0, float(similarity.min()))
    for axes, values, place in zip(grid.ravel(), similarity, inside.similar_to, strict=True):
        axes.imshow(values, cmap=COSINE, vmin=low, vmax=1, interpolation="nearest")
        row, column = divmod(int(place), side)
        axes.plot(column, row, marker="+", color="black", ms=4)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    bar = left.colorbar(ScalarMappable(Normalize(low, 1), COSINE), ax=grid, aspect=30, pad=0.02)
    bar.set_label("cosine")
    _by_distance(right.subplots(), similarity, inside.similar_to)
    said = f"{shown.label}: each panel compares the position that it lies at (+) with all {side} × {side}"
    entitle(figure, f"Position embeddings: which places look alike to the {shown.name}", said)
    return figure


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
    figure = _filters(filters, responses if gallery.images is not None else None)
    side = filters.shape[-1]
    below = "; below each, its answer to one image" if responses is not None else ""
    said = f"{shown.label}: {_colour_words(filters)}; {side} × {side} pixels, strongest first{below}"
    entitle(figure, f"First filters of the {shown.name}", said)
    return figure


def _filters(filters: Array, responses: Array | None = None) -> Figure:
    """Filters in rows of 16; with what they make of an image below each."""
    columns = min(16, max(8, len(filters)))
    lines = 1 if responses is None else 2
    figure, grid = image_grid(-(-len(filters) // columns) * lines, columns)
    largest = float(np.abs(filters.astype(np.float32)).max()) or 1.0
    for index, kernel in enumerate(filters.astype(np.float32)):
        row, column = divmod(index, columns)
        if len(kernel) == 3:
            scaled = 0.5 + 0.5 * kernel / (float(np.abs(kernel).max()) or 1.0)
            grid[row * lines, column].imshow(np.moveaxis(scaled, 0, -1), interpolation="nearest")
        else:
            shown = kernel.mean(axis=0)
            grid[row * lines, column].imshow(shown, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
        if responses is not None:
            answer = responses[index].astype(np.float32)
            most = float(np.abs(answer).max()) or 1.0
            grid[row * lines + 1, column].imshow(answer, cmap=SIGNED, vmin=-most, vmax=most, interpolation="nearest")
    return figure


def _colour_words(filters: Array) -> str:
    count = f"{len(filters)} filters"
    return f"{count} as colours, grey is 0" if filters.shape[1] == 3 else f"{count}, red adds and blue takes away"
