"""Test images with what the models say of them: a random draw, the worst mistakes, where two models disagree."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.inference.error_analysis import confused_pairs
from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.classes import class_name, colours_of, count_images
from bench.report.plots.contact_sheet import MARGIN, ContactSheet, as_pixels, squares
from bench.report.plots.plot import gallery_plot
from bench.report.plots.style import FAINT, INK, TITLE_INCHES, class_labels, dot

COLUMNS = 10
NAME, LETTERS = 12, 14  # letters of a class's name, and of a line, that fit the width of an image
LINE = 0.16  # inches from one line of text to the next
LEGEND = 0.36  # inches
Row = tuple[tuple[str, str] | None, Array, Sequence[int]]  # a head and its colour, places of images, models below them


def _mistakes_alt(gallery: Gallery) -> str:
    worst = []
    for index, (model, places) in enumerate(zip(gallery.models, gallery.mistakes, strict=True)):
        for place in places[:1]:
            truth, predicted = (class_name(gallery, k[place]) for k in (gallery.labels, gallery.predictions[index]))
            sure = f"{100 * gallery.confidences[index, place]:.1f}% sure"
            worst.append(f"the {model.name}'s first is {truth} taken for {predicted}, {sure}")
    return f"Test images that each got wrong with the most confidence: {'; '.join(worst)}."


def _mistakes_caption(gallery: Gallery) -> str:
    """Who alone is right on how many images, and what is taken for what most often."""
    said = []
    if len(gallery.models) == 2:
        first, second = (model.name for model in gallery.models)
        alone = gallery.agreement["only_first"], gallery.agreement["only_second"]
        both = gallery.agreement["both_wrong_alike"] + gallery.agreement["both_wrong_apart"]
        said.append(
            f"Only the {first} is right on {alone[0]:,}, only the {second} on {alone[1]:,}, neither on {both:,}."
        )
    most = [
        f"{class_name(gallery, a)} for {class_name(gallery, b)}"
        for matrix in gallery.confusion
        for a, b, _ in confused_pairs(matrix)[:1]
    ]
    if len(most) == 2 and most[0] == most[1]:
        said.append(f"Both most often take {most[0]}.")
    elif len(most) == len(gallery.models):
        said += [f"The {model.name} most often takes {each}." for model, each in zip(gallery.models, most, strict=True)]
    return " ".join(said)


@gallery_plot("Worst mistakes", alt=_mistakes_alt, caption=_mistakes_caption)
def worst_mistakes(gallery: Gallery) -> Figure | None:
    rows: list[Row] = []
    for index, (model, places, matrix) in enumerate(
        zip(gallery.models, gallery.mistakes, gallery.confusion, strict=True)
    ):
        text = f"{model.name}: {len(places)} of its {matrix.sum() - np.trace(matrix):,} mistakes"
        rows.append(((text, colours_of(gallery)[index]), places[:COLUMNS], [index]))
    seeds = max(model.num_seeds for model in gallery.models)
    subtitle = (
        f"{f'of {seeds} seeds the middle one; ' * (seeds > 1)}most confident first; above: truth, below: prediction"
    )
    return _sheet(gallery, rows, worst_mistakes.title, subtitle)


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
    if len(gallery.models) < 2:
        return None
    count, rows = gallery.agreement, list[Row]()
    for index, (model, places) in enumerate(zip(gallery.models, gallery.only, strict=True)):
        total = count[("only_first", "only_second")[index]]
        text = f"only the {model.name} is right: {len(places)} of {total:,} images"
        rows.append(((text, colours_of(gallery)[index]), places[:COLUMNS], range(2)))
    wrong, alike = count["both_wrong_alike"] + count["both_wrong_apart"], count["both_wrong_alike"]
    subtitle = f"both right: {count['both_right']:,}; both wrong: {wrong:,}, of them {alike:,} with the same answer"
    return _sheet(gallery, rows, disagreements.title, f"{subtitle}; surest first", legend=True)


def _sheet(gallery: Gallery, rows: list[Row], title: str, subtitle: str, legend: bool = False) -> Figure | None:
    """Rows of images, the truth above each image and what models say below; None of no images."""
    rows = [row for row in rows if len(row[1])]
    if gallery.images is None or not rows:
        return None
    side, pitch = squares(COLUMNS)
    above = [(2.4 if head else 1.3) * LINE for head, *_ in rows]
    below = [(len(models) + 0.7) * LINE for *_, models in rows]
    sheet, y = ContactSheet(sum(above) + sum(below) + len(rows) * side + legend * LEGEND), TITLE_INCHES
    labels, colours = class_labels(gallery.class_names, NAME), colours_of(gallery)
    for (head, places, models), over, under in zip(rows, above, below, strict=True):
        if head:
            sheet.write(MARGIN, y + LINE, head[0], color=head[1], fontweight="bold", ha="left", fontsize=10)
        y += over
        for column, place in enumerate(places):
            x = MARGIN + column * pitch
            sheet.image(x, y, side, as_pixels(gallery.images[place]))
            sheet.write(x + side / 2, y - 0.05, labels[gallery.labels[place]], color=INK)
            for line, model in enumerate(models):
                text, wrong = _prediction(gallery, int(place), model, labels)
                style = {"color": colours[model], "fontweight": "bold" if wrong else "normal"}
                sheet.write(x + side / 2, y + side + (0.86 + line) * LINE, text, **style)
        y += side + under
    if legend:
        lines = zip(("first", "second"), gallery.models, colours, strict=False)
        handles = [dot(f"{line} line: {model.name}", colour, marker="s") for line, model, colour in lines]
        handles.append(dot("wrong", FAINT, marker="x", ms=6, mew=2))
        sheet.figure.legend(handles=handles, loc="lower center", ncols=len(handles), handletextpad=0.3)
    return sheet.finish(title, subtitle)


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
