"""Test images with what the models said of them: a random draw, the worst mistakes, where two models disagree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.inference.gallery_file import Array, Gallery, Insides, Shown
from bench.report.plots.classes import colours_of
from bench.report.plots.contact_sheet import MARGIN, ContactSheet, height_of, squares
from bench.report.plots.lettering import class_labels
from bench.report.plots.style import FAINT, INK, TITLE_INCHES

COLUMNS = 10
NAME, LETTERS = 12, 14  # letters of a class's name, and of a line, that fit the width of an image
LINE = 0.16  # inches from one line of text to the next
LEGEND = 0.36  # inches


def samples(gallery: Gallery) -> Figure | None:
    """Test images drawn at random, with the truth above and each model's prediction below."""
    if gallery.images is None or not len(gallery.samples):
        return None
    models = range(len(gallery.models))
    rows = [gallery.samples[start : start + COLUMNS] for start in range(0, len(gallery.samples), COLUMNS)]
    sheet = _sheet(gallery, [(None, row, models) for row in rows], legend=True)
    n = int(gallery.confusion[0].sum())
    said = (
        f"{len(gallery.samples)} of {n:,} test images, drawn at random; above: truth, below: prediction and confidence"
    )
    return sheet.finish("Sample predictions", said)


def worst_mistakes(gallery: Gallery) -> Figure | None:
    """Where each model was surest and wrong."""
    lists = [(model, places) for model, places in enumerate(gallery.mistakes) if len(places)]
    if gallery.images is None or not lists:
        return None
    rows = []
    for model, places in lists:
        wrong = int(gallery.confusion[model].sum() - np.trace(gallery.confusion[model]))
        text = f"{gallery.models[model].name}: {len(places)} of its {wrong:,} mistakes"
        rows.append(((text, colours_of(gallery)[model]), places[:COLUMNS], [model]))
    said = "most confident first; above: truth, below: prediction and confidence"
    return _sheet(gallery, rows).finish("The worst mistakes of each", said)


def disagreements(gallery: Gallery) -> Figure | None:
    """Images that one model got right and the other wrong."""
    lists = [(model, places) for model, places in enumerate(gallery.only) if len(places)]
    if gallery.images is None or not lists:
        return None
    counts = [gallery.agreement[name] for name in ("only_first", "only_second")]
    rows = []
    for model, places in lists:
        text = f"only the {gallery.models[model].name} is right: {len(places)} of {counts[model]:,} images"
        rows.append(((text, colours_of(gallery)[model]), places[:COLUMNS], range(2)))
    both, alike, apart = (gallery.agreement[name] for name in ("both_right", "both_wrong_alike", "both_wrong_apart"))
    said = f"both right: {both:,}; both wrong: {alike + apart:,}, of them {alike:,} with the same answer; surest first"
    return _sheet(gallery, rows, legend=True).finish("Where they disagree", said)


Row = tuple[tuple[str, str] | None, Array, Sequence[int]]  # a head and its colour, places of images, models that speak


def _sheet(gallery: Gallery, rows: Sequence[Row], legend: bool = False) -> ContactSheet:
    """Rows of images, the truth above each image and what models said below."""
    side, pitch = squares(COLUMNS)
    heights = [(2.4 if head else 1.3) * LINE + side + (len(models) + 0.7) * LINE for head, _, models in rows]
    sheet, y = ContactSheet(height_of(sum(heights) + legend * LEGEND)), TITLE_INCHES
    assert gallery.images is not None
    labels, colours = class_labels(gallery.class_names, NAME), colours_of(gallery)
    for (head, places, models), height in zip(rows, heights, strict=True):
        top = y + height - (len(models) + 0.7) * LINE - side
        if head:
            sheet.write(MARGIN, y + LINE, head[0], color=head[1], fontweight="bold", ha="left", fontsize=10)
        for column, place in enumerate(places):
            x = MARGIN + column * pitch
            sheet.image(x, top, side, as_pixels(gallery.images[place]))
            sheet.write(x + side / 2, top - 0.05, labels[gallery.labels[place]], color=INK)
            for line, model in enumerate(models):
                text, wrong = _said(gallery, int(place), model, labels)
                style = {"color": colours[model], "fontweight": "bold" if wrong else "normal"}
                sheet.write(x + side / 2, top + side + 0.86 * LINE + line * LINE, text, **style)
        y += height
    if legend:
        _legend(sheet.figure, gallery)
    return sheet


def as_pixels(image: Array) -> Array:
    """An image (C, H, W), uint8, as grey (H, W) or colours (H, W, 3)."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0).round().astype(np.uint8)


def _said(gallery: Gallery, place: int, model: int, labels: Sequence[str]) -> tuple[str, bool]:
    """What a model said of an image, as fits its width, and whether it is wrong; that is crossed."""
    said, sure = gallery.predictions[model, place], gallery.confidences[model, place]
    wrong = bool(said != gallery.labels[place])
    name = f"{'✗ ' if wrong else ''}{labels[said]}"
    fitting = [f"{name} · {confidence(sure)}", f"{name} {confidence(sure, 0)}", name]
    return next((words for words in fitting if len(words) <= LETTERS - wrong), name), wrong


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
    legend = figure.legend(handles=handles, loc="lower center", ncols=len(handles), handletextpad=0.3)
    for text in legend.get_texts():
        text.set_parse_math(False)


def first_with(gallery: Gallery, *needed: str) -> tuple[Shown, Insides] | None:
    """The first model that has all of these."""
    for shown, inside in zip(gallery.models, gallery.insides, strict=True):
        if all(getattr(inside, name) is not None for name in needed):
            return shown, inside
    return None
