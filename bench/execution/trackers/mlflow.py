"""MLflow: a run on a tracking server for each trial, sent when the trial has ended, under one for the whole sweep.

MLflow's own client sends it. A server that hangs costs the sweep one request's time limit (5 s) in all, since nothing
is sent after a failure; a slow one costs a trial at most SLOWEST_SECONDS and that limit.
"""

import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import UserError
from bench.execution.trackers.base import (
    CURVES,
    Tracker,
    Warn,
    attempted,
    begin_and_end,
    measures,
    parameters,
    silenced,
)
from bench.result import Result
from bench.system.redaction import hide, public
from bench.trial import Trial

SETTINGS = {  # of MLflow's client, unless the user's environment has others
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what went unanswered may have been done: sent twice, it is there twice
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
SLOWEST_SECONDS = 10.0  # for all requests of one trial
LONGEST_PARAM, LONGEST_TAG = 5_000, 4_000  # characters; servers take 6,000 and 5,000, or more
MOST_PARAMS, MOST_METRICS = 90, 900  # in one request: 100 and, together, 1,000
LONGEST_COMPLAINT = 200  # characters
STATUSES = {"ok": "FINISHED", "skipped": "KILLED"}


class MLflow(Tracker):
    """Logs trials to an MLflow tracking server.

    Args:
        suite: name of the experiment.
        address: of the server or store; may hold credentials, which are neither shown nor stored.

    Raises: UserError: MLflow can't be loaded, or the server can't be used.
    """

    def __init__(self, suite: str, address: str | None, warn: Warn) -> None:
        super().__init__(suite, address, warn)
        self.parent = ""  # id of the sweep's own run
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            with silenced():
                from mlflow import MlflowClient

                self.client = MlflowClient(tracking_uri=self.address)
                found = self.client.get_experiment_by_name(suite)
                if found is not None and found.lifecycle_stage == "deleted":
                    raise ValueError(f"its experiment '{suite}' was deleted; restore it there")
                self.experiment = found.experiment_id if found is not None else self.client.create_experiment(suite)
        except Exception as error:  # noqa: BLE001 - a library's own, and its packages'
            said = complaint_about(error, self.address)
            raise UserError(
                f"--mlflow {public(self.address)}: {said}; check the address, or leave out --mlflow"
            ) from None

    @attempted
    def open(self, folder: Path, record: dict[str, Any]) -> None:
        """The sweep's own run: that of an earlier session, or a new one."""
        name, created = folder.resolve().name, str(record.get("created_at", ""))
        key = hashlib.sha256(f"{self.suite} {name} {created}".encode()).hexdigest()[:16]  # a resume finds it again
        if found := self.client.search_runs([self.experiment], f"tags.`vit_cnn_bench.run` = '{key}'"):
            self.parent = found[0].info.run_id
            self.client.update_run(self.parent, status="RUNNING")
            return
        tags = {"dataset": record["dataset"]["name"], "created_at": created, "vit_cnn_bench.run": key}
        tags |= {"git_commit": str(record["environment"].get("git_commit") or "")}
        tags |= {"mlflow.note.content": record.get("description", "")}
        self.parent = self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id

    @attempted
    def end(self, trial: Trial, result: Result) -> None:
        from mlflow.entities import Metric, Param

        deadline = time.monotonic() + SLOWEST_SECONDS
        start, end = begin_and_end(result)
        tags = {name: getattr(result, name) for name in ("config_id", "device_name", "git_commit", "git_dirty")}
        tags |= {"status": result.status, "trial_id": trial.trial_id, "label": trial.label}
        tags |= {"error": (result.error or "")[:LONGEST_TAG], "mlflow.parentRunId": self.parent}
        tags = {key: str(value) for key, value in tags.items() if value not in (None, "")}
        run = self.client.create_run(self.experiment, round(1000 * start), tags, run_name=trial.trial_id).info.run_id
        params = [
            Param(re.sub(r"[^\w\-. /]", "_", key), str(value)[:LONGEST_PARAM])  # a name as servers take it
            for key, value in parameters(trial, result).items()
        ]
        metrics = [Metric(name, value, round(1000 * at), step) for name, value, at, step in _metrics(result)]
        for i in range(max(math.ceil(len(params) / MOST_PARAMS), math.ceil(len(metrics) / MOST_METRICS))):
            _check_time(deadline)
            some = params[MOST_PARAMS * i : MOST_PARAMS * (i + 1)]
            self.client.log_batch(run, metrics[MOST_METRICS * i : MOST_METRICS * (i + 1)], some)
        _check_time(deadline)
        self.client.set_terminated(run, STATUSES.get(result.status or "", "FAILED"), round(1000 * end))

    @attempted
    def close(self) -> None:
        if self.parent:
            self.client.set_terminated(self.parent)

    @attempted
    def finish(self, folder: Path) -> None:
        """The report, as an artefact of the sweep's own run, where the server takes any."""
        report = folder / "report.html"
        if not self.parent or not report.exists():
            return
        place = self.client.get_run(self.parent).info.artifact_uri or ""
        remote = urlsplit(self.address).scheme in ("http", "https", "databricks")
        if remote and urlsplit(place).scheme in ("", "file"):
            return  # a folder of the server's own machine: the client would make one of that name here
        self.client.log_artifact(self.parent, str(report.resolve()))

    def complaint(self, error: Exception) -> str:
        said = complaint_about(error, self.address)
        return f"--mlflow {public(self.address)}: {said}; nothing more is sent there (the run folder has all)"


def complaint_about(error: Exception, address: str) -> str:
    """One line for a person: libraries' texts hold whole addresses and tracebacks."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {name.__name__ for each in chain for name in type(each).__mro__}
    status = getattr(error, "get_http_status_code", lambda: None)()
    refused = names & {"ConnectionRefusedError", "gaierror", "NewConnectionError"}  # the last is a kind of timeout, too
    if names & {"Timeout", "TimeoutError"} and not refused:
        return "the server didn't answer in time"
    if refused or "ConnectionError" in names:
        return "the server can't be reached"
    if status in (401, 403):
        return f"the server refuses (status {status}): wrong or missing credentials"
    line = " ".join(hide(str(error), address).split())
    if isinstance(error, ImportError):
        return f"MLflow can't be loaded here: {line}"
    return f"{type(error).__name__}: {line}"[:LONGEST_COMPLAINT]


def _metrics(result: Result) -> Iterator[tuple[str, float, float, int]]:
    """(name, value, instant in seconds, step): the curves, then the final measures."""
    start, end = begin_and_end(result)
    last = 0
    for row in result.evaluations:
        seconds, last = row["train_seconds"], row["step"]
        names = CURVES if seconds is None else (*CURVES, "train_seconds")
        yield from ((name, row[name], start + (seconds or 0.0), last) for name in names)
    drawn = {*CURVES, "train_seconds"} if result.evaluations else set()
    for name, value in measures(result).items():
        if name not in drawn and math.isfinite(value):
            yield name, value, end, last


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
