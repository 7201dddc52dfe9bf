"""Control groups: how much processor time and memory Linux grants this process's container.

A limit may stand at the process's own group or at any above it; the smallest one holds. Both layouts are read: one tree
for all (version 2), or a tree for each controller (version 1). Elsewhere than on Linux there are none.
"""

from contextlib import suppress
from pathlib import Path

from bench.system.process import PROC, line_of

CGROUPS = Path("/sys/fs/cgroup")


def cpu_quota(proc: Path = PROC, root: Path = CGROUPS) -> float | None:
    """Processor time that the container may use, in cores (1.5: a core and a half); None without a limit."""
    return min((limit for folder in _groups("cpu", proc, root) if (limit := _quota(folder))), default=None)


def throttling_file(proc: Path = PROC, root: Path = CGROUPS) -> Path | None:
    """The cpu.stat that counts how long the nearest quota has held processes back; None where nothing counts it."""
    counting = [
        folder
        for folder in _groups("cpu", proc, root)
        if any(line_of(folder / "cpu.stat", name) for name in ("throttled_usec", "throttled_time"))
    ]
    nearest = next((folder for folder in counting if _quota(folder)), counting[0] if counting else None)
    return nearest and nearest / "cpu.stat"


def memory_limit(proc: Path = PROC, root: Path = CGROUPS) -> int | None:
    """Bytes that the container may hold; None without a limit, or with one beyond the machine's memory."""
    found = line_of(proc / "meminfo", "MemTotal:")
    limit = min((limit for folder in _groups("memory", proc, root) if (limit := _memory_max(folder))), default=None)
    return None if limit is None or (found and limit >= int(found[1]) * 1024) else limit


def memory_left(proc: Path = PROC, root: Path = CGROUPS) -> int | None:
    """Bytes that the container may take before a limit is reached; None without a limit.

    Of what it holds, files that were not touched lately don't count: the kernel drops them when memory is asked for.
    """
    left = []
    for folder in _groups("memory", proc, root):
        limit, used = _memory_max(folder), _number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is not None and used is not None:
            stat = folder / "memory.stat"
            idle = line_of(stat, "total_inactive_file ") or line_of(stat, "inactive_file ")
            left.append(max(0, limit - used + (int(idle[1]) if idle else 0)))
    return min(left, default=None)


def _groups(controller: str, proc: Path, root: Path) -> list[Path]:
    """Folders of this process's group and of those above it, the nearest first, in the tree that has `controller`."""
    tree, path = None, ""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if controller in controllers.split(","):  # version 1; one tree alone has a controller
                places = (root / controller, root / controllers)
                tree, path = next((place for place in places if place.is_dir()), None), own
                break
            if not controllers:  # version 2; beside trees of version 1 it has a folder of its own
                tree, path = (root / "unified" if (root / "unified").is_dir() else root), own
    if tree is None:
        return []
    # A container may know its group by the name outside, which isn't there within: the top of its tree is its own then.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = [tree.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def _quota(folder: Path) -> float | None:
    """Cores' worth of a single group."""
    words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    if len(words) < 2 or words[0] in ("max", "-1"):
        return None
    return int(words[0]) / int(words[1])


def _memory_max(folder: Path) -> int | None:
    limit = _number(folder, "memory.max", "memory.limit_in_bytes")
    return None if limit is None or limit >= 2**62 else limit  # version 1 writes the largest number there is for none


def _number(folder: Path, *names: str) -> int | None:
    """What the first of these files that is there holds; None where that is no number, such as "max"."""
    words = next((words for name in names if (words := _words(folder / name))), ["max"])
    return int(words[0]) if words[0].isdecimal() else None


def _words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().split()
    return []
