"""Published figures stand beside those of here, epoch by epoch, and nothing is claimed that wasn't asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.published import published_sentence, published_sheets
from bench.analysis.summary import Tables, read_tables

DEVICE = "AMD EPYC 7R13"
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
    assert sheet.said == [
        "Published: a notebook, one seed.",
        "Here: ViT p7 d4 fp32, 55,000 training images, n = 3 seeds, median and range.",
    ]
    mine, low, high = (100 * tables.summary.iloc[0][f"test_accuracy{end}"] for end in ("", "_low", "_high"))
    assert published_sentence(tables, DEVICE) == (
        f"The ViT, 7 px patches, 4 blocks, reaches {mine:.2f}% on test ({low:.2f} to {high:.2f}, n = 3), "
        f"{mine - 94.93:.2f} points above the published 94.93%."
    )


def test_where_only_validation_was_published_that_is_compared(tables: Tables) -> None:
    theirs = {"epoch": 3.0, "val_accuracy": 0.9893}
    other = replace(tables, run=tables.run | {"published": [THEIRS | {"points": [theirs]}]})
    mine, low, high = (100 * tables.summary.iloc[0][f"val_accuracy{end}"] for end in ("", "_low", "_high"))
    assert published_sentence(other, DEVICE) == (
        f"The ViT, 7 px patches, 4 blocks, reaches {mine:.2f}% on validation ({low:.2f} to {high:.2f}, n = 3), "
        f"{98.93 - mine:.2f} points below the published 98.93%."
    )


def test_a_published_figure_within_our_interval_is_neither_above_nor_below(tables: Tables) -> None:
    mine, low, high = (tables.summary.iloc[0][f"test_accuracy{end}"] for end in ("", "_low", "_high"))
    for theirs, said in ((high - 1e-5, "lies within."), (high + 1e-4, "points below"), (low - 1e-4, "points above")):
        run = tables.run | {"published": [THEIRS | {"points": [{"epoch": 3.0, "test_accuracy": theirs}]}]}
        assert said in published_sentence(replace(tables, run=run), DEVICE)
    assert low < mine < high


def test_each_device_has_the_evaluations_of_its_own_trials(tmp_path: Path) -> None:
    apart = {f"vit-p7-d4-fp32-cpu-s{seed}": {"device_name": name} for seed, name in enumerate(("Xeon", "A", "Z"))}
    tables = run_of(tmp_path / "run", THEIRS, overrides=apart)
    ends = tables.evaluations[tables.evaluations["epoch"] == 3.0].set_index("trial_id")["val_accuracy"]
    shown = {sheet.title: sheet.rows[1][4].text for sheet in published_sheets(tables)}
    for trial, about in apart.items():
        assert shown[f"The notebook's table on {about['device_name']}"] == f"{100 * ends[trial]:.2f}%"


def test_a_run_of_fewer_epochs_is_not_held_against_the_end(tmp_path: Path) -> None:
    shorter = run_of(tmp_path / "run", THEIRS, epochs=2)
    (sheet,) = published_sheets(shorter)
    assert [row[0].text for row in sheet.rows] == ["1"]
    assert published_sentence(shorter, DEVICE) == ""


def test_a_replay_that_failed_or_a_run_without_published_figures_shows_nothing(tmp_path: Path) -> None:
    failed = run_of(tmp_path / "failed", THEIRS, overrides={"vit": {"status": "failed"}})
    for shown in (failed, run_of(tmp_path / "none")):
        assert published_sheets(shown) == []
        assert published_sentence(shown, DEVICE) == ""
