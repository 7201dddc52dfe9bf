"""What to choose under a limit: by validation, told on test, and no row for what nobody measured."""

from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.comparison import Sheet
from bench.analysis.recommendations import MOST, Candidate, _most_telling, recommendation_sheets, round_numbers
from bench.analysis.summary import Tables, read_tables

# by the start of the trial's id: what is measured of it; four nets, the larger the better but for the ViTs' last
MEASURED: dict[str, dict[str, Any]] = {
    "vit-p14-d2": {"num_params": 8_000, "val_accuracy": 0.950, "test_accuracy": 0.948, "latency_p50_seconds": 0.0004},
    "vit-p4-d2": {"num_params": 90_000, "val_accuracy": 0.970, "test_accuracy": 0.972, "latency_p50_seconds": 0.0008},
    "cnn-d2": {"num_params": 15_000, "val_accuracy": 0.980, "test_accuracy": 0.979, "latency_p50_seconds": 0.0030},
    "cnn-d4": {"num_params": 60_000, "val_accuracy": 0.990, "test_accuracy": 0.989, "latency_p50_seconds": 0.0060},
}
CONFIGS = (("vit", 14, 2), ("vit", 4, 2), ("cnn", None, 2), ("cnn", None, 4))


def run_of(folder: Path, more: dict[str, dict[str, Any]] | None = None, **options: Any) -> Tables:
    overrides = {start: fields | (more or {}).get(start, {}) for start, fields in MEASURED.items()}
    make_run(folder, configs=CONFIGS, dtypes=("fp32",), overrides=overrides, **options)
    return read_tables(folder)


def lines(sheet: Sheet, words: str) -> list[list[str]]:
    return [[cell.text for cell in row] for row in sheet.rows if words in row[0].text]


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    (found,) = recommendation_sheets(run_of(tmp_path_factory.mktemp("choices") / "run"))
    return found


def test_a_row_for_each_round_limit_at_which_the_choice_changes(sheet: Sheet) -> None:
    assert [line[:3] for line in lines(sheet, "parameters")] == [
        ["10,000 parameters", "ViT p14 d2 fp32", "94.80%"],
        ["20,000 parameters", "CNN d2 fp32", "97.90%"],
        ["100,000 parameters", "CNN d4 fp32", "98.90%"],
    ]


def test_beside_it_stands_the_best_of_the_others_under_the_same_limit(sheet: Sheet) -> None:
    first, second, third = lines(sheet, "parameters")
    assert first[3:] == ["none", "–"]
    assert second[3:] == ["ViT p14 d2 fp32", "3.10 points"]
    assert third[3:] == ["ViT p4 d2 fp32", "1.70 points"]


def test_latency_is_a_limit_of_its_own(sheet: Sheet) -> None:
    assert [line[:2] for line in lines(sheet, "for one image")] == [
        ["0.5 ms for one image", "ViT p14 d2 fp32"],
        ["1 ms for one image", "ViT p4 d2 fp32"],
        ["5 ms for one image", "CNN d2 fp32"],
        ["10 ms for one image", "CNN d4 fp32"],
    ]


def test_training_time_goes_by_what_was_reached_by_then(tmp_path: Path) -> None:
    tables = run_of(tmp_path / "run")
    (found,) = recommendation_sheets(tables)
    told = [row for row in found.rows if "of training" in row[0].text and "memory" not in row[0].text]
    assert told
    for row in told:
        limit = float(row[0].text.split()[0])
        label = row[1].text
        ids = tables.trials.loc[tables.trials["label"] == label, "trial_id"]
        looks = tables.evaluations[tables.evaluations["trial_id"].isin(ids)]
        then = looks[looks["train_seconds"] <= limit].groupby("trial_id")["val_accuracy"].last()
        assert row[2].text == f"{100 * then.mean():.2f}%*"
        assert len(then) == 3


def test_what_was_not_measured_has_no_row(tmp_path: Path) -> None:
    nothing = {"latency_p50_seconds": None, "peak_memory_bytes": None, "inference_images_per_second": None}
    (found,) = recommendation_sheets(run_of(tmp_path / "run", dict.fromkeys(MEASURED, nothing)))
    assert {row[0].text.split(" ", 1)[1] for row in found.rows} >= {"parameters"}
    assert not [row for row in found.rows if "memory" in row[0].text or "for " in row[0].text]


def test_no_choice_without_two_to_choose_from_and_none_that_diverged(tmp_path: Path) -> None:
    make_run(tmp_path / "one", configs=CONFIGS[:1], dtypes=("fp32",))
    assert recommendation_sheets(read_tables(tmp_path / "one")) == []
    make_run(tmp_path / "none", configs=CONFIGS, dtypes=("fp32",), overrides={"": {"status": "failed"}})
    assert recommendation_sheets(read_tables(tmp_path / "none")) == []
    unsteady = run_of(tmp_path / "unsteady", {"cnn-d4": {}}, seeds=(0, 1))
    rows = unsteady.summary["label"] == "CNN d4 fp32"
    unsteady.summary.loc[rows, "n"] = 1
    (found,) = recommendation_sheets(unsteady)
    assert "CNN d4 fp32" not in {row[1].text for row in found.rows}


def test_round_numbers_reach_from_one_end_past_the_other() -> None:
    assert round_numbers(12, 90) == [20, 50, 100]
    assert round_numbers(20, 20) == [20]
    assert round_numbers(0.0004, 0.0011, 1e-3) == pytest.approx([0.0005, 0.001, 0.002])


def test_of_many_changes_the_ends_and_the_largest_gains_are_told() -> None:
    accuracies = (0.5, 0.51, 0.8, 0.81, 0.95, 0.951)
    found = [(float(i), Candidate({"model": "cnn"}, i, each)) for i, each in enumerate(accuracies)]
    assert [size for size, _ in _most_telling(found)] == [0.0, 2.0, 4.0, 5.0]
    assert len(_most_telling(found)) == MOST
