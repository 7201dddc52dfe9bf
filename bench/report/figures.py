"""The figures of a report: every plot that has something to show, in plots/ and as data for the page."""

import base64
import html
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from bench.analysis.formatting import clean_text, percent
from bench.analysis.labels import plain_name, records
from bench.analysis.summary import Tables
from bench.inference.gallery_file import Gallery, read_gallery
from bench.report.plots import classes, comparisons, cost, curves, insides, laws, samples, scatter, style
from bench.report.plots.plot import Data, Plot
from bench.report.plots.style import house_style, save
from bench.system.files import write_atomically

if TYPE_CHECKING:  # bench.report.plots loads matplotlib, without a person's settings, and has to be the first
    from matplotlib.figure import Figure as Drawing

# What stands unfolded, in order; then what is folded.
HERO: tuple[Plot[Tables], ...] = scatter.HERO
MAIN_PLOTS: tuple[Plot[Tables], ...] = (
    laws.scaling_laws,
    comparisons.data_efficiency,
    cost.scaling,
    curves.learning_curves,
)
RUN_PLOTS: tuple[Plot[Tables], ...] = (
    curves.time_to_accuracy,
    curves.patch_depth_heatmaps,
    comparisons.mode_ratios,
    comparisons.matched_pairs,
    cost.step_split,
    cost.inference_by_batch,
    cost.memory,
)
TUNING_PLOTS: tuple[Plot[Tables], ...] = (curves.tuning,)
ROBUSTNESS_PLOTS: tuple[Plot[Tables], ...] = (curves.robustness,)
MISTAKES: tuple[Plot[Gallery], ...] = (samples.worst_mistakes,)
GALLERY_PLOTS: tuple[Plot[Gallery], ...] = (
    samples.disagreements,
    classes.label_distribution,
    classes.confusion,
    classes.class_accuracy,
    insides.attention_heads,
    insides.attention_rollout,
    insides.position_similarity,
    insides.first_filters,
)
Made = TypeVar("Made")
LARGEST_SVG = 400_000  # bytes; a larger one goes into the HTML as PNG
PAGE_COLOURS = {  # colours of a drawing -> what the page has for them, light and dark
    style.INK: "var(--ink)",
    style.FAINT: "var(--soft)",
    "#ffffff": "var(--card)",
    "#e8e8e8": "var(--line)",
    "#cccccc": "var(--edge)",
    style.FAMILY_COLOURS["vit"].lower(): "var(--vit)",
    style.FAMILY_COLOURS["cnn"].lower(): "var(--cnn)",
}
LARGEST_PNG = 250_000  # of a chart; sheets of images are always made smaller, since a page holds nine of them


def remove_foreign(folder: Path) -> None:
    """Take away pictures that no plot of this version draws: a report of an older one left them."""
    names = {
        plot.name
        for plots in (HERO, MAIN_PLOTS, RUN_PLOTS, TUNING_PLOTS, ROBUSTNESS_PLOTS, MISTAKES, GALLERY_PLOTS)
        for plot in plots
    }
    for path in (folder / "plots").glob("*.[ps][nv]g"):
        if path.stem not in names:
            path.unlink()


@dataclass(frozen=True)
class Figure:
    """A plot of one run, as the page's templates need it.

    Attributes:
        source: data URI.
        failure: what of it couldn't be made and why, in one line for the page; "" of most.
        svg: to stand in the page itself, where its points are links and it follows the page's colours; else "".
    """

    name: str
    title: str
    caption: str = ""
    alt: str = ""
    source: str = ""
    failure: str = ""
    svg: str = ""


def draw_run(tables: Tables, plots: Sequence[Plot[Tables]], inline: bool = False) -> list[Figure]:
    """Draw plots of a run's tables that have something to show; of the others, take away what an earlier report left.

    Args:
        inline: as SVG that is part of the page.
    """
    (tables.folder / "plots").mkdir(exist_ok=True)
    return [figure for plot in plots if (figure := _figure(plot, tables, tables.folder / "plots", inline=inline))]


