"""Datasets on the device: loaded, split, and given in normalised batches for training and evaluation."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bench.data.augment import augment
from bench.data.catalog import DATASETS, read_arrays
from bench.data.download import fetch
from bench.data.readers.images import load_image
from bench.data.spec import DatasetSpec, UserData
from bench.data.splits import Split, StreamedSplit, stratified_split
from bench.data.user_data import list_files, read_user_data

Normalization = Literal["standard", "symmetric", "unit"]
FIXED_RANGES = {"symmetric": (127.5, 127.5), "unit": (0.0, 255.0)}  # mean and std, in grey levels


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test split, in memory or streamed; mean and std (1, C, 1, 1) to normalise by."""

    spec: DatasetSpec | UserData
    train: Split | StreamedSplit
    val: Split | StreamedSplit
    test: Split | StreamedSplit
    mean: Tensor
    std: Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.spec.in_channels, self.spec.image_size, self.spec.image_size

    def to(self, device: torch.device) -> "Dataset":
        splits = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        return replace(self, **splits, mean=self.mean.to(device), std=self.std.to(device))

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise `images` (grey levels as float) in place."""
        return images.sub_(self.mean).div_(self.std)


def load_dataset(
    name: str,
    data_dir: Path | None = None,
    split_seed: int = 0,
    user_data: UserData | None = None,
    normalization: Normalization = "standard",
) -> Dataset:
    """The dataset `name`, verified, and fetched where it isn't here yet; or `user_data`, where that is given.

    Args:
        normalization: "standard" goes by mean and standard deviation of the training pixels (of streamed images, those
            of a fixed sample of at most 2,000); "symmetric" puts black at -1 and white at 1, "unit" black at 0.

    Raises:
        DataError: files that are missing or not what they should be.
    """
    spec: DatasetSpec | UserData = user_data or DATASETS[name]
    known: Split | StreamedSplit
    test: Split | StreamedSplit
    if user_data and user_data.stream:
        load = partial(load_image, image_size=spec.image_size, in_channels=spec.in_channels, how=user_data.reading)
        train_paths, train_labels, test_paths, test_labels = list_files(user_data)
        known = StreamedSplit(train_paths, torch.as_tensor(train_labels), load)
        test = StreamedSplit(test_paths, torch.as_tensor(test_labels), load)
    else:
        arrays = read_user_data(user_data) if user_data else read_arrays(name, fetch(name, data_dir).folder)
        known = Split(torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels).long())
        test = Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels).long())
    train, val = (known.subset(part) for part in stratified_split(known.labels, spec.num_val, split_seed))
    if normalization == "standard":
        mean, std = train.statistics()
    else:
        mean, std = (torch.full((1, spec.in_channels, 1, 1), level) for level in FIXED_RANGES[normalization])
    return Dataset(spec, train, val, test, mean, std)


@dataclass(frozen=True)
class ImageFormat:
    """Number type and memory layout of a batch as it enters the model."""

    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    def of(self, images: Tensor) -> Tensor:
        """Convert `images` to this format; no copy if they have it."""
        return images.to(dtype=self.dtype, memory_format=self.memory_format)


class TrainingBatches:
    """Endless shuffled, augmented, normalised batches, epoch after epoch; the smaller rest of an epoch is dropped.

    The order depends on the seed and the epoch and on nothing else: not on the device, not on what ran before, not on
    whether the images lie in memory. Labels are int64 (B,); where images are mixed, shares of the classes (B, K).

    Args:
        fraction: share of the training images, each class its own; the seed draws them. An epoch keeps its number of
            steps, and passes as often over the fewer images, so that shares are compared at equal training.
        batch_size: images of a step, over all processes, which divide it.
        rank: of `world_size` processes; each reads its own share of every batch and augments it in its own way.
    """

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        seed: int,
        augment: Mapping[str, float] | None = None,
        fraction: float = 1.0,
        form: ImageFormat = ImageFormat(),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.seed = seed
        self.augment = dict(augment or {})
        self.form = form
        self.steps_per_epoch = len(data.train) // batch_size
        self.chosen = torch.arange(len(data.train))
        if fraction < 1:
            count = max(1, round(fraction * len(data.train)))
            _, self.chosen = stratified_split(data.train.labels.cpu(), count, seed)

    @property
    def waited_seconds(self) -> float | None:
        """Seconds spent waiting for files, by all iterators so far; None where images are in memory.

        For a part of the training take the difference between after and before it.
        """
        return self.data.train.waited_seconds

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        reading, augmenting = itertools.tee(self._steps())  # reading runs some steps ahead of augmenting
        read = self.data.train.read(indices for indices, _ in reading)
        return self._finished(read, (generator for _, generator in augmenting))

    def _finished(
        self, read: Iterator[tuple[Tensor, Tensor]], generators: Iterable[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        num_classes = self.data.spec.num_classes
        for (images, labels), generator in zip(read, generators, strict=True):
            images, labels = augment(images.float(), labels, self.augment, num_classes, generator)
            yield self.form.of(self.data.normalised(images)), labels

    def _steps(self) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Each step's indices, and its epoch's generator, from which the order was drawn before all else."""
        for epoch in itertools.count():
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = self._order(generator).to(self.data.train.index_device)
            if self.rank:  # the first goes on as it would alone
                generator.manual_seed(generator.initial_seed() + (self.rank << 48))
            for indices in order.split(self.batch_size):
                yield indices.chunk(self.world_size)[self.rank], generator

    def _order(self, generator: torch.Generator) -> Tensor:
        """Indices of one epoch's images: as many shuffled passes as its steps take, the last one cut short."""
        count, needed = len(self.chosen), self.steps_per_epoch * self.batch_size
        passes = [torch.randperm(count, generator=generator) for _ in range(math.ceil(needed / count))]
        return self.chosen[torch.cat(passes)[:needed]]


def evaluation_batches(
    data: Dataset,
    split: Split | StreamedSplit,
    batch_size: int,
    form: ImageFormat = ImageFormat(),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches of a whole split, in its order; the last may be smaller."""
    for images, labels in split.in_order(batch_size):
        yield form.of(data.normalised(images.float())), labels
