"""Copies of a run in TensorBoard and MLflow: true to the store, and never in its way."""

import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from made_up_server import MadeUpServer

from bench.config.recipes import RECIPES
from bench.errors import UserError
from bench.execution.base import Executor
from bench.execution.sweep import run_sweep
from bench.execution.trackers.base import Tracker, make_trackers
from bench.execution.trackers.mlflow import SETTINGS, complaint_about
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.system.redaction import hide, public, redacted_command
from bench.trial import Trial

ROOT = Path(__file__).parents[2]
RECORD: dict[str, Any] = {
    "suite": "digits-quick",
    "description": "what small patches cost",
    "created_at": "2026-03-01T09:30:00Z",
    "dataset": {"name": "digits"},
    "environment": {"git_commit": "0123abc"},
}


def trial(seed: int = 0) -> Trial:
    return Trial(
        suite="digits-quick",
        dataset="digits",
        model="vit",
        settings={"patch_size": 4, "depth": 2, "hidden": [64, 128]},
        recipe="vit",
        training=RECIPES["vit"],
        dtype="fp32",
        device="cpu",
        seed=seed,
    )


def result(of: Trial, status: str = "ok", timed: bool = True) -> Result:
    """Three evaluations, half a second of training apart, each better than the last."""
    made = Result(**of.row(), status=status, started_at="2026-03-01T09:31:00+00:00", device_name="EPYC")
    made.wall_seconds, made.test_accuracy, made.git_commit = 2.0, 0.9, "0123abc"
    for i in (1, 2, 3):
        row = {"epoch": float(i), "step": 10 * i, "train_loss": 1 / i, "val_loss": 2 / i, "val_accuracy": 0.25 * i}
        made.evaluations.append(row | {"train_seconds": 0.5 * i if timed else None, "train_joules": None})
    made.error = None if status == "ok" else "RuntimeError: no kernel, 'quoted'"
    return made


class TestTensorBoard:
    @pytest.fixture
    def board(self, tmp_path: Path) -> Iterator[tuple[Tracker, Path, list[str]]]:
        pytest.importorskip("tensorboard", reason="the extra [tensorboard] isn't installed")
        warnings: list[str] = []
        (tracker,) = make_trackers("digits-quick", True, None, warnings.append)
        tracker.open(tmp_path, RECORD)
        yield tracker, tmp_path / "tensorboard", warnings
        tracker.close()
        tracker.finish(tmp_path)

    @staticmethod
    def read(folder: Path) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(str(folder)).Reload()

    def test_curves_stand_over_steps_and_over_training_time(self, board: tuple[Tracker, Path, list[str]]) -> None:
        tracker, folder, _ = board
        tracker.end(trial(), result(trial()))
        events = self.read(folder / trial().trial_id)
        curve = events.Scalars("val_accuracy")
        assert [(point.step, point.value) for point in curve] == [(10, 0.25), (20, 0.5), (30, 0.75)]
        assert [point.wall_time - curve[0].wall_time for point in curve] == [0, 0.5, 1.0]
        assert [point.step for point in events.Scalars("train_loss/over_training_ms")] == [500, 1000, 1500]
        assert events.Scalars("val_loss")[-1].value == pytest.approx(2 / 3)
        assert events.Scalars("final/test_accuracy")[0].value == pytest.approx(0.9)

    def test_settings_are_hyperparameters(self, board: tuple[Tracker, Path, list[str]]) -> None:
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        tracker, folder, _ = board
        tracker.end(trial(3), result(trial(3), status="diverged"))
        content = self.read(folder / trial(3).trial_id).PluginTagToContent("hparams")["_hparams_/session_start_info"]
        found = HParamsPluginData.FromString(content).session_start_info.hparams
        assert found["model.depth"].number_value == 2
        assert found["seed"].number_value == 3
        assert found["model.hidden"].string_value == "[64, 128]"
        assert (found["dtype"].string_value, found["device"].string_value) == ("fp32", "cpu")
        assert found["status"].string_value == "diverged"

    def test_a_trial_without_times_has_curves_over_steps_alone(self, board: tuple[Tracker, Path, list[str]]) -> None:
        tracker, folder, _ = board
        tracker.end(trial(), result(trial(), timed=False))
        tags = self.read(folder / trial().trial_id).Tags()["scalars"]
        assert "val_accuracy" in tags
        assert not [tag for tag in tags if "training_ms" in tag]

    def test_a_trial_that_ran_again_is_there_once(self, board: tuple[Tracker, Path, list[str]]) -> None:
        tracker, folder, _ = board
        for _ in range(2):
            tracker.end(trial(), result(trial()))
        assert len(list(folder.rglob("*tfevents*"))) == 1
        assert len(self.read(folder / trial().trial_id).Scalars("val_loss")) == 3

    def test_a_loss_that_isnt_a_number_is_written(self, board: tuple[Tracker, Path, list[str]]) -> None:
        tracker, folder, _ = board
        made = result(trial(), status="diverged")
        made.evaluations[-1]["train_loss"] = math.nan
        tracker.end(trial(), made)
        assert math.isnan(self.read(folder / trial().trial_id).Scalars("train_loss")[-1].value)

    def test_no_thread_stays_behind(self, board: tuple[Tracker, Path, list[str]]) -> None:
        before = set(threading.enumerate())
        board[0].end(trial(), result(trial()))
        assert set(threading.enumerate()) <= before

    def test_a_folder_that_cant_be_written_to_is_one_warning(self, board: tuple[Tracker, Path, list[str]]) -> None:
        tracker, folder, warnings = board
        folder.write_text("not a folder")
        for seed in range(3):
            tracker.end(trial(seed), result(trial(seed)))
        assert len(warnings) == 1
        assert "no more event files" in warnings[0]


