"""The fastest matrix product: the search over sizes, its time, the waits for the device."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.measure.flops import PRODUCT_BLOCKS, PRODUCT_SIZES, fastest_product, matmul_peak
from bench.system.device import CPU, open_device
from bench.system.precision import DTYPES


@dataclass
class FakeMachine:
    """A device that needs `per_flop` seconds for a FLOP, twice that at sizes that aren't its favourite."""

    favourite: int
    per_flop: float
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, size: int, repeats: int) -> float:
        self.asked.append((size, repeats))
        return repeats * 2 * size**3 * self.per_flop * (1 if size == self.favourite else 2)

    @property
    def seconds(self) -> float:
        machine = FakeMachine(self.favourite, self.per_flop)
        return sum(machine(*question) for question in self.asked)


@pytest.mark.parametrize("favourite", PRODUCT_SIZES[:4])
def test_peak_is_that_of_the_fastest_size(favourite: int) -> None:
    machine = FakeMachine(favourite, per_flop=1e-13)
    assert fastest_product(machine, 1.0) == pytest.approx(1e13)
    assert {size for size, _ in machine.asked} >= set(PRODUCT_SIZES[:4])


def test_peak_is_sought_within_its_time() -> None:
    machine = FakeMachine(favourite=512, per_flop=3e-11)
    assert fastest_product(machine, 0.3) == pytest.approx(1 / 3e-11)
    assert {size for size, _ in machine.asked} == {256, 512}  # five products of 1024 would take 0.32 s
    assert 0.29 <= machine.seconds <= 0.31


def test_slowest_machine_measures_the_smallest_size_and_no_more() -> None:
    machine = FakeMachine(favourite=256, per_flop=1e-7)
    assert fastest_product(machine, 0.3) == pytest.approx(1e7)
    assert machine.asked == [(256, 1)] * (2 + PRODUCT_BLOCKS)


def test_peak_is_the_median_so_that_a_lucky_block_is_none() -> None:
    blocks = iter([1.0, 1.0, 0.5, 1.0, 2.0])
    assert fastest_product(lambda size, repeats: next(blocks), 0.0) == 2 * 256**3


def test_clock_that_stands_still_gives_no_peak() -> None:
    waits: list[str] = []
    device = SimpleNamespace(type="cpu", torch_device=torch.device("cpu"), synchronize=lambda: waits.append("wait"))
    assert matmul_peak(device, DTYPES["fp32"], seconds=-1.0, now=lambda: 7.0) is None  # type: ignore[arg-type]
    assert waits


class SlowDevice(CPU):
    """A device whose clock moves by a tenth of a second at each wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def synchronize(self) -> None:
        self.time += 0.1


def test_device_is_waited_for_before_each_reading_of_the_clock() -> None:
    device = SlowDevice()
    assert matmul_peak(device, DTYPES["fp32"], seconds=0.3, now=lambda: device.time) == pytest.approx(2 * 256**3 / 0.1)


def test_as_many_products_are_made_as_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    product, time = torch.mm, [0.0]

    def timed(a: torch.Tensor, b: torch.Tensor, **how: Any) -> torch.Tensor:
        time[0] += 2 * len(a) ** 3 * 1e-9
        return product(a, b, **how)

    monkeypatch.setattr(torch, "mm", timed)
    found = matmul_peak(open_device("cpu"), DTYPES["fp32"], seconds=0.5, now=lambda: time[0])
    assert found == pytest.approx(1e9)


@pytest.mark.usefixtures("native_half_precision")
@pytest.mark.parametrize("name", list(DTYPES))
def test_real_product_has_a_rate_and_draws_no_random_numbers(name: str) -> None:
    device = open_device("cpu")
    if device.lacks(name):
        pytest.skip(f"{name}: {device.lacks(name)}")
    state = torch.get_rng_state()
    peak = matmul_peak(device, DTYPES[name], seconds=0.01)
    assert peak is not None
    assert peak > 0
    assert torch.equal(torch.get_rng_state(), state)
