"""Splits: images and labels that belong together, how they are drawn, and what their pixels are like."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) as uint8 and labels (N,) as int64, in memory; StreamedSplit is its twin for files."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    @property
    def index_device(self) -> torch.device:
        """Where the indices should lie that `read` takes."""
        return self.images.device

    @property
    def resident(self) -> tuple[Tensor, ...]:
        """All that takes the device's memory."""
        return self.images, self.labels

    @property
    def waited_seconds(self) -> float | None:
        """None: nothing has to be waited for."""
        return None

    def pick(self, indices: Tensor) -> Tensor:
        """A few images, as uint8."""
        return self.images[indices.to(self.images.device)]

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of batches of indices."""
        for indices in batches:  # index_select takes half the time of images[indices]
            yield self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of it; the last batch may be smaller."""
        yield from zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)


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
    """Mean and standard deviation by channel, (1, C, 1, 1) each, in grey levels. Images (N, C, H, W), uint8."""
    return statistics_of_counts(level_counts(images))


def level_counts(images: Tensor) -> Tensor:
    """How often each of the 256 levels occurs. (N, C, H, W), uint8 -> (C, 256)."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


def statistics_of_counts(counts: Tensor) -> tuple[Tensor, Tensor]:
    """`pixel_statistics` of images with these counts (C, 256): exact and quick."""
    levels = torch.arange(256, dtype=torch.float64)
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = ((counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().clamp_min(1.0).view(1, -1, 1, 1)