def test_mlflow_has_every_trial_with_settings_curves_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real store of MLflow's, read back from its tables, as two sessions of one run leave it."""
    if not all(map(find_spec, ("mlflow", "sqlalchemy", "alembic"))):
        pytest.skip("the package mlflow isn't installed, or only its client")
    monkeypatch.chdir(tmp_path)  # where such a store puts its artefacts
    run, warnings = tmp_path / "2026-03-01T093000Z", list[str]()
    run.mkdir()
    (run / "report.html").write_text("<p>The answer")
    made = [trial(0), trial(1), trial(2)]
    (tracker,) = make_trackers("digits-quick", False, "sqlite:///runs.db", warnings.append)
    tracker.open(run, RECORD)
    tracker.end(made[0], result(made[0]))
    tracker.open(run, RECORD)  # as a resume does, which finds the sweep's run there
    tracker.end(made[1], result(made[1], status="failed"))
    tracker.end(made[2], result(made[2], timed=False))
    tracker.close()
    tracker.finish(run)
    assert warnings == []
    with sqlite3.connect("runs.db") as table:
        look = lambda question, *values: table.execute(question, values).fetchall()  # noqa: E731
        assert look("select name from experiments where experiment_id = 1") == [("digits-quick",)]
        statuses = dict(look("select name, status from runs where lifecycle_stage = 'active'"))
        assert statuses == dict(
            zip([run.name, *(t.trial_id for t in made)], ["FINISHED", "FINISHED", "FAILED", "FINISHED"], strict=True)
        )
        ids = dict(look("select name, run_uuid from runs"))
        first, failed = ids[made[0].trial_id], ids[made[1].trial_id]
        curve = look("select step, value from metrics where key = 'val_accuracy' and run_uuid = ? order by step", first)
        assert curve == [(10, 0.25), (20, 0.5), (30, 0.75)]
        assert look("select value from latest_metrics where key = 'test_accuracy' and run_uuid = ?", first) == [(0.9,)]
        params = dict(look("select key, value from params where run_uuid = ?", first))
        assert (params["model.depth"], params["model.hidden"], params["dtype"]) == ("2", "[64, 128]", "fp32")
        tags = dict(look("select key, value from tags where run_uuid = ?", failed))
        assert tags["mlflow.parentRunId"] == ids[run.name]
        assert (tags["status"], tags["error"]) == ("failed", "RuntimeError: no kernel, 'quoted'")
        assert (tags["config_id"], tags["device_name"], tags["git_commit"]) == (made[1].config_id, "EPYC", "0123abc")
    assert [path.parent.parent.name for path in (tmp_path / "mlruns").rglob("report.html")] == [ids[run.name]]


