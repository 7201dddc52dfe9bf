"""Trials in processes of their own: isolation, crashes, hangs, orphans; with real processes."""

import contextlib
import math
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from bench.config.recipes import RECIPES
from bench.execution.base import Options
from bench.execution.local import InProcess, Subprocess
from bench.execution.worker_process import MessageReader, WorkerProcess
from bench.result import COLUMNS, Result
from bench.system.process import cause_of_death
from bench.trial import Trial
from models import MODELS

ROOT = Path(__file__).parents[2]


def trial(**training: object) -> Trial:
    settings = MODELS["vit"][0](patch_size=4, depth=1, embed_dim=16, num_heads=2).model_dump()
    recipe = RECIPES["vit"].model_copy(update={"epochs": 1, "batch_size": 50, **training})
    return Trial(
        suite="x", dataset="digits", model="vit", settings=settings, recipe="vit", training=recipe,
        dtype="fp32", device="cpu", instrument_seconds=0.0, num_threads=1,  # sums in another order differ by 1e-7
    )  # fmt: skip


def run(executor: Subprocess | InProcess, asked: Trial, folder: Path | None = None) -> Result:
    return executor.run(asked, folder, lambda message: None)


def losses(result: Result) -> list[float]:
    assert result.status == "ok", result.error
    return [row["train_loss"] for row in result.evaluations]


