"""What fuzzing has found or reached, replayed: a result, or one short printable line. See benchmarks/fuzz.py."""

import math
from pathlib import Path

import pytest
from fuzz_shapes import SHAPES
from fuzz_targets import TARGETS, judge, unfit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import UserError

SEEDS = Path(__file__).parent / "fixtures" / "fuzz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work"


def test_every_target_has_seeds_and_they_are_small() -> None:
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)
    files = [path for path in SEEDS.rglob("*") if path.is_file()]
    assert len(files) < 200
    assert sum(path.stat().st_size for path in files) < 300_000


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_give_a_result_or_one_line(target: str, folder: Path) -> None:
    findings = {}
    for path in sorted((SEEDS / target).iterdir()):
        findings[path.name] = judge(TARGETS[target], path.read_bytes(), folder, most_seconds=math.inf)
    assert findings == dict.fromkeys(findings)


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "image"])
def test_changed_inputs_give_a_result_or_one_line(target: str, folder: Path) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(data=SHAPES[target])
    def holds(data: bytes) -> None:
        assert judge(TARGETS[target], data, folder, most_seconds=math.inf) is None

    holds()


def test_the_rule_sees_what_it_is_there_for(folder: Path) -> None:
    def raises(error: BaseException) -> str:
        def target(data: bytes, folder: Path) -> None:
            raise error

        found = judge(target, b"", folder)
        return found.fault if found else ""

    assert raises(UserError("wrong")) == ""
    assert raises(UserError(" ")).startswith("empty message")
    assert raises(KeyError("a")).startswith("KeyError")
    assert raises(SystemExit(3)).startswith("SystemExit")
    slow = judge(lambda data, folder: None, b"", folder, most_seconds=-1)
    assert slow
    assert slow.place == "time"


@given(st.text())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_an_error_says_is_one_printable_line(text: str) -> None:
    assert unfit(f"said: {UserError(text)}") is None
    assert str(UserError(str(UserError(text)))) == str(UserError(text))
