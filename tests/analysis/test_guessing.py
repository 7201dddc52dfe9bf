"""What is said of models that do no better than always answering the commonest class."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from made_up import make_run

from bench.analysis.answer import Verdict
from bench.analysis.guessing import is_easy, is_uneven, learned
from bench.analysis.summary import Tables, accuracy_floor, read_tables
from bench.analysis.verdict import decide
from bench.report.tables import results_grid

CONFIGS = [("vit", 7, 2), ("cnn", None, 2)]
DATASET = {"name": "screening", "title": "screening", "num_classes": 2, "class_names": ["healthy", "ill"]}


def run_with(folder: Path, vit: float, cnn: float, share: float = 0.95, classes: int = 2) -> tuple[Tables, Verdict]:
    """A run of 10,000 test images, of which 'healthy' has a share, in which the families reach these accuracies."""
    facts: dict[str, Any] = {"commonest_class": "healthy", "commonest_share": share, "test_balanced_accuracy": 0.6}
    accuracies = {"vit": facts | {"test_accuracy": vit}, "cnn": facts | {"test_accuracy": cnn}}
    changes = {"dataset": DATASET | {"num_classes": classes}}
    make_run(folder, configs=CONFIGS, dtypes=["fp32"], overrides=accuracies, changes=changes)
    tables = read_tables(folder)
    [verdict] = decide(tables)
    return tables, verdict


def test_where_nothing_was_learned_no_family_is_best_or_chosen(tmp_path: Path) -> None:
    _, verdict = run_with(tmp_path / "run", 0.95, 0.948)
    assert (
        verdict.headline
        == "Nothing was learned that shows: no model is better than always answering 'healthy' (95.00%)."
    )
    assert verdict.advice[0].startswith("Take none of them yet: train longer")


def test_a_family_that_learned_nothing_is_told_and_not_chosen(tmp_path: Path) -> None:
    _, verdict = run_with(tmp_path / "run", 0.95, 0.99)
    said = "The best ViT (ViT p7 d2 fp32, 95.00%) is no better than always answering 'healthy' (95.00%)."
    assert said in verdict.notes
    assert verdict.advice == ["Take the CNN, 2 blocks."] or verdict.advice[0].startswith("Take the CNN, 2 blocks")
    assert "ViT" not in " ".join(verdict.advice)


def test_a_few_seeds_that_scatter_widely_have_still_learned(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"commonest_class": "0", "commonest_share": 0.101, "test_balanced_accuracy": 0.4}
    wide = {f"cnn-d2-fp32-cpu-s{seed}": facts | {"test_accuracy": 0.39 + 0.08 * seed} for seed in range(2)}
    make_run(tmp_path / "run", configs=CONFIGS, dtypes=["fp32"], seeds=[0, 1], overrides=wide | {"vit": facts})
    [verdict] = decide(read_tables(tmp_path / "run"))
    assert "no better than" not in " ".join([verdict.headline, *verdict.notes])


@pytest.mark.parametrize(("share", "classes"), [(0.1135, 10), (0.95, 2)])
def test_of_those_that_learned_nothing_is_said(share: float, classes: int, tmp_path: Path) -> None:
    tables, verdict = run_with(tmp_path / "run", 0.97, 0.99, share, classes)
    assert "always answering" not in " ".join([verdict.headline, *verdict.advice, *verdict.notes])
    uneven = classes == 2
    assert any(text.startswith("Classes are uneven: 'healthy' is 95.00% of") for text in verdict.warnings) == uneven
    titles = [column.title for column in results_grid(tables).columns]
    assert ("balanced over classes, %" in titles) == uneven


@pytest.mark.parametrize("share", [0.9, 0.95])  # the lowest target, and the second
def test_a_target_that_guessing_reaches_is_no_race(share: float, tmp_path: Path) -> None:
    _, verdict = run_with(tmp_path / "run", 0.97, 0.99, share)
    subjects = [line.subject for line in verdict.cards[0].lines]
    assert "time to 97%" in subjects
    said = f"Targets up to {100 * share:g}% say nothing: always answering 'healthy' reaches them."
    assert said in verdict.warnings


def test_guessing_is_beaten_by_more_than_the_test_images_chance() -> None:
    tables: Any = SimpleNamespace(run={"split": {"test": 10_000}})
    limit = 0.96 - accuracy_floor(tables.run, "test", 0.96)
    shares = {limit: False, math.nextafter(limit, 0): True}
    for share, beaten in shares.items():
        assert learned(tables, {"test_accuracy": 0.96, "commonest_share": share}) is beaten


@pytest.mark.parametrize(("share", "uneven"), [(0.15, True), (0.1499, False), (math.nan, False)])
def test_classes_are_uneven_from_one_and_a_half_equal_shares_on(share: float, uneven: bool) -> None:
    summary = pd.DataFrame([{"commonest_share": share}])
    tables: Any = SimpleNamespace(summary=summary, run={"dataset": {"num_classes": 10}})
    assert is_uneven(tables) is uneven


def test_a_target_of_just_the_commonest_share_is_easy() -> None:
    assert is_easy(0.95, 0.95)
    assert is_easy(0.3, 0.1 + 0.1 + 0.1 - 1e-16)
    assert not is_easy(0.9501, 0.95)
