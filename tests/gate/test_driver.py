"""The gate from two trees to a verdict: real processes and journals, and every fault that it promises to survive."""

import itertools
import os
import queue
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_tree import commit_all, git, make_tree

from bench.errors import UserError
from bench.gate.decision import Decision, decide
from bench.gate.driver import resume_gate, run_gate
from bench.gate.journal import read_journal
from bench.gate.launch import Setting
from bench.gate.request import GateRequest, gate_cells

ROOT = Path(__file__).parents[2]
SILENT = print if os.environ.get("SHOW_GATE") else lambda text: None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short slices, and no fear of other gates: what is slow here says itself how much time has passed."""
    monkeypatch.setattr("bench.gate.driver.Setting", partial(Setting, slice_seconds=0.02, blocks=1))
    monkeypatch.setattr("bench.gate.driver.MOST_LAUNCHES", 6)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def ask(tmp_path: Path, base: Path, head: Path, **more: object) -> GateRequest:
    asked = {"suite": str(head / "suite.yaml"), "cells": ("vit train",), "budget_seconds": 600.0, **more}
    return GateRequest.model_validate({"journal": tmp_path / "gate.jsonl", "base_dir": base, "head_dir": head, **asked})


def gate(
    tmp_path: Path,
    base: dict[str, object],
    head: dict[str, object],
    now: Callable[[], float] = time.monotonic,
    **more: object,
) -> Decision:
    """The verdict on two made-up trees."""
    trees = [make_tree(tmp_path / arm, **kw) for arm, kw in (("base", base), ("head", head))]  # type: ignore[arg-type]
    return decide(run_gate(ask(tmp_path, trees[0], trees[1], **more), SILENT, now))


@pytest.mark.slow
def test_equal_trees_pass_and_a_slower_one_is_confirmed(tmp_path: Path) -> None:
    slower = gate(tmp_path, {}, {"seconds": 0.0056})
    assert (slower.verdict, slower.exit_status) == ("regression", 1)
    (cell,) = slower.cells
    assert cell.estimate is not None
    assert 1.2 < cell.estimate.ratio < 1.5
    assert slower.launches == {"screen": 6, "confirm": 6}
    again = decide(read_journal(tmp_path / "gate.jsonl"))
    assert again == slower
    (tmp_path / "gate.jsonl").unlink()
    equal = gate(tmp_path, {}, {})
    assert (equal.verdict, equal.launches["confirm"]) == ("pass", 0)


@pytest.mark.slow
def test_each_launch_has_processes_and_layout_of_its_own_and_both_orders_come(tmp_path: Path) -> None:
    seen = "open(os.environ['SEEN'], 'a').write(f\"{os.getpid()} {os.environ['PYTHONHASHSEED']}\\n\")"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", str(tmp_path / "seen"))
        gate(tmp_path, {"top": seen}, {"top": seen})
    pids, seeds = zip(*(line.split() for line in (tmp_path / "seen").read_text().splitlines()), strict=True)
    assert len(set(pids)) == len(pids) == 2 * 7  # one pair counts the work
    assert len(set(seeds)) > 7
    slices = read_journal(tmp_path / "gate.jsonl").slices
    orders = {tuple(piece.arm for piece in slices if piece.launch == launch) for launch in range(6)}
    assert orders <= {("base", "head", "head", "base"), ("head", "base", "base", "head")}


FALL_ASLEEP = "self.steps == 9 and (open(os.environ['ASLEEP'], 'w').close(), time.sleep(600))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "exit_status", "words"),
    [
        ({"step": "self.steps == 9 and os.kill(os.getpid(), signal.SIGSEGV)"}, 5, "head's worker died of signal 11"),
        ({"step": "self.steps == 9 and sys.exit(3)"}, 5, "head's worker exited with status 3"),
        ({"step": FALL_ASLEEP}, 5, "head's worker gave no answer within 1 s"),
        ({"step": "if self.steps == 9: raise RuntimeError('no such kernel')"}, 5, "RuntimeError: no such kernel"),
        ({"top": "import a_module_that_is_not_there"}, 5, "No module named 'a_module_that_is_not_there'"),
        ({"top": "this is no python"}, 5, "SyntaxError"),
        ({"models": ("cnn",)}, 4, "head: unknown model 'vit'"),
        ({"protocol": 99}, 4, "speaks protocol 99"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_head_that_fails_has_its_own_exit_status_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: dict[str, object], exit_status: int, words: str
) -> None:
    asleep = tmp_path / "asleep"

    class Answers(queue.Queue[str]):
        """An answer takes too long once a step has fallen asleep, and else as long as a busy machine makes it."""

        def get(self, block: bool = True, timeout: float | None = None) -> str:
            while True:
                try:
                    return super().get(timeout=0.05)
                except queue.Empty:
                    if asleep.exists():
                        raise

    monkeypatch.setenv("ASLEEP", str(asleep))
    monkeypatch.setattr("bench.speed.process.queue", SimpleNamespace(SimpleQueue=Answers, Empty=queue.Empty))
    monkeypatch.setattr("bench.gate.driver.Setting", partial(Setting, slice_seconds=0.02, blocks=1, answer_seconds=1.0))
    decision = gate(tmp_path, {}, head)
    assert decision.exit_status == exit_status
    assert words in decision.headline
    assert len(decision.headline.splitlines()) == 1
    assert read_journal(tmp_path / "gate.jsonl").ended


def test_a_base_without_the_protocol_is_not_comparable_and_never_lent_the_installed_one(tmp_path: Path) -> None:
    base, head = make_tree(tmp_path / "base"), make_tree(tmp_path / "head")
    (base / "bench" / "speed" / "cells.py").unlink()
    decision = decide(run_gate(ask(tmp_path, base, head), SILENT))
    assert decision.exit_status == 4
    assert "no bench/speed/cells.py" in decision.headline


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["gate", "top"])
def test_trees_that_keep_their_cells_in_other_places_are_compared(tmp_path: Path, layout: str) -> None:
    trees = {"base": make_tree(tmp_path / "base", layout=layout), "head": make_tree(tmp_path / "head")}
    decision = decide(run_gate(ask(tmp_path, trees["base"], trees["head"], cells=("vit",)), SILENT))
    assert decision.launches["screen"] > 0
    assert not decision.work
    assert {cell.verdict for cell in decision.cells} <= {"pass", "inconclusive"}


def test_a_cell_that_base_lacks_leaves_the_others_compared(tmp_path: Path) -> None:
    decision = gate(tmp_path, {"models": ("vit",)}, {}, cells=("train",))
    assert {cell.cell: cell.verdict for cell in decision.cells} == {"vit train": "pass", "cnn train": "missing"}
    assert decision.exit_status == 4
    assert decide(read_journal(tmp_path / "gate.jsonl"), allow_missing=True).exit_status == 0


def test_counting_alone_starts_no_launch_and_names_the_difference(tmp_path: Path) -> None:
    decision = gate(tmp_path, {}, {"parameters": 121}, only_work=True, cells=())
    assert decision.exit_status == 1
    assert {change.cell for change in decision.work} == {"vit train", "vit infer", "cnn train", "cnn infer"}
    assert decision.launches == {"screen": 0, "confirm": 0}


def test_a_budget_too_small_for_an_answer_is_inconclusive_and_kept_to(tmp_path: Path) -> None:
    tick = itertools.count()  # a second each time that somebody looks
    decision = gate(tmp_path, {}, {}, lambda: float(next(tick)), budget_seconds=12.0)
    assert 0 < decision.launches["screen"] < 6
    assert decision.exit_status == 3
    assert "larger --budget" in decision.cells[0].reason


@pytest.mark.slow
def test_a_suspect_is_confirmed_even_beyond_the_budget(tmp_path: Path) -> None:
    def clock() -> float:
        is_screened = journal.exists() and journal.read_bytes().count(b'"screen"') > 5
        return next(tick) / 100 + 1000 * is_screened

    tick, journal = itertools.count(), tmp_path / "gate.jsonl"
    trees = [make_tree(tmp_path / "base"), make_tree(tmp_path / "head", seconds=0.006)]
    record = run_gate(ask(tmp_path, trees[0], trees[1], budget_seconds=30.0), SILENT, clock)
    assert len(record.launches["confirm"]) == 6
    assert decide(record).verdict == "regression"


def test_a_journal_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "gate.jsonl").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        gate(tmp_path, {}, {})
    assert (tmp_path / "gate.jsonl").read_text() == "mine"


def test_no_cell_of_that_name_is_one_line_with_those_there_are(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with pytest.raises(UserError, match="vit train, vit infer, cnn train, cnn infer"):
        gate_cells(ask(tmp_path, tree, tree, cells=("resnet",)))


def test_a_stopped_gate_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, head = make_tree(tmp_path / "base"), make_tree(tmp_path / "head")
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if text.startswith("screen: launch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_gate(ask(tmp_path, base, head), stop)
    assert re.fullmatch(
        r"this machine's noise: [\d.]+% a block; with 6 launches a slowdown of about \d+% can be told", said[-2]
    )
    before = read_journal(tmp_path / "gate.jsonl")
    assert (before.launches["screen"], before.ended) == ([0, 1], False)
    after = resume_gate(tmp_path / "gate.jsonl", SILENT)
    assert after.slices[: len(before.slices)] == before.slices
    assert after.launches["screen"] == list(range(6))
    assert decide(after).verdict == "pass"
    assert resume_gate(tmp_path / "gate.jsonl", SILENT) == after  # nothing is left to do


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, the second half as fast again, and uncommitted work on top."""
    folder = make_tree(tmp_path / "repository")
    commit_all(folder, "base")
    git(folder, "tag", "before")
    make_tree(folder, parameters=110)
    commit_all(folder, "head")
    make_tree(folder, parameters=120)
    return folder


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        str(ROOT / "run_bench.py"),
        "gate",
        "--suite",
        "suite.yaml",
        "--cell",
        "vit train",
        *arguments,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=folder, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]


