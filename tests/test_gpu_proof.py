"""The proof for a graphics card, as far as a processor can rehearse it: each part in its short form."""

import gpu_proof
import pytest
from gpu_proof import PARTS, Asked, in_a_process, page

QUICK = ("losses", "modes", "memory", "energy", "speeds", "smoke")  # compiling takes most of a minute


@pytest.mark.slow
@pytest.mark.parametrize("part", [*QUICK, "channels_last"])
def test_each_part_runs_in_its_short_form(part: str) -> None:
    outcome = in_a_process(part, Asked("cpu", short=True, seconds=110.0))
    assert outcome.lines
    assert outcome.holds is not False, outcome.lines


@pytest.mark.slow
def test_a_part_that_fails_says_why_and_costs_the_others_nothing() -> None:
    outcome = in_a_process("memory", Asked("cuda:77", short=True))
    assert outcome.holds is False
    assert "cuda:77" in outcome.lines[0]


def test_the_page_has_every_part_and_names_those_that_time_did_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_proof, "in_a_process", lambda name, asked: pytest.fail(f"{name} was begun"))
    lines = [*page(Asked("cpu", seconds=0.0), [*PARTS])]
    assert lines.count("- Not begun.") == len(PARTS)
    assert sum("**no**" in line for line in lines) == len(PARTS)
    assert "pytest -m gpu" in lines[-1]
