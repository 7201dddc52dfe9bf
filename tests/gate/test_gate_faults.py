"""A fault and a harmless commit through the gate, end to end; all of them are in tests/benchmarks/gate_faults.py."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "benchmarks" / "gate_faults.py"

in_a_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="commits need a git checkout")


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_faults", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_faults"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@in_a_checkout
@pytest.mark.parametrize(
    ("name", "row"), [("clone in attention", "count of operators | 1,"), ("renamed", "nothing | 0,")]
)
@pytest.mark.slow
def test_the_gate_names_a_fault_and_passes_a_harmless_commit(tmp_path: Path, name: str, row: str) -> None:
    table = tmp_path / "faults.md"
    words = [str(SCRIPT), "--only-invariants", "--only", name, "--cell", "vit infer", "--write", str(table)]
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}  # with a lock of its own
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in table.read_text().splitlines() if name in line and line.startswith("|")]
    assert row in line
    assert ("aten.clone" in line) == ("clone" in name)
    assert not list((tmp_path / "temporary").glob("*tree*")), "source trees are left behind"


def test_each_change_finds_the_text_that_it_replaces(faults: ModuleType) -> None:
    for commit in (*faults.FAULTS, *faults.HARMLESS):
        for edit in commit.edits:
            text = faults.edited(ROOT, commit, *edit)
            assert text != (ROOT / edit[0]).read_text(encoding="utf-8")
            if edit[0].endswith(".py"):
                compile(text, edit[0], "exec")


def test_a_change_whose_text_is_gone_ends_the_script(faults: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("twice\ntwice\n")
    for text, count in (("never", 0), ("twice", 2)):
        with pytest.raises(SystemExit, match=f"'change': stands {count} times in code.py, not once"):
            faults.edited(tmp_path, faults.Commit("change", ()), "code.py", text, "new")


def answer(faults: ModuleType, status: int, what: str = "", direction: str = "more", cell: str = "pass") -> object:
    change = {"cell": "a", "what": what, "direction": direction, "detail": "4 more aten.clone (float32) a step"}
    cells = [{"cell": "a", "verdict": cell, "ratio": 1.1, "ratio_low": 1.0, "ratio_high": 1.2, "launches": 8}]
    return faults.Answer(status, 1.0, {"work": [change] if what else [], "cells": cells, "verdict": "pass"})


def test_a_fault_counts_as_caught_only_by_the_count_that_is_expected(faults: ModuleType) -> None:
    fault, harmless = faults.Commit("f", (), ("operators", "aten.clone")), faults.Commit("h", ())
    assert faults.as_it_should(fault, [answer(faults, 1, "operators")])
    assert not faults.as_it_should(fault, [answer(faults, 0, "operators")])
    assert not faults.as_it_should(fault, [answer(faults, 1, "FLOPs")])
    assert not faults.as_it_should(fault, [answer(faults, 1, "operators", "other")])
    assert not faults.as_it_should(fault, [answer(faults, 1)])
    assert faults.as_it_should(harmless, [answer(faults, 0), answer(faults, 0)])
    assert not faults.as_it_should(harmless, [answer(faults, 0), answer(faults, 3)])
    assert not faults.as_it_should(harmless, [answer(faults, 0, cell="regression")])


def test_the_table_says_what_caught_it_and_how_much_slower_it_was(faults: ModuleType) -> None:
    rows = [
        (faults.Commit("f", ()), [answer(faults, 1, "operators"), answer(faults, 1, "operators", cell="regression")])
    ]
    *_, row = faults.table(rows, timed=True)
    assert "| f | count of operators; time of a | 1, 1 | 1, pass, 1 | a: +10.0% (+0.0% to +20.0%), n = 8 |" in row
