"""Plots of what trained models get right and wrong: the data's classes, confusion, accuracy by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.analysis.formatting import listed
from bench.inference.error_analysis import confused_pairs
from bench.inference.gallery_file import Array, Gallery
from bench.measure.stats import accuracy_interval
from bench.report.plots import style
from bench.report.plots.plot import gallery_plot

MOST_CLASSES = 30  # more can't be read: then the hardest, the largest and smallest, the most confused
PAIRS = 12
UNEVEN = 1.5  # times as many images of the largest class as of the smallest: worth a picture
NAME = 22  # letters of a class's name beside a chart
ERRORS = LinearSegmentedColormap.from_list("errors", ("#f0eff2", style.SHADES[0]))


def colours_of(gallery: Gallery) -> list[str]:
    """A colour for each model, its family's."""
    colours = style.family_colours(gallery.families)
    return [colours.get(model.model, style.INK) for model in gallery.models]


def count_images(gallery: Gallery) -> str:
    return f"n = {int(gallery.confusion[0].sum()):,} test images"


def class_name(gallery: Gallery, index: int) -> str:
    """As alt texts say it."""
    return style.shortened(gallery.class_names[int(index)], 30) or f"class {index}"


def _labels_alt(gallery: Gallery) -> str:
    assert gallery.label_counts is not None
    counts = gallery.label_counts[0]
    ends = [f"{counts[k]:,} ({class_name(gallery, k)})" for k in (counts.argmin(), counts.argmax())]
    return f"Training images of each of {len(counts)} classes: from {' to '.join(ends)}."


