"""Executors of this machine: a trial in this process, or each in a process of its own."""

import math
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from bench.execution.base import Executor, FolderOf, Options, Report, ignore
from bench.execution.worker_process import WorkerProcess
from bench.result import Result
from bench.system.environment import usable_cores
from bench.training import PRELOADED
from bench.trial import Trial

ROOT = str(Path(__file__).parents[2])  # that `bench` and `models` lie in


class InProcess(Executor):
    """The trial in this process: for debugging, since memory and crashes are then the caller's."""

    def run(self, trial: Trial, folder: Path | None, report: Report) -> Result:
        from bench.training.run import run_trial

        return run_trial(trial, folder, self.options.data_dir, report)


class Subprocess(Executor):
    """A fresh process a trial, with a memory peak and a crash of its own.

    It comes from a fork server that has torch loaded (0.06 s instead of 1.9 s) and ends with this process; where there
    is none, as on Windows, it is spawned. The waiting parent sleeps: on two cores, polling would be half of the machine
    under measurement.
    """

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self._context: Any = multiprocessing.get_context("forkserver" if start_fork_server() else "spawn")

    def run(self, trial: Trial, folder: Path | None, report: Report) -> Result:
        (result,) = self._run_all([trial], lambda trial: folder, report, at_once=1)
        return result

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        return self._run_all(trials, folder_of, ignore, at_once=self.options.jobs or usable_cores())

    def _run_all(self, trials: Iterable[Trial], folder_of: FolderOf, report: Report, at_once: int) -> Iterator[Result]:
        todo = iter(trials)
        limit = math.inf if self.options.timeout_seconds is None else self.options.timeout_seconds
        running: list[WorkerProcess] = []
        try:
            while True:
                while len(running) < at_once and (trial := next(todo, None)):
                    try:
                        running.append(
                            WorkerProcess(self._context, trial, folder_of(trial), self.options.data_dir, limit)
                        )
                    except OSError as error:
                        yield Result(**trial.row(), status="failed", error=str(error))
                if not running:
                    return
                left = min(worker.seconds_left() for worker in running)
                wait([each for worker in running for each in worker.waitables()], None if math.isinf(left) else left)
                for worker in [*running]:
                    result = worker.result(report)
                    if result is not None:
                        running.remove(worker)
                        worker.stop()
                        yield result
        finally:
            for worker in running:
                worker.stop()


def set_environment() -> None:
    """Variables that libraries read once, when they load or start in a worker; what the user has set stays."""
    # OpenMP threads that wait spin for milliseconds by default. Beside any other busy process that made small
    # models up to 50 times slower on two cores; at this count a quiet machine shows no difference.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # cuBLAS repeats its sums in the same order only with this set before CUDA starts in the worker.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def start_fork_server() -> bool:
    """Begin to load torch beside the start of the caller, so that no trial waits for it; False: there is none."""
    set_environment()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return False
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(PRELOADED)
    # It would look for modules in the folder that the user works in first, where a `models` may be one of theirs.
    given = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, [ROOT, given["PYTHONPATH"]]))}
    try:
        forkserver.ensure_running()
    finally:
        for name, value in given.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return True
