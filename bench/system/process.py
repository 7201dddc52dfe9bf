"""Process trees: which processes belong to a trial, and how to end them all. What /proc tells is Linux's; else less."""

import contextlib
import os
import signal
from pathlib import Path

PROC = Path("/proc")


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
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
        mask = next(line for line in lines if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def end_family(leader: int, members: list[int]) -> None:
    """SIGKILL to the process group of a session's leader and to `members`, where they still live."""
    if not hasattr(os, "killpg"):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for pid in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def memory_kills() -> int | None:
    """How many processes the kernel has ended since it started because memory ran out; None: it doesn't tell."""
    try:
        lines = (PROC / "vmstat").read_text().splitlines()
    except OSError:
        return None
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else None


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent, session."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    letter, parent, _, session = text.rpartition(")")[2].split()[:4]  # the name before it may hold anything
    return letter, int(parent), int(session)