class Watched(Executor):
    """An executor of made-up results, which sees whether anything reached the server while a trial ran."""

    def __init__(self, server: MadeUpServer, before: Callable[[Trial], None]) -> None:
        self.server, self.before = server, before

    def run(self, trial: Trial, folder: Path | None, report: Callable[[dict[str, Any]], None]) -> Result:
        arrived = self.server.requests
        self.before(trial)
        for row in result(trial).evaluations:
            report(row | {"images_per_second": 100.0})
        assert self.server.requests == arrived
        return result(trial)


@pytest.mark.slow
class TestServer:
    """MLflow's own client, and a server that can fail in each way."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpServer]:
        pytest.importorskip("mlflow", reason="the extra [mlflow] isn't installed")
        for name in SETTINGS:
            monkeypatch.setenv(name, SETTINGS[name])
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")  # so long may a busy machine take
        monkeypatch.setattr("bench.execution.trackers.mlflow.SLOWEST_SECONDS", 100.0)
        server = MadeUpServer()
        yield server
        server.stop()

    @staticmethod
    def sweep(tmp_path: Path, server: MadeUpServer, before: Callable[[Trial], None]) -> tuple[list[str], list[str]]:
        """Four trials; the ids in the store afterwards, and the warnings."""
        warnings: list[str] = []
        (tracker,) = make_trackers("digits-quick", False, server.uri, warnings.append)
        store = RunFolder.create(tmp_path / "run", RECORD)
        tracker.open(store.folder, RECORD)
        trials = [trial(seed) for seed in range(4)]
        outcome = run_sweep(trials, {}, store, Watched(server, before), [tracker])
        tracker.close()
        (store.folder / "report.html").write_text("the answer")
        tracker.finish(store.folder)
        store.close()
        assert set(outcome.statuses.values()) == {"ok"}
        return [row["trial_id"] for row in read_rows(store.folder)], warnings

    @pytest.mark.slow
    def test_every_trial_is_there_with_settings_curves_and_tags(
        self, tmp_path: Path, server: MadeUpServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        stored, warnings = self.sweep(tmp_path, server, lambda trial: None)
        assert warnings == []
        sweep, *runs = server.runs.values()
        assert (sweep["name"], sweep["status"]) == ("run", "FINISHED")
        assert [(run["name"], run["status"]) for run in runs] == [(name, "FINISHED") for name in stored]
        assert {run["tags"]["mlflow.parentRunId"] for run in runs} == {"0" * 32}
        assert {run["tags"]["config_id"] for run in runs} == {trial().config_id}
        assert (runs[0]["params"]["model.depth"], runs[0]["params"]["model.hidden"]) == ("2", "[64, 128]")
        curve = [point for point in runs[0]["metrics"] if point["key"] == "val_accuracy"]
        assert [(int(point["step"]), point["value"]) for point in curve] == [(10, 0.25), (20, 0.5), (30, 0.75)]
        assert {int(b["timestamp"]) - int(a["timestamp"]) for a, b in pairwise(curve)} == {500}  # training time
        assert capfd.readouterr() == ("", "")

    def test_a_run_that_goes_on_is_found_again(self, tmp_path: Path, server: MadeUpServer) -> None:
        for _ in range(2):
            (tracker,) = make_trackers("digits-quick", False, server.uri, print)
            tracker.open(tmp_path, RECORD)
        assert [run["name"] for run in server.runs.values()] == [tmp_path.name]

    @pytest.mark.parametrize(
        ("trouble", "said"), [("dead", "can't be reached"), ("hangs", "didn't answer in time"), ("refuses", "401")]
    )
    def test_after_a_failure_it_is_left_alone_and_every_trial_is_kept(
        self, trouble: str, said: str, tmp_path: Path, server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = 0

        def before(trial: Trial) -> None:
            nonlocal asked
            asked += trial.seed == 2 and server.requests  # the first trial that it misses has been tried
            server.state = trouble if trial.seed == 1 else ""  # it is well again afterwards
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1" if server.state else "100")

        stored, warnings = self.sweep(tmp_path, server, before)
        assert len(stored) == 4
        assert [run["name"] for run in server.runs.values()] == ["run", stored[0]]
        assert server.requests == asked
        assert len(warnings) == 1
        assert said in warnings[0]
        assert "nothing more is sent there (the run folder has all)" in warnings[0]
        assert "s3cret" not in warnings[0]

    def test_a_slow_server_costs_a_trial_no_more_than_its_limit(
        self, tmp_path: Path, server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bench.execution.trackers.mlflow.SLOWEST_SECONDS", -1.0)
        stored, warnings = self.sweep(tmp_path, server, lambda trial: None)
        assert (len(stored), len(warnings)) == (4, 1)
        assert "didn't answer in time" in warnings[0]
        assert [run["params"] for run in server.runs.values()] == [{}, {}]

    def test_a_server_that_cant_be_used_is_said_before_anything_runs(self, server: MadeUpServer) -> None:
        server.state = "refuses"
        with pytest.raises(UserError, match=r"wrong or missing credentials; check the address, or leave out --mlflow"):
            make_trackers("digits-quick", False, server.uri, print)


@pytest.mark.parametrize("package", ["tensorboard", "mlflow"])
def test_a_missing_package_is_one_line_that_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'vit-cnn-bench\[{package}\]'"):
        make_trackers("mnist", package == "tensorboard", "http://x" if package == "mlflow" else None, print)


def test_nothing_of_theirs_is_imported_unless_asked_for() -> None:
    code = (
        "import sys; from bench.execution.trackers.base import make_trackers;"
        "assert make_trackers('mnist', False, None, print) == [];"
        "sys.exit(bool({'torch', 'tensorboard', 'mlflow', 'bench.execution.trackers.mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://ann:s3cret@host:5000/x", "http://host:5000/x"),
        ("http://s3cret@host", "http://host"),
        ("https://host/path?token=s3cret", "https://host/path"),
        ("https://host/path#s3cret", "https://host/path"),
        ("http://ann:s3cret/@/p@host", "http://host"),
        ("http://ann:what?s3cret@host", "http://..."),
        ("postgresql://host/db?user=ann&password=s@3cret", "postgresql://..."),
        ("ann:s3cret@host:5000", "host:5000"),
        ("http://[ann:s3cret@host", "http://host"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
        ("runs/here", "runs/here"),
    ],
)
def test_credentials_of_an_address_are_not_shown(address: str, shown: str) -> None:
    assert public(address) == shown
    command = ["--suite", "a@b", "--mlflow", address, f"--mlflow={address}", "--quiet"]
    assert redacted_command(command) == ["--suite", "a@b", "--mlflow", shown, f"--mlflow={shown}", "--quiet"]


def test_what_a_library_says_passes_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    address = "http://ann:p%40ss@host/x"
    text = hide("no http://ann:p%40ss@host/x for ann with p@ss or p%40ss; header t0ken", address)
    assert text == "no http://host/x for *** with *** or ***; header ***"
    assert hide("key q1 of https://host/?key=q1", "https://host/?key=q1") == "key *** of https://host/"
    complaint = complaint_about(ValueError("bad 'ann:p%40ss'\nat host"), address)
    assert complaint == "ValueError: bad '***' at host"


def test_a_server_that_refuses_or_is_away_is_called_so() -> None:
    class RefusedError(Exception):
        def get_http_status_code(self) -> int:
            return 401

    away = ValueError("API request to http://ann:s3cret@host failed")
    away.__cause__ = ConnectionRefusedError("[Errno 111]")
    assert complaint_about(away, "http://ann:s3cret@host") == "the server can't be reached"
    assert "credentials" in complaint_about(RefusedError("no"), "http://host")
    assert "didn't answer" in complaint_about(TimeoutError(), "http://host")
