"""MLflow: a run on a tracking server for each trial, under one for the whole sweep.

Another process talks to the server (bench/execution/trackers/mlflow_client.py): it can be ended when the server
hangs, it sleeps while a trial runs, and what MLflow prints or starts stays in it.
"""

import hashlib
import math
import multiprocessing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.execution.progress import duration
from bench.execution.trackers import mlflow_client
from bench.execution.trackers.base import CURVES, Tracker, Warn, measures, parameters
from bench.result import Result
from bench.system.secrets import public
from bench.trial import Trial

START_SECONDS = 60.0  # to load MLflow, and to make the tables of a new database
ANSWER_SECONDS = 10.0  # for the records of one trial
FINISH_SECONDS = 60.0  # to send the report
LONGEST_TAG = 4_000  # characters; servers take 5,000 or more
STATUSES = {"ok": "FINISHED", "skipped": "KILLED"}

Message = dict[str, Any]


class Unanswered(Exception):  # noqa: N818 - it's an answer, too
    """The server failed, or took too long; the text is safe to show."""


class MLflow(Tracker):
    """Logs trials to an MLflow tracking server.

    The first failure is a warning; what isn't on the server by then is kept, and sent once more when the sweep is over.

    Args:
        uri: of the server or store; may hold credentials, which are neither shown nor stored.
        suite: name of the experiment.

    Raises:
        UserError: MLflow can't be loaded, or the server can't be used.
    """

    def __init__(self, uri: str, suite: str, warn: Warn, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.uri, self.suite, self.warn, self.answer_seconds = uri, suite, warn, answer_seconds
        self.kept: list[Message] = []
        self._run: Message = {}
        self._talk: _Talk | None = None
        try:
            self._talk = self._connect()
        except Unanswered as error:
            raise UserError(f"--mlflow {public(uri)}: {error}; check the address, or leave out --mlflow") from None

    def open(self, folder: Path, record: dict[str, Any]) -> None:
        name, created = folder.resolve().name, str(record.get("created_at", ""))
        tags = {"dataset": record["dataset"]["name"], "created_at": created}
        tags |= {"git_commit": str(record["environment"].get("git_commit") or "")}
        key = hashlib.sha256(f"{self.suite} {name} {created}".encode()).hexdigest()[:16]  # a resume finds it again
        self._run = {"suite": self.suite, "key": key, "name": name, "note": record.get("description", ""), "tags": tags}
        self._send({"task": "open"})

    def end(self, trial: Trial, result: Result) -> None:
        self._send({"task": "log", "trial": describe_trial(trial, result)})

    def close(self) -> None:
        """The sweep is over: send what was kept, and say so on the server."""
        if not self._run:
            return
        if self._talk is None and not self._retry():
            return
        self._send({"task": "close"}, kept=False)

    def finish(self, folder: Path) -> None:
        report = folder / "report.html"
        if self._run and self._talk and report.exists():
            self._send({"task": "artefact", "path": str(report.resolve())}, FINISH_SECONDS, kept=False)
        if self._talk:
            self._talk.stop()
            self._talk = None

    def _connect(self) -> "_Talk":
        talk = _Talk(self.uri)
        try:
            talk.ask({"task": "check", "suite": self.suite}, START_SECONDS)
        except BaseException:
            talk.stop()
            raise
        return talk

    def _send(self, message: Message, seconds: float | None = None, kept: bool = True) -> None:
        message = message | {"run": self._run}
        if self._talk is None:
            self.kept += [message] if kept else []
            return
        try:
            self._talk.ask(message, seconds or self.answer_seconds)
        except Unanswered as error:
            self._talk = None
            self.kept += [message | {"again": True}] if kept else []
            later = "; what follows is kept, and sent when the sweep is over" if kept else ""
            self.warn(f"--mlflow {public(self.uri)}: {error}{later}")

    def _retry(self) -> bool:
        """One more attempt at all that was kept."""
        try:
            self._talk = self._connect()
            while self.kept:
                self._talk.ask(self.kept[0], self.answer_seconds)
                del self.kept[0]
        except Unanswered as error:
            self._talk = None
            count = sum(message["task"] == "log" for message in self.kept)
            self.warn(f"--mlflow {public(self.uri)}: {error}; {count} trials aren't there (the run folder has all)")
        return self._talk is not None


class _Talk:
    """The process that talks to the server: a question, an answer."""

    def __init__(self, uri: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=mlflow_client.serve, args=(theirs, uri), daemon=True)
        self._process.start()
        theirs.close()  # so that its death ends the stream

    def ask(self, message: Message, seconds: float) -> None:
        """Raises: Unanswered, and the process is gone then."""
        try:
            self._connection.send(message)
            if not self._connection.poll(seconds):
                raise Unanswered(f"no answer within {duration(seconds)}")
            complaint = self._connection.recv()
        except (EOFError, OSError):
            self.stop()
            raise Unanswered("the process that talks to the server has died") from None
        except BaseException:  # Ctrl-C, too: an answer that comes later would be taken for the next one's
            self.stop()
            raise
        if complaint:
            self.stop()
            raise Unanswered(complaint)

    def stop(self) -> None:
        if self._connection.closed:
            return
        self._connection.close()
        self._process.kill()  # nothing is under way that anybody waits for
        self._process.join()
        self._process.close()


def describe_trial(trial: Trial, result: Result) -> Message:
    """All that the server is told of a trial, as plain values."""
    start = datetime.fromisoformat(result.started_at).timestamp() if result.started_at else datetime.now().timestamp()
    tags = {name: getattr(result, name) for name in ("config_id", "device_name", "git_commit", "git_dirty", "status")}
    tags |= {"trial_id": trial.trial_id, "label": trial.label, "error": (result.error or "")[:LONGEST_TAG]}
    return {
        "name": trial.trial_id,
        "start": start,
        "end": start + (result.wall_seconds or 0.0),
        "status": STATUSES.get(result.status or "", "FAILED"),
        "params": {key: str(value) for key, value in parameters(trial, result).items()},
        "metrics": list(_metrics(result, start)),
        "tags": {key: str(value) for key, value in tags.items() if value not in (None, "")},
    }


def _metrics(result: Result, start: float) -> Iterator[tuple[str, float, float, int]]:
    """(name, value, instant in seconds, step): the curves, then the final measures."""
    last, epoch_end = 0, start
    for row in result.evaluations:
        seconds, last = row["train_seconds"], row["step"]
        epoch_end = start + (seconds or 0.0)
        for name in CURVES:
            yield name, row[name], epoch_end, last
        if seconds is not None:
            yield "train_seconds", seconds, epoch_end, last
    drawn = {*CURVES, "train_seconds"} if result.evaluations else set()
    for name, value in measures(result).items():
        if name not in drawn and math.isfinite(value):
            yield name, value, start + (result.wall_seconds or 0.0), last
