"""Real small disks that fill up, or become read-only, in the middle of a run: nothing is lost, and the rest is run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]  # its mounts are seen by its own processes alone


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not shutil.which("unshare"):
        pytest.skip("needs Linux's unshare, for file systems of its own")
    scratch = tmp_path_factory.mktemp("disks")
    trial = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(scratch)]
    if (refused := subprocess.run(trial, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"this system lets nobody mount a file system of their own: {refused.stderr.strip()}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    program = [*NAMESPACE, sys.executable, str(ROOT / "tests" / "small_disk.py"), str(scratch)]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_a_disk_that_fills_up_within_the_journal_or_a_table_costs_nothing_that_was_there(found: dict[str, Any]) -> None:
    *full, roomy = found["rows"]
    assert not roomy["error"]
    for tried in full:
        assert "No space left on device" in tried["error"]
        assert f"{1 + tried['kept']} finished trial" in tried["error"]
        assert "\n" not in tried["error"]
        assert tried["unchanged"]
    assert {tried["kept"] for tried in full} == {True, False}  # the journal, and a table


@pytest.mark.slow
def test_what_is_appended_when_there_is_room_again_stands_on_lines_of_its_own(found: dict[str, Any]) -> None:
    for tried in found["rows"]:
        b = int(tried["kept"])
        assert tried["counts"]["trials.csv"] == {"a": 1, "b": b, "c": 1}
        assert tried["counts"]["evaluations.csv"] == {"a": 150, "b": 150 * b, "c": 150}
        assert not tried["set_aside"]  # nothing had to be
        assert not tried["problems"]


@pytest.mark.parametrize(
    ("fault", "why", "kept", "left"),
    [
        ("full", "No space left on device", 1, 1),
        ("full at the report", "No space left on device", 1, 0),
        ("read-only", "Read-only file system", 1, 1),
    ],
)
@pytest.mark.slow
def test_a_run_ends_with_one_line_and_resuming_runs_the_rest_and_nothing_else(
    found: dict[str, Any], fault: str, why: str, kept: int, left: int
) -> None:
    run = found[fault]
    for status, error in ((run["status"], run["error"]), run["refused"]):
        assert status == 2
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert why in error
    assert run["resumed"] == [0, ""]
    assert len(run["kept"]) == kept
    assert len(run["ran_again"]) == left
    assert not set(run["kept"]) & set(run["ran_again"])
    assert run["rows"] == dict.fromkeys([*run["kept"], *run["ran_again"]], "ok")
    assert run["report"]
    assert run["problems"] == []


@pytest.mark.slow
def test_a_cache_without_room_costs_a_warning_and_keeps_no_half(found: dict[str, Any]) -> None:
    assert found["cache"]["said"].startswith("warning: ")
    assert found["cache"]["said"].count("\n") == 1
    assert found["cache"]["left"] == []
    assert found["cache"]["loaded"] is None
    assert found["cache"]["text"] is None
