"""The figures of a report: every plot that has something to show, in plots/ and as data for the page."""

import base64
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure as Drawing
from PIL import Image

from bench.analysis.formatting import clean_text
from bench.analysis.summary import Tables
from bench.inference.gallery_file import Gallery, read_gallery
from bench.report.plots import classes, comparisons, cost, curves, insides, samples, scatter
from bench.report.plots.plot import Data, Plot
from bench.report.plots.style import house_style, save
from bench.system.files import write_atomically

RUN_PLOTS: tuple[Plot[Tables], ...] = (
    scatter.accuracy_against_throughput,
    scatter.accuracy_against_latency,
    curves.time_to_accuracy,
    curves.learning_curves,
    curves.patch_depth_heatmaps,
    comparisons.mode_ratios,
    cost.scaling,
    comparisons.data_efficiency,
    comparisons.matched_pairs,
    cost.step_split,
    cost.inference_by_batch,
    scatter.flops_share,
    cost.memory,
)
GALLERY_PLOTS: tuple[Plot[Gallery], ...] = (
    classes.label_distribution,
    classes.confusion,
    classes.class_accuracy,
    samples.samples,
    samples.worst_mistakes,
    samples.disagreements,
    insides.attention_heads,
    insides.attention_rollout,
    insides.saliency,
    insides.patch_filters,
    insides.position_similarity,
    insides.first_filters,
)
Made = TypeVar("Made")
LARGEST_SVG = 400_000  # bytes; a larger one goes into the HTML as PNG
LARGEST_PNG = 250_000  # of a chart; sheets of images are always made smaller, since a page holds nine of them


@dataclass(frozen=True)
class Figure:
    """A plot of one run, as the page's templates need it.

    Attributes:
        source: data URI.
        failure: what of it couldn't be made and why, in one line for the page; "" of most.
    """

    name: str
    title: str
    caption: str = ""
    alt: str = ""
    source: str = ""
    failure: str = ""


def draw_run(tables: Tables) -> list[Figure]:
    """Draw every plot of a run's tables that has something to show, and take away what an earlier report left."""
    (tables.folder / "plots").mkdir(exist_ok=True)
    return [figure for plot in RUN_PLOTS if (figure := _figure(plot, tables, tables.folder / "plots"))]


def draw_gallery(folder: Path) -> list[Figure]:
    """Draw what the gallery of a run's folder shows; without one that can be read, take away what is left of one."""
    gallery = read_gallery(folder)
    names = gallery.class_names if gallery else ()
    return [figure for plot in GALLERY_PLOTS if (figure := _figure(plot, gallery, folder / "plots", names))]


def _figure(plot: Plot[Data], data: Data | None, folder: Path, names: Sequence[str] = ()) -> Figure | None:
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
    return Figure(plot.name, plot.title, caption or "", f"{plot.title}. {alt or ''}", source, " ".join(failures))


def _files(drawing: Drawing | None, as_svg: bool) -> dict[str, bytes]:
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
