"""A worker's life: what runs in the process that has one trial in it, from its first line to its last."""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.trial import Trial

# What asks for the stacks of all threads; None where the system has no such thing (Windows).
ASK_FOR_STACK: signal.Signals | None = getattr(signal, "SIGUSR1", None)

_stacks: Connection | None = None  # of this process's parent, as `live` was given it


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
    global _stacks
    _leave_the_terminal()
    if stacks is not None:
        _stacks = stacks
        faulthandler.enable(stacks.fileno(), all_threads=True)
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


def file_of_stacks() -> Connection | None:
    """What `live` was given, to be handed on to processes that the trial starts; None: nobody asks for stacks."""
    return _stacks


def give_stacks(file: Connection, what: str) -> None:
    """Answer whoever asks for this process's stacks.

    The answer is made by a handler in C, in the thread that hangs: it needs neither the GIL nor memory.

    Args:
        file: of the one who asks.
        what: this process does, for a reader of stacks of several.
    """
    if ASK_FOR_STACK is not None:
        faulthandler.register(ASK_FOR_STACK, file.fileno(), all_threads=True)
    os.write(file.fileno(), f"process {os.getpid()} {what}\n".encode())  # from here on it may be asked


def die_with_parent() -> None:
    """Leave no orphan: a trial that nobody waits for would disturb the next measurement."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_after, args=(parent.join,), daemon=True).start()
    if sys.platform == "linux":
        # A thread can't act while C code holds the GIL. The kernel can: when the parent's end of this pipe closes, it
        # sends SIGKILL to the whole process group. (PR_SET_PDEATHSIG would follow the fork server instead.)
        import fcntl

        pipe = parent.sentinel
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp() if os.getpgrp() == os.getpid() else os.getpid())
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


def _die_after(parent_ends: Callable[[], Any]) -> None:
    parent_ends()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
