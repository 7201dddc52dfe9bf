"""Where and with what a run was made: hardware, versions, revision. Nothing of the user's variables is recorded."""

import math
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from bench.system.cgroup import cpu_quota


@cache
def git_state() -> tuple[str | None, bool | None]:
    """The program's own revision, and whether its tracked files were changed; (None, None) outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head, bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


# The processor, asked without loading torch.
def cpu_name() -> str:
    """The processor's own name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def cores() -> list[int]:
    """Numbers of the processors that this process may use; a container's or a scheduler's need not begin at 0."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def usable_cores() -> int:
    """How many processors this process can keep busy: those it may use, but no more than its container's CPU quota."""
    return _within_quota(len(cores()))


def default_threads(torch_choice: int) -> int:
    """How many threads to compute with where nobody said: torch's choice, but no more than the CPU quota.

    Torch goes by the processors that it may use and doesn't know the quota. Threads beyond it are stopped all together
    when it is used up, several times a second, and wait for each other in between.

    Args:
        torch_choice: `torch.get_num_threads()`, asked before anybody set it.
    """
    return _within_quota(torch_choice)


def _within_quota(count: int) -> int:
    # Rounded down: two threads on a quota of a core and a half would stand still for a quarter of the time.
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, math.floor(quota)))
