"""Pictures of a report: every plot that has something to show, on disk and as data for the page."""

import base64
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bench.analysis.summary import Tables
from bench.inference.gallery_file import Gallery, read_gallery
from bench.report.alt_text import alt_text
from bench.report.captions import WORDS
from bench.report.plots import classes, insides, samples
from bench.report.plots import insides as plots_filters
from bench.report.plots.comparisons import data_efficiency, matched_pairs, mode_ratios
from bench.report.plots.cost import inference_by_batch, memory, scaling, step_split
from bench.report.plots.curves import learning_curves, patch_depth_heatmaps, time_to_accuracy
from bench.report.plots.scatter import accuracy_against_latency, accuracy_against_throughput, flops_share
from bench.report.plots.style import Draw, house_style, save

PLOTS: dict[str, Draw] = {
    "accuracy_against_throughput": accuracy_against_throughput,
    "accuracy_against_latency": accuracy_against_latency,
    "time_to_accuracy": time_to_accuracy,
    "learning_curves": learning_curves,
    "patch_depth_heatmaps": patch_depth_heatmaps,
    "mode_ratios": mode_ratios,
    "scaling": scaling,
    "data_efficiency": data_efficiency,
    "matched_pairs": matched_pairs,
    "step_split": step_split,
    "inference_by_batch": inference_by_batch,
    "flops_share": flops_share,
    "memory": memory,
}


LARGEST_SVG = 400_000  # bytes; a picture with more in it goes into the HTML as PNG
LARGEST_PNG = 250_000

CAPTIONS = {
    "accuracy_against_throughput": "Up is more accurate, right is faster. Nothing beats a point on the Pareto front on "
    "both. Accuracy is spaced by the logarithm of the error.",
    "accuracy_against_latency": "On the left the time of one image, where further left is better; on the right how "
    "many go through in batches, where further right is. Nothing beats a point on the Pareto front on both.",
    "time_to_accuracy": "Training time until validation accuracy first reaches each target; further left is sooner.",
    "learning_curves": "The same training against the clock and against epochs: what is quick by epoch may be slow by "
    "the clock.",
    "patch_depth_heatmaps": "What patch size and depth bring and cost: a smaller patch makes more tokens, so training "
    "is slower and takes more memory.",
    "mode_ratios": "What a numeric mode, a compilation or a memory layout changed: each configuration over its twin "
    "without it. Right of the dashed line is faster, more memory, more accurate; hollow points show no difference.",
    "scaling": "Training speed with more processes, and what each of them is worth beside the first. On the dashed "
    "line nothing is lost to waiting and talking.",
    "data_efficiency": "Test accuracy with fewer different training images and as many steps; the steeper the line, "
    "the hungrier for data.",
    "matched_pairs": "Each line is a pair of equal size: on the left the test accuracy of both, on the right the ratio "
    "of their training speeds.",
    "step_split": "Where the time of a training step goes, from a pass of its own that waits for the device after each "
    "part; shorter is better.",
    "inference_by_batch": "Inference speed at each batch size, and the latency of single images; a small net gains "
    "most from a larger batch.",
    "flops_share": "How much of its matrix-product speed the device brings to training; higher is better used. Small "
    "nets stay far below it, as their time goes elsewhere.",
    "memory": "Peak memory that training adds, split into what holds it; shorter is better.",
}


WITHOUT_CLOCK = {"learning_curves": "Validation accuracy as training goes on; the clock was shared, so it isn't shown."}


@dataclass(frozen=True)
class Picture:
    name: str
    title: str
    caption: str
    alt: str
    source: str  # data URI


def draw_all(tables: Tables) -> list[Picture]:
    """Draw every plot that has something to show into plots/, and take away what an earlier report left there."""
    folder = tables.folder / "plots"
    folder.mkdir(exist_ok=True)
    pictures, timed = [], bool(tables.summary["n_timed"].any())
    for name, draw in PLOTS.items():
        files = {suffix: folder / f"{name}.{suffix}" for suffix in ("png", "svg")}
        figure = draw(tables)
        if figure is None:
            for path in files.values():
                path.unlink(missing_ok=True)
            continue
        data = {"png": _lighter(save(figure, "png")), "svg": save(figure, "svg")}
        for suffix, path in files.items():
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(data[suffix])
            temporary.replace(path)
        kind, content = ("svg+xml", data["svg"]) if len(data["svg"]) <= LARGEST_SVG else ("png", data["png"])
        title = name.replace("_", " ").capitalize()
        alt = alt_text(name, title, tables)
        source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        caption = CAPTIONS[name] if timed else WITHOUT_CLOCK.get(name, CAPTIONS[name])
        pictures.append(Picture(name, title, caption, alt, source))
    return pictures


def _lighter(png: bytes) -> bytes:
    """A large picture in 256 colours, which takes a third; a small one isn't worth the time."""
    if len(png) <= LARGEST_PNG:
        return png
    data = io.BytesIO()
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(data, "png")
    return data.getvalue()


# Pictures of the gallery, drawn from its file into a run's plots/, with captions and alt texts.
CHARTS: dict[str, Callable[[Gallery], Figure | None]] = {
    "label_distribution": classes.label_distribution,
    "confusion": classes.confusion,
    "class_accuracy": classes.class_accuracy,
}
PIXELS: dict[str, Callable[[Gallery], Figure | None]] = {  # as PNG alone: an SVG of pixels is larger and no sharper
    "samples": samples.samples,
    "worst_mistakes": samples.worst_mistakes,
    "disagreements": samples.disagreements,
    "attention_heads": insides.attention_heads,
    "attention_rollout": insides.attention_rollout,
    "saliency": insides.saliency,
    "patch_filters": plots_filters.patch_filters,
    "position_similarity": plots_filters.position_similarity,
    "first_filters": plots_filters.first_filters,
}


def draw_gallery(folder: Path) -> list[Picture]:
    """Draw what the gallery of a run's folder shows into plots/, and take away what an earlier report left there.

    Without a gallery, or with one that can't be read, there are no pictures.
    """
    gallery = read_gallery(folder)
    target = folder / "plots"
    pictures = []
    for name in CHARTS | PIXELS:
        data = _drawn(gallery, name) if gallery else {}
        for suffix in ("svg", "png"):
            _put(target / f"{name}.{suffix}", data.get(suffix))
        if gallery and data:
            pictures.append(_picture(name, gallery, data))
    return pictures


def _drawn(gallery: Gallery, name: str) -> dict[str, bytes]:
    """The files of a picture by suffix; none where there is nothing to show."""
    with house_style(gallery.class_names):
        figure = (CHARTS | PIXELS)[name](gallery)
        if figure is None:
            return {}
        return {suffix: save(figure, suffix) for suffix in ("svg", "png")} if name in CHARTS else {"png": _png(figure)}


def _png(figure: Figure) -> bytes:
    """A sheet of images in 256 colours, a third of the bytes of all colours: a page holds nine of these.

    The method is the one that keeps rare colours, such as those of a map's brightest spots and of a family's name.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    small = io.BytesIO()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(small, "png")
    return small.getvalue()


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _picture(name: str, gallery: Gallery, data: dict[str, bytes]) -> Picture:
    small = len(data.get("svg", b"")) <= LARGEST_SVG
    kind, content = ("svg+xml", data["svg"]) if "svg" in data and small else ("png", data["png"])
    title, caption, alt = WORDS[name]
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(name, title, caption(gallery), f"{title}. {alt(gallery)}", source)