@pytest.mark.slow
def test_revisions_are_compared_and_uncommitted_work_on_request_only(repository: Path) -> None:
    counts = ("--base", "before", "--only-invariants")
    status = git(repository, "status", "--porcelain")
    plain = command(repository, *counts)
    out, err = plain.communicate(timeout=300)
    assert plain.returncode == 1
    assert "100" in out
    assert "110" in out
    assert "uncommitted changes are left out" in err
    with_work = command(repository, *counts, "--head", "working tree", "--journal", "second.jsonl")
    out, err = with_work.communicate(timeout=300)
    assert "120" in out
    assert "uncommitted" not in err
    assert [line for line in git(repository, "status", "--porcelain").splitlines() if line not in status] == [
        "?? results/",
        "?? second.jsonl",
    ]
    assert len(git(repository, "worktree", "list").splitlines()) == 1


NETS = """
from torch import nn

def make(num_classes, image_size, in_channels):
    pixels = in_channels * image_size**2
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, {hidden}), nn.Linear({hidden}, num_classes))
"""


@pytest.mark.slow
def test_a_users_own_model_is_imported_from_each_revision_of_their_own_repository(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    (folder / "mine").mkdir(parents=True)
    (folder / "suite.yaml").write_text("dataset: digits\nmodels: [{model: 'mine.nets:make', batch_size: 20}]\n")
    for hidden in (8, 9):
        (folder / "mine" / "nets.py").write_text(NETS.format(hidden=hidden))
        commit_all(folder, f"hidden {hidden}")
    words = [sys.executable, str(ROOT / "run_bench.py"), "gate", "--suite", "suite.yaml", "--cell", "infer"]
    done = subprocess.run(
        [*words, "--base", "HEAD^", "--only-invariants"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "parameters 610 -> 685" in " ".join(done.stdout.split())  # 64 * 8 + 8 + 8 * 10 + 10, and with 9


def test_an_unknown_revision_is_one_line(repository: Path) -> None:
    process = command(repository, "--base", "befor")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert "did you mean 'before'?" in err


@pytest.mark.slow
def test_ctrl_c_in_the_middle_leaves_no_worktree_and_no_worker_and_says_how_to_go_on(repository: Path) -> None:
    make_tree(repository, step="time.sleep(0.05)")  # so that it goes on for minutes
    commit_all(repository, "slow")
    process = command(repository, "--base", "HEAD", "--journal", "gate.jsonl", "--budget", "1m")
    journal = repository / "gate.jsonl"
    deadline = time.monotonic() + 300
    while not journal.is_file() or b'"kind":"launch"' not in journal.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = command(repository, "--base", "HEAD", "--journal", "other.jsonl")
    _, err = second.communicate(timeout=300)
    assert second.returncode == 2
    assert "another gate is running" in err
    assert len(err.splitlines()) == 1
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "gate --resume gate.jsonl" in err.splitlines()[-1]
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    workers = subprocess.run(["pgrep", "-f", f"worker.py .*{repository.parent}"], check=False, capture_output=True)
    assert workers.stdout == b""
    assert read_journal(journal).launches["screen"]
