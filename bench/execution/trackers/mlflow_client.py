"""The process that talks to an MLflow tracking server; see bench/execution/trackers/mlflow.py for why it is one of
its own."""

import os
import re
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from bench.system.redaction import hide

REQUEST_SECONDS = 5
LONGEST_PARAM = 5_000  # characters; servers take 6,000 or more
MOST_AT_ONCE = 90  # params and tags in one request: 100
MOST_METRICS = 900  # in one request: 1,000
LONGEST_COMPLAINT = 200  # characters

Message = dict[str, Any]


def serve(connection: Connection, uri: str) -> None:
    """Do what is asked until the asker closes; the answer is None, or a complaint in one line without credentials."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _mute()
    warnings.simplefilter("ignore")  # nobody sees them, and the parent's may be set to raise
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(REQUEST_SECONDS)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a second attempt is the asker's business
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    server: Server | None = None
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        try:
            server = server or Server(uri)
            getattr(server, message["task"])(message)
            complaint = None
        except Exception as error:  # noqa: BLE001 - whatever it is, the asker hears of it and the sweep goes on
            complaint = complaint_about(error, uri)
        connection.send(complaint)


def _mute() -> None:
    """MLflow prints addresses, hints and retries: none of it belongs on the user's terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


class Server:
    """The tracking server: each method is a task."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.remote = urlsplit(uri).scheme in ("http", "https", "databricks")
        self._experiment = ""
        self._parent = ""

    def check(self, message: Message) -> None:
        """Reach the server and have the experiment there."""
        name = message["suite"]
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(f"its experiment '{name}' was deleted; restore it there")
        self._experiment = found.experiment_id if found is not None else self.client.create_experiment(name)

    def open(self, message: Message) -> None:
        """The sweep's own run: that of an earlier session, or a new one."""
        run = message["run"]
        found = self._search(f"tags.`vit_cnn_bench.run` = '{run['key']}'")
        if found:
            self._parent = found[0].info.run_id
            self.client.update_run(self._parent, status="RUNNING")
            return
        tags = run["tags"] | {"vit_cnn_bench.run": run["key"], "mlflow.note.content": run["note"]}
        self._parent = self.client.create_run(self._experiment, run_name=run["name"], tags=tags).info.run_id

    def log(self, message: Message) -> None:
        """A trial, whole; what an attempt cut short has left is taken away."""
        from mlflow.entities import Metric, Param

        if not self._parent:
            self.open(message)
        trial = message["trial"]
        if message.get("again"):
            mine = f"tags.trial_id = '{trial['name']}' and tags.`mlflow.parentRunId` = '{self._parent}'"
            for run in self._search(mine):
                self.client.delete_run(run.info.run_id)
        tags = trial["tags"] | {"mlflow.parentRunId": self._parent}
        start = round(1000 * trial["start"])
        run_id = self.client.create_run(self._experiment, start, tags, run_name=trial["name"]).info.run_id
        params = [Param(_key(key), value[:LONGEST_PARAM]) for key, value in trial["params"].items()]
        for i in range(0, len(params), MOST_AT_ONCE):
            self.client.log_batch(run_id, params=params[i : i + MOST_AT_ONCE])
        metrics = [Metric(name, value, round(1000 * at), step) for name, value, at, step in trial["metrics"]]
        for i in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(run_id, metrics=metrics[i : i + MOST_METRICS])
        self.client.set_terminated(run_id, trial["status"], round(1000 * trial["end"]))

    def close(self, message: Message) -> None:
        if not self._parent:
            self.open(message)
        self.client.set_terminated(self._parent)

    def artefact(self, message: Message) -> None:
        """A file for the sweep's own run, where the server takes any."""
        place = self.client.get_run(self._parent).info.artifact_uri or ""
        if self.remote and urlsplit(place).scheme in ("", "file"):
            return  # a folder of the server's own machine: the client would make one of that name here
        self.client.log_artifact(self._parent, message["path"])

    def _search(self, wanted: str) -> list[Any]:
        return list(self.client.search_runs([self._experiment], wanted))


def complaint_about(error: Exception, uri: str) -> str:
    """One line for a person: libraries' texts hold whole addresses and tracebacks."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {name.__name__ for each in chain for name in type(each).__mro__}
    status = getattr(error, "get_http_status_code", lambda: None)()
    refused = names & {"ConnectionRefusedError", "gaierror", "NewConnectionError"}  # the last is a kind of timeout, too
    if names & {"Timeout", "TimeoutError"} and not refused:
        return f"the server didn't answer within {REQUEST_SECONDS} s"
    if refused or "ConnectionError" in names:
        return "the server can't be reached"
    if status in (401, 403):
        return f"the server refuses (status {status}): wrong or missing credentials"
    if isinstance(error, ImportError):
        return f"MLflow can't be loaded here: {_line(error, uri)}"
    return f"{type(error).__name__}: {_line(error, uri)}"[:LONGEST_COMPLAINT]


def _line(error: Exception, uri: str) -> str:
    return " ".join(hide(str(error), uri).split())


def _key(name: str) -> str:
    """A parameter's name as servers take it."""
    return re.sub(r"[^\w\-. /]", "_", name)
