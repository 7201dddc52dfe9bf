"""Executors of this machine: a trial in this process, or each in a process of its own."""

import itertools
import math
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.execution.base import FolderOf, Options
from bench.execution.worker_process import WorkerProcess
from bench.result import Result
from bench.system.environment import usable_cores
from bench.training import PRELOADED
from bench.trial import Trial

if TYPE_CHECKING:
    from bench.training.run import Report


class InProcess:
    """The trial in this process: for debugging, since memory and crashes are then the caller's."""

    exclusive = False

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        from bench.training.run import run_trial

        return run_trial(trial, folder, self.options.data_dir, report)

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        for trial in trials:  # one after the other: there is one process
            yield self.run(trial, folder_of(trial), _ignore)

    def close(self) -> None:
        pass


class Subprocess:
    """A fresh process a trial, with a memory peak and a crash of its own.

    It comes from a fork server that has torch loaded (0.06 s instead of 1.9 s); where there is none, as on Windows,
    it is spawned. The waiting parent sleeps: on two cores, polling would be half of the machine under measurement.
    """

    exclusive = False

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        set_environment()
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            start_fork_server()

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        (result,) = self._run_all([trial], lambda trial: folder, report, at_once=1)
        return result

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        return self._run_all(trials, folder_of, _ignore, at_once=self.options.jobs or usable_cores())

    def close(self) -> None:
        pass  # the fork server ends with this process

    def _run_all(
        self, trials: Iterable[Trial], folder_of: FolderOf, report: "Report", at_once: int
    ) -> Iterator[Result]:
        todo = iter(trials)
        limit = math.inf if self.options.timeout_seconds is None else self.options.timeout_seconds
        running: list[WorkerProcess] = []
        try:
            while True:
                for trial in itertools.islice(todo, at_once - len(running)):
                    folder = folder_of(trial)
                    running.append(WorkerProcess(self._context, trial, folder, self.options.data_dir, limit))
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


def start_fork_server() -> None:
    """Begin to load torch beside the caller's own start, so that the first trial needn't wait for it."""
    set_environment()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def _ignore(message: dict[str, Any]) -> None:
    """What a trial beside others reports while it runs."""
