"""A contact sheet: a figure of many small images, each at its place in inches from the top left, with text about them.

All images lie in one raster, and only scales and charts have axes: an axes for each image, laid out by a solver,
takes ten times as long, and a report has nine such sheets.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.inference.gallery_file import Array
from bench.report.plots.style import FAINT, TITLE_INCHES, WIDTH

MARGIN = 0.12  # inches, beside and below what is drawn
GAP = 0.08  # inches, the least between two images
OPACITY = 0.7  # of maps over images
HEAT: Any = matplotlib.colormaps["inferno"]
SIGNED: Any = matplotlib.colormaps["RdBu_r"]  # white for zero; colour-blind readers tell the signs apart


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
    """A figure of the house's width, to be made within `style.house_style`; images and text take `height` inches."""

    def __init__(self, height: float) -> None:
        self.height = TITLE_INCHES + height + MARGIN
        self.dpi = matplotlib.rcParams["savefig.dpi"]
        self.figure = Figure(figsize=(WIDTH, self.height), dpi=self.dpi)
        self.raster = np.full((int(self.height * self.dpi), int(WIDTH * self.dpi), 3), 255, dtype=np.uint8)

    def image(self, x: float, y: float, side: float, pixels: NDArray[Any]) -> None:
        """Pixels (H, W) or (H, W, 3), uint8, each a crisp square, in the square whose top left corner is at x, y."""
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        high, wide = (round(side * self.dpi * size / max(pixels.shape[:2])) for size in pixels.shape[:2])
        top, left = round(y * self.dpi), round(x * self.dpi)
        rows, columns = (np.arange(n) * size // n for n, size in zip((high, wide), pixels.shape, strict=False))
        self.raster[top : top + high, left : left + wide] = pixels[rows[:, None], columns]

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """A line of text, centred at x, with its baseline at y."""
        plain: dict[str, Any] = {"fontsize": 8, "ha": "center", "va": "baseline"}
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **(plain | style))

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose frame has its top left corner at x, y."""
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))

    def scale(self, x: float, y: float, height: float, colours: ScalarMappable, label: str) -> Any:
        """A bar of colours with its ticks, about 0.7 inches wide."""
        bar = self.figure.colorbar(colours, cax=self.axes(x, y, 0.16, height))
        bar.set_label(label)
        return bar

    def finish(self, title: str, subtitle: str) -> Figure:
        """The figure, with its images, its title and, smaller, what is drawn; both where other figures have them."""
        self.figure.add_artist(_Raster(self.raster))
        self.write(MARGIN, 0.24, title, va="center", ha="left", fontsize=13, fontweight="bold")
        self.write(MARGIN, 0.47, subtitle, va="center", ha="left", fontsize=9, color=FAINT)
        return self.figure


def squares(columns: int, aside: float = 0.0, widest: float = 1.6) -> tuple[float, float]:
    """(side, pitch) of images in a row of the sheet, with so many inches kept free beside them."""
    room = WIDTH - 2 * MARGIN - aside + GAP
    side = min(room / columns - GAP, widest)
    return side, min(room / columns, side + 4 * GAP)


def as_pixels(image: Array) -> Array:
    """An image (C, H, W), uint8, as grey (H, W) or colours (H, W, 3)."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0).round().astype(np.uint8)


def colours(values: NDArray[Any], palette: Any, low: float, high: float) -> NDArray[Any]:
    """Values (H, W) as colours (H, W, 3), uint8, of a palette from `low` to `high`."""
    return palette((np.asarray(values, dtype=np.float64) - low) / ((high - low) or 1.0), bytes=True)[..., :3]


def signed_colours(values: NDArray[Any], reach: float | None = None) -> NDArray[Any]:
    """Values (H, W) as colours by their sign, from -reach to reach; without it, to the largest of them."""
    most = reach or float(np.abs(values).max()) or 1.0
    return colours(values, SIGNED, -most, most)


def overlay(image: Array, values: NDArray[Any], scale: Normalize | None = None) -> NDArray[Any]:
    """A map (h, w) of values >= 0 as heat over an image (H, W) or (H, W, 3), which shows through in grey.

    Without a scale for several maps, on its own from 0 to the largest. A map that is finer than the image makes it
    larger. (H, W, 3), uint8
    """
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    times = -(-values.shape[0] // grey.shape[0])
    grey = grey.repeat(times, axis=0).repeat(times, axis=1)
    rows, columns = (np.arange(size) * n // size for size, n in zip(grey.shape, values.shape, strict=True))
    heat = HEAT((scale or Normalize(0, float(values.max()) or 1.0))(values)[rows[:, None], columns])[..., :3]
    return np.asarray((255 * OPACITY * heat + (1 - OPACITY) * grey[..., None]).round().astype(np.uint8))
