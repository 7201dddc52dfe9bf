"""A plot of a report: the function that draws it, with its title, caption and alt text, which stand nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.labels import records
from bench.analysis.summary import Tables
from bench.inference.gallery_file import Gallery
from bench.report.plots.style import house_style

Data = TypeVar("Data")  # what is drawn: a run's Tables, or its Gallery of trained models
Draw = Callable[[Data], Figure | None]
Caption = Callable[[Data], str]


@dataclass(frozen=True)
class Plot(Generic[Data]):
    """A figure of a report and its words.

    Attributes:
        name: of its files in plots/.
        title: in the figure and on the page.
        draw: the figure, to be called within `style.house_style`; None where there is nothing to show.
        caption: stands below it: how to read it.
        alt: follows the title for those who can't see it: what is drawn, the finding, the range.
        as_svg: as SVG and PNG; else as PNG alone, since an SVG of pixels is larger and no sharper.
    """

    name: str
    title: str
    draw: Draw[Data]
    caption: Caption[Data]
    alt: Callable[[Data], str]
    as_svg: bool = True

    def __call__(self, data: Data) -> Figure | None:
        """The figure alone, for a notebook."""
        with house_style():
            return self.draw(data)


def run_plot(
    title: str, alt: Callable[[Tables, pd.DataFrame], str], caption: Caption[Tables] | None = None
) -> Callable[[Draw[Tables]], Plot[Tables]]:
    """Make a plot of a function that draws a run's tables; its docstring is the caption, where none is given.

    `alt` gets one device's like-for-like rows at a time.
    """

    def of_all_devices(tables: Tables) -> str:
        several, sentences = tables.summary["device_name"].nunique() > 1, []
        measured = tables.like_for_like[tables.like_for_like["n"] > 0]
        for device, rows in measured.groupby("device_name", sort=False):
            sentence = alt(tables, rows)
            sentences += [f"{device}: {sentence}" if several else sentence] if sentence else []
        return " ".join([*sentences, "The table of configurations holds the numbers."])

    return lambda draw: Plot(draw.__name__, title, draw, caption or (lambda tables: _docstring(draw)), of_all_devices)


def gallery_plot(
    title: str, alt: Callable[[Gallery], str], caption: Caption[Gallery] | None = None, as_svg: bool = False
) -> Callable[[Draw[Gallery]], Plot[Gallery]]:
    """The same of a function that draws what trained models get right and wrong, or look at.

    In its docstring, {dataset} stands for the name of the data, {test_images}, {drawn} and {looked} for counts.
    """

    def of_gallery(text: str, gallery: Gallery) -> str:
        counts = {"drawn": len(gallery.samples), "looked": len(gallery.looked)}
        test_images = f"{int(gallery.confusion[0].sum()):,}"
        return text.format(dataset=gallery.dataset, test_images=test_images, **counts)

    return lambda draw: Plot(draw.__name__, title, draw, caption or partial(of_gallery, _docstring(draw)), alt, as_svg)


def _docstring(draw: Callable[..., Figure | None]) -> str:
    return " ".join((draw.__doc__ or "").split())


# For alt texts.
def value_range(rows: pd.DataFrame, metric: str, show: Callable[[float], str], less_is_better: bool = False) -> str:
    """ "from 2,430 images/s (ViT p4 d4) to 24,000 images/s (ViT p14 d2)", the worse end first; "" of no values."""
    known = rows.dropna(subset=[metric]).sort_values(metric, ascending=not less_is_better)
    ends = [f"{show(row[metric])} ({row['label']})" for row in records(known.iloc[[0, -1]])] if len(known) else []
    return f"from {ends[0]} to {ends[1]}" if len(known) > 1 else "".join(ends[:1])
