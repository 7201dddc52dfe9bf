"""Made-up gates: a journal's record with plausible slices, and decisions on it, for the tests of what people read."""

import random
from dataclasses import replace
from typing import Any

from bench.gate.decision import EXIT_STATUS, CellVerdict, Decision, Estimate, Verdict
from bench.gate.journal import Arm, Failure, Phase, Record, Slice
from bench.gate.work_diff import WorkChange

CELLS = {"vit train": 0.0182, "cnn train": 0.0257}  # seconds a step of base
ENVIRONMENT = {"python": "3.12.3", "torch": "2.14.0", "cpu": "AMD EPYC 7R13", "cores": 2}
COMMAND = "run_bench.py gate --base origin/main --budget 2m"
MORE = WorkChange("cnn train", "operators", "412", "416", "4 more aten.clone (float32) a step", "more")


def make_record(
    slower: dict[str, float] | None = None, launches: int = 8, confirm: int = 0, images: int | None = 128, **header: Any
) -> Record:
    """`launches` of the screen and `confirm` more, two blocks of four slices each, for both cells.

    slower: cell -> head's step time over base's.
    """
    dice = random.Random(4)
    record = Record(
        {
            "format": 1,
            "cells": list(CELLS),
            "margin": 0.03,
            "promise": 0.10,
            "threads": 1,
            "base": {"name": "origin/main", "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "head": {"name": "fast-attention", "commit": "89abcdef0123456789abcdef0123456789abcdef", "dirty": True},
            "command": COMMAND,
            "started_at": "2026-11-22T10:00:00+00:00",
            "environment": ENVIRONMENT,
        }
        | header,
        ended=True,
    )
    for number in range(launches + confirm):
        phase: Phase = "screen" if number < launches else "confirm"
        record.launches[phase].append(number)
        record.wall_seconds.append(6.5)
        for cell, seconds in CELLS.items():
            ratio = (slower or {}).get(cell, 1.0) * dice.gauss(1, 0.02)
            record.slices += _blocks(dice, number, phase, cell, seconds, ratio)
    if images:
        record.work = {cell: {arm: {"batch": images} for arm in ("base", "head")} for cell in CELLS}
    return record


def _blocks(dice: random.Random, launch: int, phase: Phase, cell: str, seconds: float, ratio: float) -> list[Slice]:
    arms: dict[str, Arm] = {"A": "base", "B": "head"}
    slices = []
    for block in range(2):
        for slot, letter in enumerate(dice.choice(("ABBA", "BAAB"))):
            arm, steps = arms[letter], round(0.25 / seconds) + 1
            each = seconds * (ratio if arm == "head" else 1) * dice.gauss(1, 0.01)
            slices.append(Slice(launch, phase, cell, block, slot, arm, steps, steps * each))
    return slices


def passing(cell: str = "vit train") -> CellVerdict:
    return CellVerdict(
        cell,
        "pass",
        Estimate(0.992, 1.003, 1.021, 8),
        noise=0.018,
        detectable=0.055,
        p_screen=0.61,
        seconds_per_step=(0.0182, 0.0183),
    )


def regressing(cell: str = "cnn train") -> CellVerdict:
    return CellVerdict(
        cell,
        "regression",
        Estimate(1.088, 1.113, 1.139, 8),
        noise=0.021,
        detectable=0.061,
        p_screen=0.0004,
        p_confirm=0.0002,
        reason="flagged at 12.6%, confirmed",
        seconds_per_step=(0.0257, 0.0286),
    )


def undecided(cell: str = "cnn train") -> CellVerdict:
    return replace(
        passing(cell),
        verdict="inconclusive",
        estimate=Estimate(0.97, 1.041, 1.118, 8),
        noise=0.09,
        detectable=0.21,
        reason="a slowdown of 10% can't be excluded",
    )


def crashing(cell: str = "cnn train", reason: str = "killed by signal 9") -> tuple[CellVerdict, Failure]:
    return CellVerdict(cell, "crashed", reason=reason), Failure("crash", "head", cell, reason, 3)


def make_decision(
    *cells: CellVerdict, verdict: Verdict | None = None, exit_status: int | None = None, **more: Any
) -> Decision:
    """A decision with the verdict of its last cell, unless another is named."""
    verdict = verdict or cells[-1].verdict
    status = EXIT_STATUS[verdict] if exit_status is None else exit_status
    headlines = {
        "pass": "No regression: every cell is less than 10% slower with 95% confidence.",
        "regression": "Regression: cnn train is 11.3% slower; flagged, and confirmed on fresh launches.",
        "inconclusive": "Inconclusive: this machine's noise leaves 1 of 2 cells undecided.",
        "missing": "Not comparable: base doesn't have cnn train.",
        "crashed": "A worker failed: killed by signal 9.",
    }
    return Decision(
        verdict, status, **{"headline": headlines[verdict], "cells": cells, "launches": {"screen": 8}} | more
    )
