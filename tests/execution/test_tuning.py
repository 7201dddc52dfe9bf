"""Equal tuning budgets: which settings are tried, which are dropped, what becomes of the best, what a stop costs."""

import csv
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config.plan import Plan, load_plan
from bench.config.suite_file import read_suite
from bench.errors import StoreError, SuiteError
from bench.execution.base import Executor, FolderOf, Report
from bench.execution.tuning import FIRST_SHARE, SEED, candidates, ranges, representatives, settings, tune
from bench.result import Result
from bench.session import Request, run_session
from bench.store.run_folder import RunFolder
from bench.store.tables import TUNED, TUNING, read_rows, read_run
from bench.store.verify import verify_run
from bench.training.run import run_trial
from bench.trial import Training, Trial

SUITE = """
dataset: digits
models:
  - {model: vit, patch_size: [2, 4], depth: 1, embed_dim: 16, epochs: 4}
  - {model: cnn, depth: 1, width: 4, epochs: 2}
batch_size: 64
targets: [0.5]
speed_seconds: 0
"""


def plan_of(folder: Path, *options: str) -> Plan:
    (folder / "mine.yaml").write_text(SUITE, encoding="utf-8")
    return load_plan(read_suite(folder / "mine.yaml", options))


# Settings


def test_a_smaller_budget_is_the_beginning_of_a_larger_one_and_the_first_is_the_suites_own() -> None:
    own = Training(optimizer="muon", epochs=6, augment={"rotation": 5.0})
    many = settings(own, 28, 33)
    assert len(many) == 33
    assert many[0] == own
    for count in (1, 2, 3, 16, 17):
        assert settings(own, 28, count) == many[:count]
    assert len({each.model_dump_json() for each in many}) == 33


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adam", "sgd"])
def test_settings_fill_the_ranges_that_are_published(optimizer: str) -> None:
    own = Training(optimizer=optimizer, epochs=5, augment={"rotation": 5.0, "translation": 1.0})
    spans = ranges(own, 40)
    found = settings(own, 40, 257)[1:]
    for key, (low, high) in spans.items():
        values = [
            each.augment.get("translation", 0.0) if key == "translation" else getattr(each, key) for each in found
        ]
        assert low * 0.95 <= min(values) <= low + 0.1 * (high - low), key
        assert high - 0.1 * (high - low) <= max(values) <= high * 1.05, key
    middle = math.sqrt(math.prod(spans["learning_rate"]))  # as many below as above: it is spread by factors
    assert sum(each.learning_rate < middle for each in found) == pytest.approx(128, abs=4)
    assert spans["translation"] == (0.0, 4.0)
    assert Counter(each.epochs for each in found).keys() == {3, 4, 5}
    assert min(Counter(each.augment.get("translation", 0.0) for each in found).values()) > 256 / 5 / 1.5
    assert all(each.augment["rotation"] == 5.0 for each in found), "what the suite says besides stays"
    assert {each.optimizer for each in found} == {optimizer}


def test_one_epoch_and_tiny_images_leave_nothing_to_vary_there() -> None:
    found = settings(Training(epochs=1), 4, 8)
    assert {each.epochs for each in found} == {1}
    assert {each.augment.get("translation") for each in found} == {None}


def test_the_middle_configuration_of_a_family_stands_for_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "match=params", "models.vit.patch_size=4", "models.vit.embed_dim=64", "seeds=2")
    found = representatives(plan)
    assert found["vit"].label == "vit p4 d1 e64 fp32"
    assert found["cnn"].match, "of a family that is all sized to match, one of these"
    plan = plan_of(tmp_path, "models.vit.patch_size=[2, 8]", "models.cnn.width=[4, 6, 8]", "train_fraction=[0.1, 1.0]")
    assert {model: trial.label for model, trial in representatives(plan).items()} == {
        "vit": "vit p8 d1 e16 fp32",
        "cnn": "cnn d1 w6 fp32",
    }


def test_a_trial_of_tuning_sees_no_test_images_and_takes_its_share_of_the_steps(tmp_path: Path) -> None:
    first, *_ = candidates(plan_of(tmp_path, "tune=2"))
    quarter, whole = (run_trial(first.trial(share), tmp_path / f"{share}") for share in (FIRST_SHARE, 1.0))
    assert quarter.evaluations[-1]["step"] == round(whole.evaluations[-1]["step"] / 4)
    assert quarter.evaluations[-1]["epoch"] == pytest.approx(1.0)
    for result in (quarter, whole):
        assert result.status == "ok", result.error
        assert result.val_accuracy is not None
        assert (result.test_accuracy, result.test_accuracy_best, result.test_loss, result.correct) == (None,) * 4
    assert not (tmp_path / "1.0").exists(), "and it leaves no weights"
    assert quarter.config_id != whole.config_id
    assert json.loads(quarter.training or "")["steps_fraction"] == FIRST_SHARE
    assert "steps_fraction" not in json.loads(whole.training or "")


