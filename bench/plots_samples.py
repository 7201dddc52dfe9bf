"""Test images with what the models said of them: a random draw, the worst mistakes, where two models disagree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import canvas
from bench.canvas import FAINT, INK, WIDTH
from bench.gallery_file import Array, Gallery, Insides, Shown
from bench.lettering import LITERAL, class_labels
from bench.plots_gallery import colours_of, entitle

COLUMNS = 10
NAME, LETTERS = 12, 14  # letters of a class's name, and of a line, that fit the width of an image
LINE = 11.5  # points between lines of text


def samples(gallery: Gallery) -> Figure | None:
    """Test images drawn at random, with the truth above and each model's prediction below."""
    if gallery.images is None or not len(gallery.samples):
        return None
    rows = -(-len(gallery.samples) // COLUMNS)
    figure, grid = _rows(rows, lines=1 + len(gallery.models), below=0.4)
    for axes, place in zip(grid.ravel(), gallery.samples, strict=False):
        draw_image(axes, gallery.images[place])
        _say(axes, gallery, int(place), range(len(gallery.models)))
    _legend(figure, gallery)
    n = int(gallery.confusion[0].sum())
    said = (
        f"{len(gallery.samples)} of {n:,} test images, drawn at random; above: truth, below: prediction and confidence"
    )
    entitle(figure, "Sample predictions", said)
    return figure


def worst_mistakes(gallery: Gallery) -> Figure | None:
    """Where each model was surest and wrong."""
    lists = [(model, places) for model, places in enumerate(gallery.mistakes) if len(places)]
    if gallery.images is None or not lists:
        return None
    figure, grid = _rows(len(lists), lines=2, heads=True)
    for row, (model, places) in zip(grid, lists, strict=True):
        wrong = int(gallery.confusion[model].sum() - np.trace(gallery.confusion[model]))
        shown = gallery.models[model]
        _head(row[0], f"{shown.name}: {len(places)} of its {wrong:,} mistakes", colours_of(gallery)[model])
        for axes, place in zip(row, places, strict=False):
            draw_image(axes, gallery.images[place])
            _say(axes, gallery, int(place), [model])
    said = "most confident first; above: truth, below: prediction and confidence"
    entitle(figure, "The worst mistakes of each", said)
    return figure


def disagreements(gallery: Gallery) -> Figure | None:
    """Images that one model got right and the other wrong."""
    lists = [(model, places) for model, places in enumerate(gallery.only) if len(places)]
    if gallery.images is None or not lists:
        return None
    figure, grid = _rows(len(lists), lines=3, heads=True, below=0.4)
    counts = [gallery.agreement[name] for name in ("only_first", "only_second")]
    for row, (model, places) in zip(grid, lists, strict=True):
        name, n = gallery.models[model].name, counts[model]
        _head(row[0], f"only the {name} is right: {len(places)} of {n:,} images", colours_of(gallery)[model])
        for axes, place in zip(row, places, strict=False):
            draw_image(axes, gallery.images[place])
            _say(axes, gallery, int(place), range(2))
    _legend(figure, gallery)
    both, alike, apart = (gallery.agreement[name] for name in ("both_right", "both_wrong_alike", "both_wrong_apart"))
    said = f"both right: {both:,}; both wrong: {alike + apart:,}, of them {alike:,} with the same answer; surest first"
    entitle(figure, "Where they disagree", said)
    return figure


def draw_image(axes: Axes, image: Array) -> None:
    """One image (C, H, W), uint8: grey as grey, RGB in its colours."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(image) == 3:
        axes.imshow(np.moveaxis(image, 0, -1), interpolation="nearest")
    else:
        axes.imshow(image.mean(axis=0), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _rows(rows: int, lines: int, heads: bool = False, below: float = 0.0) -> tuple[Figure, Any]:
    """Axes in rows of COLUMNS for square images, with room for so many lines of text about each, and heads of rows."""
    text = (lines + heads) * LINE / 72 + 0.12
    side = (WIDTH - 0.2) / COLUMNS - 0.08
    figure = Figure(figsize=(WIDTH, canvas.TITLE_INCHES + rows * (side + text) + below + 0.1), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    return figure, grid


def _head(axes: Axes, text: str, colour: str) -> None:
    """What a row of images is, above its first one."""
    _write(axes, text, (0, 1), (0, 5 + LINE), color=colour, fontweight="bold", ha="left", fontsize=10)


def _say(axes: Axes, gallery: Gallery, place: int, models: Sequence[int]) -> None:
    """The truth above an image, below it what models said; what is wrong is bold and crossed."""
    labels, colours = class_labels(gallery.class_names, NAME), colours_of(gallery)
    truth = gallery.labels[place]
    _write(axes, labels[truth], (0.5, 1), (0, 3), color=INK)
    for line, model in enumerate(models):
        said, sure = gallery.predictions[model, place], gallery.confidences[model, place]
        wrong = said != truth
        name = f"{'✗ ' if wrong else ''}{labels[said]}"
        fitting = [f"{name} · {confidence(sure)}", f"{name} {confidence(sure, 0)}", name]
        text = next((words for words in fitting if len(words) <= LETTERS - wrong), name)
        weight = "bold" if wrong else "normal"
        _write(axes, text, (0.5, 0), (0, -3 - LINE * line), color=colours[model], fontweight=weight, va="top")


def _write(axes: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """A line about an image. It keeps its height free and not its width, so that long names shrink no image."""
    plain: dict[str, Any] = {"fontsize": 8, "ha": "center", "annotation_clip": False}
    style = plain | style | {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(text, place, shift, **style, **LITERAL).set_in_layout(False)
    axes.annotate("|", place, shift, **(style | {"alpha": 0}))


def confidence(share: float, digits: int = 1) -> str:
    """In percent; what rounds to certainty is not said to be certain."""
    text = f"{100 * share:.{digits}f}%"
    return text if float(text[:-1]) < 100 else f">99{'.9' if digits else ''}%"


def _legend(figure: Figure, gallery: Gallery) -> None:
    style: dict[str, Any] = {"ls": "", "marker": "s", "ms": 7}
    handles = [
        Line2D([], [], color=colour, label=f"{line} line: {model.name}", **style)
        for line, model, colour in zip(("first", "second"), gallery.models, colours_of(gallery), strict=False)
    ]
    handles.append(Line2D([], [], ls="", marker="$✗$", ms=7, color=FAINT, label="wrong"))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.3)
    for text in legend.get_texts():
        text.set_parse_math(False)


def first_with(gallery: Gallery, *needed: str) -> tuple[Shown, Insides] | None:
    """The first model that has all of these."""
    for shown, inside in zip(gallery.models, gallery.insides, strict=True):
        if all(getattr(inside, name) is not None for name in needed):
            return shown, inside
    return None


def image_grid(rows: int, columns: int, aside: float = 0.1, gap: int = 0) -> tuple[Figure, Any]:
    """Axes for square images, with so many inches kept free beside them, and a gap before column `gap`."""
    side = min((WIDTH - aside) / columns, 1.6)
    figure = Figure(figsize=(WIDTH, canvas.TITLE_INCHES + 0.3 + rows * side), layout="constrained")
    ratios = [1.0] * columns
    if gap:
        ratios.insert(gap, 0.12)
    grid = figure.subplots(rows, len(ratios), squeeze=False, gridspec_kw={"width_ratios": ratios})
    for axes in grid.ravel():
        axes.set_axis_off()
    return figure, np.delete(grid, gap, axis=1) if gap else grid
