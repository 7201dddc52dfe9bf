"""Robustness: how often trained models are right about test images that were changed, in eight ways at five strengths.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations":
strengths of noise, contrast and brightness are theirs; others are shares of the image's side, so that they mean the
same for small images. Where an image is moved, its edge fills what comes free.
"""

import math
import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from bench.analysis.labels import records
from bench.analysis.robustness import CLEAN, write_robustness
from bench.analysis.summary import Tables, read_tables
from bench.data.augment import inside_rectangle
from bench.data.dataset import load_dataset
from bench.errors import DataError, StoreError
from bench.inference.predict import predictor
from bench.inference.saved_model import Saved, load_trial
from bench.system.files import check_sums

BATCH = 512  # images; what is drawn for them depends on it
GREY, WHITE = 0.5, 255.0
KERNEL = 3  # standard deviations of a blur, to each side

Change = Callable[[Tensor, float, torch.Generator], Tensor]


def noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of its own to each pixel."""
    return images + deviation * torch.randn(images.shape, generator=generator).to(images.device)


def blur(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur, its deviation a share of the side."""
    deviation = share * images.shape[-1]
    size = 2 * math.ceil(KERNEL * deviation) + 1
    return gaussian_blur(images, [size, size], [deviation, deviation])


def contrast(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Bring each pixel nearer to its channel's mean."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + factor * (images - mean)


def brightness(images: Tensor, more: float, generator: torch.Generator) -> Tensor:
    """Make all pixels lighter."""
    return images + more


def occlusion(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Hide a grey square, its side a share of the image's, at a place of its own in each image."""
    side = round(share * images.shape[-1])
    top, left = torch.randint(0, images.shape[-1] - side + 1, (2, len(images)), generator=generator)
    length = torch.full_like(top, side)
    return torch.where(inside_rectangle(top, left, length, length, images), GREY, images)


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image, to one side or the other."""
    angles = _signs(images, generator) * math.radians(degrees)
    cos, sin, none = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return _moved(images, torch.stack([cos, -sin, none, sin, cos, none], 1))


def translation(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Shift each image by a share of its side, in any direction."""
    angles = 2 * torch.pi * torch.rand(len(images), generator=generator)
    one, none, reach = torch.ones_like(angles), torch.zeros_like(angles), 2 * share  # the side has a length of 2
    return _moved(images, torch.stack([one, none, reach * angles.cos(), none, one, reach * angles.sin()], 1))


def scale(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Enlarge or shrink each image."""
    steps = factor ** _signs(images, generator)
    none = torch.zeros_like(steps)
    return _moved(images, torch.stack([steps, none, none, none, steps, none], 1))


def _signs(images: Tensor, generator: torch.Generator) -> Tensor:
    """1 or -1 for each image."""
    return 2.0 * torch.randint(0, 2, (len(images),), generator=generator) - 1.0


def _moved(images: Tensor, matrices: Tensor) -> Tensor:
    """Images as seen through maps from their places to those of the originals. Shape: matrices (B, 6), kept images."""
    grid = F.affine_grid(matrices.view(-1, 2, 3).to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


CORRUPTIONS: dict[str, tuple[Change, tuple[float, ...]]] = {  # name -> function, its strengths; levels from 0 to 1
    "noise": (noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": (blur, (0.02, 0.03, 0.045, 0.06, 0.08)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "occlusion": (occlusion, (0.2, 0.3, 0.4, 0.5, 0.6)),
    "rotation": (rotation, (10, 20, 30, 45, 60)),
    "translation": (translation, (0.05, 0.1, 0.15, 0.2, 0.25)),
    "scale": (scale, (1.1, 1.25, 1.5, 1.75, 2.0)),
}


def new_draws() -> dict[tuple[str, int], torch.Generator]:
    """A generator for each corruption and strength, from 1: what one draws doesn't depend on the others."""
    keys = [(name, place + 1) for name, (_, amounts) in CORRUPTIONS.items() for place in range(len(amounts))]
    return {key: torch.Generator().manual_seed(seed) for seed, key in enumerate(keys)}


def versions(images: Tensor, draws: dict[tuple[str, int], torch.Generator]) -> Iterator[tuple[str, int, Tensor]]:
    """(corruption, strength, images); the images as they are come first, as CLEAN with strength 0.

    Shape: (B, C, H, W), grey levels 0 to 255 -> the same, float, within the same bounds.
    """
    levels = images.float() / WHITE
    yield CLEAN, 0, images.float()
    for (name, strength), generator in draws.items():
        change, amounts = CORRUPTIONS[name]
        yield name, strength, change(levels, amounts[strength - 1], generator).clamp(0, 1) * WHITE


def measure(
    folder: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
    most: int | None = None,
    trust: bool | Container[str] = False,
    report: Callable[[float], object] = lambda share: None,
) -> list[str]:
    """Write robustness.csv into a run's folder: each family's best, all its seeds, on its changed test images.

    Weights are those that validation chose.

    Args:
        most: images; None for all of the test split.
        trust: as load_trial's.
        report: is told how much is done, 0 to 1.

    Returns: what was left out and why, a line each.

    Raises:
        StoreError: the folder isn't a run, can't be written to, or has no weights that can be loaded.
        DataError: the test images aren't there, or aren't those of the run.
    """
    if not os.access(folder, os.W_OK):  # asked before the work
        raise StoreError(f"{folder}: can't be written to; copy the run to another folder")
    tables = read_tables(folder)
    models, notes = _load(tables, trust)
    if not models:
        raise StoreError(notes[0] if notes else f"{folder}: no family has a trial that ended well")
    first = models[0][1].trial
    data = load_dataset(first.dataset, data_dir, first.split_seed, user_data=first.data, normalization="symmetric")
    if {row["dataset_checksum"] for row, _ in models} != {data.spec.checksum}:
        raise DataError(f"{first.dataset}: its files aren't those of the run")
    test = data.test
    if most is not None and most < len(test):
        chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:most].sort().values
        test = test.subset(chosen.to(test.index_device))
    ask, draws, seen = [predictor(saved, device) for _, saved in models], new_draws(), 0
    right: dict[tuple[int, str, int], int] = {}
    for images, labels in test.in_order(BATCH):
        for name, strength, version in versions(images, draws):
            for place, answer in enumerate(ask):
                hits = int((answer(version).argmax(1) == labels.cpu()).sum())
                right[place, name, strength] = right.get((place, name, strength), 0) + hits
        seen += len(labels)
        report(seen / len(test))
    write_robustness(
        folder,
        [
            {key: models[place][0][key] for key in ("trial_id", "config_id", "device_name", "model")}
            | {"seed": int(models[place][0]["seed"]), "corruption": name, "strength": strength}
            | {"images": seen, "right": hits}
            for (place, name, strength), hits in right.items()
        ],
    )
    return notes


def _load(tables: Tables, trust: bool | Container[str]) -> tuple[list[tuple[dict[str, Any], Saved]], list[str]]:
    """Rows of the trials of each family's best with their models, and why others have none."""
    found, notes = [], []
    best = tables.summary[tables.summary["best_of_family"]]
    for row in records(best):
        own = tables.trials[tables.trials["trial_id"].isin(tables.trials_of(row))]
        for trial in records(own):
            path = tables.folder / "trials" / trial["trial_id"]
            try:
                saved = load_trial(path, trust)
            except StoreError as error:
                notes.append(str(error))
                continue
            if problems := [*check_sums(path)]:
                notes.append(f"{path}: {problems[0]}")
            else:
                found.append((trial, saved))
    return found, notes
