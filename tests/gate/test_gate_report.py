"""The tables and the picture of the gate's proof."""

from argparse import Namespace
from pathlib import Path

import pytest
from gate_curves import Tally, percent
from gate_recordings import Recording
from gate_report import report
from made_up_journal import NONE, made_up_journal

RECORDINGS = [
    Recording("aa-quiet", made_up_journal(20, noise=NONE)),
    Recording("slow10-quiet", made_up_journal(20, 0.10, noise=NONE)),
    Recording("onecell20-quiet", made_up_journal(20, 0.20, ["cnn infer"], noise=NONE)),
]


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_says_what_the_journals_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "gate"
    report(RECORDINGS, Namespace(gates=8, launches=6, confirm=7, seed=0, write=folder, journals=folder))
    text = (folder / "README.md").read_text()
    assert cells(text, "aa-quiet")[1:6] == ["none", "20", "0% (0% to 37%)", "0%", "100%"]
    assert cells(text, "slow10-quiet")[1:6] == ["10.0% in every cell", "20", "100% (63% to 100%)", "0%", "0%"]
    assert cells(text, "onecell20-quiet")[1] == "20.0% in cnn infer"
    # 6 launches of 16 s, and for the slower head 7 more; one of four cells is a quarter of a launch.
    minutes = [cells(text, one.name)[-1] for one in RECORDINGS]
    assert minutes == ["1.6", "3.5", "2.1"]
    assert cells(text, "this gate")[-2:] == ["100%", "1.6"]
    assert cells(text, "this gate")[1] == "6 to flag, 7 to confirm"
    assert cells(text, "sequential runs, mean +10%")[-2:] == ["0%", "0.3"]  # not *more* than 10% slower
    assert cells(text, "pyperf compare_to")[-2] == "100%"
    assert "a screen has 6 launches, a confirmation 7" in text
    assert "--launches 6 --confirm 7 --gates 8 --write" in text
    assert all(line in text for line in capsys.readouterr().out.splitlines())
    assert (folder / "rules.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "rules.svg").read_text()


def test_a_report_of_identical_code_alone_has_no_power_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    report(RECORDINGS[:1], Namespace(gates=4, launches=6, confirm=None, seed=0, write=None, journals=Path("nowhere")))
    assert "fails at" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (0.00037, "0.037%"),
        (0.012, "1.2%"),
        (0.5, "50%"),
        (0.993, "99.3%"),
        (0.9997, "99.97%"),
        (1.0, "100%"),
    ],
)
def test_a_little_is_not_printed_as_none_nor_nearly_all_as_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    tally = Tally()
    tally.add([True] * 3 + [False] * 297, 2.0)
    assert tally.text() == "1% (0.21% to 2.9%)"
    assert Tally().text() == "-"
