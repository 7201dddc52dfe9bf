"""Replicas: what differs between one process and several that train one model together, as an object.

Each process has the same weights and learns from its share of every batch; torch's DistributedDataParallel gives all of
them the mean of their gradients. Whatever they decide by (a clock, a loss, an accuracy) is one number for all, since
processes that decide differently would wait for each other for ever.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bench.system.device import CPU, DEVICES
from bench.system.environment import usable_cores
from bench.training.loop import Loss, Score

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}  # device -> what carries its gradients

Clock = Callable[[], float]


class Replicas:
    """One process alone. Several are `Together`, which overrides all that differs.

    Attributes:
        rank: which of them this process is, counted from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    def device_name(self, asked: str) -> str:
        """Which device is this process's."""
        return asked

    def num_threads(self, asked: int | None) -> int | None:
        """CPU threads of this process; None leaves torch's choice."""
        return asked

    def meter(self, device: CPU) -> Callable[[], float | None]:
        """Energy that all of them have drawn, joules; None where nobody can tell."""
        return device.energy_joules

    def draw_apart(self, seed: int) -> None:
        """From here on each process draws numbers of its own (dropout); the first goes on as it would alone."""

    def shared(self, loss: Loss, model: nn.Module) -> Loss:
        """`loss` of `model`, whose gradients become the mean over the processes."""
        return loss

    def mean(self, value: Tensor) -> float:
        """The mean of a number that each process has one of."""
        return float(value)

    def first(self, score: Callable[[], Score]) -> Score:
        """What the first process finds; the others are told loss and accuracy, and wait asleep."""
        return score()

    def clock(self, now: Clock) -> Clock:
        """One clock for all."""
        return now


ALONE = Replicas()


class Together(Replicas):
    """One of several processes of this machine, inside `joined`."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def device_name(self, asked: str) -> str:
        kind = asked.partition(":")[0]  # of "cuda:A100": where a cluster sent it, all cards in sight are such
        return kind if kind == "cpu" else f"{kind}:{self.rank}"

    def num_threads(self, asked: int | None) -> int | None:
        return asked or max(1, usable_cores() // self.size)

    def meter(self, device: CPU) -> Callable[[], float | None]:
        return device.energy_joules if device.type == "cpu" else lambda: None  # a GPU's meter knows of itself alone

    def draw_apart(self, seed: int) -> None:
        if self.rank:
            torch.manual_seed(seed + (self.rank << 48))

    def shared(self, loss: Loss, model: nn.Module) -> Loss:
        # The loss is inside, so that DDP holds what is compiled, and nobody compiles DDP's own bookkeeping.
        together = DistributedDataParallel(_LossOf(loss, model), gradient_as_bucket_view=True)
        return lambda model, *batch: together(*batch)

    def mean(self, value: Tensor) -> float:
        total = value.detach().to("cpu", torch.float64, copy=True)
        distributed.all_reduce(total)
        return float(total) / self.size

    def first(self, score: Callable[[], Score]) -> Score:
        if self.rank == 0:
            found = score()
            _told(torch.tensor([found.loss, found.accuracy], dtype=torch.float64))
            return found
        loss, accuracy = _told(torch.zeros(2, dtype=torch.float64)).tolist()
        return Score(loss, accuracy, torch.zeros(0, dtype=torch.int64), torch.zeros(0))

    def clock(self, now: Clock) -> Clock:
        """The first process's readings, by one broadcast each, at the edges of blocks only."""

        def reading() -> float:
            if sys.exc_info()[0] is not None:  # this process is failing: the others no longer answer
                return now()
            return float(_told(torch.tensor(now(), dtype=torch.float64)))

        return reading


class _LossOf(nn.Module):
    """Model and loss as one module, since torch's DistributedDataParallel needs the loss inside its forward pass."""

    def __init__(self, loss: Loss, model: nn.Module) -> None:
        super().__init__()
        self.loss, self.model = loss, model

    def forward(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        return self.loss(self.model, images, labels, label_smoothing)


def _told(value: Tensor) -> Tensor:
    """The first process's `value`, in place. It lies on the CPU, where gloo carries it and waits without spinning."""
    distributed.broadcast(value, src=0)
    return value


@contextmanager
def joined(rank: int, size: int, kind: str, meeting_place: Path) -> Iterator[Together]:
    """This process as one of `size`, all of which have to come.

    Args:
        kind: of device, as torch names it.
        meeting_place: a file that isn't there yet; the processes find each other in it.
    """
    for _, name in socket.if_nameindex():
        if name in ("lo", "lo0"):  # gloo would listen on the address of the host's name, for everybody
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    backend = "gloo" if kind == "cpu" else f"cpu:gloo,{kind}:{BACKENDS[kind]}"
    if kind != "cpu":
        torch.accelerator.set_device_index(rank)
    store = distributed.FileStore(str(meeting_place), size)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    yield Together(rank, size)
    distributed.destroy_process_group()  # not of a group that failed: that might wait for those who are gone


def lacks_company(device: str, world_size: int) -> str | None:
    """Why `world_size` processes can't train on devices of this name here, in one clause, or None if they can."""
    if world_size == 1:
        return None
    kind, _, index = device.partition(":")
    if kind not in BACKENDS:
        return f"world_size {world_size} can't be had on {kind}: torch has nothing to carry gradients between processes"
    if not (distributed.is_available() and distributed.is_backend_available(BACKENDS[kind])):
        return f"world_size {world_size} needs torch with {BACKENDS[kind]}, which this one was built without"
    if index:
        return f"world_size {world_size} needs as many devices, and {device} names one; say '{kind}'"
    if kind != "cpu" and DEVICES[kind].count() < world_size:
        return f"world_size {world_size} needs {world_size} devices of kind {kind}, here are {DEVICES[kind].count()}"
    return None
