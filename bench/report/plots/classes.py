"""Charts of what trained models get right and wrong: the data's classes, confusion, accuracy by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.inference.error_analysis import confused_pairs
from bench.inference.gallery_file import Array, Gallery
from bench.measure.stats import accuracy_interval
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, INK, LITERAL, WIDTH, class_labels

MOST_CLASSES = 30  # more are a wall: then the hardest, the largest and smallest, the most confused
PAIRS = 12
NAME = 22  # letters of a class's name beside a chart
ERRORS = LinearSegmentedColormap.from_list("errors", ("#f0eff2", "#3b2a5c"))  # of one colour that no family has
PLAIN = "#c9ced4"


def colours_of(gallery: Gallery) -> list[str]:
    colours = canvas.family_colours(pd.Series(gallery.families))
    return [colours.get(model.model, INK) for model in gallery.models]


def label_distribution(gallery: Gallery) -> Figure | None:
    """How often each class occurs in the three parts of the data."""
    counts = gallery.label_counts
    if counts is None:
        return None
    chosen = np.arange(counts.shape[1])
    if len(chosen) > MOST_CLASSES:
        order = np.argsort(-counts[0], kind="stable")
        chosen = np.concatenate([order[: MOST_CLASSES // 2], order[-MOST_CLASSES // 2 :]])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(WIDTH, 1.75 + 0.25 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(chosen))
    axes.barh(places, shares[0, chosen], 0.66, color=PLAIN, lw=0)
    axes.plot(shares[1, chosen], places, ls="", marker="D", ms=5, color="#7a5da8", mec="white", mew=0.6)
    axes.plot(shares[2, chosen], places, ls="", marker="o", ms=6, color="#3b2a5c", mec="white", mew=0.6)
    axes.axvline(100 / counts.shape[1], color=FAINT, lw=0.9, ls=(0, (4, 3)))
    aside: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    aside |= {"ha": "right", "va": "center", "fontsize": 8.5, "annotation_clip": False}
    for x, part, name in zip((52, 108, 154), counts, ("training", "validation", "test"), strict=True):
        axes.annotate(name, (1, -1), (x, 0), color=FAINT, **aside)
        for place, count in enumerate(part[chosen]):
            axes.annotate(f"{count:,}", (1, place), (x, 0), color=INK, **aside)
    axes.set_xlabel("share of the images in its part, %")
    labels = class_labels(gallery.class_names, NAME)
    _name_classes(axes, [labels[k] for k in chosen])
    handles = [
        Patch(color=PLAIN, label="training"),
        Line2D([], [], ls="", marker="D", ms=5, color="#7a5da8", label="validation"),
        Line2D([], [], ls="", marker="o", ms=6, color="#3b2a5c", label="test"),
        Line2D([], [], color=FAINT, lw=0.9, ls=(0, (4, 3)), label="equal shares"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    train, val, test = (f"{part.sum():,}" for part in counts)
    cut = f"; the {MOST_CLASSES // 2} largest and smallest of {counts.shape[1]} classes"
    said = f"{train} training, {val} validation, {test} test images{cut if len(chosen) < counts.shape[1] else ''}"
    entitle(figure, "How often each class occurs", said)
    return figure


def confusion(gallery: Gallery) -> Figure | None:
    """Whom each model takes for whom; beyond MOST_CLASSES classes the most confused pairs."""
    classes = len(gallery.class_names)
    if classes > MOST_CLASSES:
        return _pairs(gallery)
    wide = classes > 15 and len(gallery.models) > 1
    rows, columns = (len(gallery.models), 1) if wide else (1, len(gallery.models))
    figure = Figure(figsize=(WIDTH, 1.6 + rows * (0.27 * classes + 0.4 if wide else 4.35)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    shares = [100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for matrix in gallery.confusion]
    worst = max(float((share - np.diag(np.diag(share))).max()) for share in shares) or 1.0
    labels = class_labels(gallery.class_names, 12)
    for axes, matrix, share, model, colour in zip(
        panels, gallery.confusion, shares, gallery.models, colours_of(gallery), strict=True
    ):
        _matrix(axes, matrix, share, worst, labels)
        axes.set_title(f"{model.name}: {_wrong(matrix)} of {matrix.sum():,} wrong", color=colour, **LITERAL)
        axes.set_xlabel("prediction")
    panels[0].set_ylabel("truth")
    for axes in panels[1:] if columns > 1 else []:
        axes.set_yticks(range(classes), [])
    scale = ScalarMappable(Normalize(0, worst), ERRORS)
    bar = figure.colorbar(scale, ax=list(panels), shrink=0.6, pad=0.015, aspect=30)
    bar.set_label("of the true class's images, %")
    bar.outline.set_visible(False)
    said = (
        "on the diagonal: % of the class that was right; elsewhere: images, coloured by their share of the true class"
    )
    entitle(figure, "Whom they take for whom", said)
    return figure


def _matrix(axes: Axes, matrix: Array, share: Array, worst: float, labels: Sequence[str]) -> None:
    classes = len(matrix)
    diagonal = np.eye(classes, dtype=bool)
    off = np.where(diagonal | (matrix == 0), np.nan, share)
    colours = ERRORS(Normalize(0, worst)(off))
    colours[diagonal] = to_rgba("#f0f0f0")
    axes.imshow(colours, aspect="auto")
    size = 8.5 if classes <= 12 else 7
    style: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}  # a solver needn't measure each cell
    for truth, said in zip(*np.nonzero(diagonal | (matrix > 0)), strict=True):
        if truth == said:
            text = f"{share[truth, said]:.1f}" if matrix[truth].sum() else "–"
            axes.text(said, truth, text, fontsize=size - 1, color=INK, **style)
        else:
            ink = "white" if share[truth, said] > 0.5 * worst else INK
            axes.text(said, truth, f"{matrix[truth, said]}", fontsize=size, color=ink, **style)
    long = max(map(len, labels)) > 3
    axes.set_xticks(range(classes), labels, fontsize=size, **LITERAL)
    axes.tick_params(axis="x", rotation=45 if long else 0)
    for label in axes.get_xticklabels() if long else []:
        label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), labels, fontsize=size, **LITERAL)
    axes.grid(visible=False)
    edges = np.arange(0.5, classes - 1)
    axes.vlines(edges, -0.5, classes - 0.5, color="#ececec", lw=0.6)
    axes.hlines(edges, -0.5, classes - 0.5, color="#ececec", lw=0.6)


def _wrong(matrix: Array) -> str:
    return f"{matrix.sum() - np.trace(matrix):,}"


def _pairs(gallery: Gallery) -> Figure | None:
    """The pairs of classes that were confused most, by both models together."""
    pairs = confused_pairs(gallery.confusion.sum(axis=0))[:PAIRS]
    if not pairs:
        return None
    figure = Figure(figsize=(WIDTH, 1.8 + 0.3 * len(pairs)), layout="constrained")
    axes, labels = figure.subplots(), class_labels(gallery.class_names, NAME)
    height = 0.76 / len(gallery.models)
    for index, colour in enumerate(colours_of(gallery)):
        images = [gallery.confusion[index, truth, said] for truth, said, _ in pairs]
        places = np.arange(len(pairs)) + (index - (len(gallery.models) - 1) / 2) * height
        axes.barh(places, images, height, color=colour, lw=0)
        for place, count in zip(places, images, strict=True):
            axes.annotate(f"{count}", (count, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel("test images")
    _name_classes(axes, [f"{labels[truth]} → {labels[said]}" for truth, said, _ in pairs])
    _families(figure, gallery)
    wrong = ", ".join(
        f"{model.name} {_wrong(matrix)} wrong" for model, matrix in zip(gallery.models, gallery.confusion, strict=True)
    )
    said = f"the {len(pairs)} most confused pairs, truth → prediction; of {gallery.confusion[0].sum():,}: {wrong}"
    entitle(figure, "Whom they take for whom", said)
    return figure


def class_accuracy(gallery: Gallery) -> Figure | None:
    """Accuracy by class with its interval, the hardest class on top."""
    sizes = gallery.confusion[0].sum(axis=1)
    right = np.stack([np.diag(matrix) for matrix in gallery.confusion])
    present = np.flatnonzero(sizes)
    order = present[np.argsort((right[:, present].sum(axis=0) / sizes[present]), kind="stable")]
    chosen = order[:MOST_CLASSES]
    figure = Figure(figsize=(WIDTH, 1.75 + 0.3 * len(chosen)), layout="constrained")
    axes, labels = figure.subplots(), class_labels(gallery.class_names, NAME)
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
    _name_classes(axes, [f"{labels[k]}  (n = {sizes[k]:,})" for k in chosen])
    _families(figure, gallery, Line2D([], [], color=FAINT, lw=1, ls=(0, (4, 3)), label="over all classes"))
    cut = f"; the {len(chosen)} hardest of {len(order)}" if len(chosen) < len(order) else ""
    entitle(figure, "Accuracy by class", f"hardest on top; lines: 95% intervals for so many test images (Wilson){cut}")
    return figure


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=9, **LITERAL)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _families(figure: Figure, gallery: Gallery, *more: Line2D) -> None:
    handles = [
        Line2D([], [], ls="", marker="o", ms=8, color=colour, label=f"{model.name}, {100 * model.accuracy:.2f}%")
        for model, colour in zip(gallery.models, colours_of(gallery), strict=True)
    ]
    legend = figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=len(handles) + len(more))
    for text in legend.get_texts():
        text.set_parse_math(False)


def entitle(figure: Figure, text: str, said: str) -> None:
    """Title and what is drawn, in which a "$" of a model's name is a dollar."""
    canvas.title(figure, text, said)
    for words in figure.texts:
        words.set_parse_math(False)