def draw_gallery(folder: Path, plots: Sequence[Plot[Gallery]]) -> list[Figure]:
    """The same of what the gallery of a run's folder shows; without one that can be read, there are none."""
    gallery = read_gallery(folder)
    names = gallery.class_names if gallery else ()
    return [figure for plot in plots if (figure := _figure(plot, gallery, folder / "plots", names))]


def _figure(
    plot: Plot[Data], data: Data | None, folder: Path, names: Sequence[str] = (), inline: bool = False
) -> Figure | None:
    """Draw and write one plot; None where it has nothing to show, and no files of an earlier report are left.

    What raises costs the report neither its tables nor its other figures: it becomes a line, on the page and in the
    terminal.
    """
    failures: list[str] = []

    def attempt(what: str, work: Callable[[], Made]) -> Made | None:
        try:
            return work()
        except Exception as error:  # noqa: BLE001  # of matplotlib, a font, an odd array: none is worth a report
            reason = " ".join(clean_text(f"{type(error).__name__}: {error}").split())
            failures.append(f"{plot.title}: {what} failed ({reason[:300]}).")
            print(f"warning: {failures[-1]}", file=sys.stderr)
            return None

    files = {}
    if data is not None:
        with house_style(names):
            files = attempt("the figure", lambda: _files(plot.draw(data), plot.as_svg)) or {}
    for suffix in ("png", "svg"):
        path = folder / f"{plot.name}.{suffix}"
        if suffix in files:
            folder.mkdir(exist_ok=True)
            write_atomically(path, files[suffix])
        else:
            path.unlink(missing_ok=True)
    if data is None or not files:
        return Figure(plot.name, plot.title, failure=failures[0]) if failures else None
    caption, alt = attempt("the caption", lambda: plot.caption(data)), attempt("the alt text", lambda: plot.alt(data))
    use_svg = "svg" in files and len(files["svg"]) <= LARGEST_SVG
    kind, content = ("svg+xml", files["svg"]) if use_svg else ("png", files["png"])
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    about = f"{plot.title}. {alt or ''}"
    svg = None
    if isinstance(data, Tables) and inline and use_svg:
        rows = zip(data.summary.index, records(data.summary), strict=True)
        titles = {
            number: f"{plain_name(row)} ({row['label']}): {percent(row['test_accuracy'])}" for number, row in rows
        }
        svg = attempt("the page's own drawing", lambda: inline_svg(content.decode(), plot.name, about, titles))
    return Figure(plot.name, plot.title, caption or "", about, source, " ".join(failures), svg or "")


def inline_svg(svg: str, name: str, alt: str, titles: Mapping[int, str]) -> str:
    """A drawing as a part of the page: with names of its own, in the page's colours, its points links with titles.

    Args:
        titles: row of the summary -> what a pointer over its point is told.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#(?!row-)([^")]+)', rf"\1#{name}-\2", svg)
    for drawn, on_page in PAGE_COLOURS.items():
        svg = re.sub(rf"(fill|stroke): {drawn}\b", rf"\1: {on_page}", svg)
    link = re.compile(r'<a xlink:href="#row-(\d+)"[^>]*>')
    svg = link.sub(lambda at: f'<a href="#row-{at[1]}"><title>{html.escape(titles[int(at[1])])}</title>', svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]+"', "", head)
    return f'<svg role="group" aria-label="{html.escape(alt)}"{head.removeprefix("<svg")}>{rest}'


def _files(drawing: "Drawing | None", as_svg: bool) -> dict[str, bytes]:
    """A figure's files by suffix; none of none."""
    if drawing is None:
        return {}
    files = {"png": save(drawing, "png")} | ({"svg": save(drawing, "svg")} if as_svg else {})
    if not as_svg or len(files["png"]) > LARGEST_PNG:
        # 256 colours take a third of the bytes; this method keeps rare ones, such as those of a map's brightest spots.
        image, small = Image.open(io.BytesIO(files["png"])).convert("RGB"), io.BytesIO()
        image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(small, "png")
        files["png"] = small.getvalue()
    return files
