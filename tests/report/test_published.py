"""Published figures stand beside those of here, epoch by epoch, and nothing is claimed that wasn't asked."""

from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.summary import Tables, read_tables
from bench.report.sections import published_sheets

CONFIGS = (("vit", 7, 4), ("cnn", None, 2))
THEIRS = {
    "title": "The notebook's table",
    "source": "a notebook, one seed.",
    "points": [
        {"epoch": 1.0, "train_loss": 0.698, "val_accuracy": None, "test_accuracy": 0.7797},
        {"epoch": 3.0, "train_loss": None, "val_accuracy": None, "test_accuracy": 0.9493},
    ],
}


def run_of(folder: Path, *published: dict[str, Any], **more: Any) -> Tables:
    make_run(folder, configs=CONFIGS, dtypes=("fp32",), changes={"published": list(published)}, **more)
    return read_tables(folder)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return run_of(tmp_path_factory.mktemp("published") / "run", THEIRS)


def test_each_published_epoch_has_ours_of_the_first_configuration_beside_it(tables: Tables) -> None:
    (sheet,) = published_sheets(tables)
    assert sheet.title == "The notebook's table"
    assert sheet.head == [
        "after epoch",
        "published: training loss",
        "here: training loss",
        "published: test accuracy",
        "here: validation accuracy",
    ]
    assert [row[0].text for row in sheet.rows] == ["1", "3"]
    assert [cell.text for cell in (sheet.rows[0][1], sheet.rows[0][3], sheet.rows[1][1])] == ["0.698", "77.97%", "–"]
    ids = tables.trials.loc[tables.trials["model"] == "vit", "trial_id"]
    seen = tables.evaluations[tables.evaluations["trial_id"].isin(ids) & (tables.evaluations["epoch"] == 3.0)]
    assert len(seen) == 3
    assert sheet.rows[1][4].text == f"{100 * seen['val_accuracy'].median():.2f}%"
    assert sheet.rows[1][4].interval.endswith(f"to {100 * seen['val_accuracy'].max():.2f}%")


def test_the_end_is_compared_on_test_with_n(tables: Tables) -> None:
    (sheet,) = published_sheets(tables)
    mine = tables.summary.iloc[0]["test_accuracy"]
    assert sheet.said[0] == "Published: a notebook, one seed."
    assert f"n = 3 seeds, median and range. After 3 epochs {100 * mine:.2f}% on test" in sheet.said[1]
    assert f"{100 * (mine - 0.9493):.2f} points above the published 94.93%" in sheet.said[1]


def test_a_run_of_fewer_epochs_is_not_held_against_the_end(tmp_path: Path) -> None:
    (sheet,) = published_sheets(run_of(tmp_path / "run", THEIRS, epochs=2))
    assert [row[0].text for row in sheet.rows] == ["1"]
    assert "published" not in sheet.said[1]


def test_a_replay_that_failed_or_a_run_without_published_figures_shows_nothing(tmp_path: Path) -> None:
    failed = run_of(tmp_path / "failed", THEIRS, overrides={"vit": {"status": "failed"}})
    assert published_sheets(failed) == []
    assert published_sheets(run_of(tmp_path / "none")) == []
