"""Where trained models look: attention of heads, blocks and the whole net, and the pixels that matter."""

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.canvas import INK
from bench.gallery_file import Array, Gallery
from bench.lettering import LITERAL, class_labels
from bench.plots_gallery import colours_of, entitle
from bench.plots_samples import draw_image, first_with, image_grid

IMAGES, MOST_HEADS, MOST_BLOCKS = 3, 6, 6  # of the picture of heads
NAME = 11
WARM: Any = sns.color_palette("inferno", as_cmap=True)


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
    figure, grid = image_grid(len(chosen), 1 + len(names), aside=1.3, gap=1 + len(some_heads))
    labels, scale = class_labels(gallery.class_names, 9), _share_bar(figure, grid, tiles)
    for row, image, line in zip(grid, gallery.looked[chosen], tiles, strict=True):
        draw_image(row[0], gallery.images[image])
        _beside(row[0], labels[gallery.labels[image]], INK)
        for axes, tile in zip(row[1:], line, strict=True):
            _overlay(axes, gallery.images[image], tile, scale)
    for axes, name in zip(grid[0, 1:], names, strict=True):
        axes.set_title(name, fontsize=9, loc="center")
    said = f"{shown.label}: {_some(len(some_heads), heads, 'head')} of the last block; then the mean over heads in "
    said += f"{_some(len(some_blocks), blocks, 'block')}"
    entitle(figure, "Attention, head by head and block by block", said)
    return figure


def attention_rollout(gallery: Gallery) -> Figure | None:
    """How much of each patch reaches the head through all blocks, for images of several classes."""
    found = first_with(gallery, "rollout")
    if found is None or gallery.images is None:
        return None
    shown, inside = found
    assert inside.rollout is not None
    tiles = _times_equal_share([list(inside.rollout)])
    figure, grid = image_grid(2, len(gallery.looked), aside=1.0)
    labels, scale = class_labels(gallery.class_names, NAME), _share_bar(figure, grid, tiles)
    for column, image in enumerate(gallery.looked):
        _frame(grid[0, column], gallery.images[image], labels[gallery.labels[image]])
        _overlay(grid[1, column], gallery.images[image], tiles[0][column], scale)
    said = f"{shown.label}: attention followed through all blocks and their shortcuts; 1 is an equal share"
    entitle(figure, "Attention rollout: which patches reach the answer", said)
    return figure


def saliency(gallery: Gallery) -> Figure | None:
    """How much each pixel moves the right class's logit."""
    rows = [(i, inside.saliency) for i, inside in enumerate(gallery.insides) if inside.saliency is not None]
    if not rows or gallery.images is None:
        return None
    figure, grid = image_grid(1 + len(rows), len(gallery.looked), aside=0.35)
    labels, colours = class_labels(gallery.class_names, NAME), colours_of(gallery)
    for column, image in enumerate(gallery.looked):
        _frame(grid[0, column], gallery.images[image], labels[gallery.labels[image]])
        for row, (_, maps) in zip(grid[1:], rows, strict=True):
            values = np.asarray(maps[column], dtype=np.float32)
            row[column].set_axis_on()
            row[column].set(xticks=[], yticks=[])
            row[column].imshow(values, cmap=WARM, vmin=0, vmax=values.max() or 1, interpolation="nearest")
    for row, (model, _) in zip(grid[1:], rows, strict=True):
        _beside(row[0], gallery.models[model].name, colours[model])
    said = "how much each pixel moves the right class's logit (gradient); brighter is more, each map on its own scale"
    entitle(figure, "Saliency: which pixels matter", said)
    return figure


def _spread(count: int, most: int) -> Array:
    """Indices of at most so many things, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _some(shown: int, of: int, noun: str) -> str:
    """ "both heads", "all 4 blocks", "6 of 12 heads", "its one head"."""
    if shown < of:
        return f"{shown} of {of} {noun}s"
    return {1: f"its one {noun}", 2: f"both {noun}s"}.get(of, f"all {of} {noun}s")


def _frame(axes: Axes, image: Array, name: str) -> None:
    draw_image(axes, image)
    axes.set_title(name, fontsize=9, loc="center", **LITERAL)


def _times_equal_share(maps: Any) -> Array:
    """Attention by patch as multiples of an equal share for each."""
    values = np.asarray(maps, dtype=np.float32)
    return values * values.shape[-1] * values.shape[-2]


def _overlay(axes: Axes, image: Array, tile: Array, scale: Normalize) -> None:
    """A map over its image, which shows through in grey."""
    height, width = image.shape[-2:]
    axes.imshow(image.mean(axis=0), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(tile, cmap=WARM, norm=scale, alpha=0.7, extent=edges, interpolation="nearest")


def _share_bar(figure: Figure, grid: Any, tiles: Array) -> Normalize:
    """One scale for all maps of a figure; by square roots where single patches get many times the share of most."""
    scale = PowerNorm(0.5 if tiles.max() > 4 else 1, 0, float(tiles.max()))
    bar = figure.colorbar(ScalarMappable(scale, WARM), ax=grid, aspect=25, pad=0.015)
    bar.set_label("times an equal share")
    if scale.gamma != 1:
        bar.set_ticks([tick for tick in (0, 0.25, 1, 4, 16, 64, 256) if tick <= tiles.max()])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return scale


def _beside(axes: Axes, text: str, colour: str) -> None:
    axes.set_ylabel(text, color=colour, fontweight="bold", fontsize=9, **LITERAL)
