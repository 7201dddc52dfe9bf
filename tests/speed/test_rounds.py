"""Speed rounds with real processes: what a launch holds, what it does without, and when there are enough of them."""

import itertools
import random
import string
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made_up_launch import made_up_launches

from bench.config.plan import load_plan
from bench.config.suite_file import read_suite
from bench.result import SLICE_COLUMNS, SPLIT_COLUMNS, Launch
from bench.speed import rounds
from bench.speed.cells import PlainCell
from bench.speed.rounds import Entry, Setting, is_enough, measure, one_of_each
from bench.speed.worker import SLOW, Worker
from bench.system.contention import Disturbance, Meter
from bench.trial import Training, Trial

SUITE = """
dataset: digits
models:
  - {model: vit, patch_size: 4, depth: 1, embed_dim: 16}
  - {model: cnn, depth: 1, width: 4}
epochs: 1
"""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLICE_SECONDS", "DISCARDED_SECONDS", "LOOP_SECONDS", "SPLIT_SECONDS", "PEAK_SECONDS"):
        monkeypatch.setattr(rounds, name, 0.002)
    monkeypatch.setattr(rounds, "ROUNDS", (2, 2))


def trials_of(folder: Path, text: str, *options: str) -> list[Trial]:
    path = folder / "own.yaml"
    path.write_text(textwrap.dedent(text))
    (trials,) = one_of_each(load_plan(read_suite(path, options)).trials).values()
    return trials


def one_launch(entries: list[Entry]) -> Launch:
    return next(measure(Setting(entries, "a CPU"), [], 0, 0.0))


def entered(trials: list[Trial]) -> list[Entry]:
    return [Entry(trial.config_id, trial) for trial in trials]


