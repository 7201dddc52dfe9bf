"""What a tracker is: it listens to a sweep and copies each finished trial to somewhere else. Off unless asked for."""

import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.execution.progress import Progress
from bench.execution.trackers import TRACKERS
from bench.result import AXES, COLUMNS, TEXT_COLUMNS, Result
from bench.trial import Trial

CURVES = ("train_loss", "val_loss", "val_accuracy")
FLAT = ("settings", "training")  # JSON: told setting by setting
CHOSEN = (
    *(axis for axis in AXES if axis not in FLAT),
    *("recipe", "dataset", "device_name", "num_train_images", "seed", "timed"),
)

Warn = Callable[[str], None]


class Tracker(Progress):
    """Copies what a sweep finds to somewhere else; the run folder is the original.

    It works in `open`, `end`, `close` and `finish` alone, so never while a trial is being timed. Its first failure is
    a warning, and it is left alone for the rest of the run.

    Args:
        suite: name of the suite.
        address: where to, if the option has a value.
        warn: takes one line.
    """

    def __init__(self, suite: str, address: str | None, warn: Warn) -> None:
        self.suite, self.address, self.warn = suite, address or "", warn
        self.failed = False

    def open(self, folder: Path, record: dict[str, Any]) -> None:
        """The run folder exists; `record` is its run.json."""

    def finish(self, folder: Path) -> None:
        """The report lies in the run folder; nothing follows."""

    def attempt(self, work: Callable[..., object], *arguments: Any) -> None:
        """Call `work`, unless something has failed before; should it fail, warn, and the sweep goes on."""
        if self.failed:
            return
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the sweep goes on
            self.failed = True
            self.warn(self.complaint(error))

    def complaint(self, error: Exception) -> str:
        """One line about what went wrong, and what follows from it."""
        raise NotImplementedError


def make_trackers(suite: str, tensorboard: bool, mlflow: str | None, warn: Warn) -> list[Tracker]:
    """Those that were asked for, ready to run; nothing of theirs is imported otherwise.

    Args:
        suite: names the experiment of a tracking server.
        mlflow: address of a tracking server, or of a store that MLflow knows (such as sqlite:///runs.db).
        warn: takes one line, should a tracker fail later.

    Raises:
        UserError: a package is missing, or the server can't be reached.
    """
    asked = {"tensorboard": tensorboard, "mlflow": mlflow is not None}
    trackers = []
    for name, class_name in TRACKERS.items():
        if asked[name]:
            if find_spec(name) is None:  # found, not imported
                raise UserError(f"--{name}: the package {name} isn't installed; pip install 'vit-cnn-bench[{name}]'")
            tracker_class = getattr(import_module(f"bench.execution.trackers.{name}"), class_name)
            trackers.append(tracker_class(suite, mlflow, warn))
    return trackers


def parameters(trial: Trial, result: Result) -> dict[str, Any]:
    """What was chosen, flat: text, numbers and truth values; what isn't set is left out."""
    found = {name: getattr(result, name) for name in CHOSEN}
    found |= {f"model.{key}": value for key, value in trial.settings.items()}
    found |= {f"training.{key}": value for key, value in trial.training.model_dump(mode="json").items()}
    found["split_seed"] = trial.split_seed
    return {
        key: value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True, default=str)
        for key, value in found.items()
        if value is not None
    }


def measures(result: Result) -> dict[str, float]:
    """What was measured at the end: every column that has a better side, and the seconds; empty ones are left out."""
    wanted = [name for name, about in COLUMNS.items() if about["better"] or about["unit"] == "s" or "loss" in name]
    values = {name: getattr(result, name) for name in wanted if name not in TEXT_COLUMNS}
    return {name: float(value) for name, value in values.items() if value is not None}
