"""The processes of a data-parallel trial, started by torch's own launcher, watched, and ended together."""

import faulthandler
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bench.result import Result
from bench.system.process import cause_of_death, die_with_parent, file_of_stacks, give_stacks, memory_kills
from bench.training.data_parallel import joined
from bench.trial import Trial

POLL_SECONDS = 0.1  # between two looks of the launcher whether all are alive
# A process whose neighbour died fails a moment later, with an error about its connection. It waits so long before it
# ends that the launcher has seen the other first, and names the cause.
LAST_MESSAGE_SECONDS = 1.0
SHUTDOWN_SECONDS = 5  # between asking the others to end and making them
# once, in the server that the processes are forked from
LOADED = ["bench.training.run", "torch._dynamo", "platformdirs", "numpy.random"]

Report = Callable[[dict[str, Any]], None]
Run = Callable[..., Result]


def run_together(run: Run, trial: Trial, folder: Path | None, data_dir: Path | None, report: Report) -> Result:
    """Have `trial.world_size` processes do `run(trial, ..., replicas=...)`; the result of the first is the trial's.

    Where one of them fails or dies, the others are ended and the result names it. None outlives this process.

    Args:
        run: a function at the top of a module.
        report: is told what the first process reports.
    """
    kills = memory_kills()
    with tempfile.TemporaryDirectory(prefix="vit-cnn-bench-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        with _listening(trial.world_size, report) as (senders, heard):
            launch = elastic_launch(_configuration(trial.world_size, place), _run_process)
            try:
                return launch(run, trial, folder, data_dir, place, senders, file_of_stacks())[0]
            except ChildFailedError as error:
                rank, failure = error.get_first_failure()
            except Exception as error:  # noqa: BLE001 - it is the trial's, like any failure
                text = f"its processes couldn't be started: {type(error).__name__}: {error}"
                return Result(**trial.row(), status="failed", error=text, trace=traceback.format_exc())
        result = heard.get(0) or Result(**trial.row())  # what the first had measured, if it could still say
        if cause := heard.get(rank):
            result.status, result.error, result.trace = cause.status, cause.error, cause.trace
        else:
            result.status, result.error = cause_of_death(failure.exitcode, kills, memory_kills())
            result.trace = _stack_file(place, rank).read_text(errors="replace") or None
        result.error = f"rank {rank} of {trial.world_size}: {result.error}"
        return result


def _configuration(size: int, place: Path) -> LaunchConfig:
    start_method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if start_method == "forkserver":
        multiprocessing.set_forkserver_preload(LOADED)  # one that runs already stays as it is
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # we report the same failures ourselves
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        run_id=place.name,
        rdzv_backend="c10d",
        rdzv_endpoint=str(place / "launch"),
        rdzv_configs={"store_type": "file"},  # the other type listens on every interface of the machine
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        start_method=start_method,
        logs_specs=DefaultLogsSpecs(log_dir=str(place / "logs")),
        signals_to_handle="",  # whoever started this process has said what signals mean
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


@contextmanager
def _listening(size: int, report: Report) -> Iterator[tuple[list[Connection], dict[int, Result]]]:
    """What the processes speak into, and the results of those that failed, by rank, complete at the end."""
    receivers, senders = zip(*(multiprocessing.Pipe(duplex=False) for _ in range(size)), strict=True)
    heard: dict[int, Result] = {}
    listener = threading.Thread(target=_listen, args=(receivers, report, heard), daemon=True)
    listener.start()
    try:
        yield [*senders], heard
    finally:
        for sender in senders:
            sender.close()
        listener.join(LAST_MESSAGE_SECONDS)  # not for ever: a process that waits for a device hears no signal


def _listen(receivers: Sequence[Connection], report: Report, heard: dict[int, Result]) -> None:
    """Pass on what the processes say until all have fallen silent."""
    ranks = {receiver: rank for rank, receiver in enumerate(receivers)}
    while ranks:
        for receiver in wait(list(ranks)):
            assert isinstance(receiver, Connection)
            try:
                message = receiver.recv()
            except (EOFError, OSError):
                del ranks[receiver]
                receiver.close()
                continue
            if isinstance(message, Result):
                heard[ranks[receiver]] = message
            else:
                report(message)


def _run_process(
    run: Run,
    trial: Trial,
    folder: Path | None,
    data_dir: Path | None,
    place: Path,
    senders: list[Connection],
    asked: Connection | None,
) -> Result | None:
    """The whole life of one of the processes. `asked`: gets its stacks when somebody asks, because the trial hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    die_with_parent()
    rank = int(os.environ["RANK"])
    sender, first = senders[rank], rank == 0
    stacks = _stack_file(place, rank).open("w")
    faulthandler.enable(stacks)
    if asked is not None:
        give_stacks(asked, f"is rank {rank} of {trial.world_size}")
    try:
        with joined(rank, trial.world_size, trial.device.partition(":")[0], place / "meeting") as replicas:
            report = sender.send if first else lambda message: None  # all say the same; the first is heard
            result = run(trial, folder if first else None, data_dir, report, replicas=replicas)
            if result.status in ("failed", "oom"):
                _end(sender, result)
    except Exception as error:  # noqa: BLE001 - the others hear of it as of any failure
        text = f"{type(error).__name__}: {error}"
        _end(sender, Result(**trial.row(), status="failed", error=text, trace=traceback.format_exc()))
    return result if first else None


def _end(sender: Connection, result: Result) -> None:
    """Say what was wrong and be gone, without waiting for those who can no longer answer."""
    sender.send(result)
    time.sleep(LAST_MESSAGE_SECONDS)
    os._exit(1)


def _stack_file(place: Path, rank: int) -> Path:
    """Gets the stack of a process that crashes."""
    return place / f"stack-{rank}"
