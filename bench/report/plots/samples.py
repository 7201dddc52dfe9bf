"""Test images with what the models say of them: a random draw, the worst mistakes, where two models disagree."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.formatting import listed
from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.classes import class_name, colours_of, count_images
from bench.report.plots.contact_sheet import MARGIN, ContactSheet, as_pixels, squares
from bench.report.plots.plot import gallery_plot
from bench.report.plots.style import FAINT, INK, TITLE_INCHES, class_labels

COLUMNS = 10
NAME, LETTERS = 12, 14  # letters of a class's name, and of a line, that fit the width of an image
LINE = 0.16  # inches from one line of text to the next
LEGEND = 0.36  # inches
Row = tuple[tuple[str, str] | None, Array, Sequence[int]]  # a head and its colour, places of images, models below them


def _samples_alt(gallery: Gallery) -> str:
    right = (gallery.predictions == gallery.labels)[:, gallery.samples].sum(axis=1)
    counts = [f"{model.name} {int(n)}" for model, n in zip(gallery.models, right, strict=True)]
    return f"{len(gallery.samples)} test images drawn at random. Right of them: {listed(counts)}."


@gallery_plot(
    "Sample predictions",
    caption=lambda gallery: f"{len(gallery.samples)} of {count_images(gallery)}, drawn once at random, not chosen.",
    alt=_samples_alt,
)
def samples(gallery: Gallery) -> Figure | None:
    """Test images drawn at random, with the truth above and each model's prediction below."""
    if gallery.images is None or not len(gallery.samples):
        return None
    models = range(len(gallery.models))
    rows = [gallery.samples[start : start + COLUMNS] for start in range(0, len(gallery.samples), COLUMNS)]
    sheet = _sheet(gallery, [(None, row, models) for row in rows], legend=True)
    drawn = f"{len(gallery.samples)} of {int(gallery.confusion[0].sum()):,} test images, drawn at random"
    return sheet.finish(samples.title, f"{drawn}; above: truth, below: prediction and confidence")


def _mistakes_alt(gallery: Gallery) -> str:
    worst = []
    for index, (model, places) in enumerate(zip(gallery.models, gallery.mistakes, strict=True)):
        for place in places[:1]:
            truth, predicted = (class_name(gallery, k[place]) for k in (gallery.labels, gallery.predictions[index]))
            sure = f"{100 * gallery.confidences[index, place]:.1f}% sure"
            worst.append(f"the {model.name}'s first is {truth} taken for {predicted}, {sure}")
    return f"Test images that each got wrong with the most confidence: {'; '.join(worst)}."


@gallery_plot(
    "Worst mistakes",
    caption=lambda gallery: (
        f"Of {count_images(gallery)} those that each got wrong with the most confidence. Some of "
        "these labels people would dispute, too."
    ),
    alt=_mistakes_alt,
)
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
    subtitle = "most confident first; above: truth, below: prediction and confidence"
    return _sheet(gallery, rows).finish(worst_mistakes.title, subtitle)


def _agreement(gallery: Gallery) -> str:
    counts = {name: f"{count:,}" for name, count in gallery.agreement.items()}
    first, second = (model.name for model in gallery.models)
    return (
        f"Both right: {counts['both_right']} images; only the {first}: {counts['only_first']}; only the {second}: "
        f"{counts['only_second']}; both wrong: {counts['both_wrong_alike']} with the same answer, "
        f"{counts['both_wrong_apart']} with different ones."
    )


@gallery_plot(
    "Disagreements",
    caption=lambda gallery: f"{_agreement(gallery)} {count_images(gallery)}.",
    alt=lambda gallery: f"Test images that one model got right and the other wrong. {_agreement(gallery)}",
)
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
    wrong = f"both wrong: {alike + apart:,}, of them {alike:,} with the same answer"
    subtitle = f"both right: {both:,}; {wrong}; surest first"
    return _sheet(gallery, rows, legend=True).finish(disagreements.title, subtitle)


def _sheet(gallery: Gallery, rows: Sequence[Row], legend: bool = False) -> ContactSheet:
    """Rows of images, the truth above each image and what models say below."""
    side, pitch = squares(COLUMNS)
    heights = [(2.4 if head else 1.3) * LINE + side + (len(models) + 0.7) * LINE for head, _, models in rows]
    sheet, y = ContactSheet(sum(heights) + legend * LEGEND), TITLE_INCHES
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
                text, wrong = _prediction(gallery, int(place), model, labels)
                style = {"color": colours[model], "fontweight": "bold" if wrong else "normal"}
                sheet.write(x + side / 2, top + side + 0.86 * LINE + line * LINE, text, **style)
        y += height
    if legend:
        handles = [
            Line2D([], [], ls="", marker="s", ms=7, color=colour, label=f"{line} line: {model.name}")
            for line, model, colour in zip(("first", "second"), gallery.models, colours, strict=False)
        ]
        handles.append(Line2D([], [], ls="", marker="x", ms=6, mew=2, color=FAINT, label="wrong"))
        sheet.figure.legend(handles=handles, loc="lower center", ncols=len(handles), handletextpad=0.3)
    return sheet


def _prediction(gallery: Gallery, place: int, model: int, labels: Sequence[str]) -> tuple[str, bool]:
    """What a model says of an image, as fits its width, and whether it is wrong; that is crossed."""
    predicted, sure = gallery.predictions[model, place], gallery.confidences[model, place]
    wrong = bool(predicted != gallery.labels[place])
    name = f"{'✗ ' if wrong else ''}{labels[predicted]}"
    fitting = [f"{name} · {_confidence(sure, 1)}", f"{name} {_confidence(sure, 0)}", name]
    return next((text for text in fitting if len(text) <= LETTERS - wrong), name), wrong


def _confidence(share: float, digits: int) -> str:
    """In percent; what rounds to certainty is not said to be certain."""
    text = f"{100 * share:.{digits}f}%"
    return text if float(text[:-1]) < 100 else f">99{'.9' if digits else ''}%"