@pytest.mark.slow
def test_a_launch_has_every_work_of_every_configuration_in_an_order_drawn_anew(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, SUITE, "seeds=3")
    assert len(trials) == 2
    launch = one_launch(entered(trials))
    assert {tuple(piece) for piece in map(sorted, launch.slices)} <= {
        tuple(sorted(set(SLICE_COLUMNS) - left_out))
        for left_out in (
            {"p50_seconds", "p95_seconds", "p99_seconds"},
            {"p95_seconds", "p99_seconds"},
            {"p99_seconds"},
            set(),
        )
    }
    threads = {piece["num_threads"] for piece in launch.slices}
    assert 1 in threads
    for piece in launch.slices:
        shares = piece["num_threads"] > 1 and piece["work"] in ("train", "infer")
        assert shares == (piece["exchange_seconds"] is not None)
        assert not shares or 0 < piece["exchange_seconds"] < 1
    works = Counter(
        (piece["config_id"], piece["work"], piece["batch_size"], piece["num_threads"]) for piece in launch.slices
    )
    for trial in trials:
        for count in threads:
            assert works[trial.config_id, "train", 128, count] == 2
            assert works[trial.config_id, "infer", 128, count] == 2
            assert works[trial.config_id, "infer", 1, count] == 2
            assert works[trial.config_id, "infer", 8, count] == 1
        assert works[trial.config_id, "loop", 128, max(threads)] == 1
        assert works[trial.config_id, "steps", 128, max(threads)] == 1
    assert all(
        piece["seconds"] > 0 and piece["images"] == piece["steps"] * piece["batch_size"] for piece in launch.slices
    )
    assert all(piece["p50_seconds"] > 0 for piece in launch.slices if piece["batch_size"] == 1)
    orders = [
        [(p["config_id"], p["work"], p["batch_size"], p["num_threads"]) for p in launch.slices if p["round"] == number]
        for number in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert [set(split) for split in launch.splits] == [set(SPLIT_COLUMNS)] * 2
    assert launch.peaks["fp32"] > 0
    assert launch.wall_seconds > 0
    assert not launch.missing


def test_a_configuration_of_given_threads_or_of_a_card_has_no_other_number_of_them(tmp_path: Path) -> None:
    (trial, _) = trials_of(tmp_path, SUITE)
    assert Entry("x", trial).thread_counts(4) == [1, 4]
    assert Entry("x", trial).thread_counts(1) == [1]
    assert Entry("x", trial, threads=(2,)).thread_counts(4) == (2,)
    assert Entry("x", trial.model_copy(update={"num_threads": 3})).thread_counts(4) == [3]
    assert Entry("x", trial.model_copy(update={"device": "cuda"})).thread_counts(4) == [4]


def test_trials_of_several_processes_are_left_to_be_timed_as_a_whole(tmp_path: Path) -> None:
    (trial, other) = trials_of(tmp_path, SUITE)
    several = trial.model_copy(update={"world_size": 2})
    assert one_of_each([several, other, other.model_copy(update={"seed": 5})]) == {"cpu": [other]}


MODEL = """
    import os
    import torch

    class Net(torch.nn.Module):
        def __init__(self, num_classes, fault):
            super().__init__()
            self.head = torch.nn.LazyLinear(num_classes)
            self.fault, self.calls = fault, 0

        def forward(self, images):
            self.calls += 1
            if self.calls > 12 and torch.is_grad_enabled() and images.device.type == "cpu":
                if self.fault == "raises":
                    raise RuntimeError("no such kernel")
                if self.fault == "dies":
                    os._exit(3)
            return self.head(images.flatten(1))

    def make(num_classes=10, image_size=8, in_channels=1, fault="none"):
        net = Net(num_classes, fault)
        net(torch.zeros(2, in_channels, image_size, image_size))
        return net
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"), [("raises", "RuntimeError: no such kernel"), ("dies", "exited with status 3")]
)
def test_one_that_fails_while_it_is_timed_is_named_and_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    (tmp_path / "own_net.py").write_text(textwrap.dedent(MODEL))
    monkeypatch.chdir(tmp_path)
    suite = f"""
    dataset: digits
    models:
      - {{model: cnn, depth: 1, width: 4}}
      - {{model: "own_net:make", fault: {fault}}}
    epochs: 1
    """
    good, bad = trials_of(tmp_path, suite)
    launch = one_launch(entered([good, bad]))
    assert {piece["config_id"] for piece in launch.slices} == {good.config_id}
    assert told in launch.missing[bad.config_id]


@pytest.mark.slow
def test_where_none_can_be_timed_the_launch_says_why_and_is_the_last(tmp_path: Path) -> None:
    trials = [
        trial.model_copy(update={"dataset": "digits", "device": "cuda:7"}) for trial in trials_of(tmp_path, SUITE)
    ]
    (launch,) = measure(Setting(entered(trials), "a card"), [], 4, 1000.0)
    assert launch.launch == 4
    assert not launch.slices
    assert all("cuda:7" in launch.missing[trial.config_id] for trial in trials)


@pytest.mark.slow
def test_configurations_that_memory_does_not_hold_together_share_one_that_stands_in_each_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FREE_SHARE", 10.0)
    trials = trials_of(tmp_path, SUITE, "models.cnn.depth=[1,2]")
    launch = one_launch(entered(trials))
    groups = {(piece["group"], piece["config_id"]) for piece in launch.slices}
    names = [{name for number, name in groups if number == group} for group in (0, 1)]
    assert [len(own) for own in names] == [2, 2]  # which one is shared is drawn
    assert len(names[0] & names[1]) == 1
    assert names[0] | names[1] == {trial.config_id for trial in trials}


@pytest.mark.slow
def test_a_configuration_entered_twice_has_a_name_for_each(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, SUITE)
    launch = one_launch([*entered(trials), Entry("again", trials[0], every=2)])
    assert {piece["config_id"] for piece in launch.slices} == {*(trial.config_id for trial in trials), "again"}


CODE = """
    import torch
    from bench.speed.cells import PlainCell

    def multiply(size):
        matrix = torch.ones(size, size)
        return [PlainCell("train", 7, lambda: matrix @ matrix)]
"""


@pytest.mark.slow
def test_any_code_is_timed_beside_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peer.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    (trial, _) = trials_of(tmp_path, SUITE)
    launch = one_launch([*entered([trial]), Entry("peer", code="peer:multiply", arguments={"size": 8}, threads=(1,))])
    pieces = [piece for piece in launch.slices if piece["config_id"] == "peer"]
    assert [(piece["work"], piece["num_threads"]) for piece in pieces] == [
        ("train", 1),
        ("train", 1),
        ("loop", 1),
        ("steps", 1),
    ]
    assert all(piece["images"] == 7 * piece["steps"] for piece in pieces)
    assert {split["config_id"] for split in launch.splits} == {trial.config_id}


class Turned:
    """A clock that a step turns by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def perf_counter(self) -> float:
        return self.passed

    def turn(self, seconds: float) -> None:
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Turned:
    made = Turned()
    monkeypatch.setattr("bench.speed.worker.time", made)
    return made


class Undisturbed:
    """A meter on a machine of one's own."""

    def read(self) -> Disturbance:
        return Disturbance(0.0, 0.0, 0.0)


def worker_with(cell: PlainCell) -> Worker:
    worker = Worker(Path())
    worker.meter, worker.cells, worker.every = Undisturbed(), {"x": cell}, {"x": 0}
    return worker


def test_a_step_that_compiles_is_not_taken_for_the_pace_of_those_after_it(clock: Turned) -> None:
    seconds = iter([2 * SLOW])
    worker = worker_with(PlainCell("train", 7, lambda: clock.turn(next(seconds, SLOW / 10))))
    assert worker.stretch("x", 1, seconds=SLOW, discard=0.0)["steps"] == 10


def test_a_step_that_others_held_up_is_not_taken_for_the_pace(clock: Turned) -> None:
    seconds = iter([0.001, 0.001, 0.001, 0.001, 0.010])  # of which the last ends what is left out
    worker = worker_with(PlainCell("train", 7, lambda: clock.turn(next(seconds, 0.001))))
    assert worker.stretch("x", 1, seconds=0.030, discard=0.004)["steps"] == 30


def test_of_any_number_of_steps_each_tenth_is_done_twice_on_average() -> None:
    calls, taken = list[int](), list[int]()
    opened = [PlainCell("train", 7, lambda: calls.append(1))]
    for seed in range(300):
        random.seed(seed)
        worker = Worker(Path())
        worker.meter = Meter()
        worker._open("x", lambda: opened, every=10)
        before = len(calls)
        worker._seconds("x train 7", 16)
        taken.append(len(calls) - before)
    assert 1.09 < sum(taken) / (300 * 16) < 1.11


def test_pauses_within_steps_show_in_the_loop_and_not_in_plain_steps(clock: Turned) -> None:
    pauses = itertools.cycle([0.02, *[0.0] * 9])
    worker = worker_with(PlainCell("train", 7, lambda: clock.turn(0.001 + next(pauses))))
    found = worker.loop("x", 1, seconds=0.3, discard=0.0)
    loop, plain = (found[work]["seconds"] / found[work]["steps"] for work in ("loop", "steps"))
    assert plain < 0.8 * loop
    assert plain > 0.001


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Launches without processes: 10 s each, of which the noise is as `noise` says."""
    numbers: list[int] = []

    def launch(setting: Setting, number: int, *others: Any) -> Launch:
        numbers.append(number)
        WHOLE.append(others[-1])
        (made,) = made_up_launches({"a": 1000.0, "b": 2000.0, "c": 700.0}, 1, noise=NOISE[0], first=number, seed=number)
        return made

    monkeypatch.setattr(rounds, "_launch", launch)
    monkeypatch.setattr(rounds, "_opened", lambda *_: [])
    return numbers


NOISE = [0.02]
WHOLE: list[bool] = []


class Clock:
    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


@pytest.mark.parametrize(("noise", "fewest", "most"), [(0.001, 5, 5), (0.03, 8, 25), (0.5, 40, 40)])
def test_launches_go_on_until_the_ratios_are_known_and_never_for_ever(
    asked: list[int], monkeypatch: pytest.MonkeyPatch, noise: float, fewest: int, most: int
) -> None:
    monkeypatch.setattr(f"{__name__}.NOISE", [noise])
    launches = [*measure(Setting([], "a CPU"), [], 0, 1e9, Clock(1.0))]
    assert fewest <= len(launches) <= most
    assert is_enough(launches, [], 0.03) or len(launches) == rounds.MOST_LAUNCHES
    assert not is_enough(launches[:-1], [], 0.03)


def test_launches_go_on_until_each_configuration_was_timed(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.NOISE", [0.001])
    early = made_up_launches({"a": 1000.0, "b": 2000.0}, 5, noise=0.001)
    assert is_enough(early, ["a", "b"], 0.03)
    assert not is_enough(early, ["a", "b", "c"], 0.03)
    late = [*measure(Setting([Entry(name) for name in "abc"], "a CPU"), early, 5, 1e9, Clock(1.0))]
    assert late
    assert is_enough([*early, *late], ["a", "b", "c"], 0.03)
    lost = made_up_launches({"a": 1000.0, "b": 2000.0}, 5, noise=0.001, missing={"c": "out of memory"})
    assert is_enough(lost, ["a", "b", "c"], 0.03)
    assert not is_enough(made_up_launches({"a": 1000.0, "b": 2000.0}, 5, disturbed=1.0), ["a", "b"], 0.03)


def test_no_launch_begins_that_would_not_end_in_time_but_the_first(asked: list[int]) -> None:
    assert len([*measure(Setting([], "a CPU"), [], 0, 0.0, Clock(10.0))]) == 1
    assert len([*measure(Setting([], "a CPU"), [], 7, 80.0, Clock(5.0))]) == 4
    assert asked == [0, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("opening", "of_a_round", "left", "number"),
    [(2.5, 0.5, 100.0, 8), (1.5, 0.5, 100.0, 6), (2.5, 0.5, 5.0, 5), (2.5, 0.5, 1.0, 4), (30.0, 0.5, 0.0, 4)],
)
def test_a_launch_takes_fewer_rounds_where_little_time_is_left(
    monkeypatch: pytest.MonkeyPatch, opening: float, of_a_round: float, left: float, number: int
) -> None:
    monkeypatch.setattr(rounds, "ROUNDS", (4, 8))
    assert rounds._number_of_rounds(opening, of_a_round, left) == number


def test_what_failed_is_not_timed_in_a_process_that_was_opened_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "SliceWorker", TimedBeside)
    setting = Setting([Entry(name, threads=(1,)) for name in "ab"], "a CPU")
    with rounds._Process(setting) as process:
        process.cells = [rounds._Open(f"{entry.name} train 7", entry, "train", 7) for entry in setting.entries]
        launch = rounds._launch(setting, 3, process, {"a": "out of memory"}, 100.0, False)
    assert {piece["config_id"] for piece in launch.slices} == {"b"}
    assert launch.missing == {"a": "out of memory"}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_peak_is_that_of_the_most_threads_that_anything_is_timed_with(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(rounds, "SliceWorker", TimedBeside)
    about = {"suite": "x", "dataset": "digits", "model": "cnn", "settings": {}, "recipe": "cnn", "training": Training()}
    trials = {
        name: Trial(**about, dtype="fp32", device="cpu", seed=0, num_threads=number)
        for name, number in (("a", 1), ("b", 2))
    }
    setting = Setting([Entry(name, trials[name]) for name in order], "a CPU", dice=SameOrder())
    worker: Any
    with rounds._Process(setting) as process:
        worker = process.worker
        process.cells = [rounds._Open(f"{entry.name} train 7", entry, "train", 7) for entry in setting.entries]
        (launch,) = made_up_launches({}, 1)
        launch.peaks = {}
        process.time_all(launch, 0, 100.0, whole=True)
    assert [threads for do, threads in worker.asked if do == "peak"] == [2]


class SameOrder(random.Random):
    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return [*population]


class TimedBeside:
    """In place of a worker: slices of which other work takes some of each core, by number of threads."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.waited = {1: 0.0, 2: 0.01}
        self.asked: list[tuple[str, int]] = []

    def ask(self, do: str, cell: str | None = None, **order: Any) -> dict[str, Any]:
        if do == "settle":
            return {"threads": 2}
        threads = order["threads"]
        self.asked.append((do, threads))
        piece = {"steps": 1, "images": 7, "seconds": 0.01, "waited_seconds": self.waited[threads]}
        answers: dict[str, dict[str, Any]] = {
            "loop": {"loop": piece, "steps": piece},
            "peak": {"flops_per_second": 1e9},
            "split": {},
        }
        return answers.get(do, piece)

    def close(self) -> None:
        pass


def timed_beside(
    monkeypatch: pytest.MonkeyPatch, waited: dict[int, float], threads: tuple[int, ...], whole: bool = False
) -> Counter[tuple[str, int]]:
    """What is asked of a worker, and with how many threads, in eight rounds of 20 cells."""
    monkeypatch.setattr(rounds, "SliceWorker", TimedBeside)
    monkeypatch.setattr(rounds, "ROUNDS", (8, 8))
    worker: Any
    with rounds._Process(Setting([], "a CPU")) as process:
        worker = process.worker
        worker.waited = waited
        process.cells = [
            rounds._Open(name, Entry(name, threads=threads), "train", 7) for name in string.ascii_letters[:20]
        ]
        (launch,) = made_up_launches({"a": 1000.0}, 1)
        process.time_all(launch, 0, 100.0, whole)
    return Counter(worker.asked)


def test_threads_of_which_nothing_is_undisturbed_leave_their_time_to_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def slices(waited: dict[int, float], whole: bool = False) -> tuple[int, int]:
        asked = timed_beside(monkeypatch, waited, (1, 2), whole)
        return asked["stretch", 1], asked["stretch", 2]

    busy, free = 0.01, 0.0
    assert slices({1: free, 2: busy}) == (160, rounds.TRIES)
    assert slices({1: free, 2: busy}, whole=True) == (160, 20)  # each once
    assert slices({1: busy, 2: free}) == (160, 160)
    assert slices({1: busy, 2: busy}) == (160, rounds.TRIES)  # the fewest are timed whatever comes
    assert timed_beside(monkeypatch, {2: busy}, (2,)) == {("stretch", 2): 160}
    assert timed_beside(monkeypatch, {1: free, 2: busy}, (1, 2), whole=True)["loop", 1] == 20
    assert timed_beside(monkeypatch, {1: busy, 2: free}, (1, 2), whole=True)["loop", 2] == 20


def test_every_second_launch_times_less_and_after_three_that_time_all_each_does(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.WHOLE", [])
    setting = Setting([], "a CPU", precision=0.0)
    launches = [*measure(setting, [], 0, 1e9, Clock(1.0))]
    assert [number for number, whole in enumerate(WHOLE) if whole] == [0, 2, 4]
    WHOLE.clear()
    assert [*measure(setting, launches[:3], 3, 1e9, Clock(1.0))]
    assert [number for number, whole in enumerate(WHOLE, 3) if whole] == [4]


def test_launches_of_an_earlier_sitting_count(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.NOISE", [0.001])
    before = [*measure(Setting([], "a CPU"), [], 0, 45.0, Clock(10.0))]
    after = [*measure(Setting([], "a CPU"), before, len(before), 1e9, Clock(10.0))]
    assert len(before) + len(after) == rounds.FEWEST_LAUNCHES
