"""Image files of every kind as squares of pixels."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from made_up_data import digits
from PIL import Image

from bench.data.readers.images import (
    has_colour,
    load_image,
    load_images,
    survey,
)
from bench.data.spec import AS_IT_IS
from bench.errors import DataError


def picture(mode: str) -> Image.Image:
    """Left half black, right half white or red."""
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255) if mode in ("1", "L", "LA") else (255, 0, 0), (4, 0, 8, 8))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *[(mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[("CMYK", ".jpg"), ("L", ".jpeg"), ("RGB", ".bmp"), ("P", ".gif"), ("RGB", ".webp"), ("L", ".TIF")],
    ],
)
def test_every_mode_and_format_becomes_grey_or_rgb(mode: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    picture(mode).save(path, quality=100)
    grey = mode in ("1", "L", "LA")
    assert load_image(path, 8, 1)[0, 4, [0, 7]].tolist() == pytest.approx([0, 255 if grey else 76], abs=4)
    assert load_image(path, 8, 3)[:, 4, 7].tolist() == pytest.approx([255, 255 * grey, 255 * grey], abs=4)
    assert load_image(path, 8, 3).flags.writeable
    assert has_colour(path) is not grey


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path) -> None:
    levels = np.array([[0, 255, 256, 65535]] * 4, dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", 4, 1)[0, 0].tolist() == [0, 0, 1, 255]
    assert survey([tmp_path / "a.png"]).notes(4, 1, AS_IT_IS) == ["Of 16 bits a pixel the upper 8 were kept."]


def test_transparent_pixels_lie_over_black(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    image.paste((200, 100, 50, 128), (2, 0, 4, 4))
    image.save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", 4, 3)[:, 0].T.tolist() == [[0, 0, 0]] * 2 + [[100, 50, 25]] * 2
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "b.png", transparency=1)
    assert load_image(tmp_path / "b.png", 4, 1).max() == 0
    assert survey([tmp_path / "a.png", tmp_path / "b.png"]).num_transparent == 2


def test_an_image_stands_upright_as_its_camera_says(tmp_path: Path) -> None:
    image = picture("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert load_image(tmp_path / "a.jpg", 8, 1)[0, [0, 7], 4].tolist() == pytest.approx([0, 255], abs=4)


def test_resizing_is_that_of_torchvision(tmp_path: Path) -> None:
    """Its Resize(12) and CenterCrop(12), which on PIL's images are these two calls; it takes seconds to import."""
    image = Image.fromarray(digits()[0][0]).resize((40, 24), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    expected = np.asarray(image.resize((20, 12), Image.Resampling.BILINEAR).crop((4, 0, 16, 12))).astype(int)
    found = load_image(tmp_path / "a.png", 12, 1)[0].astype(int)
    assert abs(found - expected)[:, 1:-1].max() <= 1  # at the edges we see none of what is cut off
    assert abs(found - expected).mean() < 2


def test_a_long_thin_image_takes_little_memory(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1), 9).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", 64, 1).tolist() == [[[9] * 64] * 64]


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of 8-bit grey that says that it has these sizes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (b"", "isn't an image of a known format, or is damaged"),
        (b"not an image", "isn't an image of a known format"),
        (png(10_000, 10_000, b"\0" * 100), "says that it has more than 89,478,485 pixels"),
        (png(100_000, 100_000, b"\0" * 100), "says that it has more than 89,478,485 pixels"),
        (png(500, 500, b"\0" * 100), "can't be read as an image"),
        (png(8, 8, bytes(range(0, 72, 9)) * 9)[:50], "can't be read as an image"),
    ],
)
def test_damaged_files_and_liars_are_named(contents: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a\n.png"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=rf"a \.png: {complaint}") as raised:
        load_image(path, 8, 1)
    assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=complaint):
        load_images([path], 8, 1)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".bmp", ".webp", ".tif", ".ppm"])
def test_a_file_with_any_wrong_byte_is_an_image_or_a_data_error(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    Image.fromarray(digits()[0][0]).save(path)
    whole, readable = path.read_bytes(), 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged if place % 2 else damaged[:place])
        with suppress(DataError):
            assert load_image(path, 8, 1).shape[0] == 1
            readable += 1
    assert readable < 60, "some damage shows"


def test_of_several_frames_the_first_is_taken_and_it_is_said(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), level) for level in (40, 90, 200)]
    for name in ("a.gif", "b.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for name in ("c.gif", "d.png"):
        frames[0].save(tmp_path / name)
    paths = sorted(tmp_path.iterdir())
    found = survey(paths)
    assert found.num_animated == 2
    note = "Of 2 files of several frames (GIF, TIFF ...) the first frame was taken."
    assert note in found.notes(8, 1, AS_IT_IS)
    assert np.array_equal(load_images(paths, 8, 1), np.full((4, 1, 8, 8), 40))