@gallery_plot("Label distribution", alt=_labels_alt, as_svg=True)
def label_distribution(gallery: Gallery) -> Figure | None:
    """How the images of {dataset} are spread over its classes. A class with few training images is harder to learn; one
    with few test images has an accuracy that is known less well.
    """
    counts = gallery.label_counts
    if counts is None or counts[0].max() < UNEVEN * counts[0].min():
        return None  # all alike: there is nothing to see
    chosen = np.arange(counts.shape[1])
    if len(chosen) > MOST_CLASSES:
        order = np.argsort(-counts[0], kind="stable")
        chosen = np.concatenate([order[: MOST_CLASSES // 2], order[-MOST_CLASSES // 2 :]])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, ((axes,),) = style.canvas(1.75 + 0.25 * len(chosen))
    places = np.arange(len(chosen))
    axes.barh(places, shares[0, chosen], 0.66, color=style.PLAIN, lw=0)
    handles: list[Any] = [Patch(color=style.PLAIN, label="training")]
    for part, (name, marker, size) in enumerate((("validation", "D", 5), ("test", "o", 6)), 1):
        how: dict[str, Any] = {"ls": "", "marker": marker, "ms": size, "color": style.SHADES[2 - part]}
        axes.plot(shares[part, chosen], places, mec="white", mew=0.6, **how)
        handles.append(Line2D([], [], label=name, **how))
    handles.append(axes.axvline(100 / counts.shape[1], color=style.FAINT, lw=0.9, ls=(0, (4, 3)), label="equal shares"))
    aside: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "fontsize": 8.5}
    aside |= {"annotation_clip": False, "in_layout": True}
    for x, part, name in zip((52, 108, 154), counts, ("training", "validation", "test"), strict=True):
        style.note(axes, name, (1, -1), (x, 0), **(aside | {"color": style.FAINT}))
        for place, count in enumerate(part[chosen]):
            style.note(axes, f"{count:,}", (1, place), (x, 0), **aside)
    axes.set_xlabel("share of the images in its part, %")
    labels = style.class_labels(gallery.class_names, NAME)
    style.name_rows(axes, [labels[k] for k in chosen])
    style.legend_below(figure, handles, handletextpad=0.8)
    sizes = "{:,} training, {:,} validation, {:,} test images".format(*counts.sum(axis=1))
    cut = f"; the {MOST_CLASSES // 2} largest and smallest of {counts.shape[1]} classes"
    return style.title(figure, label_distribution.title, sizes + (cut if len(chosen) < counts.shape[1] else ""))


def _confusion_caption(gallery: Gallery) -> str:
    seeds = [
        f"seed {model.seed}, of {model.num_seeds} the one of median validation accuracy"
        if model.num_seeds > 1
        else "its only seed"
        for model in gallery.models
    ]
    models = listed([f"{model.label} ({seed})" for model, seed in zip(gallery.models, seeds, strict=True)])
    return (
        f"{models}, on {count_images(gallery)}, with the weights that validation chose. Rows are the truth; only "
        "mistakes are coloured, on one scale for all."
    )


def _confusion_alt(gallery: Gallery) -> str:
    parts = []
    for model, matrix in zip(gallery.models, gallery.confusion, strict=True):
        worst = [
            f", most often {class_name(gallery, truth)} taken for {class_name(gallery, predicted)} ({count})"
            for truth, predicted, count in confused_pairs(matrix)[:1]
        ]
        parts.append(f"{model.name}: {_wrong(matrix)} of {matrix.sum():,} wrong{''.join(worst)}.")
    return " ".join(parts)


@gallery_plot("Confusion matrices", caption=_confusion_caption, alt=_confusion_alt, as_svg=True)
def confusion(gallery: Gallery) -> Figure | None:
    """Which class each model takes for which; beyond MOST_CLASSES classes the most confused pairs."""
    classes = len(gallery.class_names)
    if classes > MOST_CLASSES:
        return _pairs(gallery)
    wide = classes > 15 and len(gallery.models) > 1
    rows, columns = (len(gallery.models), 1) if wide else (1, len(gallery.models))
    figure, panels = style.canvas(1.6 + rows * (0.27 * classes + 0.4 if wide else 4.35), rows, columns)
    diagonal = np.eye(classes, dtype=bool)
    shares = 100 * gallery.confusion / np.maximum(gallery.confusion.sum(axis=2, keepdims=True), 1)
    scale = Normalize(0, float(shares[:, ~diagonal].max(initial=0)) or 1.0)
    labels = style.class_labels(gallery.class_names, 12)
    for axes, matrix, share, model, colour in zip(
        panels.flat, gallery.confusion, shares, gallery.models, colours_of(gallery), strict=True
    ):
        colours = ERRORS(scale(np.where(diagonal | (matrix == 0), np.nan, share)))
        colours[diagonal] = to_rgba("#f0f0f0")
        axes.imshow(colours, aspect="auto")
        _numbers(axes, matrix, share, scale, labels)
        axes.set_title(f"{model.name}: {_wrong(matrix)} of {matrix.sum():,} wrong", color=colour)
        axes.set_xlabel("prediction")
    panels[0, 0].set_ylabel("truth")
    for axes in panels[0, 1:]:
        axes.set_yticks(range(classes), [])
    bar = figure.colorbar(ScalarMappable(scale, ERRORS), ax=list(panels.flat), shrink=0.6, pad=0.015, aspect=30)
    bar.set_label("of the true class's images, %")
    bar.outline.set_visible(False)
    said = (
        "on the diagonal: % of the class that was right; elsewhere: images, coloured by their share of the true class"
    )
    return style.title(figure, confusion.title, said)


def _numbers(axes: Axes, matrix: Array, share: Array, scale: Normalize, labels: Sequence[str]) -> None:
    """Write the cells of a matrix and the names beside it; each class's share of right ones on the diagonal."""
    classes = len(matrix)
    size, long = 8.5 if classes <= 12 else 7, max(map(len, labels)) > 3
    how: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}  # a solver needn't measure each cell
    for truth, predicted in zip(*np.nonzero(np.eye(classes, dtype=bool) | (matrix > 0)), strict=True):
        if truth == predicted:
            text = f"{share[truth, truth]:.1f}" if matrix[truth].sum() else "–"
            axes.text(truth, truth, text, fontsize=size - 1, color=style.INK, **how)
        else:
            ink = style.readable_on(ERRORS(scale(share[truth, predicted])))
            axes.text(predicted, truth, f"{matrix[truth, predicted]}", fontsize=size, color=ink, **how)
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(classes), labels, fontsize=size, **turned)
    axes.set_yticks(range(classes), labels, fontsize=size)
    axes.grid(visible=False)
    for lines in (axes.vlines, axes.hlines):
        lines(np.arange(0.5, classes - 1), -0.5, classes - 0.5, color="#ececec", lw=0.6)


def _wrong(matrix: Array) -> str:
    return f"{matrix.sum() - np.trace(matrix):,}"


