"""What a tracker is told of a trial, and how little a tracker may disturb."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.execution.progress import Quiet
from bench.result import COLUMNS, TEXT_COLUMNS, Result
from bench.trial import Trial

CURVES = ("train_loss", "val_loss", "val_accuracy")
CHOSEN = (
    *("model", "recipe", "dataset", "dtype", "device", "device_name", "num_threads", "compile", "channels_last"),
    *("train_fraction", "match", "num_train_images", "seed", "timed"),
)

Warn = Callable[[str], None]


class Tracker(Quiet):
    """A listener to a sweep that keeps a copy of what it finds somewhere else; the store is the original.

    It works in `open`, `end`, `close` and `finish` alone, so never while a trial is being timed, and leaves no thread
    behind. Whatever goes wrong in it is one warning.
    """

    def open(self, folder: Path, record: dict[str, Any]) -> None:
        """The run folder exists; `record` is its run.json."""

    def finish(self, folder: Path) -> None:
        """The report lies in the run folder; nothing follows."""


def parameters(trial: Trial, result: Result) -> dict[str, Any]:
    """What was chosen, flat: text, numbers and truth values; what isn't set is left out."""
    found = {name: getattr(result, name) for name in CHOSEN}
    found |= {f"model.{key}": value for key, value in trial.settings.items()}
    found |= {f"training.{key}": value for key, value in trial.training.model_dump(mode="json").items()}
    found["split_seed"] = trial.split_seed
    return {key: _plain(value) for key, value in found.items() if value is not None}


def measures(result: Result) -> dict[str, float]:
    """What was measured at the end: every column that has a better side, and the seconds; empty ones are left out."""
    wanted = [name for name, about in COLUMNS.items() if about["better"] or about["unit"] == "s" or "loss" in name]
    values = {name: getattr(result, name) for name in wanted if name not in TEXT_COLUMNS}
    return {name: float(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True, default=str)
