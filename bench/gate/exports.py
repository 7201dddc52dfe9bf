"""The gate's answer as files for programs: JSON and JUnit XML; bench.gate.gate_history has two more shapes.

Plain shapes: what is not measured is null, and NaN, which JSON doesn't have, appears nowhere.
"""

import math
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as Xml

from bench.gate.decision_types import EXIT_STATUS, CellVerdict, Decision
from bench.gate.gate_history import as_github_benchmark, as_pytest_benchmark
from bench.gate.journal import Record
from bench.gate.wording import (
    caught_in_percent,
    change_in_words,
    failure_line,
    finite,
    interval_in_percent,
    plain,
    work_line,
)

__all__ = ["as_github_benchmark", "as_json", "as_junit", "as_pytest_benchmark"]

FORMAT = 1


def as_json(decision: Decision, record: Record) -> dict[str, Any]:
    """Everything that was decided, and on what; keys are there whatever came out. Ratios and shares, seconds."""
    header = dict(record.header)
    asked = {key: header.pop(key, None) for key in ("base", "head", "margin", "promise", "threads", "command")}
    made = {key: header.pop(key, None) for key in ("started_at", "environment")}
    answer = {
        "format": FORMAT,
        "verdict": decision.verdict,
        "exit_status": decision.exit_status,
        "headline": decision.headline,
        **asked,
        "cells": [_cell(cell) for cell in decision.cells],
        "work": [asdict(change) for change in decision.work],
        "failures": [asdict(failure) for failure in decision.failures],
        "notes": list(decision.notes),
        "launches": {phase: decision.launches.get(phase, 0) for phase in ("screen", "confirm")},
        "ended": record.ended,
        **made,
        "header": header,
    }
    return finite(answer)


def as_junit(decision: Decision, record: Record) -> str:
    """A test a cell, and one for the work of a step, as Jenkins and GitLab read them.

    A regression is a failure, a crash an error. Inconclusive and missing cells are failures where they decided the exit
    status, else skipped.
    """
    tests = [_cell_test(cell, decision, record) for cell in decision.cells]
    if not tests:
        tests = [_test("comparison", 0.0, "failure", decision.verdict, decision.headline)]
    tests.append(_work_test(decision, record))
    counts = {
        "tests": str(len(tests)),
        "failures": str(sum(test.find("failure") is not None for test in tests)),
        "errors": str(sum(test.find("error") is not None for test in tests)),
        "time": f"{sum(float(test.attrib['time']) for test in tests):.3f}",
    }
    suites = Xml.Element("testsuites", {"name": "throughput gate", **counts})
    suite = Xml.SubElement(suites, "testsuite", {"name": "throughput", **counts})
    suite.set("skipped", str(sum(test.find("skipped") is not None for test in tests)))
    if started := record.header.get("started_at"):
        suite.set("timestamp", str(started)[:19])  # the schema's has no zone
    suite.extend(tests)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def _cell(cell: CellVerdict) -> dict[str, Any]:
    estimate, times = cell.estimate, cell.seconds_per_step
    return {
        "cell": cell.cell,
        "verdict": cell.verdict,
        "faster": cell.faster,
        "ratio": estimate.ratio if estimate else None,
        "ratio_low": estimate.low if estimate else None,
        "ratio_high": estimate.high if estimate else None,
        "launches": estimate.n if estimate else None,
        "noise": cell.noise,
        "detectable": cell.detectable,
        "p_screen": cell.p_screen,
        "p_confirm": cell.p_confirm,
        "reason": cell.reason,
        "base_seconds_per_step": times[0] if times else None,
        "head_seconds_per_step": times[1] if times else None,
    }


def _cell_test(cell: CellVerdict, decision: Decision, record: Record) -> Xml.Element:
    spent = math.fsum(piece.seconds for piece in record.slices if piece.cell == cell.cell)
    decided = decision.exit_status == EXIT_STATUS[cell.verdict]
    outcomes = {"pass": "", "regression": "failure", "crashed": "error"}
    outcome = outcomes.get(cell.verdict, "failure" if decided else "skipped")
    change = f"{change_in_words(cell.estimate)} ({interval_in_percent(cell.estimate)})"
    message = f"{cell.verdict}: {change if cell.estimate else cell.reason}"
    lines = [change, f"would have caught {caught_in_percent(cell.detectable)}", cell.reason] if cell.estimate else []
    lines += [failure_line(failure) for failure in decision.failures if failure.cell in (None, cell.cell)]
    lines += [work_line(change) for change in decision.work if change.cell == cell.cell]
    return _test(cell.cell, spent, outcome, message, "\n".join(plain(line) for line in lines if line))


def _work_test(decision: Decision, record: Record) -> Xml.Element:
    compared = any({"base", "head"} <= arms.keys() for arms in record.work.values())
    more = sum(change.direction == "more" for change in decision.work)
    if not compared:
        return _test("work of a step", 0.0, "skipped", "no cell's work was counted in both trees", "")
    outcome = "failure" if more and decision.exit_status == EXIT_STATUS["regression"] else ""
    lines = [plain(work_line(change)) for change in decision.work]
    return _test(
        "work of a step",
        0.0,
        outcome,
        f"a step of head does more than one of base: {more} counts" if more else "a step of head does no more",
        "\n".join(lines),
    )


def _test(name: str, spent: float, outcome: str, message: str, text: str) -> Xml.Element:
    """A testcase; one that passed has the text as its output. GitLab shows the text alone, Jenkins the message too."""
    test = Xml.Element("testcase", {"classname": "throughput", "name": plain(name), "time": f"{spent:.3f}"})
    if outcome == "skipped":
        Xml.SubElement(test, outcome, {"message": plain(message)}).text = text
    elif outcome:
        Xml.SubElement(test, outcome, {"message": plain(message), "type": outcome}).text = text or plain(message)
    elif text:
        Xml.SubElement(test, "system-out").text = text
    return test
