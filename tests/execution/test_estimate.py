"""How long trials and runs will take: from past runs of this machine, or guessed; and what a run adds up to."""

import json
from pathlib import Path

import pandas as pd
import pytest
from made_up import change_rows, make_run

from bench.config.plan import Plan, load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.execution.estimate import (
    LAUNCH_SECONDS,
    REPORT_SECONDS,
    START_SECONDS,
    estimate_run,
    estimate_seconds,
)
from bench.system.environment import cpu_name

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def plan_of(folder: Path, *options: str) -> Plan:
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"dataset": "digits", "models": [{"model": "cnn", "depth": [1, 2], "width": 4}]}))
    return load_plan(read_suite(path, ["device=cpu", *options]))


def past_run(results: Path, plan: Plan, seconds: dict[bool, float], name: str = "1") -> None:
    """A run in which the plan's first configuration took so long, timed or not."""
    folder = make_run(results / "mine" / name, configs=[("cnn", None, 2)], dtypes=["fp32"], seeds=[0, 1, 2, 3])
    ids = [json.loads(line)["trial_id"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    own = {"config_id": plan.trials[0].config_id, "device_name": cpu_name()}
    rows = [own | {"timed": timed, "wall_seconds": wall} for timed, wall in seconds.items() for _ in range(2)]
    change_rows(folder, dict(zip(ids, rows, strict=True)))


@pytest.mark.parametrize(("timing", "seconds"), [("rounds", 70.0), ("whole", 40.0)])
def test_past_runs_tell_how_long_a_trial_takes_in_the_same_way(timing: str, seconds: float, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"timing={timing}")
    past_run(tmp_path / "results", plan, {False: 70.0, True: 40.0})
    first, second = plan.trials
    found = estimate_seconds(plan.trials, tmp_path / "results")
    assert found[first.trial_id] == seconds
    assert found[second.trial_id] == estimate_seconds([second], tmp_path / "nowhere")[second.trial_id]


def test_the_latest_run_counts_as_much_as_others(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for name, seconds in (("1", 70.0), ("2", 50.0)):
        past_run(tmp_path, plan, {False: seconds, True: 1.0}, name)
    (tmp_path / "mine" / "latest").symlink_to("2")
    assert estimate_seconds(plan.trials[:1], tmp_path)[plan.trials[0].trial_id] == 60.0


def test_a_trial_is_guessed_to_take_longer_with_more_epochs_and_on_one_thread_beside_others(tmp_path: Path) -> None:
    def guessed(*options: str) -> float:
        return sum(estimate_seconds(plan_of(tmp_path, "instrument_seconds=0", *options).trials, tmp_path).values())

    assert guessed("epochs=10", "timing=whole") < guessed("epochs=10") < guessed("epochs=20")


def test_each_attention_weight_is_guessed_to_take_its_time(tmp_path: Path) -> None:
    model = {"model": "vit", "patch_size": 2, "depth": 2, "embed_dim": 32, "num_heads": [2, 8]}
    path = tmp_path / "heads.yaml"
    path.write_text(json.dumps({"dataset": "digits", "models": [model], "device": "cpu"}))
    two, eight = estimate_seconds(load_plan(read_suite(path, [])).trials, tmp_path).values()
    assert eight - two > 5e-9 * (2 * 6 * 16**2) * 1_000 * 5  # 16 tokens, two blocks, five epochs of some 1,300 images


@pytest.mark.parametrize(("suite", "run"), [("mnist", "mnist-cpu"), ("fashion-mnist", "fashion-mnist")])
def test_a_guess_is_near_what_trials_of_the_reference_runs_took(suite: str, run: str, tmp_path: Path) -> None:
    rows = pd.read_csv(REFERENCE / run / "trials.csv")
    taken = rows.groupby("config_id")["wall_seconds"].median()
    trials = load_plan(read_suite(find_suite(suite), ["device=cpu"])).trials
    guesses = pd.Series(estimate_seconds(trials, tmp_path)).groupby({t.trial_id: t.config_id for t in trials}).first()
    assert len(guesses) == len(taken)
    assert 0.75 < guesses.sum() / taken.sum() < 1.33
    assert (guesses / taken).between(0.5, 2.0).all()


def test_a_run_is_trials_by_how_many_run_at_once_and_the_timed_ones_and_the_rounds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "seeds=3", "world_size=[1, 2]", "batch_size=64", "speed_seconds=50")
    estimates = {trial.trial_id: 10.0 for trial in plan.trials}
    assert [trial.timed for trial in plan.trials].count(True) == 6
    besides = START_SECONDS + LAUNCH_SECONDS + REPORT_SECONDS
    assert estimate_run(plan, estimates, at_once=2) == 60 / 2 + 60 + 50 + besides
    assert estimate_run(plan, estimates, at_once=100) == 10 + 60 + 50 + besides
    left = {trial.trial_id: 10.0 for trial in plan.trials if trial.seed == 2}
    assert estimate_run(plan, left, at_once=2) == 20 / 2 + 20 + 50 + besides
    assert estimate_run(plan, left, at_once=2, speeds=0.5) == 20 / 2 + 20 + 25 + besides


def test_a_run_of_whole_trials_has_no_rounds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "timing=whole", "speed_seconds=50")
    estimates = {trial.trial_id: 10.0 for trial in plan.trials}
    assert estimate_run(plan, estimates, at_once=2) == 20 + START_SECONDS + REPORT_SECONDS