# The search, with made-up accuracies


class Landscape(Executor):
    """Accuracies that follow from a setting's number, with no training."""

    def __init__(self, plan: Plan, accuracy: Any, stop_after: int | None = None) -> None:
        super().__init__()
        self.known = {
            each.trial(share).trial_id: (each, share) for each in candidates(plan) for share in (FIRST_SHARE, 1.0)
        }
        self.accuracy, self.stop_after, self.ran = accuracy, stop_after, list[tuple[str, int, float]]()

    def run_together(self, trials: Any, folder_of: FolderOf) -> Any:
        for trial in trials:
            if self.stop_after is not None and len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            candidate, share = self.known[trial.trial_id]
            self.ran.append((trial.model, candidate.number, share))
            found = self.accuracy(trial.model, candidate.number, share)
            status = "ok" if found is not None else "diverged"
            yield Result(**trial.row(), status=status, val_accuracy=found, wall_seconds=1.0)

    def run(self, trial: Trial, folder: Path | None, report: Report) -> Result:
        raise AssertionError("settings are tried side by side")


def search(folder: Path, plan: Plan, executor: Executor, **more: Any) -> list[str] | None:
    """The options that tuning comes to; None where it was interrupted."""
    path = folder / "run"
    store = RunFolder.open(path) if path.exists() else RunFolder.create(path, {"suite": "mine", "plan": []})
    try:
        found = tune(plan, store, {"suite": "mine"}, executor, **more)
        return None if found is None else [option for best in found for option in best.options]
    finally:
        store.close()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / TUNING).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def peak(model: str, number: int, share: float) -> float | None:
    """The ViT's best is setting 5, though 6 leads after a quarter; the CNN's is its own; 2 diverges."""
    if number == 2:
        return None
    best = {"vit": 5, "cnn": 0}[model]
    return 0.9 * share**0.1 - 0.01 * abs(number - best) + (0.02 if (number, share) == (6, FIRST_SHARE) else 0.0)


