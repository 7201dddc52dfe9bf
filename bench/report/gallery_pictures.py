"""Pictures of the gallery, drawn from its file into a run's plots/, with captions and alt texts."""

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bench.inference.gallery_file import Gallery, read_gallery
from bench.report.captions import WORDS
from bench.report.figures import LARGEST_SVG, Picture
from bench.report.plots import classes, insides, plots_filters, samples
from bench.report.plots.lettering import house_style
from bench.report.plots.style import save

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
