"""Provenance: what a run writes of itself, so that a reader, a report or a resume knows what it holds for."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.address import hide_in
from bench.environment import describe_environment
from bench.recipes import RECIPES
from bench.suite import Plan
from bench.suite_file import SUITES_FOLDER, SuiteText, find_suite


def make_record(
    plan: Plan, text: SuiteText, suite: str | None, before: dict[str, Any], data_dir: Path | None
) -> dict[str, Any]:
    """The contents of run.json.

    Args:
        suite: as the person named it; None where a resumed run named none.
        before: the record of the run that goes on; empty for a new one.
    """
    spec = plan.spec
    recipes = {trial.recipe: RECIPES[trial.recipe].model_dump() for trial in plan.trials}
    return {
        "suite": plan.name,
        "source": _source(suite, before),
        "options": text.options,
        "description": plan.suite.description,
        "content": plan.content,
        "created_at": before.get("created_at", datetime.now(UTC).isoformat(timespec="seconds")),
        "command": [*before.get("command", []), *([";"] if before else []), "run_bench.py", *hide_in(sys.argv[1:])],
        "data_dir": str(data_dir.resolve()) if data_dir else None,
        "dataset": {
            "name": spec.name,
            "title": spec.title,
            "checksum": spec.checksum,
            "image_size": spec.image_size,
            "in_channels": spec.in_channels,
            "num_classes": spec.num_classes,
            "class_names": list(spec.class_names),
            "notes": list(getattr(spec, "notes", ())),
        },
        "split": {
            "train": spec.num_train - spec.num_val,
            "val": spec.num_val,
            "test": spec.num_test,
            "seed": plan.suite.split_seed,
        },
        "published": [each.model_dump() for each in plan.suite.published],
        "seeds": sorted({trial.seed for trial in plan.trials}),
        "targets": list(plan.trials[0].targets),
        "target_accuracy": plan.trials[0].target_accuracy,
        "recipes": recipes,
        "environment": describe_environment(),
        "plan": [trial.trial_id for trial in plan.trials],
        "matches": plan.matches,
        "left_out": None,
        "interrupted": False,
    }


def _source(suite: str | None, before: dict[str, Any]) -> str:
    """The suite as a later resume finds it, from whichever folder: its name, or its file's whole path."""
    path = find_suite(suite) if suite else None
    if path is None:
        return before["source"]
    return path.stem if path.parent == SUITES_FOLDER else str(path.resolve())
