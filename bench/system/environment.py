"""Where and with what a run was made: hardware, versions, revision. Nothing of the user's variables is recorded."""

import subprocess
from functools import cache
from pathlib import Path


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
