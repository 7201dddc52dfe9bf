"""Image files of any size and mode as squares of pixels, and folders of them.

An image keeps its first frame, upright as its EXIF tag says; transparent pixels lie over black or white; of the bits of
a pixel that are used the upper 8 are kept. Then torchvision's usual way, Resize and CenterCrop, in one go: the square
in the middle, as wide as the shorter side, is resized (bilinear, with antialiasing), so that a long thin image takes no
more memory.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import TypeVar

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from bench.data.readers.base import open_regular, shown
from bench.data.spec import AS_IT_IS, Reading
from bench.errors import DataError, printable

ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"),
    *(".jfif", ".jpe", ".jif", ".pjpeg", ".pjp", ".pnm"),
)
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


def load_image(path: Path, image_size: int, in_channels: int, how: Reading = AS_IT_IS) -> np.ndarray:
    """Shape: (in_channels, image_size, image_size), uint8, writable. Raises: DataError naming a damaged file."""
    with strict():
        return square(path, image_size, in_channels, how)


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


def header(path: Path) -> tuple[tuple[int, int], str, bool, bool]:
    """Size (width, height), mode, and whether there is transparency, and more than one frame."""
    with _opened(path) as image:
        found, frames = (image.size, image.mode, _is_transparent(image)), False
        with suppress(*DAMAGED):  # the first frame is sound, for all that is known
            frames = image.format in FORMATS and getattr(image, "is_animated", False)  # a phone's MPO holds a preview
    return *found, frames


def _is_transparent(image: Image.Image) -> bool:
    return bool({"A", "a"} & {*image.getbands()}) or "transparency" in image.info


def _is_grey(mode: str) -> bool:
    """Whether PIL's mode has no colours; I is of 16 bits."""
    return mode in GREY_MODES or mode.startswith("I")


def _decoded(image: Image.Image, how: Reading) -> Image.Image:
    """An image in mode L or RGB, its largest number at 255."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # PIL had "I" for 16 bits in a PNG once
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> (how.bits - 8)).clip(0, 255).astype(np.uint8))
    target = "L" if image.mode in GREY_MODES else "RGB"
    if _is_transparent(image):
        ground = Image.new("RGBA", image.size, how.ground)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    image = image.convert(target)
    if how.top == 255:
        return image
    return image.point([min(255, round(level * 255 / how.top)) for level in range(256)] * len(image.getbands()))


def has_colour(path: Path) -> bool:
    """Whether any pixel's channels differ."""
    with _opened(path) as image:
        if _is_grey(image.mode):
            return False
        red, *others = _decoded(image, AS_IT_IS).split()
        return any(ImageChops.difference(red, other).getbbox() is not None for other in others)


def square(path: Path, image_size: int, in_channels: int, how: Reading) -> np.ndarray:
    """load_image for a caller that is inside of `strict`."""
    with _opened(path) as image:
        pixels = _decoded(image, how).convert("L" if in_channels == 1 else "RGB")
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
        num_animated: image files of several frames.
        framed: they come from arrays, whose makers have framed them: all of each is kept, where of files the square in
            the middle is.
    """

    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    num_transparent: int = 0
    num_animated: int = 0
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

    def notes(self, image_size: int, in_channels: int, how: Reading) -> list[str]:
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
            used = f"the {how.bits} that are used" if how.bits < 16 else "16 bits a pixel"
            said.append(f"Of {used} the upper 8 were kept.")
        if self.num_transparent:
            why = ", since what they draw is dark" if how.ground == "white" else ""
            said.append(f"{self.num_transparent:,} images with transparency were laid over {how.ground}{why}.")
        if self.num_animated:
            said.append(f"Of {self.num_animated:,} files of several frames (GIF, TIFF ...) the first frame was taken.")
        if how.top < 255:
            said.append(said_of_range(how))
        return said


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def survey(paths: Iterable[Path]) -> Survey:
    """Sizes and modes of files, from their headers. Raises: DataError naming the first that isn't an image."""
    sizes, modes, transparent, animated = zip(*_each(header, paths), strict=True)
    return Survey(Counter(sizes), Counter(modes), sum(transparent), sum(animated))


