"""What is told while a sweep runs: at the same cost for the ten-thousandth trial, and to nobody when nobody is left."""

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_launch import made_up_launches
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
        stand_in: Any = SimpleNamespace(trial_id=str(index), label="x", seed=index, timed=True, tested=True)
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


def shown(display: Display) -> str:
    file: Any = display.console.file
    return str(file.getvalue())


def test_each_launch_is_a_line_with_how_well_ratios_are_known_and_the_time_left_counts_what_may_come() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    display = Display(console, {"a": 60.0, "b": 60.0}, at_once=2, speed_seconds=240.0, now=lambda: 0.0)
    launches = made_up_launches({"a": 1.0, "b": 2.0}, 3, threads=(1, 2))
    display.measuring([], 0.03, 240.0)
    display.measuring(launches[:1], 0.03, 220.0)
    display.measuring(launches, 0.03, 180.0)
    display.close()
    assert "[speeds] launch 1: ±27.9% (1 thread), ±27.9% (2 threads), aim ±3%" in shown(display)
    assert re.search(r"launch 3: ±\d+\.\d% \(1 thread\), ±\d+\.\d% \(2 threads\), aim ±3%", shown(display))
    assert "5 min left" in shown(display)  # 240 s of launches, and two trials of a minute side by side
    assert "4 min left" in shown(display)


def test_of_trials_side_by_side_the_bar_tells_how_many_are_done() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    several = [trial(seed).model_copy(update={"timed": False}) for seed in range(4)]
    display = Display(console, {each.trial_id: 30.0 for each in several}, at_once=2, now=lambda: 0.0)
    for position, each in enumerate(several[:3]):
        display.begin(each, position, 4)
    display.end(several[0], Result(status="ok", timed=False, test_accuracy=0.5))
    display.begin(several[3], 3, 4)
    display.close()
    assert "[1/4] trials" in shown(display)
    assert "test 50.00%" in shown(display)
    assert "images/s" not in shown(display)


def test_at_80_columns_configuration_accuracy_and_time_left_stay() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    alone = trial(0)
    display = Display(console, {alone.trial_id: 600.0}, now=lambda: 0.0)
    display.begin(alone, 0, 54)
    display.evaluated({"epoch": 0.5, "train_loss": 1.0, "val_accuracy": 0.91, "images_per_second": 12345.0})
    display.close()
    line = shown(display).rsplit("[1/54]", 1)[1]
    assert re.search(r"val 91\.0%  10 min left", line)
