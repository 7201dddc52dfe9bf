"""The processes of a data-parallel trial: started, listened to, and ended together."""

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from bench.result import Result
from bench.system.process import cause_of_death, die_with_parent, file_of_stacks, give_stacks, memory_kills
from bench.training import PRELOADED
from bench.training.data_parallel import joined
from bench.trial import Trial

# A process whose neighbour died fails a moment later, with an error about its connection. One that fails waits so long
# before it ends that the parent sees first the one that was the cause.
LAST_MESSAGE_SECONDS = 1.0
GRACE_SECONDS = 5.0  # for a process to be gone once it is killed; one that waits for a device may take longer

Report = Callable[[dict[str, Any]], None]
Run = Callable[..., Result]


def train_together(run: Run, trial: Trial, folder: Path | None, data_dir: Path | None, report: Report) -> Result:
    """Have `trial.world_size` processes do `run(trial, ..., replicas=...)`; the result of the first is the trial's.

    Where one of them fails or dies, the others are ended and the result names it. None outlives this process.

    Args:
        run: a function at the top of a module.
        report: is told what the first process reports.
    """
    kills = memory_kills()
    ranks: list[tuple[Any, Connection]] = []
    with tempfile.TemporaryDirectory(prefix="vit-cnn-bench-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        try:
            _start(ranks, run, trial, folder, data_dir, place)
            heard, failed = _follow(ranks, report)
        except Exception as error:  # noqa: BLE001 - it is the trial's, like any failure
            text = f"its processes couldn't be started: {type(error).__name__}: {error}"
            return Result(**trial.row(), status="failed", error=text, trace=traceback.format_exc())
        finally:
            for process, receiver in ranks:
                process.kill()
                process.join(GRACE_SECONDS)
                receiver.close()
        result = heard.get(0) or Result(**trial.row())  # what the first had measured, if it could still say
        if 0 in heard and not failed:
            return result
        rank = failed[0] if failed else 0
        if cause := heard.get(rank):
            result.status, result.error, result.trace = cause.status, cause.error, cause.trace
        else:
            result.status, result.error = cause_of_death(ranks[rank][0].exitcode, kills, memory_kills())
            result.trace = _stack_file(place, rank).read_text(errors="replace") or None
        result.error = f"rank {rank} of {trial.world_size}: {result.error}"
        return result


def _start(ranks: list[tuple[Any, Connection]], run: Run, trial: Trial, *places: Path | None) -> None:
    """Start the processes, each put into `ranks` with what it speaks into."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(PRELOADED)  # a server that runs already stays as it is
    for rank in range(trial.world_size):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_process, args=(rank, run, trial, *places, sender, file_of_stacks()))
        with sender:  # closed here, so that the process's death ends the stream
            process.start()
        ranks.append((process, receiver))


def _follow(ranks: list[tuple[Any, Connection]], report: Report) -> tuple[dict[int, Result], list[int]]:
    """Listen until all have ended, or one has failed: results by rank, and who failed."""
    heard: dict[int, Result] = {}
    while True:
        codes = [process.exitcode for process, _ in ranks]  # before the last messages are read: none is missed
        for rank, (_, receiver) in enumerate(ranks):
            with suppress(EOFError, OSError):
                while receiver.poll():
                    message = receiver.recv()
                    if isinstance(message, Result):
                        heard[rank] = message
                    else:
                        report(message)
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed or None not in codes:
            return heard, failed
        alive = [each for each, code in zip(ranks, codes, strict=True) if code is None]
        wait([source for process, receiver in alive for source in (process.sentinel, receiver)])


def _run_process(
    rank: int,
    run: Run,
    trial: Trial,
    folder: Path | None,
    data_dir: Path | None,
    place: Path,
    sender: Connection,
    asked: Connection | None,
) -> None:
    """The whole life of one of the processes. `asked`: gets its stacks when somebody asks, because the trial hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    die_with_parent()
    os.environ["RANK"] = str(rank)  # as torch's launcher has it, for libraries that look
    faulthandler.enable(_stack_file(place, rank).open("w"))
    if asked is not None:
        give_stacks(asked, f"is rank {rank} of {trial.world_size}")
    try:
        with joined(rank, trial.world_size, trial.device.partition(":")[0], place / "meeting") as replicas:
            report = sender.send if rank == 0 else lambda message: None  # all say the same; the first is heard
            result = run(trial, None if rank else folder, data_dir, report, replicas=replicas)
            if result.status in ("failed", "oom"):
                _end(sender, result)
        if rank == 0:
            sender.send(result)
    except Exception as error:  # noqa: BLE001 - the others hear of it as of any failure
        text = f"{type(error).__name__}: {error}"
        _end(sender, Result(**trial.row(), status="failed", error=text, trace=traceback.format_exc()))


def _end(sender: Connection, result: Result) -> None:
    """Say what was wrong and be gone, without waiting for those who can no longer answer."""
    sender.send(result)
    time.sleep(LAST_MESSAGE_SECONDS)
    os._exit(1)


def _stack_file(place: Path, rank: int) -> Path:
    """Gets the stack of a process that crashes."""
    return place / f"stack-{rank}"
