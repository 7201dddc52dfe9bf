"""Image files of any size and mode as squares of pixels, and folders of them.

An image keeps its first frame, upright as its EXIF tag says; transparent pixels lie over black; of 16 bits a channel
the upper 8 are kept. Then torchvision's usual way, Resize and CenterCrop, in one go: the square in the middle, as wide
as the shorter side, is resized (bilinear, with antialiasing), so that a long thin image takes no more memory.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import TypeVar

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from bench.data.readers.base import natural_key, open_regular, shown
from bench.errors import DataError, printable

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # all that a file may be, whatever its name says
GREY_MODES = ("1", "L", "LA", "La")
MOST_PIXELS_A_SIDE = 64  # of a folder whose image size nobody asked for
# What PIL raises on damaged files.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError),
    *(MemoryError, NotImplementedError, struct.error, zlib.error),
)

Answer = TypeVar("Answer")


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is one."""
    return path.suffix.lower() in ENDINGS


def load_image(path: Path, image_size: int, in_channels: int) -> np.ndarray:
    """Shape: (in_channels, image_size, image_size), uint8, writable. Raises: DataError naming a damaged file."""
    with strict():
        return square(path, image_size, in_channels)


@contextmanager
def strict() -> Iterator[None]:
    """Make PIL's warning of decompression bombs an error and silence others; not thread-safe, so set it outside."""
    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file of a known format, not yet decoded. Raises: DataError naming it, and what is wrong."""
    try:
        with open_regular(path) as stream, Image.open(stream, formats=FORMATS) as image:
            yield image
    except (DecompressionBombError, DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS
        raise DataError(f"{shown(path)}: says that it has more than {limit:,} pixels; shrink or remove it") from None
    except UnidentifiedImageError:
        raise DataError(f"{shown(path)}: isn't an image of a known format, or is damaged") from None
    except DAMAGED as error:
        said = printable(str(error), 120) or type(error).__name__
        raise DataError(f"{shown(path)}: can't be read as an image ({said})") from error


def header(path: Path) -> tuple[tuple[int, int], str, bool]:
    """Size (width, height), mode, and whether there is transparency."""
    with _opened(path) as image:
        return image.size, image.mode, "A" in image.getbands() or "transparency" in image.info


def _is_grey(mode: str) -> bool:
    """Whether PIL's mode has no colours; I is of 16 bits."""
    return mode in GREY_MODES or mode.startswith("I")


def _decoded(image: Image.Image) -> Image.Image:
    """An image in mode L or RGB."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # PIL had "I" for 16 bits in a PNG once
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    target = "L" if image.mode in GREY_MODES else "RGB"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(target)


def has_colour(path: Path) -> bool:
    """Whether any pixel's channels differ."""
    with _opened(path) as image:
        if _is_grey(image.mode):
            return False
        red, *others = _decoded(image).split()
        return any(ImageChops.difference(red, other).getbbox() is not None for other in others)


def square(path: Path, image_size: int, in_channels: int) -> np.ndarray:
    """load_image for a caller that is inside of `strict`."""
    with _opened(path) as image:
        pixels = _decoded(image).convert("L" if in_channels == 1 else "RGB")
        side = min(pixels.size)
        left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
        box = (left, top, left + side, top + side)
        if side == image_size:
            pixels = pixels.crop(box)
        else:
            pixels = pixels.resize((image_size, image_size), Image.Resampling.BILINEAR, box)
        array = np.array(pixels)
    return array[None] if in_channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


