"""Trackers: copies of a run for those who watch theirs in TensorBoard or MLflow. Off unless asked for."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from bench.errors import UserError
from bench.execution.progress import Progress
from bench.execution.trackers.base import Tracker, Warn
from bench.result import Result
from bench.trial import Trial


class Several:
    """Tells several listeners, in their order."""

    def __init__(self, listeners: Sequence[Progress]) -> None:
        self.listeners = listeners

    def begin(self, trial: Trial, position: int, count: int) -> None:
        for listener in self.listeners:
            listener.begin(trial, position, count)

    def evaluated(self, message: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener.evaluated(message)

    def end(self, trial: Trial, result: Result) -> None:
        for listener in self.listeners:
            listener.end(trial, result)

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


def make_trackers(suite: str, tensorboard: bool, mlflow: str | None, warn: Warn) -> list[Tracker]:
    """Those that were asked for, ready to run; nothing of theirs is imported otherwise.

    Args:
        suite: names the experiment of a tracking server.
        mlflow: address of a tracking server, or of a store that MLflow knows (such as sqlite:///runs.db).
        warn: takes one line, should a tracker fail later.

    Raises:
        UserError: a package is missing, or the server can't be reached.
    """
    trackers: list[Tracker] = []
    if tensorboard:
        _need("tensorboard", "tensorboard")
        from bench.execution.trackers.tensorboard import TensorBoard

        trackers.append(TensorBoard(warn))
    if mlflow is not None:
        _need("mlflow", "mlflow")
        from bench.execution.trackers.mlflow import MLflow

        trackers.append(MLflow(mlflow, suite, warn))
    return trackers


def _need(package: str, extra: str) -> None:
    if find_spec(package) is None:  # found, not imported
        raise UserError(f"--{extra}: the package {package} isn't installed; pip install 'vit-cnn-bench[{extra}]'")
