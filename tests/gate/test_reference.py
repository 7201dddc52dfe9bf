"""The reference work: frozen, and timed in turns."""

import hashlib
import inspect
from collections.abc import Callable

import pytest
import torch

from bench.gate import reference
from bench.gate.reference import REFERENCE_VERSION, REFERENCES, interleaved, slice_of, time_references, units_in

# version -> reference -> checksum of its source. Whoever changes a load bumps REFERENCE_VERSION and adds a row: every
# stored baseline has to be made again then.
FROZEN = {
    1: {
        "matrix product": "c108f4093e26cabc",
        "memory stream": "0509653d2a7e33cd",
        "Python dispatch": "e8e4100235264728",
        "training step": "d5ee3e1ba6225bb8",
    },
}


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.log: list[str] = []

    def now(self) -> float:
        return self.time

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def unit() -> None:
            self.time += seconds
            self.log.append(name)

        return unit


def test_reference_work_is_as_it_was_when_its_version_was_given() -> None:
    found = {name: hashlib.sha256(inspect.getsource(f).encode()).hexdigest()[:16] for name, f in REFERENCES.items()}
    assert found == FROZEN[REFERENCE_VERSION]


def test_reference_work_uses_nothing_of_ours_that_may_change() -> None:
    source = inspect.getsource(reference)
    assert "models import" not in source
    assert "from bench." not in source.replace("from bench.errors", "").replace("from bench.gate.reference", "")


@pytest.mark.parametrize("name", ["matrix product", "Python dispatch", "training step"])
def test_reference_work_leaves_the_callers_random_numbers_alone(name: str) -> None:
    random = torch.get_rng_state()
    unit = REFERENCES[name]()
    for _ in range(3):
        unit()
    assert torch.equal(torch.get_rng_state(), random)


def test_the_frozen_network_trains() -> None:
    unit = REFERENCES["training step"]()
    cells = dict(zip(unit.__code__.co_freevars, unit.__closure__ or (), strict=True))
    weights = cells["weights"].cell_contents
    assert sum(weight.numel() for weight in weights) == 5_072
    before = [weight.detach().clone() for weight in weights]
    unit()
    assert all(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))


def test_seconds_a_unit_are_the_median_over_slices() -> None:
    clock = Clock()
    units = {"slow": clock.work("slow", 0.02), "quick": clock.work("quick", 0.001)}
    found = interleaved(units, clock.now, 1.0)
    assert found == pytest.approx({"slow": 0.02, "quick": 0.001})


def test_an_odd_slice_moves_no_reference() -> None:
    clock = Clock()
    plain, calls = clock.work("a", 0.01), 0

    def odd() -> None:
        nonlocal calls
        calls += 1
        if calls == 60:  # in the first slice after the warm-up
            clock.time += 5.0
        plain()

    assert interleaved({"a": odd}, clock.now, 2.0)["a"] == pytest.approx(0.01)


def test_references_take_turns_and_the_order_reverses() -> None:
    clock = Clock()
    interleaved({name: clock.work(name, 0.25) for name in ("a", "b")}, clock.now, 1.0)
    assert "".join(clock.log[-8:]) == "abbaabba"


def test_a_slice_lasts_about_as_long_as_asked() -> None:
    clock = Clock()
    unit = clock.work("a", 0.003)
    count = units_in(unit, clock.now, 0.25)
    assert slice_of(unit, count, clock.now) == pytest.approx(0.25, rel=0.02)


def test_a_clock_that_stands_still_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "MOST_UNITS", 64)
    assert units_in(lambda: None, lambda: 0.0, 0.25) == 64


def test_timing_leaves_torch_with_the_threads_that_it_had() -> None:
    before, seen = torch.get_num_threads(), []

    def build() -> Callable[[], None]:
        return lambda: seen.append(torch.get_num_threads())

    clock = iter(range(10**6))
    found = time_references(lambda: float(next(clock)), 0.01, threads=before + 1, references={"a": build})
    assert found["a"] > 0
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_references_take_time_on_this_machine() -> None:
    small = {name: REFERENCES[name] for name in ("matrix product", "Python dispatch", "training step")}
    found = time_references(seconds_each=0.02, references=small)
    assert found.keys() == small.keys()
    assert all(0 < seconds < 60 for seconds in found.values())
