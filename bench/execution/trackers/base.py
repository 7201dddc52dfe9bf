"""What a tracker is: it listens to a sweep and copies each finished trial to somewhere else. Off unless asked for."""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime
from functools import wraps
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

    It works in `open`, `end`, `close` and `finish` alone, so never while a trial is being timed.

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

    def complaint(self, error: Exception) -> str:
        """One line about what went wrong, and what follows from it."""
        raise NotImplementedError


def attempted(method: Callable[..., None]) -> Callable[..., None]:
    """A tracker's method, whose first failure is a warning; after it, none of the tracker's does anything."""

    @wraps(method)
    def attempt(self: Tracker, *arguments: Any) -> None:
        if not self.failed:
            try:
                with silenced():
                    method(self, *arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the sweep goes on
                self.failed = True
                self.warn(self.complaint(error))

    return attempt


@contextmanager
def silenced() -> Iterator[None]:
    """Libraries print addresses, hints and retries: none of it belongs on the user's terminal."""
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def make_trackers(suite: str, tensorboard: bool, mlflow: str | None, warn: Warn) -> list[Tracker]:
    """Those that were asked for, ready to run; nothing of theirs is imported otherwise.

    Args:
        suite: names the experiment of a tracking server.
        mlflow: address of a tracking server, or of a store that MLflow knows (such as sqlite:///runs.db).
        warn: takes one line, should a tracker fail later.

    Raises: UserError: a package is missing, or the server can't be reached.
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


def begin_and_end(result: Result) -> tuple[float, float]:
    """When a trial began and ended, in seconds since 1970."""
    start = datetime.fromisoformat(result.started_at).timestamp() if result.started_at else time.time()
    return start, start + (result.wall_seconds or 0.0)


def measures(result: Result) -> dict[str, float]:
    """What was measured at the end: every column that has a better side, and the seconds; empty ones are left out."""
    wanted = [name for name, about in COLUMNS.items() if about["better"] or about["unit"] == "s" or "loss" in name]
    values = {name: getattr(result, name) for name in wanted if name not in TEXT_COLUMNS}
    return {name: float(value) for name, value in values.items() if value is not None}