def find_reading(paths: Sequence[Path], modes: Counter[str], num_transparent: int) -> Reading:
    """How the numbers of some image files become grey levels. Raises: DataError naming a damaged file.

    - Of 16 bits a pixel those are used that the largest number of all images needs.
    - Transparent images lie over white where what they draw is dark: black strokes would be lost on black.
    - Where no image has a level above 127, such as masks of 0 and 1, the levels are spread.
    """
    bits, ground, top = 16, "black", 255
    if any(mode.startswith("I") for mode in modes):
        needed = int(max(_each(_highest, paths))).bit_length()
        bits = next(usual for usual in (8, 10, 12, 14, 16) if usual >= min(needed, 16))
    if num_transparent:
        light = [found for found in _each(_drawn_level, _sample(paths, 200)) if found is not None]
        ground = "white" if light and sum(level < 128 for level in light) > len(light) / 2 else "black"
    if bits == 16 and not num_transparent and max(_each(_highest, _sample(paths, 64))) < 128:
        top = top_of(int(max(_each(_highest, paths))))
    return Reading(bits=bits, ground=ground, top=top)


def top_of(highest: int) -> int:
    """The number that stands for white, where this is the largest of a dataset: of levels from 0 to 16 it is 16."""
    bounds = [*range(1, 9), 15, 16, 31, 63]
    return next((bound for bound in bounds if highest <= bound), 255)


def said_of_range(how: Reading) -> str:
    """That levels were spread."""
    return f"No number is above {how.top}: all were multiplied by {255 / how.top:.4g}, so that {how.top} is white."


def _sample(paths: Sequence[Path], count: int) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // count)]


def _highest(path: Path) -> int:
    """The largest number in a file, of any channel."""
    with _opened(path) as image:
        if image.mode.startswith("I"):
            return int(np.asarray(image).max(initial=0))
        return int(np.asarray(_decoded(image, AS_IT_IS)).max(initial=0))


def highest_level(paths: Sequence[Path], how: Reading, enough: int = 256) -> int:
    """The highest grey level of some files, from 0 to 255; of more than 64, the first that has `enough` ends it.

    Raises: DataError naming a damaged file.
    """

    def level(path: Path) -> int:
        with _opened(path) as image:
            return int(np.asarray(_decoded(image, how)).max(initial=0))

    highest = 0
    for start in range(0, len(paths), 64):
        highest = max(highest, *_each(level, paths[start : start + 64]))
        if highest >= enough:
            break
    return highest


def _drawn_level(path: Path) -> float | None:
    """Mean grey level of what isn't transparent; None if all is opaque, or nothing is."""
    with _opened(path) as image:
        if not _is_transparent(image):
            return None
        grey, alpha = (np.asarray(band, dtype=float) for band in image.convert("RGBA").convert("LA").split())
    if alpha.min(initial=255) == 255 or not alpha.any():
        return None
    return float((grey * alpha).sum() / alpha.sum())


def any_colour(paths: Sequence[Path]) -> bool:
    """Whether any pixel of any image has a colour; stops at the first."""
    with strict():
        return any(has_colour(path) for path in paths)


def load_images(paths: Sequence[Path], image_size: int, in_channels: int, how: Reading = AS_IT_IS) -> np.ndarray:
    """Shape: (N, in_channels, image_size, image_size), uint8. Raises: DataError naming a damaged file."""
    images = np.empty((len(paths), in_channels, image_size, image_size), dtype=np.uint8)
    for row, image in enumerate(_each(lambda path: square(path, image_size, in_channels, how), paths)):
        images[row] = image
    return images


def _each(work: Callable[[Path], Answer], paths: Iterable[Path]) -> Iterator[Answer]:
    """`work` on each path, in order; PIL lets threads decode side by side."""
    with strict(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, paths)