def _pairs(gallery: Gallery) -> Figure | None:
    """The pairs of classes that were confused most, by both models together."""
    pairs = confused_pairs(gallery.confusion.sum(axis=0))[:PAIRS]
    if not pairs:
        return None
    figure, ((axes,),) = style.canvas(1.8 + 0.3 * len(pairs))
    labels, height = style.class_labels(gallery.class_names, NAME), 0.76 / len(gallery.models)
    truths, predicted, _ = zip(*pairs, strict=True)
    for index, (colour, matrix) in enumerate(zip(colours_of(gallery), gallery.confusion, strict=True)):
        places = np.arange(len(pairs)) + (index - (len(gallery.models) - 1) / 2) * height
        bars = axes.barh(places, matrix[truths, predicted], height, color=colour, lw=0)
        axes.bar_label(bars, padding=4, fontsize=8)
    axes.set_xlabel("test images")
    style.name_rows(axes, [f"{labels[truth]} → {labels[other]}" for truth, other, _ in pairs])
    _legend(figure, gallery)
    wrong = [f"{m.name} {_wrong(matrix)} wrong" for m, matrix in zip(gallery.models, gallery.confusion, strict=True)]
    total = f"of {gallery.confusion[0].sum():,}: {', '.join(wrong)}"
    return style.title(figure, confusion.title, f"the {len(pairs)} most confused pairs, truth → prediction; {total}")


def _accuracy_alt(gallery: Gallery) -> str:
    parts = []
    for model, matrix in zip(gallery.models, gallery.confusion, strict=True):
        present = np.flatnonzero(matrix.sum(axis=1))
        shares = np.diag(matrix)[present] / matrix.sum(axis=1)[present]
        ends = [
            f"{100 * shares[k]:.1f}% ({class_name(gallery, present[k])})" for k in (shares.argmin(), shares.argmax())
        ]
        parts.append(f"{model.name}: from {' to '.join(ends)}, {100 * model.accuracy:.2f}% over all.")
    return " ".join(parts)


@gallery_plot("Accuracy by class", alt=_accuracy_alt, as_svg=True)
def class_accuracy(gallery: Gallery) -> Figure | None:
    """n = {test_images} test images in all. Where intervals overlap widely, a class has too few test images to tell."""
    sizes = gallery.confusion[0].sum(axis=1)
    right = np.stack([np.diag(matrix) for matrix in gallery.confusion])
    present = np.flatnonzero(sizes)
    order = present[np.argsort((right[:, present].sum(axis=0) / sizes[present]), kind="stable")]
    chosen = order[:MOST_CLASSES]
    figure, ((axes,),) = style.canvas(1.75 + 0.3 * len(chosen))
    labels = style.class_labels(gallery.class_names, NAME)
    lowest = 1.0
    for index, colour in enumerate(colours_of(gallery)):
        shift = (index - (len(gallery.models) - 1) / 2) * 0.26
        for place, k in enumerate(chosen):
            low, high = accuracy_interval(int(right[index, k]), int(sizes[k]))
            lowest = min(lowest, low)
            axes.plot([100 * low, 100 * high], [place + shift] * 2, color=colour, lw=1.6, alpha=0.55)
            axes.plot(100 * right[index, k] / sizes[k], place + shift, "o", ms=7, color=colour, mec="white", mew=0.7)
        axes.axvline(100 * gallery.models[index].accuracy, color=colour, lw=1, ls=(0, (4, 3)), alpha=0.8)
    room = 0.03 * (1 - lowest)
    axes.set_xlim(100 * max(0.0, lowest - room), 100 * (1 + room))
    axes.set_xlabel("test accuracy, %")
    axes.axvline(100, color="#cccccc", lw=0.8)
    style.name_rows(axes, [f"{labels[k]}  (n = {sizes[k]:,})" for k in chosen])
    _legend(figure, gallery, Line2D([], [], color=style.FAINT, lw=1, ls=(0, (4, 3)), label="over all classes"))
    cut = f"; the {len(chosen)} hardest of {len(order)}" if len(chosen) < len(order) else ""
    subtitle = f"hardest on top; lines: 95% intervals for so many test images (Wilson){cut}"
    return style.title(figure, class_accuracy.title, subtitle)


def _legend(figure: Figure, gallery: Gallery, *more: Line2D) -> None:
    handles = [
        style.dot(f"{model.name}, {100 * model.accuracy:.2f}%", colour, ms=8)
        for model, colour in zip(gallery.models, colours_of(gallery), strict=True)
    ]
    style.legend_below(figure, [*handles, *more], handletextpad=0.8)