@pytest.fixture(scope="module")
def executor() -> Subprocess:
    return Subprocess()


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_losses_as_this_one(executor: Subprocess, tmp_path: Path) -> None:
    told: list[object] = []
    result = executor.run(trial(), tmp_path / "trial", told.append)
    assert losses(result) == losses(run(InProcess(), trial()))
    assert len(told) == len(result.evaluations)
    assert (tmp_path / "trial" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_trial_leaves_nothing_behind_for_the_next(executor: Subprocess) -> None:
    first = losses(run(executor, trial()))
    run(executor, trial(learning_rate=1e-4))
    assert losses(run(executor, trial())) == first


class CuriousTrial(Trial):
    """Writes down whose child the process is in which its row is asked for."""

    seen: str

    def row(self) -> dict[str, object]:
        with Path(self.seen).open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")
        return super().row()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into the server by /proc")
def test_trials_have_processes_of_their_own_from_one_server_that_has_loaded_torch(
    executor: Subprocess, tmp_path: Path
) -> None:
    for _ in range(2):
        assert run(executor, CuriousTrial(**trial().model_dump(), seen=str(tmp_path / "seen"))).status == "ok"
    lines = {tuple(map(int, line.split())) for line in (tmp_path / "seen").read_text().splitlines()}
    workers, parents = zip(*(line for line in lines if line[0] != os.getpid()), strict=True)
    assert len(set(workers)) == 2
    (server,) = set(parents)
    assert server != os.getpid()
    assert "torch" in Path(f"/proc/{server}/maps").read_text()  # so that a trial doesn't wait for it to load


class FatalTrial(Trial):
    """Ends the process in which its row is asked for, unless that is the driver's."""

    driver: int
    number: int

    def row(self) -> dict[str, object]:
        if os.getpid() != self.driver:
            os.kill(os.getpid(), self.number)
        return super().row()


@pytest.mark.parametrize("number", [signal.SIGSEGV, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_crash_is_a_row_that_names_the_signal(executor: Subprocess, number: signal.Signals) -> None:
    result = run(executor, FatalTrial(**trial().model_dump(), driver=os.getpid(), number=number))
    assert result.status in ({"failed"} if number == signal.SIGSEGV else {"failed", "oom"})
    assert number.name in (result.error or "")
    assert result.trial_id
    assert ("in row" in (result.trace or "")) == (number == signal.SIGSEGV)  # nobody sees SIGKILL come
    assert run(executor, trial()).status == "ok"


@pytest.mark.parametrize(
    ("before", "now", "status"), [(3, 4, "oom"), (3, 3, "failed"), (None, None, "oom"), (3, None, "oom")]
)
def test_a_sigkill_is_called_want_of_memory_unless_the_kernel_knows_better(
    before: int | None, now: int | None, status: str
) -> None:
    found, error = cause_of_death(-signal.SIGKILL, before, now)
    assert found == status
    assert "SIGKILL" in error


@pytest.mark.slow
def test_a_trial_runs_after_the_fork_server_was_killed(executor: Subprocess) -> None:
    from multiprocessing import forkserver

    killed: list[int] = []

    def kill_the_server(message: object) -> None:
        if not killed:
            killed.append(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
            os.kill(killed[0], signal.SIGKILL)

    assert executor.run(trial(), None, kill_the_server).status == "ok"  # it had its process by then
    assert len(killed) == 1
    assert run(executor, trial()).status == "ok"


def test_half_a_message_or_none_at_all_is_waited_for_by_nobody() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    reader = MessageReader(receiver)
    assert list(reader.messages()) == []
    whole = struct.pack("!i", 7) + b'{"a":1}'
    os.write(sender.fileno(), whole + whole[:6])
    assert list(reader.messages()) == [{"a": 1}]
    os.write(sender.fileno(), whole[6:])
    assert list(reader.messages()) == [{"a": 1}]
    assert not reader.closed
    os.write(sender.fileno(), b"printed by somebody")
    with pytest.raises(ValueError, match="message"):
        list(reader.messages())
    sender.close()
    receiver.close()


def test_a_trial_over_its_time_is_ended_and_named(tmp_path: Path) -> None:
    hasty = Subprocess(Options(timeout_seconds=1.0))
    result = run(hasty, trial(epochs=100_000))
    assert result.status == "timeout"
    assert result.error == "took more than 1 s"
    assert result.trace is None or "File" in result.trace  # a second may be too short to come to the first line


@pytest.mark.slow
def test_trials_side_by_side_give_the_results_that_each_alone_would(executor: Subprocess, tmp_path: Path) -> None:
    asked = [trial().model_copy(update={"seed": seed, "timed": False}) for seed in range(2)]
    taken: list[int] = []
    feed = (taken.append(t.seed) or t for t in asked)  # type: ignore[func-returns-value]
    found = executor.run_together(feed, lambda t: tmp_path / str(t.seed))
    results = {result.seed: result for result in found}
    assert taken == [0, 1]
    assert set(results) == {0, 1}
    for each in asked:
        alone = run(executor, each.model_copy(update={"timed": True}))
        assert losses(results[each.seed]) == losses(alone)
        assert results[each.seed].test_accuracy == alone.test_accuracy
        assert (tmp_path / str(each.seed) / "model.safetensors").is_file()


@pytest.mark.slow
def test_trials_side_by_side_tell_no_speeds_and_no_seconds_but_how_long_one_waited(executor: Subprocess) -> None:
    (result,) = executor.run_together([trial().model_copy(update={"timed": False})], lambda t: None)
    assert result.status == "ok", result.error
    row = result.row()
    assert row["timed"] is False
    assert row["num_threads"] == 1
    assert row["test_accuracy"] > 0
    told = {name for name, about in COLUMNS.items() if about["unit"] in ("s", "images/s", "FLOP/s", "J")}
    assert len(told) > 20
    assert {name for name in told if row[name] is not None} == {"wall_seconds"}
    assert result.blocks == result.inference_blocks == []
    assert all(e["train_seconds"] is None and e["val_accuracy"] is not None for e in result.evaluations)


@pytest.mark.slow
def test_of_trials_side_by_side_one_that_hangs_or_crashes_takes_no_other_with_it(
    executor: Subprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(context: Any, asked: Trial, folder: Path | None, data_dir: Path, limit: float) -> WorkerProcess:
        """The one that hangs has five seconds, the others as long as a busy machine makes them take."""
        return WorkerProcess(context, asked, folder, data_dir, 5.0 if asked.training.epochs > 1 else math.inf)

    monkeypatch.setattr("bench.execution.local.WorkerProcess", started)
    crash = FatalTrial(**trial().model_dump(), driver=os.getpid(), number=signal.SIGSEGV)
    asked = [trial(epochs=100_000), crash, trial().model_copy(update={"seed": 1})]
    statuses = sorted(str(result.status) for result in executor.run_together(asked, lambda t: None))
    assert statuses == ["failed", "ok", "timeout"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = """
        from tests.execution.test_local import trial
        from bench.execution.local import Subprocess
        def told(message):
            print("training", flush=True)
        Subprocess().run(trial(epochs=100_000), None, told)
    """
    variables = {**os.environ, "OF_THIS_TEST": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=variables)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "training\n"
    assert len(living(tmp_path)) >= 3  # driver, fork server and worker
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + 300
    while left := living(tmp_path):
        assert time.monotonic() < deadline, f"they still live five minutes after their parent: {left}"
        time.sleep(0.1)


def living(mark: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"OF_THIS_TEST={mark}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
