"""Processes and signals: which processes belong to a trial, how to end them all, how one died, and interrupts.

What /proc tells is known on Linux alone.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# What asks for the stacks of all threads; None where the system has no such thing (Windows).
ASK_FOR_STACK: signal.Signals | None = getattr(signal, "SIGUSR1", None)
_stacks: "Connection | None" = None  # of this process's parent


PROC = Path("/proc")


def open_standard_streams() -> None:
    """Open those that the caller closed (`>&-`) on nothing; else the next file or pipe would get their numbers."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(found := os.open(os.devnull, os.O_RDWR), number)
            if found != number:
                os.close(found)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
            setattr(sys, f"__{name}__", getattr(sys, name))


def state(pid: int) -> str | None:
    """A letter: R runs, S sleeps, D waits for a device, T was stopped, Z is dead; None: not there, or not known."""
    found = _stat(pid)
    return found[0] if found else None


def family(leader: int) -> list[int]:
    """The other living processes of the session that `leader` leads, and all its descendants wherever they are.

    A session keeps its number when its leader dies, so that what a crash leaves behind is found, too. Nothing is said
    of a process that leads no session, nor where there is no /proc.
    """
    table = {int(path.name): found for path in PROC.glob("[0-9]*") if (found := _stat(int(path.name)))}
    members = {pid for pid, (_, _, session) in table.items() if session == leader}
    while more := {pid for pid, (_, parent, _) in table.items() if parent in members} - members:
        members |= more
    return sorted(pid for pid in members - {leader} if table[pid][0] not in "ZX")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, so that it survives it. Without /proc: no."""
    found = line_of(PROC / str(pid) / "status", "SigCgt:")
    return bool(found and int(found[1], 16) >> (number - 1) & 1)


def end_family(leader: int, members: list[int]) -> None:
    """SIGKILL to the process group of a session's leader and to `members`, where they still live."""
    if not hasattr(os, "killpg"):
        return
    for end, number in ((os.killpg, leader), *((os.kill, pid) for pid in members)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(number, signal.SIGKILL)


def memory_kills() -> int | None:
    """How many processes the kernel has ended since it started because memory ran out; None: it doesn't tell."""
    found = line_of(PROC / "vmstat", "oom_kill ")
    return int(found[1]) if found else None


def line_of(path: Path, start: str) -> list[str]:
    """The words of a file's line that begins so; none where there is no such line or file."""
    with contextlib.suppress(OSError):
        return next((line.split() for line in path.read_text().splitlines() if line.startswith(start)), [])
    return []


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent, session."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    letter, parent, _, session = text.rpartition(")")[2].split()[:4]  # the name before it may hold anything
    return letter, int(parent), int(session)


def take_file_of_stacks(file: "Connection") -> None:
    """This process's crash leaves its stacks in `file`, and so does a hang, when the parent asks for it."""
    global _stacks
    _stacks = file
    faulthandler.enable(file.fileno(), all_threads=True)


def file_of_stacks() -> "Connection | None":
    """What this process was given, to be handed on to those that it starts; None: nobody asks for stacks."""
    return _stacks


def give_stacks(file: "Connection", what: str) -> None:
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
    import multiprocessing  # here, since what only listens for signals should start at once

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


def cause_of_death(exitcode: int | None, kills_before: int | None, kills_now: int | None) -> tuple[str, str]:
    """Status and error of a trial whose process ended without a result.

    Args:
        exitcode: as multiprocessing has it: negative for a signal; 255 also if the fork server couldn't tell.
        kills_before, kills_now: how many processes the kernel had ended for want of memory.
    """
    name = ""
    if exitcode is not None and exitcode < 0:
        known = -exitcode in set(signal.Signals)  # a real-time one has no name
        name = signal.Signals(-exitcode).name if known else f"signal {-exitcode}"
    if name == "SIGKILL":
        if kills_before is None or kills_now is None:
            return "oom", "killed by SIGKILL, which is what the system does when memory runs out"
        if kills_now > kills_before:
            return "oom", "killed by SIGKILL; the kernel ended a process in this time because memory ran out"
        return "failed", "killed by SIGKILL, which somebody sent: the kernel ended no process for want of memory"
    if name:
        return "failed", f"died of {name}"
    if exitcode in (None, 255):
        return "failed", "ended before it had a result, with status 255 or with nobody left to tell how"
    return "failed", f"exited with status {exitcode} before it had a result"


# Interrupts: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP; heard at once, but never within an append.
ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP")
_held = 0  # blocks that nothing may interrupt, one within the other
_listening = False
_asked = False


@contextmanager
def listening() -> Iterator[None]:
    """Each signal that asks for the end becomes a KeyboardInterrupt in the main thread, here or at the end of `held`.

    A signal that is ignored stays so: that is how `nohup` keeps a program from its terminal's end.
    """
    global _listening, _asked
    if _listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ENDINGS if hasattr(signal, name)]
    usual = {number: signal.getsignal(number) for number in numbers}
    usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}
    _listening, _asked = True, False
    try:
        for number in usual:
            signal.signal(number, _hear)
        yield
    finally:
        _listening = False
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Finish this first. Raises: KeyboardInterrupt: at the end, if it was asked for on the way."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    check()


def check() -> None:
    """Raise KeyboardInterrupt if a signal came within `held`, or if its exception was swallowed somewhere."""
    if _asked and not _held:
        taken()
        raise KeyboardInterrupt


def taken() -> None:
    """Somebody has caught it and acts on it."""
    global _asked
    _asked = False


def _hear(number: int, frame: object) -> None:
    global _asked
    _asked = True
    if not _held:
        raise KeyboardInterrupt  # this may land where exceptions are dropped, such as in a callback; see `check`
