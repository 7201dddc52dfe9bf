"""What is said of models that do no better than always answering the commonest class."""

from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.answer import Verdict
from bench.analysis.summary import Tables, read_tables
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
    assert verdict.summary[0] == "On test the ViT reaches 95.00% and the CNN reaches 94.80%."
    assert verdict.sentences[-1].startswith("On this machine choose none of them yet: train longer")


def test_a_family_that_learned_nothing_is_told_and_not_chosen(tmp_path: Path) -> None:
    _, verdict = run_with(tmp_path / "run", 0.95, 0.99)
    said = "The best ViT (ViT p7 d2 fp32, 95.00%) is no better than always answering 'healthy' (95.00%)."
    assert verdict.summary[0] == said
    assert "choose the CNN" in verdict.sentences[-1]
    assert "ViT" not in verdict.sentences[-1]


@pytest.mark.parametrize(("share", "classes"), [(0.1135, 10), (0.95, 2)])
def test_of_those_that_learned_nothing_is_said(share: float, classes: int, tmp_path: Path) -> None:
    tables, verdict = run_with(tmp_path / "run", 0.97, 0.99, share, classes)
    assert "always answering" not in " ".join([verdict.headline, *verdict.summary, *verdict.sentences])
    uneven = classes == 2
    assert any(text.startswith("Classes are uneven: 'healthy' is 95.00% of") for text in verdict.warnings) == uneven
    titles = [column.title for column in results_grid(tables).columns]
    assert ("balanced over classes, %" in titles) == uneven


def test_a_target_that_guessing_reaches_is_no_race(tmp_path: Path) -> None:
    _, verdict = run_with(tmp_path / "run", 0.97, 0.99)
    said = " ".join([verdict.headline, *verdict.summary, *verdict.sentences])
    assert "97%" in said
    assert "90%" not in said
    assert "Targets up to 95% say nothing: always answering 'healthy' reaches them." in verdict.warnings
