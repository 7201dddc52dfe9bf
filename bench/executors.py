"""Executors: where a trial runs. Each takes a trial and gives its Result; a failure is a Result, too."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.results import Result
from bench.trial import Trial

if TYPE_CHECKING:
    from bench.run import Report

# What the fork server loads once for all workers; torch's optimisers import the other on first use, for 1.2 s.
PRELOADED = ["bench.run", "torch._dynamo", "platformdirs", "numpy.random"]
GRACE_SECONDS = 5.0  # between asking a worker to stop and making it


class Executor(Protocol):
    """Runs one trial at a time."""

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        """The trial's result, whatever became of it."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class InProcess:
    """The trial in this process: for debugging, since memory and crashes are then the caller's."""

    def __init__(self, data_dir: Path | None = None, timeout_seconds: float | None = None) -> None:
        self.data_dir = data_dir

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        from bench.run import run_trial

        return run_trial(trial, folder, self.data_dir, report)

    def close(self) -> None:
        pass


class Subprocess:
    """A fresh process a trial, with a memory peak and a crash of its own.

    It comes from a fork server that has torch loaded (0.06 s instead of 1.9 s); where there is none, as on Windows,
    it is spawned. The waiting parent sleeps: on two cores, polling would be half of the machine under measurement.
    """

    def __init__(self, data_dir: Path | None = None, timeout_seconds: float | None = None) -> None:
        self.data_dir = data_dir
        self.timeout_seconds = timeout_seconds
        set_environment()
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            start_fork_server()

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(trial, folder, self.data_dir, sender), daemon=True)
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        process.start()
        sender.close()  # so that the worker's death ends the stream
        try:
            result = self._receive(receiver, report)
        except TimeoutError:
            limit = self.timeout_seconds
            result = Result(**trial.row(), status="timeout", error=f"took more than {limit:g} s", started_at=started_at)
        except EOFError:
            process.join()
            status, error = _cause_of_death(process.exitcode)
            result = Result(**trial.row(), status=status, error=error, started_at=started_at)
        finally:
            receiver.close()
            _stop(process)
        return result

    def close(self) -> None:
        pass  # the fork server ends with this process

    def _receive(self, receiver: Connection, report: "Report") -> Result:
        deadline = None if self.timeout_seconds is None else time.monotonic() + self.timeout_seconds
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if not wait([receiver], left):
                raise TimeoutError
            message = receiver.recv()
            if isinstance(message, Result):
                return message
            report(message)


def set_environment() -> None:
    """Variables that libraries read once, when they load or start in a worker; what the user has set stays."""
    # OpenMP threads that wait spin for milliseconds by default. Beside any other busy process that made small
    # models up to 50 times slower on two cores; at this count a quiet machine shows no difference.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # cuBLAS repeats its sums in the same order only with this set before CUDA starts in the worker.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def start_fork_server() -> None:
    """Begin to load torch beside the caller's own start, so that the first trial needn't wait for it."""
    set_environment()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def _work(trial: Trial, folder: Path | None, data_dir: Path | None, sender: Connection) -> None:
    """The worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.join,), daemon=True).start()
    from bench.run import run_trial

    sender.send(run_trial(trial, folder, data_dir, sender.send))


def _die_with(parent_ends: Callable[[], Any]) -> None:
    """Leave no orphan: a trial that nobody waits for would disturb the next measurement."""
    parent_ends()
    os._exit(1)


def _stop(process: ForkServerProcess | SpawnProcess) -> None:
    """Let it end, then ask it to, then make it."""
    process.join(1.0)
    for end in (process.terminate, process.kill):
        if process.is_alive():
            end()
            process.join(GRACE_SECONDS)
    process.close()


def _cause_of_death(exitcode: int | None) -> tuple[str, str]:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        if name == "SIGKILL":
            return "oom", "killed by SIGKILL, which is what the system does when memory runs out"
        return "failed", f"died of {name}"
    return "failed", f"exited with status {exitcode} before it had a result"


EXECUTORS: dict[str, Callable[..., Executor]] = {
    "subprocess": Subprocess,
    "in-process": InProcess,
}
