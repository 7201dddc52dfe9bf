"""The processor, asked without loading torch."""

import os
import platform
from pathlib import Path


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
    """How many processors this process may use."""
    return len(cores())