def test_the_best_quarter_and_the_suites_own_are_trained_whole_and_the_best_is_taken(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune=8")
    executor = Landscape(plan, peak)
    options = search(tmp_path, plan, executor)
    ran: dict[str, list[tuple[int, float]]] = {"vit": [], "cnn": []}
    for name, number, share in executor.ran:
        ran[name].append((number, share))
    assert ran["vit"] == [*((number, FIRST_SHARE) for number in range(8)), (0, 1.0), (5, 1.0), (6, 1.0)]
    assert ran["cnn"] == [*((number, FIRST_SHARE) for number in range(8)), (0, 1.0), (1, 1.0)]
    assert [name for name, *_ in executor.ran[:4]] == ["vit", "cnn", "vit", "cnn"], "equal budgets wherever it stops"
    best = settings(representatives(plan)["vit"].training, 8, 8)[5]
    assert options == [
        f"models.vit.learning_rate={best.learning_rate}",
        f"models.vit.weight_decay={best.weight_decay}",
        f"models.vit.label_smoothing={best.label_smoothing}",
        f"models.vit.epochs={best.epochs}",
        f"models.vit.augment={json.dumps(best.augment)}",
    ]
    rows = table(tmp_path)
    assert len(rows) == 16 + 5
    chosen = {(row["model"], row["setting"], row["share"]) for row in rows if row["chosen"] == "True"}
    assert chosen == {("vit", "5", "1.0"), ("cnn", "0", "1.0")}
    assert {row["status"] for row in rows if row["setting"] == "2"} == {"diverged"}
    told = {row["setting"]: row for row in rows if row["model"] == "vit" and row["share"] == "0.25"}
    for number, each in enumerate(settings(representatives(plan)["vit"].training, 8, 8)):
        row = told[str(number)]
        assert (float(row["learning_rate"]), float(row["weight_decay"])) == (each.learning_rate, each.weight_decay)
        assert (float(row["label_smoothing"]), int(row["epochs"])) == (each.label_smoothing, each.epochs)
        assert float(row["translation"]) == each.augment.get("translation", 0.0)


def test_the_table_is_held_against_the_trials_that_it_was_made_of(tmp_path: Path) -> None:
    def problems() -> list[str]:
        found = verify_run(tmp_path / "run").problems
        made_up = (f"{TUNED}/: run.json", "no evaluations")
        return [line for line in found if line.startswith(TUNED) and not any(word in line for word in made_up)]

    plan = plan_of(tmp_path, "tune=4")
    search(tmp_path, plan, Landscape(plan, peak))
    assert problems() == []
    path, journal = tmp_path / "run" / TUNING, tmp_path / "run" / TUNED / "journal.jsonl"
    written, row = path.read_text(), table(tmp_path)[0]
    path.write_text(written.replace(f",{row['val_accuracy']},", ",0.99,", 1))
    assert problems() == [f"{TUNING}, {row['trial_id']}: val_accuracy isn't what {TUNED}/ has"]
    path.write_text(written.replace(row["trial_id"], "vit-other", 1))
    assert problems() == [f"{TUNING}, vit-other: is no trial of {TUNED}/"]
    path.write_text(written)
    journal.write_text(journal.read_text().replace('"diverged"', '"ok"', 1))
    assert any(line.startswith(f"{TUNED}/: journal.jsonl, line") for line in problems())
    shutil.rmtree(tmp_path / "run" / TUNED)
    (only,) = problems()
    assert only.startswith(f"{TUNING}: can't be held against {TUNED}/ (")


def test_the_plan_then_trains_every_configuration_of_the_family_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune=8")
    options = search(tmp_path, plan, Landscape(plan, peak))
    assert options
    tuned = plan_of(tmp_path, "tune=8", *options)
    best = settings(representatives(plan)["vit"].training, 8, 8)[5]
    assert all(trial.training == best for trial in tuned.trials if trial.model == "vit")
    before = [trial.training for trial in plan.trials if trial.model == "cnn"]
    assert [trial.training for trial in tuned.trials if trial.model == "cnn"] == before
    assert not {trial.seed for trial in tuned.trials} & {SEED}


@pytest.mark.parametrize("stop", [0, 3, 16, 18])
def test_a_search_that_was_interrupted_goes_on_where_it_was_and_comes_to_the_same(tmp_path: Path, stop: int) -> None:
    plan = plan_of(tmp_path, "tune=8")
    first = Landscape(plan, peak, stop_after=stop)
    assert search(tmp_path, plan, first) is None
    assert not (tmp_path / "run" / TUNING).exists()
    second = Landscape(plan, peak)
    options = search(tmp_path, plan, second)
    assert len(first.ran) + len(second.ran) == 16 + 5
    assert not set(first.ran) & set(second.ran)
    (tmp_path / "again").mkdir()
    assert options == search(tmp_path / "again", plan, Landscape(plan, peak))


def test_a_kill_just_after_a_search_went_on_puts_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, "tune=8")
    first, second = Landscape(plan, peak, stop_after=18), Landscape(plan, peak)
    assert search(tmp_path, plan, first) is None
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr("bench.execution.tuning.run_sweep", lambda *_: 1 / 0)
        search(tmp_path, plan, second)
    assert search(tmp_path, plan, second)
    assert len(first.ran) + len(second.ran) == 16 + 5


def test_where_nothing_ends_well_or_time_is_up_families_keep_their_own_recipes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune=4")
    assert search(tmp_path, plan, Landscape(plan, lambda *_: None)) == []
    (tmp_path / "late").mkdir()
    executor = Landscape(plan, peak)
    assert search(tmp_path / "late", plan, executor, budget_seconds=0.0) == []
    assert executor.ran == []
    assert table(tmp_path / "late") == []


def test_a_folder_that_was_killed_at_birth_is_no_obstacle(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune=4")
    RunFolder.create(tmp_path / "run", {"suite": "mine", "plan": []}).close()
    (tmp_path / "run" / "tuning").mkdir()
    (tmp_path / "run" / "tuning" / ".lock").touch()
    assert search(tmp_path, plan, Landscape(plan, peak)) is not None


def test_a_share_of_the_steps_that_the_suite_asks_for_is_that_of_the_whole_training(tmp_path: Path) -> None:
    first, *_ = candidates(plan_of(tmp_path, "tune=2", "models.vit.steps_fraction=0.5"))
    assert [first.trial(share).training.steps_fraction for share in (FIRST_SHARE, 1.0)] == [0.125, 0.5]


def test_what_was_found_is_said_in_a_line_a_family(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune=8")
    store = RunFolder.create(tmp_path / "run", {"suite": "mine", "plan": []})
    found = tune(plan, store, {"suite": "mine"}, Landscape(plan, peak))
    store.close()
    assert found
    vit, cnn = found if found[0].candidate.base.model == "vit" else found[::-1]
    assert vit.said.startswith("tuning: vit takes learning_rate=0.0")
    assert vit.said.endswith("}: 90.00%, its own recipe 85.00% on validation")
    assert cnn.said == "tuning: cnn stays at its own recipe, 90.00% on validation"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tune=4", "learning_rate=[0.1, 0.2]"], "tune: vit is trained with 2 recipes; give it one"),
        (["tune=1"], "tune: 1 setting is the suite's own recipe; try 2 or more"),
        (["tune=2", f"seeds=[0, {SEED}]"], f"seeds: tuning trains with {SEED}, and the comparison's have to be others"),
    ],
)
def test_what_leaves_nothing_to_tune_is_refused(tmp_path: Path, settings: list[str], said: str) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE, encoding="utf-8")
    with pytest.raises(SuiteError, match=re.escape(said)):
        run_session(Request(str(tmp_path / "mine.yaml"), settings=settings, out=tmp_path / "run", quiet=True))


