"""What runs in a worker process, from its first line to its last: one trial."""

import contextlib
import gc
import json
import os
import signal
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.system.process import die_with_parent, give_stacks, take_file_of_stacks
from bench.trial import Trial


def run_worker(
    trial: Trial, folder: Path | None, data_dir: Path | None, sender: Connection, stacks: Connection | None
) -> None:
    """Run a trial; send its evaluations to the parent, and at last its result.

    Messages are JSON: code that a trial runs could make up anything, and a pickle would run in the parent.

    Args:
        sender: to the parent.
        stacks: a file of the parent's, as something that multiprocessing can hand over; gets the stack of a crash,
            and of a hang when the parent asks for it.
    """
    _leave_the_terminal()
    if stacks is not None:
        take_file_of_stacks(stacks)
        give_stacks(stacks, "runs the trial")
    die_with_parent()
    gc.freeze()  # what the fork server has loaded is no garbage, and takes a fifth of a second to look through
    try:
        from bench.training.run import run_trial

        result = run_trial(trial, folder, data_dir, lambda message: _send(sender, {"progress": message}))
        _send(sender, {"result": asdict(result)})
    except BaseException:  # SystemExit, too: where a model asked for it is worth knowing
        if stacks is not None:
            os.write(stacks.fileno(), traceback.format_exc().encode())
        raise


def _send(sender: Connection, message: dict[str, Any]) -> None:
    text = json.dumps(message, default=lambda number: number.item())  # numbers of numpy's and torch's
    sender.send_bytes(text.encode())


def _leave_the_terminal() -> None:
    """A session of its own: Ctrl-C, a closed terminal and Ctrl-Z reach the parent alone, which decides what they mean.

    Whatever the trial starts is in that session, too, so that all of it can be ended together. Standard output is for
    the answer, which may be JSON; what a model prints goes to standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        with contextlib.suppress(PermissionError):  # already a leader
            os.setsid()
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
