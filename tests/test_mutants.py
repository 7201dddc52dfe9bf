"""The committed mutation run: what it says holds of this code, and a part of it is done again."""

import csv
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "results" / "reference" / "mutation"
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    with (TABLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_of_at_least_400_mutants_95_percent_are_found_and_the_docs_say_how_many() -> None:
    by_outcome = Counter(row["outcome"] for row in rows("mutants.csv"))
    assert set(by_outcome) <= {"killed", "killed by a slow test", "timeout", "survived", "equivalent", "gone"}
    found = by_outcome["killed"] + by_outcome["killed by a slow test"] + by_outcome["timeout"]
    meant = found + by_outcome["survived"]  # of those that change anything, in code that is still there
    assert by_outcome.total() - by_outcome["gone"] >= 400
    assert found >= 0.95 * meant
    said = " ".join((ROOT / "docs" / "evidence.md").read_text(encoding="utf-8").split())
    assert f"{found} of {meant} mutants" in said
    assert f"{by_outcome['killed by a slow test']} of them by tests marked slow alone" in said
    assert f"{by_outcome['equivalent']} more change nothing" in said


def test_what_a_second_draw_found_at_first_is_what_the_docs_say() -> None:
    tried = rows("second_draw.csv")
    meant = [row for row in tried if row["outcome"] != "equivalent"]
    found = sum(row["at first"] == "killed" for row in meant)
    said = " ".join((ROOT / "docs" / "evidence.md").read_text(encoding="utf-8").split())
    assert (
        f"{len(tried)} were tried with the tests that the first had led to: {found} of {len(meant)} were found" in said
    )
    assert {row["outcome"] for row in meant} == {"killed"}
    assert all(row["killer"] for row in meant if row["at first"] == "survived")


def test_every_equivalent_mutant_has_its_reason() -> None:
    names = ("module", "operator", "occurrence", "before", "after")
    alike = [row for row in rows("mutants.csv") + rows("second_draw.csv") if row["outcome"] == "equivalent"]
    reasons = {tuple(row[name] for name in names): row["reason"] for row in rows("equivalents.csv")}
    assert {tuple(row[name] for name in names) for row in alike} == set(reasons)
    assert all(len(reason.split()) > 3 for reason in reasons.values())


def test_every_planted_fault_is_found() -> None:
    faults = yaml.safe_load((Path(__file__).parent / "benchmarks" / "planted_faults.yaml").read_text(encoding="utf-8"))
    found = {(row["module"], row["before"], row["after"]): row["outcome"] for row in rows("planted.csv")}
    assert {(fault["module"], fault["before"], fault["after"]) for fault in faults} == set(found)
    assert set(found.values()) == {"killed"}


def test_every_planted_fault_has_its_place_in_the_code_of_now() -> None:
    gone = [row for row in rows("planted.csv") if row["before"] not in (ROOT / row["module"]).read_text("utf-8")]
    assert gone == [], "plant it where the code went, and name the test that finds it"


@pytest.mark.parametrize("name", ["planted.csv", "mutants.csv", "second_draw.csv"])
def test_every_test_that_found_a_fault_is_still_there(name: str) -> None:
    killers = {row["killer"].partition("[")[0] for row in rows(name) if row["killer"].startswith("tests/")}
    assert killers
    for killer in killers:
        file, *_, test = killer.split("::")
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_planted_fault_fails_the_test_that_found_it(seed: int, tmp_path: Path) -> None:
    """One that was drawn, in a copy of the code; and without it the same test passes."""
    fault = random.Random(seed).choice(rows("planted.csv"))
    for name in ("bench", "models", "tests", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "run_bench.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", fault["killer"]]

    def passes() -> bool:
        done = subprocess.run(command, cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.returncode == 0

    assert passes()
    module = tmp_path / fault["module"]
    module.write_text(module.read_text(encoding="utf-8").replace(fault["before"], fault["after"], 1), encoding="utf-8")
    assert not passes()


def _environment(copy: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
