"""Source trees: a revision of a git repository in a folder of its own, gone again afterwards; the user's is untouched.

A revision's files are written into a fresh temporary folder. This, and whatever uncommitted work is to be in it, goes
through an index that lies there, too, so that the user's index, checkout, branches, worktrees and stash stay byte for
byte as they are; the objects that uncommitted work leaves behind belong to nothing, and git clears them away in time.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UserError, nearest

WORKING_TREE = "working tree"
PREFIX = "vit-cnn-bench-tree-"  # of temporary folders; the process and a few letters at random follow
LOCK = ".lock"  # in the temporary folder, held while it is in use: unlike a process number, it is never another's
INSTEAD = "or name two folders with --base-dir and --head-dir"
SNAPSHOT = {  # the same for everyone at any time, so that the same work has the same commit
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "gate"), ("EMAIL", "gate@localhost"), ("DATE", "2000-01-01T00:00:00Z"))
}
# Set by git for its hooks: with them, git would work on another repository or index than the one that we name.
OF_ANOTHER = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE"),
}


@dataclass(frozen=True)
class Tree:
    """An arm's source code: `commit` is None where the folder isn't a git checkout; `dirty` has uncommitted work."""

    name: str
    folder: Path
    commit: str | None
    dirty: bool


def find_repository(path: Path | None = None) -> Path:
    """Top folder of the git checkout that holds `path`, or the current folder.

    Raises: UserError: there is none, or git isn't installed.
    """
    path = path or Path.cwd()
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name one in a git repository, {INSTEAD}")
    return Path(_git(path, "rev-parse", "--show-toplevel"))


def is_dirty(repository: Path) -> bool:
    """Whether there is uncommitted work: changed files, or new ones that aren't ignored."""
    return bool(_git(repository, "status", "--porcelain", "--untracked-files=normal"))


def given(folder: Path, name: str) -> Tree:
    """A folder of source code as it lies; its commit if it is the top of a git checkout.

    Raises: UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{name}: {folder}: no such folder; name one that holds a source tree")
    folder = folder.resolve()
    with suppress(UserError):  # no git, no checkout, or no commit yet: a folder like any other
        if find_repository(folder).resolve() == folder:  # not the commit of a repository that it merely lies in
            return Tree(name, folder, _git(folder, "rev-parse", "--verify", "HEAD"), is_dirty(folder))
    return Tree(name, folder, None, False)


@contextmanager
def checked_out(repository: Path, revision: str, name: str) -> Iterator[Tree]:
    """The files of `revision`, or of the uncommitted "working tree", in a temporary folder until the end of the block.

    What gates that were killed left behind is cleared away first.

    Raises: UserError: no such revision, not a git repository, no git, or no space.
    """
    repository = find_repository(repository)
    _sweep()
    try:
        home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")).resolve()
        lock = FileLock(home / LOCK)
        lock.acquire(timeout=0)
    except OSError as error:
        raise _no_room(error) from None
    env = SNAPSHOT | {"GIT_INDEX_FILE": str(home / "index")}
    try:
        if revision == WORKING_TREE:
            commit, dirty = _snapshot(repository, env)
        else:
            commit, dirty = _find(repository, revision), False
            _git(repository, "read-tree", commit, env=env)
        # Of a checkout that leaves out some folders (sparse) it writes these, too.
        into = ("--all", "--ignore-skip-worktree-bits", f"--prefix={home / name}{os.sep}")
        _git(repository, "checkout-index", *into, env=env)
        (home / name).mkdir(exist_ok=True)  # of a revision without files
        yield Tree(name, home / name, commit, dirty)
    finally:
        _remove(home, lock)


def _find(repository: Path, revision: str) -> str:
    """The commit that `revision` names."""
    if revision and not revision.startswith("-"):  # which would be an option
        with suppress(UserError):
            return _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    unknown = f"{repository}: unknown revision '{revision}'"
    if _git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise UserError(f"{unknown}; this clone is shallow: fetch with `git fetch --unshallow` or fetch-depth: 0")
    refs = _git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
    known = refs.split()
    elsewhere = [ref for ref in known if ref.endswith(f"/{revision}")]  # a branch that only the remote has
    if not known:
        raise UserError(f"{unknown}; the repository has no commit yet")
    hint = f"did you mean '{elsewhere[0]}'?" if elsewhere else nearest(revision, known)
    # All of a large repository's branches are no answer.
    raise UserError(f"{unknown}; {hint if len(hint) < 200 else '`git branch --all` and `git tag` show all there are'}")


def _snapshot(repository: Path, env: dict[str, str]) -> tuple[str, bool]:
    """The working tree as a commit of no branch, with its files in the index of `env`; whether it differs from HEAD."""
    index = repository / _git(repository, "rev-parse", "--git-path", "index")
    if index.exists():  # with its times, by which git knows what it need not read again, and its sparse entries
        try:
            shutil.copy2(index, env["GIT_INDEX_FILE"])
        except OSError as error:
            raise _no_room(error) from None
    _git(repository, "-c", "core.splitIndex=false", "add", "--all", env=env)
    tree = _git(repository, "write-tree", env=env)
    head = ""
    with suppress(UserError):  # no commit yet
        head = _git(repository, "rev-parse", "--verify", "--quiet", "HEAD")
    if head and tree == _git(repository, "rev-parse", f"{head}^{{tree}}"):
        return head, False
    parent = ["-p", head] if head else []
    return _git(repository, "commit-tree", "--no-gpg-sign", *parent, "-m", "working tree", tree, env=env), True


def _no_room(error: OSError) -> UserError:
    where = tempfile.gettempdir()
    return UserError(f"{where}: {error.strerror}; free some space there, or set TMPDIR to a larger folder")


def _sweep() -> None:
    """Clear away the folders that nobody holds."""
    for home in Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}*"):
        lock = FileLock(home / LOCK)
        with suppress(Timeout, OSError):  # in use, or just gone
            found = home.lstat()  # anyone may put a folder or a link of such a name there
            if stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid()):
                lock.acquire(timeout=0)
                _remove(home, lock)


def _remove(home: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(home, ignore_errors=True)


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What git prints; it runs no hook, asks nothing, and doesn't even note in the index what it has read.

    Raises: UserError: it failed, or isn't installed.
    """
    calm = ("core.hooksPath=" + os.devnull, "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false")
    settings = [word for setting in calm for word in ("-c", setting)]
    mine = {key: value for key, value in os.environ.items() if key not in OF_ANOTHER}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C", "LANGUAGE": "C"}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *settings, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="surrogateescape",
            env=mine | quiet | (env or {}), check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"git isn't installed; install it, {INSTEAD}") from None
    if done.returncode:
        raise UserError(_complaint(folder, arguments[0], done.stderr))
    return done.stdout.rstrip("\n")


def _complaint(folder: Path, command: str, said: str) -> str:
    if "No space left on device" in said:
        return f"no space left in {tempfile.gettempdir()} or {folder}: free some, or set TMPDIR to a larger folder"
    if "not a git repository" in said:
        return f"{folder}: not in a git repository; go into one, {INSTEAD}"
    if "dubious ownership" in said:
        return f"{folder}: belongs to another user; trust it with `git config --global --add safe.directory {folder}`"
    lines = [line.partition(": ")[2] for line in said.splitlines() if line.startswith(("fatal: ", "error: "))]
    return f"{folder}: `git {command}` failed: {lines[0] if lines else said.strip() or 'it does not say why'}"
