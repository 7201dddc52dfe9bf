"""Test images with what the models said of them: a random draw, the worst mistakes, where two models disagree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bench.inference.gallery_file import Array, Gallery, Insides, Shown
from bench.report.plots import style as canvas
from bench.report.plots.classes import colours_of
from bench.report.plots.style import FAINT, INK, LITERAL, TITLE_INCHES, WIDTH, class_labels

# A contact sheet: a figure of many small images, each at its place in inches from the top left, with words about them.
#
# All images lie in one raster, and only scales and curves have axes: an axes for each image, laid out by a solver,
# takes ten times as long, and a report has nine such sheets.
MARGIN = 0.12  # inches, beside and below what is drawn
GAP = 0.08  # inches, the least between two images


class _Raster(Artist):
    """Pixels of a whole figure, below all else; `figimage` would resample them, which takes a tenth of a second."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        super().__init__()
        opaque = np.full((*pixels.shape[:2], 1), 255, dtype=np.uint8)
        self.pixels = np.concatenate([pixels[::-1], opaque], axis=2)  # a renderer's images stand on their heads
        self.set_zorder(-1)

    def draw(self, renderer: Any) -> None:
        brush = renderer.new_gc()
        renderer.draw_image(brush, 0, 0, self.pixels)
        brush.restore()


class ContactSheet:
    """A figure of the house's width. Images are square, or as wide or high as a square of their `side`."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=canvas.DPI)
        rows, columns = int(height * canvas.DPI), int(WIDTH * canvas.DPI)
        self.raster = np.full((rows, columns, 3), 255, dtype=np.uint8)

    def image(self, x: float, y: float, side: float, pixels: NDArray[Any]) -> None:
        """Pixels (H, W) or (H, W, 3), uint8, each a crisp square, in the square whose top left corner is at x, y."""
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        high, wide = (round(side * canvas.DPI * size / max(pixels.shape[:2])) for size in pixels.shape[:2])
        top, left = round(y * canvas.DPI), round(x * canvas.DPI)
        rows, columns = (np.arange(n) * size // n for n, size in zip((high, wide), pixels.shape, strict=False))
        self.raster[top : top + high, left : left + wide] = pixels[rows[:, None], columns]

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """A line of text, literally, centred at x, with its baseline at y."""
        plain: dict[str, Any] = {"fontsize": 8, "ha": "center", "va": "baseline"}
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **(plain | style), **LITERAL)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose frame has its top left corner at x, y."""
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))

    def scale(self, x: float, y: float, height: float, colours: ScalarMappable, label: str) -> Any:
        """A bar of colours with its ticks, about 0.7 inches wide."""
        bar = self.figure.colorbar(colours, cax=self.axes(x, y, 0.16, height))
        bar.set_label(label)
        return bar

    def finish(self, title: str, said: str) -> Figure:
        """The figure, with its images, its title and, smaller, what is drawn; both where other figures have them."""
        self.figure.add_artist(_Raster(self.raster))
        self.write(MARGIN, 0.24, title, va="center", ha="left", fontsize=13, fontweight="bold")
        self.write(MARGIN, 0.47, said, va="center", ha="left", fontsize=9, color=FAINT)
        return self.figure


def squares(columns: int, aside: float = 0.0, widest: float = 1.6) -> tuple[float, float]:
    """(side, pitch) of images in a row of the sheet, with so many inches kept free beside them."""
    room = WIDTH - 2 * MARGIN - aside + GAP
    side = min(room / columns - GAP, widest)
    return side, min(room / columns, side + 4 * GAP)


def height_of(rows: float) -> float:
    """Of a sheet whose images and words take so many inches."""
    return TITLE_INCHES + rows + MARGIN


def colours(values: NDArray[Any], palette: Any, low: float, high: float) -> NDArray[Any]:
    """Values (H, W) as colours (H, W, 3), uint8, of a palette from `low` to `high`."""
    return palette((np.asarray(values, dtype=np.float64) - low) / ((high - low) or 1.0), bytes=True)[..., :3]


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
