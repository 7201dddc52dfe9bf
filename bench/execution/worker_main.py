"""A worker's life: what runs in the process that has one trial in it, from its first line to its last."""

import contextlib
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


def live(
    trial: Trial, folder: Path | None, data_dir: Path | None, sender: Connection, stacks: Connection | None
) -> None:
    """Run a trial; tell of its evaluations and at last its result.

    Messages are JSON: the parent believes nothing that code of a trial could have made up, such as pickled objects.

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
    try:
        from bench.training.run import run_trial

        def report(message: dict[str, Any]) -> None:
            _send(sender, {"progress": message})

        _send(sender, {"result": asdict(run_trial(trial, folder, data_dir, report))})
    except BaseException:  # SystemExit, too: where a model asked for it is worth knowing
        if stacks is not None:
            os.write(stacks.fileno(), traceback.format_exc().encode())
        raise


def _send(sender: Connection, message: dict[str, Any]) -> None:
    sender.send_bytes(json.dumps(message, default=_plain).encode())


def _plain(value: Any) -> Any:
    """Numbers of numpy's and torch's as Python's."""
    return value.item()


def _leave_the_terminal() -> None:
    """A session of its own: Ctrl-C, a closed terminal and Ctrl-Z reach the parent alone, which decides what they mean.

    Whatever the trial starts is in that session, too, so that all of it can be ended together. Standard output belongs
    to the answer, which may be JSON; what a model prints goes where warnings go.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        with contextlib.suppress(PermissionError):  # already a leader
            os.setsid()
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
