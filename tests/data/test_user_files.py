"""Arrays of images brought to one size: padded, resized, turned to grey or repeated."""

import numpy as np
import pytest
from PIL import Image

from bench.data.user_files import fit

DICE = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 1, 9, 9), (5, 3, 9, 9), (5, 1, 7, 12), (5, 3, 12, 7)])
@pytest.mark.parametrize("image_size", [9, 12, 5, 20])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_each_channel_is_padded_with_black_in_the_middle_and_resized(
    shape: tuple[int, ...], image_size: int, in_channels: int
) -> None:
    images = DICE.integers(0, 256, shape, dtype=np.uint8)
    fitted = fit(images, image_size, in_channels)
    if in_channels < shape[1]:  # luma of ITU-R BT.601, rounded as PIL does
        weights = np.array([19595, 38470, 7471], dtype=np.uint32)[:, None, None]
        images = (((images * weights).sum(1, dtype=np.uint32) + 0x8000) >> 16).astype(np.uint8)[:, None]
    height, width = shape[2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((*images.shape[:2], side, side), dtype=np.uint8)
    square[:, :, top : top + height, left : left + width] = images
    planes = [
        np.asarray(Image.fromarray(plane).resize((image_size, image_size), Image.Resampling.BILINEAR))
        for plane in square.reshape(-1, side, side)
    ]
    expected = np.stack(planes).reshape(*images.shape[:2], image_size, image_size)
    assert np.array_equal(fitted, np.broadcast_to(expected, fitted.shape))
    assert fitted.shape == (5, in_channels, image_size, image_size)
    assert fitted.flags.writeable
