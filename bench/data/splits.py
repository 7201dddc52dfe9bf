"""Splits of a dataset: images and labels in memory, or in files that worker processes read ahead while training."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from bench.errors import DataError
from bench.system.environment import usable_cores

MOST_WORKERS = 4
SAMPLE = 2_000  # images that stand for all where every pixel would have to be read
CPU = torch.device("cpu")

Load = Callable[[Path], "np.ndarray[Any, np.dtype[np.uint8]]"]  # path -> (C, H, W); picklable


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) as uint8 and labels (N,) as int64, in memory; StreamedSplit does the same for files."""

    images: Tensor
    labels: Tensor
    waited_seconds = None  # nobody waits for images in memory

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    @property
    def index_device(self) -> torch.device:
        """Device of the indices that `read` takes."""
        return self.images.device

    @property
    def resident(self) -> tuple[Tensor, ...]:
        """Tensors that stay in the device's memory."""
        return self.images, self.labels

    def subset(self, indices: Tensor) -> "Split":
        """The images with these indices, in their order."""
        return Split(self.images[indices], self.labels[indices])

    def pick(self, indices: Tensor) -> Tensor:
        """A few images, as uint8."""
        return self.images[indices.to(self.images.device)]

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of batches of indices."""
        for indices in batches:  # index_select takes half the time of images[indices]
            yield self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of all images in order; the last may be smaller."""
        yield from zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by channel, (1, C, 1, 1) each, in grey levels."""
        return pixel_statistics([self.images])


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


def pixel_statistics(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel, (1, C, 1, 1) each, in grey levels. Images (N, C, H, W), uint8, in parts.

    Exact and quick: they follow from how often each of the 256 levels occurs.
    """
    counts = torch.stack(
        [torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)]) for images in parts]
    ).sum(0)  # (C, 256)
    levels = torch.arange(256, dtype=torch.float64)
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = ((counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().clamp_min(1.0).view(1, -1, 1, 1)


@dataclass(eq=False)
class StreamedSplit:
    """Images in files and labels (N,) as int64; the counterpart of Split for images that don't fit into memory.

    Workers decode; batches travel as uint8, and whatever else happens to them happens on the device of the labels. The
    workers of an iterator end with it, those for evaluation with the split, all of them with this process, however that
    ends.

    Attributes:
        paths: one for each label.
        load: reads one of them; raises DataError.
        workers: processes; by default as many as there are usable cores, but at most 4.
        waited_seconds: for batches of `read`, whoever read them; the first of each iterator arrives uncounted.
    """

    paths: Sequence[str | Path]
    labels: Tensor
    load: Load
    workers: int = field(default_factory=lambda: min(MOST_WORKERS, usable_cores()))
    waited_seconds: float = field(default=0.0, init=False)
    _idle: dict[int, "data.DataLoader[Any]"] = field(default_factory=dict, init=False)
    index_device = CPU

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "StreamedSplit":
        return replace(self, labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "StreamedSplit":
        """The images with these indices, in their order."""
        paths = [self.paths[index] for index in indices.tolist()]
        return replace(self, paths=paths, labels=self.labels[indices.to(self.labels.device)])

    @property
    def resident(self) -> tuple[Tensor, ...]:
        """Tensors that stay in the device's memory between batches."""
        return (self.labels,)

    def pick(self, indices: Tensor) -> Tensor:
        """A few images, as uint8, read by this process. Raises: DataError."""
        images = [torch.from_numpy(self.load(Path(self.paths[index]))) for index in indices.tolist()]
        return torch.stack(images).to(self.labels.device)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of batches of indices, read ahead from this call on.

        It returns when the first batch is here, so that no clock that starts afterwards counts the workers' start.

        Raises:
            DataError: an image that can't be read, when its batch is due.
        """
        source = iter(self._loader(batch_sampler=(indices.tolist() for indices in batches)))
        first = [*islice(source, 1)]
        return (self._to_device(batch) for batch in chain(first, self._timed(source)))

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of all images in order; the last may be smaller. Raises: DataError."""
        # Workers are kept for the next evaluation; an iterator that is begun while another runs gets its own.
        loader = self._idle.pop(batch_size, None) or self._loader(batch_size=batch_size, persistent_workers=True)
        try:
            for batch in loader:
                yield self._to_device(batch)
        finally:
            self._idle[batch_size] = loader

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by channel, (1, C, 1, 1) each, in grey levels.

        They come from all images or from 2,000, always the same ones of the same split. Raises: DataError.
        """
        sample = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:SAMPLE].sort().values
        return pixel_statistics(images for images, _ in self.subset(sample).to(CPU).in_order(100))

    def _timed(self, source: Iterator[Any]) -> Iterator[Any]:
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            if batch is None:
                return
            self.waited_seconds += time.perf_counter() - start
            yield batch

    def _to_device(self, batch: "tuple[Tensor, Tensor] | str") -> tuple[Tensor, Tensor]:
        if isinstance(batch, str):
            raise DataError(batch)
        images, labels = batch
        device = self.labels.device
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def _loader(self, **options: Any) -> "data.DataLoader[Any]":
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        if forks:  # one that runs already stays as it is
            multiprocessing.set_forkserver_preload(["bench.data.splits"])
        return data.DataLoader(
            _FileDataset([*map(str, self.paths)], self.labels.cpu().numpy(), self.load),
            num_workers=self.workers,
            collate_fn=data.default_convert,  # which leaves a batch that is one as it is
            pin_memory=self.labels.is_cuda,
            worker_init_fn=_follow_parent,
            # A plain fork copies whatever locks other threads hold, and CUDA's state.
            multiprocessing_context="forkserver" if forks else "spawn",
            generator=torch.Generator(),  # its own: it draws a number, and the model's must not change for that
            **options,
        )


class _FileDataset(data.Dataset[Any]):
    """The part of a split that worker processes have: indices in, a batch out, or the message of a DataError."""

    def __init__(self, paths: list[str], labels: "np.ndarray[Any, np.dtype[np.int64]]", load: Load) -> None:
        self.paths = paths  # as text: each worker gets a copy
        self.labels = labels  # in NumPy, since a tensor would be sent as a shared file
        self.load = load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: list[int]) -> "tuple[Tensor, Tensor] | str":
        try:
            images = torch.from_numpy(np.stack([self.load(Path(self.paths[index])) for index in indices]))
        except DataError as error:
            return str(error)  # raised here it would come out with the worker's traceback in its text
        return images, torch.from_numpy(self.labels[indices])


def _follow_parent(worker: int) -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent ends, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
