"""Where and with what a run was made: hardware, versions, revision. Nothing of the user's variables is recorded."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.system.processor import cpu_name, usable_cores

PACKAGES = ("torch", "torchvision", "numpy", "pandas")


def describe_environment() -> dict[str, Any]:
    """The machine and the software, for run.json."""
    from bench.system.device import available_devices, open_device

    commit, dirty = git_state()
    return {
        "python": platform.python_version(),
        **{name: installed for name in PACKAGES if (installed := _version(name))},
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "git_commit": commit,
        "git_dirty": dirty,
        "devices": [{"device": name, "name": open_device(name).name} for name in available_devices()],
    }


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None  # Windows
