"""Source trees beside the user's own, which stays byte for byte as it is; and one gate at a time."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.gate import worktrees as trees
from bench.gate.driver import only_one
from bench.gate.worktrees import WORKING_TREE, checked_out, find_repository, given, is_dirty

ROOT = Path(__file__).parents[2]
HOLD_TREE = """
import sys, time
from pathlib import Path
from bench.gate.worktrees import checked_out
with checked_out(Path(sys.argv[1]), "HEAD", "base") as tree:
    print(tree.folder, flush=True)
    time.sleep(600)
"""
HOLD_GATE = """
import time
from bench.gate.driver import only_one
with only_one():
    print("held", flush=True)
    time.sleep(600)
"""


def git(folder: Path, *arguments: str) -> str:
    words = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system's temporary folder for this test alone, for child processes too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def repository(tmp_path: Path, temporary: Path) -> Path:
    """Two commits, a tag, a branch, a stash, and uncommitted work of every kind: staged, not staged, new, ignored."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "code.py").write_text("old\n")
    (folder / "gone.py").write_text("to be deleted\n")
    (folder / "staged.py").write_text("first\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    git(folder, "tag", "v1")
    git(folder, "branch", "topic")
    (folder / "code.py").write_text("new\n")
    git(folder, "commit", "--quiet", "-am", "second")
    (folder / "code.py").write_text("put aside\n")
    git(folder, "stash", "--quiet")
    (folder / "code.py").write_text("uncommitted\n")
    (folder / "gone.py").unlink()
    (folder / "staged.py").write_text("second\n")
    git(folder, "add", "staged.py")
    (folder / "staged.py").write_text("third\n")
    (folder / "fresh.py").write_text("untracked\n")
    (folder / "noise.log").write_text("ignored\n")
    os.utime(folder / ".gitignore", (1, 1))  # unchanged, but git would read it again and note that in the index
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    """Each file's content, git's own among them; objects that belong to nothing may be added."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if ".git/objects/" not in str(path)}


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".py", ".log")}


@pytest.fixture
def untouched(repository: Path, temporary: Path) -> Iterator[None]:
    """Afterwards all is as it was, and nothing lies in the temporary folder."""
    before, worktrees = everything(repository), git(repository, "worktree", "list")
    yield
    assert everything(repository) == before
    assert git(repository, "worktree", "list") == worktrees
    assert list(temporary.iterdir()) == []


# Trees


@pytest.mark.usefixtures("untouched")
def test_two_revisions_lie_beside_each_other_and_are_gone_afterwards(repository: Path) -> None:
    with checked_out(repository, "v1", "base") as base, checked_out(repository, "main", "head") as head:
        assert texts(base.folder) == {"code.py": "old\n", "gone.py": "to be deleted\n", "staged.py": "first\n"}
        assert texts(head.folder)["code.py"] == "new\n"
        assert (base.name, base.commit, base.dirty) == ("base", git(repository, "rev-parse", "v1"), False)
        assert base.folder.name == "base"
        assert is_dirty(repository)
        (head.folder / "__pycache__").mkdir()  # what a run leaves behind goes, too
        (head.folder / "__pycache__" / "code.pyc").touch()
    assert not base.folder.parent.exists()
    assert not head.folder.parent.exists()


@pytest.mark.usefixtures("untouched")
def test_the_working_tree_holds_uncommitted_and_new_files_but_no_ignored_ones(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with checked_out(repository, WORKING_TREE, "head") as head:
        assert texts(head.folder) == {"code.py": "uncommitted\n", "staged.py": "third\n", "fresh.py": "untracked\n"}
        assert head.dirty
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody else")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
    with checked_out(repository, WORKING_TREE, "head") as again:
        assert again.commit == head.commit, "the same work has the same name"
    (repository / "fresh.py").write_text("more\n")
    with checked_out(repository, WORKING_TREE, "head") as other:
        assert other.commit != head.commit
    (repository / "fresh.py").write_text("untracked\n")


def test_a_sparse_checkout_is_whole_in_the_copy(repository: Path) -> None:
    (repository / "part").mkdir()
    (repository / "part" / "more.py").write_text("more\n")
    git(repository, "add", "part")
    git(repository, "commit", "--quiet", "-m", "third")
    git(repository, "stash", "--quiet", "--include-untracked")
    git(repository, "sparse-checkout", "set", "elsewhere")
    assert not (repository / "part").exists()
    for revision in ("HEAD", WORKING_TREE):
        with checked_out(repository, revision, "head") as head:
            assert (head.folder / "part" / "more.py").read_text() == "more\n"


def test_a_clean_working_tree_is_its_commit(repository: Path) -> None:
    git(repository, "stash", "--quiet", "--include-untracked")
    with checked_out(repository, WORKING_TREE, "head") as head:
        assert (head.commit, head.dirty) == (git(repository, "rev-parse", "HEAD"), False)


def test_a_working_tree_without_a_commit_can_be_checked_out(tmp_path: Path, temporary: Path) -> None:
    git(tmp_path, "init", "--quiet", "new")
    (tmp_path / "new" / "code.py").write_text("begun\n")
    with checked_out(tmp_path / "new", WORKING_TREE, "head") as head:
        assert texts(head.folder) == {"code.py": "begun\n"}
    with pytest.raises(UserError, match="unknown revision 'main'; the repository has no commit yet"):
        checked_out(tmp_path / "new", "main", "base").__enter__()


@pytest.mark.usefixtures("untouched")
def test_a_tree_is_gone_after_an_exception(repository: Path) -> None:
    with pytest.raises(ZeroDivisionError), checked_out(repository, "HEAD", "head"):
        raise ZeroDivisionError


def hold(code: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A process that has printed its first line and waits in the middle of its block."""
    words = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.communicate(timeout=300)


@pytest.mark.usefixtures("untouched")
def test_a_tree_is_gone_after_an_interrupt(repository: Path) -> None:
    process, folder = hold(HOLD_TREE, str(repository))
    assert Path(folder, "code.py").exists()
    end(process, signal.SIGINT)
    assert process.returncode != 0
    assert not Path(folder).exists()


@pytest.mark.usefixtures("untouched")
def test_what_a_killed_process_left_is_gone_at_the_next_start_and_what_is_in_use_stays(repository: Path) -> None:
    killed, left = hold(HOLD_TREE, str(repository))
    running, used = hold(HOLD_TREE, str(repository))
    try:
        end(killed, signal.SIGKILL)
        assert Path(left, "code.py").exists()
        with checked_out(repository, "HEAD", "head"):
            assert not Path(left).parent.exists()
            assert Path(used, "code.py").exists()
    finally:
        end(running, signal.SIGINT)


def test_a_link_in_the_temporary_folder_leads_nowhere(repository: Path, temporary: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "worktrees" / "topic"
    git(repository, "worktree", "add", "--quiet", str(theirs), "topic")
    (temporary / f"{trees.PREFIX}1-x").symlink_to(theirs.parent)
    with checked_out(repository, "HEAD", "head"):
        assert (theirs / "code.py").exists()
    assert not (theirs.parent / trees.LOCK).exists()


@pytest.mark.usefixtures("untouched")
def test_neither_hooks_nor_their_variables_reach_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {repository}/hook-was-here\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    with checked_out(repository, WORKING_TREE, "head") as head:
        assert texts(head.folder)["code.py"] == "uncommitted\n"
    assert not (repository / "hook-was-here").exists()
    monkeypatch.undo()
    hook.unlink()


def test_a_given_folder_has_the_commit_of_its_own_checkout_only(repository: Path, tmp_path: Path) -> None:
    tree = given(repository, "base")
    assert (tree.folder, tree.commit, tree.dirty) == (repository, git(repository, "rev-parse", "HEAD"), True)
    (repository / "part").mkdir()
    assert given(repository / "part", "base").commit is None
    (tmp_path / "plain").mkdir()
    assert given(tmp_path / "plain", "head") == trees.Tree("head", tmp_path / "plain", None, False)


def test_the_repository_is_found_from_a_folder_within(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "deep" / "er").mkdir(parents=True)
    assert find_repository(repository / "deep" / "er") == repository
    monkeypatch.chdir(repository / "deep")
    assert find_repository() == repository


# Mistakes


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("mian", "unknown revision 'mian'; did you mean 'main'?"),
        ("v2", "did you mean 'v1'?"),
        ("HEAD~7", "known: main, topic, v1"),
        ("--all", "unknown revision '--all'"),
        ("", "unknown revision ''"),
        ("0" * 40, "unknown revision '0000"),
        ("v1:code.py", "unknown revision 'v1:code.py'"),
    ],
)
def test_an_unknown_revision_is_named_with_the_nearest(repository: Path, revision: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_out(repository, revision, "base").__enter__()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_branches_are_not_listed(repository: Path) -> None:
    for number in range(40):
        git(repository, "branch", f"a-long-name-of-a-branch-{number}")
    with pytest.raises(
        UserError, match=r"unknown revision 'xyz'; `git branch --all` and `git tag` show all there are$"
    ):
        checked_out(repository, "xyz", "base").__enter__()


def test_a_branch_that_only_the_remote_has_is_named(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    with pytest.raises(UserError, match="did you mean 'origin/topic'"):
        checked_out(tmp_path / "clone", "topic", "base").__enter__()


def test_a_shallow_clone_says_how_to_fetch_the_rest(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", "clone")
    with pytest.raises(UserError, match="this clone is shallow: fetch with `git fetch --unshallow` or fetch-depth: 0"):
        checked_out(tmp_path / "clone", "HEAD~1", "base").__enter__()
    with checked_out(tmp_path / "clone", "HEAD", "head") as head:
        assert texts(head.folder)["code.py"] == "new\n"


def test_a_folder_outside_of_git_says_what_would_do(tmp_path: Path, temporary: Path) -> None:
    with pytest.raises(UserError, match="not in a git repository; go into one, or name two folders with --base-dir"):
        find_repository(tmp_path)
    with pytest.raises(UserError, match="nope: no such folder"):
        find_repository(tmp_path / "nope")
    with pytest.raises(UserError, match=r"^head: .*nope: no such folder"):
        given(tmp_path / "nope", "head")


def test_without_git_it_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git isn't installed; install it, or name two folders"):
        find_repository(repository)
    assert given(repository, "base").commit is None


def test_a_full_disk_is_one_line(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(UserError, match="No space left on device; free some space there, or set TMPDIR"):
        checked_out(repository, "HEAD", "base").__enter__()
    said = "Preparing\nerror: unable to write file code.py\nfatal: cannot write: No space left on device\n"
    assert "no space left in" in trees._complaint(repository, "worktree", said)
    said = "fatal: detected dubious ownership in repository at '/r'\nTo add an exception, call:\n"
    assert "git config --global --add safe.directory" in trees._complaint(repository, "worktree", said)


# One gate at a time


def test_a_second_gate_is_refused_and_told_who_the_first_is(temporary: Path) -> None:
    process, said = hold(HOLD_GATE)
    try:
        assert said == "held"
        with pytest.raises(UserError) as caught, only_one():
            pass
        message = str(caught.value)
        assert f"process {process.pid}" in message
        assert "is running since 2" in message
        assert f"wait for its end, or stop it with `kill -INT {process.pid}`" in message
        assert "\n" not in message
    finally:
        end(process, signal.SIGINT)
    with only_one():
        pass


def test_a_killed_gate_is_no_obstacle(temporary: Path) -> None:
    process, _ = hold(HOLD_GATE)
    end(process, signal.SIGKILL)
    (note,) = temporary.glob("*/gate.json")
    assert json.loads(note.read_text())["pid"] == process.pid
    with only_one():
        assert json.loads(note.read_text())["pid"] == os.getpid()
    assert not note.exists()


def test_the_gate_is_free_after_an_exception(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_one():
        raise ZeroDivisionError
    with only_one():
        pass


@pytest.mark.parametrize("note", ["", "{", "[]", "{}"])
def test_a_first_gate_whose_note_cannot_be_read_still_keeps_the_second_out(temporary: Path, note: str) -> None:
    with only_one():
        (path,) = temporary.glob("*/gate.json")
        path.write_text(note)
        with pytest.raises(UserError, match="another gate is running; two at once"), only_one():
            pass


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user numbers here")
def test_each_user_has_a_gate_of_their_own(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_one():
        mine = os.getuid()
        assert (temporary / f"vit-cnn-bench-{mine}").stat().st_mode & 0o077 == 0
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        with pytest.raises(UserError, match="belongs to another user; set TMPDIR"), only_one():
            pass  # the folder that it makes here isn't that other user's
