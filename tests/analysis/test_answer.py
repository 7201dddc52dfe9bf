"""The answer is kept beside the report, for as long as it is an answer to what the tables hold."""

import json
from pathlib import Path

import pytest
from made_up import result

from bench.analysis import answer
from bench.analysis.answer import ANSWER, Verdict, keep_verdicts, kept_verdicts
from bench.analysis.scorecard import Line, Scorecard
from bench.store.run_folder import RunFolder

LINE = Line("test_accuracy", "errors", ["3", "2"], "1 fewer", "0 to 2", "CNN better", "CNN")
CARD = Scorecard("each family's best", ["ViT", "CNN"], ["a ViT", "a CNN"], ["ViT p7", "CNN d2"], [LINE])
VERDICTS = [Verdict("a CPU", "CNN.", ["Take it."], ["It is so."], [CARD], ["Noise."], {"accuracy": "CNN"})]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = RunFolder.create(tmp_path / "run", {"suite": "x"})
    store.append(result("a"))
    store.close()
    (tmp_path / "run" / "report.html").touch()
    keep_verdicts(tmp_path / "run", VERDICTS)
    return tmp_path / "run"


def test_what_was_said_can_be_said_again(run: Path) -> None:
    assert kept_verdicts(run) == VERDICTS


def test_one_more_row_makes_it_an_old_answer(run: Path) -> None:
    store = RunFolder.open(run)
    store.append(result("b"))
    store.close()
    assert kept_verdicts(run) is None


def test_without_its_report_or_from_another_program_it_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "git_state", lambda: ("another commit", False))
    assert kept_verdicts(run) is None
    monkeypatch.undo()
    (run / "report.html").unlink()
    assert kept_verdicts(run) is None


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"made_from": null}', "\udcff"])
def test_a_damaged_one_is_none(run: Path, damage: str) -> None:
    (run / ANSWER).write_bytes(damage.encode(errors="surrogateescape"))
    assert kept_verdicts(run) is None


def test_an_answer_of_another_shape_is_none(run: Path) -> None:
    kept = json.loads((run / ANSWER).read_text())
    kept["answers"][0]["mood"] = "good"
    (run / ANSWER).write_text(json.dumps(kept))
    assert kept_verdicts(run) is None
