"""Log real runs to a real MLflow server on loopback, kill and freeze it in the middle, and check what is there.

    python tests/benchmarks/mlflow_server.py

Needs the whole package mlflow. Three runs of the suite `smoke`: the server works; it is killed after the first trial;
it freezes (accepts and doesn't answer) after the first trial. Whatever becomes of it, the run's own tables are
complete, its exit status is 0, and there is one warning at most.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bench.result import TABLES

ROOT = Path(__file__).parents[2]
SMALL = ["--suite", "smoke", "--seeds", "2", "--epochs", "8"]
SMALL += ["--set", "timing=whole", "--set", "instrument_seconds=0.1"]
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}


class Server:
    """`mlflow server` with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://ann:s3cret@127.0.0.1:{self.port}"  # credentials that it doesn't ask for
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/runs.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artefacts")]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env=os.environ | QUIET, start_new_session=True
            )
        begin = time.monotonic()
        while not self.answers():
            assert time.monotonic() - begin < 120, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1):
                return True
        except OSError:
            return False

    def tell(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()


def run(server: Server, folder: Path, acts: dict[int, Callable[[], None]]) -> tuple[pd.DataFrame, str, float]:
    """A run during which something is done as soon as so many trials are in its table.

    Returns:
        trials.csv, what was printed, and seconds.
    """
    begin = time.monotonic()
    command = [sys.executable, str(ROOT / "run_bench.py"), *SMALL, "--out", str(folder), "--mlflow", server.uri]
    with open(f"{folder}.log", "wb") as log:
        process = subprocess.Popen([*command, "--tensorboard"], cwd=folder.parent, stdout=log, stderr=log)
    waiting = dict(acts)
    while process.poll() is None:
        for count in [count for count in waiting if rows(folder) >= count]:
            waiting.pop(count)()
        time.sleep(0.05)
    said = Path(f"{folder}.log").read_text()
    assert process.returncode == 0, said
    plan = json.loads((folder / "run.json").read_text())["plan"]
    tables = {name: pd.read_csv(folder / name) for name in TABLES}
    assert sorted(tables["trials.csv"]["trial_id"]) == sorted(plan)
    assert (tables["trials.csv"]["status"] == "ok").all()
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == sorted(plan)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes()], "credentials were stored"
    assert "s3cret" not in said, "credentials were printed"
    return tables["trials.csv"], said, time.monotonic() - begin


def rows(folder: Path) -> int:
    path = folder / "trials.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def logged(server: Server, folder: Path) -> dict[str, object]:
    """Trials of a run on the server, by name, that are whole; each is there once, under the run's own."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("smoke")
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    (parent,) = [run for run in runs if run.info.run_name == folder.name]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    found = {run.info.run_name: run for run in children if run.info.status == "FINISHED"}
    assert len({run.info.run_name for run in children}) == len(children), "a trial is there twice"
    assert len(children) - len(found) <= 1, "more than the one that was on its way is cut short"
    trials = pd.read_csv(folder / "trials.csv").set_index("trial_id")
    evaluations = pd.read_csv(folder / "evaluations.csv").groupby("trial_id")
    for name, run in found.items():
        assert run.data.params["dtype"] == trials.loc[name, "dtype"]
        assert run.data.tags["config_id"] == trials.loc[name, "config_id"]
        assert abs(run.data.metrics["test_accuracy"] - trials.loc[name, "test_accuracy"]) < 1e-12
        curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val_accuracy")]
        table = evaluations.get_group(name)
        assert sorted(curve) == sorted(zip(table["step"], table["val_accuracy"], strict=True))
    artefacts = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert artefacts in ([], ["report.html"])
    return found | {"report.html": None} if artefacts else dict(found)


def main() -> None:
    os.environ.update(QUIET | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20"})
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name, "server")).mkdir()
        server = Server(folder)
        try:
            check(server, Path(name))
        finally:
            server.tell(signal.SIGCONT)
            server.tell(signal.SIGKILL)


def check(server: Server, folder: Path) -> None:
    def report(case: str, run: Path, found: tuple[pd.DataFrame, str, float]) -> None:
        trials, said, seconds = found
        there = logged(server, run)
        warnings = [line.split("//")[-1] for line in said.splitlines() if line.startswith("warning: --mlflow")]
        count = len(there) - ("report.html" in there)
        print(f"{case}: {len(trials)} trials in the store, {count} whole on the server, ", end="")
        print(f"report {'there' if 'report.html' in there else 'not there'}, {seconds:.0f} s, {len(warnings)} warnings")
        for line in warnings:
            print(f"    {line}")
        assert len(warnings) == (case != "works")
        sys.stdout.flush()

    report("works", folder / "works", run(server, folder / "works", {}))
    found = run(server, folder / "killed", {1: lambda: server.tell(signal.SIGKILL)})
    server.start()
    report("killed after a trial", folder / "killed", found)
    found = run(server, folder / "frozen", {1: lambda: server.tell(signal.SIGSTOP)})
    server.tell(signal.SIGCONT)
    report("frozen after a trial", folder / "frozen", found)


if __name__ == "__main__":
    main()
