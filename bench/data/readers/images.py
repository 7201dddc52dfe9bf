"""One image file, of any size and mode, as a square of pixels.

An image keeps its first frame, upright as its EXIF tag says; transparent pixels lie over black; of 16 bits a channel
the upper 8 are kept. Then torchvision's usual way, Resize and CenterCrop, in one go: the square in the middle, as wide
as the shorter side, is resized (bilinear, with antialiasing), so that a long thin image takes no more memory.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from bench.data.readers.own_file import open_plain, shown
from bench.errors import DataError, printable

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as Picture

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # all that a file may be, whatever its name says
GREY_MODES = ("1", "L", "LA", "La")
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError)
LARGE_PIXELS = 10_000_000
LARGE = RLock()  # one image of that size at a time: decoded, it may take half a gigabyte
BROKEN = (*DAMAGED, MemoryError, NotImplementedError, struct.error, zlib.error)  # what PIL raises on damaged files


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is one."""
    return path.suffix.lower() in ENDINGS


def load_image(path: Path, image_size: int, in_channels: int) -> np.ndarray:
    """Shape: (in_channels, image_size, image_size), uint8, writable. Raises: DataError naming a damaged file."""
    with strict():
        return square(path, image_size, in_channels)


@contextmanager
def strict() -> Iterator[None]:
    """PIL's warning of decompression bombs is an error, others are silent; set once, outside of threads."""
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Picture]:
    """An image file of a known format, not yet decoded. Raises: DataError naming it, and what is wrong."""
    from PIL import Image, UnidentifiedImageError

    try:
        with (
            open_plain(path) as stream,
            Image.open(stream, formats=FORMATS) as image,
            LARGE if image.width * image.height > LARGE_PIXELS else nullcontext(),
        ):
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS
        raise DataError(f"{shown(path)}: says that it has more than {limit:,} pixels; shrink or remove it") from None
    except UnidentifiedImageError:
        raise DataError(f"{shown(path)}: isn't an image of a known format, or is damaged") from None
    except DataError:
        raise
    except (*BROKEN, Warning) as error:
        said = printable(str(error), 120) or type(error).__name__
        raise DataError(f"{shown(path)}: can't be read as an image ({said})") from error


def header(path: Path) -> tuple[tuple[int, int], str, bool]:
    """Size (width, height), mode, and whether there is transparency."""
    with _opened(path) as image:
        return image.size, image.mode, "A" in image.getbands() or "transparency" in image.info


def _decoded(image: Picture) -> Picture:
    """An image in mode L or RGB."""
    import numpy as np
    from PIL import Image, ImageOps

    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # PIL had "I" for 16 bits in a PNG once
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    target = "L" if image.mode in GREY_MODES else "RGB"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(target)


def has_colour(path: Path) -> bool:
    """Whether any pixel's channels differ."""
    from PIL import ImageChops

    with _opened(path) as image:
        if image.mode in GREY_MODES or image.mode.startswith("I"):
            return False
        red, *others = _decoded(image).split()
        return any(ImageChops.difference(red, other).getbbox() is not None for other in others)


def square(path: Path, image_size: int, in_channels: int) -> np.ndarray:
    """As load_image, for a caller that is `strict` already."""
    import numpy as np
    from PIL import Image

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
