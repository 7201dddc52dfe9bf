"""What is told while a sweep runs: at the same cost for the ten-thousandth trial, and to nobody when nobody is left."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.execution.progress import Display
from bench.result import Result
from bench.trial import Training, Trial


def trial(seed: int) -> Trial:
    return Trial(
        suite="x", dataset="digits", model="vit", settings={"depth": 1}, recipe="vit", training=Training(),
        dtype="fp32", device="cpu", seed=seed,
    )  # fmt: skip


class Counted(float):
    """Seconds that note each sum they are part of."""

    sums = 0

    def __radd__(self, other: float) -> float:
        Counted.sums += 1
        return other + float(self)

    __add__ = __radd__

    def __rsub__(self, other: float) -> float:
        Counted.sums += 1
        return other - float(self)


def test_the_ten_thousandth_trial_costs_as_many_sums_as_the_first() -> None:
    count = 10_000
    display = Display(Console(), {str(index): Counted(1.0) for index in range(count)}, now=lambda: 0.0)
    lines: list[str] = []
    display.console = SimpleNamespace(print=lambda line, **_: lines.append(line))  # type: ignore[assignment]
    costs = []
    for index in range(count):
        stand_in: Any = SimpleNamespace(trial_id=str(index), label="x", seed=index)
        Counted.sums = 0
        display.begin(stand_in, index, count)
        display.end(stand_in, Result(status="failed"))
        costs.append(Counted.sums)
    assert len(lines) == count
    assert set(costs[:-1]) == {costs[0]}
    assert 0 < costs[0] <= 3


class Gone(io.StringIO):
    """A terminal that was closed."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")])
def test_a_terminal_that_was_closed_ends_the_talk_and_not_the_sweep(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console.Console.on_broken_pipe", lambda self: (_ for _ in ()).throw(SystemExit(1)))
    display = Display(Console(file=Gone(error)), {})
    for position in range(2):
        display.begin(trial(0), position, 2)
        display.end(trial(0), Result(status="failed"))
    display.close()
    assert display.console.quiet
