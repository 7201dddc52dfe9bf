"""Augmentations: random changes of training images and labels, in batches on the device, drawn for each image.

All randomness is drawn from a generator on the CPU, so that a seed means the same on every device. Images are in grey
levels, 0 to 255, before normalisation; black is 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# B batch, C channels, H W image, K classes

ERASED_AREA = (0.02, 0.33)  # share of the image's pixels
ERASED_ASPECT = (0.3, 3.3)  # height by width


def augment(
    images: Tensor, labels: Tensor, strengths: Mapping[str, float], num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply each augmentation named in `strengths`, in the order of AUGMENTATIONS.

    An alpha of 0 mixes nothing. Where both mixup and cutmix are on, each image gets one of them, by a coin.

    Shape: images (B, C, H, W), float; labels (B,), int64. Labels come back as they are, or where images were mixed as
        shares (B, K), float, that sum to one.
    """
    for name, augmentation in AUGMENTATIONS.items():
        if name in strengths and not augmentation.mixes:
            images = augmentation.function(images, strengths[name], generator)
    alphas = {name: strengths[name] for name in AUGMENTATIONS if AUGMENTATIONS[name].mixes and strengths.get(name)}
    return _mixed(images, labels, alphas, num_classes, generator) if alphas else (images, labels)


def check_strength(name: str, value: float) -> str | None:
    """What is wrong with a strength of the augmentation `name`; None if nothing is."""
    about = AUGMENTATIONS[name]
    if about.low <= value <= about.high and not (about.whole and value % 1):
        return None
    return f"{name} takes {'whole ' * about.whole}{about.unit} from {about.low:g} to {about.high:g}, not {value:g}"


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image by a random angle, uniform within +-degrees; corners become black. Shape (B, C, H, W) is kept."""
    draws = torch.rand(len(images), generator=generator) * 2 - 1
    angles = (draws * (degrees * torch.pi / 180)).to(images.device)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turns = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def translation(images: Tensor, pixels: float, generator: torch.Generator) -> Tensor:
    """Shift each image by random whole pixels, uniform within +-pixels, filled with black. (B, C, H, W) is kept."""
    B, _, H, W = images.shape
    reach = int(pixels)
    shifts = torch.randint(0, 2 * reach + 1, (2, B), generator=generator).to(images.device)
    rows = torch.arange(H, device=images.device) + shifts[0, :, None]  # (B, H)
    columns = torch.arange(W, device=images.device) + shifts[1, :, None]  # (B, W)
    padded = F.pad(images, (reach, reach, reach, reach))
    batch = torch.arange(B, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with a probability; not for digits. Shape (B, C, H, W) is kept."""
    chosen = (torch.rand(len(images), generator=generator) < probability).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def random_erasing(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill a rectangle of each image with uniformly random pixels, with a probability. (B, C, H, W) is kept.

    Zhong et al. 2017, "Random Erasing Data Augmentation", section 3, variant RE-R. The area is uniform within
    ERASED_AREA, the aspect log-uniform within ERASED_ASPECT; a rectangle longer than the image is widened instead.
    """
    B, C, H, W = images.shape
    chosen = (torch.rand(B, generator=generator) < probability).nonzero()[:, 0]
    count = len(chosen)
    area, aspect, down, across = torch.rand(4, count, generator=generator)
    area = H * W * (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area)
    aspect = ERASED_ASPECT[0] * (ERASED_ASPECT[1] / ERASED_ASPECT[0]) ** aspect
    exact = (area * aspect).sqrt().clamp(max=H).maximum(area / W)  # from here on area / exact is at most W
    height, width = exact.round().clamp(1, H), (area / exact).round().clamp(1, W)
    inside = inside_rectangle(
        (down * (H - height + 1)).floor(), (across * (W - width + 1)).floor(), height, width, images
    )
    # Eight pixels a draw: one a draw took eight times as long.
    noise = torch.empty(math.ceil(count * C * H * W / 8), dtype=torch.int64).random_(
        -(2**63), None, generator=generator
    )
    pixels = noise.view(torch.uint8)[: count * C * H * W].view(count, C, H, W)
    chosen = chosen.to(images.device)
    erased = torch.where(inside, pixels.to(images.device, images.dtype), images.index_select(0, chosen))
    return images.index_copy(0, chosen, erased)


def mixup(images: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """Share of each image when it is blended with another, from Beta(alpha, alpha). Shape (B, 1, 1, 1).

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2; here each image has a share of its own.
    """
    return _beta(len(images), alpha, generator).to(images)[:, None, None, None]


def cutmix(images: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """Mask of the pixels that each image keeps: 0 inside of a box taken from another, 1 outside. (B, 1, H, W).

    Yun et al. 2019, "CutMix", section 3: the box has the image's shape and the area 1 - Beta(alpha, alpha); its centre
    is uniform over the image, whose edge cuts it off. Labels go by the pixels that are left.
    """
    B, _, H, W = images.shape
    side = (1 - _beta(B, alpha, generator)).sqrt()
    height, width = (side * H).floor(), (side * W).floor()
    centre = torch.rand(2, B, generator=generator)
    # The nearest whole pixels: with their half rounded down, boxes of even length lay half a pixel up and to the left.
    top, left = (centre[0] * H - (height - 1) / 2).floor(), (centre[1] * W - (width - 1) / 2).floor()
    return (~inside_rectangle(top, left, height, width, images)).to(images.dtype)


def _mixed(
    images: Tensor, labels: Tensor, alphas: Mapping[str, float], num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image with a partner from its batch, which may be itself; labels in the pixels' proportion."""
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    kept, *others = (AUGMENTATIONS[name].function(images, alpha, generator) for name, alpha in alphas.items())
    for other in others:
        coin = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        kept = torch.where(coin[:, None, None, None], kept, other)
    shares = kept.mean((1, 2, 3))[:, None]
    known = F.one_hot(labels, num_classes).float()
    mixed = torch.lerp(images.index_select(0, partners), images, kept)  # exact at 0 and at 1
    return mixed, shares * known + (1 - shares) * known.index_select(0, partners)


def inside_rectangle(top: Tensor, left: Tensor, height: Tensor, width: Tensor, images: Tensor) -> Tensor:
    """Which pixels lie in each image's rectangle, all (B,), in whole pixels -> (B, 1, H, W), on the images' device."""
    H, W = images.shape[-2:]
    top, left, bottom, right = torch.stack([top, left, top + height, left + width]).to(images.device)[:, :, None]
    rows, columns = torch.arange(H, device=images.device), torch.arange(W, device=images.device)
    return ((top <= rows) & (rows < bottom))[:, None, :, None] & ((left <= columns) & (columns < right))[:, None, None]


def _beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws of Beta(alpha, alpha); NumPy's, since torch's take no generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count)).float()


@dataclass(frozen=True)
class Augmentation:
    """An augmentation, and what its strength may be.

    Attributes:
        function: images in grey levels (B, C, H, W), strength, generator on the CPU -> images; where it `mixes`,
            the share that each image keeps of its own, which broadcasts to (B, 1, H, W).
        whole: the strength is a whole number.
    """

    function: Callable[[Tensor, float, torch.Generator], Tensor]
    unit: str
    low: float
    high: float
    whole: bool = False
    mixes: bool = False


# In the order of application: an erased rectangle isn't turned, and what is mixed is finished.
AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": Augmentation(flip, "a probability", 0, 1),
    "rotation": Augmentation(rotation, "degrees", 0, 180),
    "translation": Augmentation(translation, "pixels", 0, 128, whole=True),
    "random_erasing": Augmentation(random_erasing, "a probability", 0, 1),
    "mixup": Augmentation(mixup, "an alpha", 0, 32, mixes=True),  # 32: the largest of the paper's
    "cutmix": Augmentation(cutmix, "an alpha", 0, 32, mixes=True),
}
