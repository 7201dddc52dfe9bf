"""Datasets as tensors on the device: splits, normalised batches, augmentations."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.datasets import DATASETS, DatasetSpec, read_arrays
from bench.download import fetch


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) as uint8 and labels (N,) as int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three splits, and the mean and standard deviation of the training pixels, shape (1, C, 1, 1), in grey levels."""

    spec: DatasetSpec
    checksum: str
    train: Split
    val: Split
    test: Split
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> "Dataset":
        train, val, test = (split.to(device) for split in (self.train, self.val, self.test))
        return Dataset(self.spec, self.checksum, train, val, test, self.mean.to(device), self.std.to(device))


def load_dataset(name: str, data_dir: Path | None = None, split_seed: int = 0) -> Dataset:
    """The dataset `name`, its contents verified, fetched where it isn't here yet.

    Raises:
        DataError: files that are missing or not what they should be.
    """
    spec = DATASETS[name]
    fetched = fetch(name, data_dir)
    arrays = read_arrays(name, fetched.folder)
    images = torch.from_numpy(arrays.train_images)
    labels = torch.from_numpy(arrays.train_labels).long()
    train, val = stratified_split(labels, spec.num_val, split_seed)
    mean, std = pixel_statistics(images[train])
    return Dataset(
        spec,
        fetched.checksum,
        train=Split(images[train], labels[train]),
        val=Split(images[val], labels[val]),
        test=Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels).long()),
        mean=mean,
        std=std,
    )


def stratified_split(labels: Tensor, num_val: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of training and validation images; each class has its share of both, to within one image.

    Shape: labels (N,) -> (N - num_val,), (num_val,), each in ascending order.
    """
    generator = torch.Generator().manual_seed(seed)
    shares = torch.bincount(labels) * num_val / len(labels)
    counts = shares.floor().long()
    for index in (shares - counts).argsort(descending=True, stable=True)[: num_val - int(counts.sum())]:
        counts[index] += 1  # the largest remainders get what rounding down has left
    val = []
    for label, count in enumerate(counts.tolist()):
        members = (labels == label).nonzero()[:, 0]
        val.append(members[torch.randperm(len(members), generator=generator)[:count]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(val)] = True
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel, in grey levels, from the counts of the 256 levels: exact and quick."""
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = ((counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().clamp_min(1.0).view(1, -1, 1, 1)


@dataclass(frozen=True)
class ImageFormat:
    """How a batch enters the model: type of its numbers, and which dimension lies innermost in memory."""

    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    def of(self, images: Tensor) -> Tensor:
        """`images` in this format; themselves if they have it."""
        return images.to(dtype=self.dtype, memory_format=self.memory_format)


class TrainingBatches:
    """Shuffled, augmented, normalised batches for ever, epoch after epoch; the smaller rest of an epoch is dropped.

    The order depends on the seed and the epoch and on nothing else: not on the device, not on what ran before.

    Args:
        fraction: share of the training images, each class its own; the seed draws them. An epoch keeps its number of
            steps, and passes as often over the fewer images, so that shares are compared at equal training.
    """

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        seed: int,
        augment: Mapping[str, float] | None = None,
        fraction: float = 1.0,
        form: ImageFormat = ImageFormat(),
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.augment = dict(augment or {})
        self.form = form
        self.steps_per_epoch = len(data.train) // batch_size
        self.chosen = torch.arange(len(data.train))
        if fraction < 1:
            count = max(1, round(fraction * len(data.train)))
            _, self.chosen = stratified_split(data.train.labels.cpu(), count, seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.data.train.images, self.data.train.labels
        epoch = 0
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = self._order(generator).to(images.device)
            for indices in order.split(self.batch_size):
                batch = images.index_select(0, indices).float()  # half the time of images[indices]
                for name, strength in self.augment.items():
                    batch = AUGMENTATIONS[name](batch, strength, generator)
                yield self.form.of(batch.sub_(self.data.mean).div_(self.data.std)), labels.index_select(0, indices)
            epoch += 1

    def _order(self, generator: torch.Generator) -> Tensor:
        """Indices of one epoch's images: as many shuffled passes as its steps take, the last one cut short."""
        count, needed = len(self.chosen), self.steps_per_epoch * self.batch_size
        passes = [torch.randperm(count, generator=generator) for _ in range(math.ceil(needed / count))]
        return self.chosen[torch.cat(passes)[:needed]]


def evaluation_batches(
    data: Dataset,
    split: Split,
    batch_size: int,
    form: ImageFormat = ImageFormat(),
) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole split in order, normalised, nothing dropped."""
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        yield form.of(images.float().sub_(data.mean).div_(data.std)), labels


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image by an angle of its own, uniform within +-degrees; corners become black. (B, C, H, W), kept."""
    angles = _uniform(len(images), generator, degrees * torch.pi / 180).to(images.device)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turns = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def translation(images: Tensor, pixels: float, generator: torch.Generator) -> Tensor:
    """Move each image by whole pixels of its own, uniform within +-pixels; black comes in. (B, C, H, W), kept."""
    B, _, H, W = images.shape
    reach = int(pixels)
    shifts = torch.randint(0, 2 * reach + 1, (2, B), generator=generator).to(images.device)
    rows = torch.arange(H, device=images.device) + shifts[0, :, None]  # (B, H)
    columns = torch.arange(W, device=images.device) + shifts[1, :, None]  # (B, W)
    padded = F.pad(images, (reach, reach, reach, reach))
    batch = torch.arange(B, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with a probability. (B, C, H, W), kept. Digits don't survive it."""
    chosen = (torch.rand(len(images), generator=generator) < probability).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _uniform(count: int, generator: torch.Generator, reach: float) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * reach


Augmentation = Callable[[Tensor, float, torch.Generator], Tensor]

# images in grey levels (B, C, H, W), strength, generator on the CPU -> images
AUGMENTATIONS: dict[str, Augmentation] = {
    "rotation": rotation,  # degrees
    "translation": translation,  # pixels
    "flip": flip,  # probability
}
