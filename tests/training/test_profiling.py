"""Inference, latency and the split of a step, against a clock and a model whose times are known exactly."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bench.system.device import CPU
from bench.training.profiling import CALLS_FOR_P99, inference_blocks, latency, split_step


class Clock:
    """A clock that only moves when something is said to take time."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time

    def spend(self, seconds: float) -> None:
        self.time += seconds


class LazyDevice(CPU):
    """Does what it was asked only when somebody waits for it, as an accelerator may."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.owed = 0.0

    def synchronize(self) -> None:
        self.clock.spend(self.owed)
        self.owed = 0.0


def machine(cost: Callable[[Tensor], float]) -> tuple[Callable[[], float], Callable[[Tensor], Tensor], list[int]]:
    device = LazyDevice(Clock())
    asked: list[int] = []

    def predict(images: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        asked.append(len(images))
        device.owed += cost(images)
        return images

    return edge_of(device), predict, asked


def edge_of(device: LazyDevice) -> Callable[[], float]:
    def edge() -> float:
        device.synchronize()
        return device.clock()

    return edge


def test_inference_blocks_last_a_quarter_of_a_second_and_give_the_exact_rate() -> None:
    edge, predict, _ = machine(lambda images: 1e-4 * len(images))
    blocks = inference_blocks(predict, torch.zeros(32, 1, 8, 8), 4, edge)
    assert len(blocks) == 4
    for block in blocks:
        assert block.seconds >= 0.25
        assert block.images == 32 * block.steps
        assert block.images / block.seconds == pytest.approx(10_000, rel=1e-9)


def test_a_block_has_a_tenth_more_calls_than_the_one_before_would_have_needed() -> None:
    calls = iter([0.01] * 100)
    edge, predict, _ = machine(lambda images: next(calls, 0.002))
    blocks = inference_blocks(predict, torch.zeros(1, 1, 8, 8), 30, edge)
    assert blocks[0].steps < 100
    assert blocks[-1].steps == math.ceil(1.1 * 0.25 / 0.002)


def test_a_call_slower_than_a_block_is_a_block() -> None:
    edge, predict, asked = machine(lambda images: 2.0)
    blocks = inference_blocks(predict, torch.zeros(4, 1, 8, 8), 2, edge)
    assert [block.steps for block in blocks] == [1, 1]
    assert len(asked) <= 5


def test_a_slow_first_call_is_in_no_block() -> None:
    calls = iter([60.0])  # compiling, say
    edge, predict, _ = machine(lambda images: next(calls, 1e-3))
    blocks = inference_blocks(predict, torch.zeros(1, 1, 8, 8), 3, edge)
    assert all(block.images / block.seconds == pytest.approx(1000, rel=1e-6) for block in blocks)


def test_latency_percentiles_are_of_single_calls() -> None:
    calls = [0]

    def cost(images: Tensor) -> float:
        calls[0] += 1
        return 0.010 if calls[0] % 50 == 0 else 0.001  # one call of 50 is slow: 2%

    edge, predict, asked = machine(cost)
    found = latency(predict, torch.zeros(1, 1, 8, 8), edge, seconds=2.0)
    assert set(asked) == {1}
    assert found["latency_p50_seconds"] == pytest.approx(0.001)
    assert found["latency_p95_seconds"] == pytest.approx(0.001)
    assert found["latency_p99_seconds"] == pytest.approx(0.010)


def test_too_few_calls_have_no_99th_percentile() -> None:
    edge, predict, _ = machine(lambda images: 0.5)
    found = latency(predict, torch.zeros(1, 1, 8, 8), edge, seconds=1.0)
    assert CALLS_FOR_P99 > 10
    assert [*found.values()] == [pytest.approx(0.5), pytest.approx(0.5), None]


class FakeLearner:
    """Parts that take known times; backward waits on the device as forward does."""

    def __init__(self, device: LazyDevice, forward: float, backward: float, update: float) -> None:
        self.device, self.times = device, (forward, backward, update)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.device.owed += self.times[0]
        return torch.zeros(())

    def backward(self, loss: Tensor) -> None:
        self.device.owed += self.times[1]

    def update(self) -> None:
        self.device.owed += self.times[2]


def test_each_part_of_a_step_gets_the_time_that_it_took_and_nobody_elses() -> None:
    device = LazyDevice(Clock())

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            device.owed += 0.003
            yield torch.zeros(2), torch.zeros(2)

    learner = FakeLearner(device, forward=0.010, backward=0.020, update=0.005)
    split = split_step(learner, batches(), edge_of(device), seconds=1.0)  # type: ignore[arg-type]
    assert split == pytest.approx(
        {"data_seconds": 0.003, "forward_seconds": 0.010, "backward_seconds": 0.020, "optimizer_seconds": 0.005}
    )