@dataclass
class Survey:
    """Sizes (width, height) and modes of images, with their counts.

    Attributes:
        num_transparent: images with transparency.
        framed: they come from arrays, whose makers have framed them: all of each is kept, where of files the square in
            the middle is.
    """

    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    num_transparent: int = 0
    framed: bool = False

    @property
    def side(self) -> int:
        """Side of the square that arrays fit into; of files the median of the shorter sides, at most
        MOST_PIXELS_A_SIDE, and of mixed ones a multiple of 4, for patches.
        """
        if self.framed:
            return max(map(max, self.sizes))
        side = min(MOST_PIXELS_A_SIDE, median_low(min(size) for size in self.sizes.elements()))
        mixed = len({min(size) for size in self.sizes}) > 1
        return max(4, side // 4 * 4) if mixed else side

    @property
    def may_have_colour(self) -> bool:
        return not all(map(_is_grey, self.modes))

    def notes(self, image_size: int, in_channels: int) -> list[str]:
        """What was done to the images, as sentences."""
        said = []
        if set(self.sizes) != {(image_size, image_size)}:
            small, large = (f"{w} x {h}" for w, h in (min(self.sizes, key=_area), max(self.sizes, key=_area)))
            origin = f"{len(self.sizes)} sizes ({small} to {large})" if len(self.sizes) > 1 else small
            cut = ", oblong ones padded with black" if self.framed else ", of oblong ones the square in the middle"
            cut = "" if all(w == h for w, h in self.sizes) else cut
            only_padded = self.framed and all(max(size) == image_size for size in self.sizes)
            verb = "Brought" if only_padded else "Resized with antialiasing"
            said.append(f"{verb} from {origin} to {image_size} x {image_size} pixels{cut}.")
        if in_channels == 1 and self.may_have_colour:
            said.append("Read as grey: images were stored as RGB or with a palette.")
        if in_channels == 3 and any(map(_is_grey, self.modes)):
            said.append("Grey images were repeated in three channels.")
        if any(mode.startswith("I") for mode in self.modes):
            said.append("Of 16 bits a pixel the upper 8 were kept.")
        if self.num_transparent:
            said.append(f"{self.num_transparent:,} images with transparency were laid over black.")
        return said


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def images_by_class(root: Path) -> tuple[list[Path], int]:
    """As images_below, of a folder with a folder for each class. Raises: DataError where one holds no image."""
    images, others = [], 0
    for folder in subfolders(root):
        found, left = images_below(folder)
        if not found:
            raise DataError(
                f"{shown(folder)}: holds no image ({', '.join(ENDINGS[:6])} ...); fill or remove the folder"
            )
        images += found
        others += left
    return images, others


def images_below(folder: Path) -> tuple[list[Path], int]:
    """Image files at any depth, in the order of their names, and how many other files there were.

    Links are followed, but never in a circle.
    """
    images: list[Path] = []
    others, seen = 0, set()
    for place, inside, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside[:] = [name for name in inside if not name.startswith(".")]
        visible = [Path(place, name) for name in files if not name.startswith(".") and name != "Thumbs.db"]
        found = [path for path in visible if is_image(path)]
        images += found
        others += len(visible) - len(found)
    return sorted(images, key=lambda path: natural_key(name_below(folder, path))), others


def name_below(root: Path, path: Path) -> str:
    """A file's path below a folder, with slashes everywhere."""
    return path.relative_to(root).as_posix()


def class_of(root: Path, path: Path) -> str:
    """The folder in `root` that a file stands in; bytes that aren't UTF-8 are replaced: no report could hold them."""
    return os.fsencode(path.relative_to(root).parts[0]).decode("utf-8", "replace")


def subfolders(root: Path) -> list[Path]:
    """Folders in a folder, but hidden ones and macOS's, in the order of their names."""
    found = (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))
    return sorted(found, key=lambda folder: natural_key(folder.name))


def survey(paths: Iterable[Path]) -> Survey:
    """Sizes and modes of files, from their headers. Raises: DataError naming the first that isn't an image."""
    sizes, modes, transparent = zip(*_each(header, paths), strict=True)
    return Survey(Counter(sizes), Counter(modes), sum(transparent))


def any_colour(paths: Sequence[Path]) -> bool:
    """Whether any pixel of any image has a colour; stops at the first."""
    with strict():
        return any(has_colour(path) for path in paths)


def load_images(paths: Sequence[Path], image_size: int, in_channels: int) -> np.ndarray:
    """Shape: (N, in_channels, image_size, image_size), uint8. Raises: DataError naming a damaged file."""
    images = np.empty((len(paths), in_channels, image_size, image_size), dtype=np.uint8)
    for row, image in enumerate(_each(lambda path: square(path, image_size, in_channels), paths)):
        images[row] = image
    return images


def _each(work: Callable[[Path], Answer], paths: Iterable[Path]) -> Iterator[Answer]:
    """`work` on each path, in order; PIL lets threads decode side by side."""
    with strict(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, paths)