@pytest.mark.parametrize(("begun", "asked"), [(0, 4), (4, 0), (4, 8)])
def test_a_run_goes_on_with_the_tuning_that_it_was_begun_with(begun: int, asked: int, tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    record = {"source": str(tmp_path / "mine.yaml"), "options": [f"tune={begun}"], "tune": begun, "plan": []}
    RunFolder.create(tmp_path / "run", record | {"suite": plan.name}).close()
    with pytest.raises(StoreError, match="was begun with"):
        run_session(Request(None, resume=tmp_path / "run", settings=[f"tune={asked}"], quiet=True))


# A whole run


@pytest.mark.slow
def test_a_bad_recipe_is_put_right_and_the_answer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.inference.gallery.collect", lambda *_: False)
    suite = SUITE.replace("epochs: 4}", "epochs: 12, optimizer: muon, learning_rate: 0.0001}")  # 100 times too low
    suite = suite.replace("[2, 4], depth", "4, depth").replace("epochs: 2}", "epochs: 6}")
    (tmp_path / "mine.yaml").write_text(suite, encoding="utf-8")
    request = Request(
        str(tmp_path / "mine.yaml"), settings=["tune=8"], out=tmp_path / "run", executor="in-process", quiet=True
    )
    answer = run_session(request)
    assert answer.exit_status == 0
    record = read_run(tmp_path / "run")
    assert (record["tune"], record["tuned"]) == (8, "whole")
    rows = read_rows(tmp_path / "run")
    assert record["plan"] == [row["trial_id"] for row in rows]
    (rate,) = {json.loads(row["training"])["learning_rate"] for row in rows if row["model"] == "vit"}
    assert rate >= ranges(Training(optimizer="muon"), 8)["learning_rate"][0]
    assert all(row["test_accuracy"] for row in rows)
    assert not any(row["test_accuracy"] for row in read_rows(tmp_path / "run" / "tuning"))
    (said,) = (note for note in answer.verdicts[0].notes if "recipes mislead" in note)
    assert said.startswith("The suite's own recipes mislead: with them the CNN is ahead of the ViT by")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What does tuning bring?" in page
    assert verify_run(tmp_path / "run").problems == []
    (tmp_path / "run" / TUNING).unlink()  # what was found is in run.json, and nothing is tuned again
    again = run_session(replace(request, suite=None, out=None, resume=tmp_path / "run", settings=["seeds=2"]))
    more = read_rows(tmp_path / "run")
    assert more[: len(rows)] == rows
    assert len(more) == 2 * len(rows)
    assert {json.loads(row["training"])["learning_rate"] for row in more if row["model"] == "vit"} == {rate}
    assert again.exit_status == 0
    assert not (tmp_path / "run" / TUNING).exists()


@pytest.mark.slow
def test_a_stop_between_tuning_and_comparison_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.inference.gallery.collect", lambda *_: False)
    (tmp_path / "mine.yaml").write_text(SUITE, encoding="utf-8")
    how: dict[str, Any] = {"out": tmp_path / "run", "executor": "in-process", "quiet": True}
    request = Request(str(tmp_path / "mine.yaml"), settings=["tune=3"], **how)
    with monkeypatch.context() as patch:
        patch.setattr("bench.session._run_trials", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run_session(request)
    assert (tmp_path / "run" / TUNING).exists()
    assert read_run(tmp_path / "run")["tuned"] == ""
    answer = run_session(replace(request, suite=None, out=None, resume=tmp_path / "run", settings=[]))
    assert answer.exit_status == 0
    chosen = {row["model"]: row for row in table(tmp_path) if row["chosen"] == "True"}
    for row in read_rows(tmp_path / "run"):
        training = json.loads(row["training"])
        assert training["learning_rate"] == float(chosen[row["model"]]["learning_rate"])
        assert training["label_smoothing"] == float(chosen[row["model"]]["label_smoothing"])


def killed(*_: object) -> None:
    raise RuntimeError("killed")
