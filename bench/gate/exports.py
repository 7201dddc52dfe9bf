"""The gate's answer as files for programs: JSON, JUnit XML, and the JSON of two tools that keep histories.

What is not measured is null, and NaN, which JSON doesn't have, appears nowhere. The histories' own thresholds know
nothing of launches: the verdict is the gate's.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as Xml

from bench.gate.decision import EXIT_STATUS, CellVerdict, Decision
from bench.gate.journal import Record, Slice
from bench.gate.launch import ARMS
from bench.gate.text import caught_in_percent, change_in_words, failure_line, interval_in_percent, plain, work_line

FORMAT = 1  # of `as_json`
PYTEST_BENCHMARK = "5.0.0"  # whose shape `as_pytest_benchmark` has
Entry = dict[str, Any]


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
    return _finite(answer)


def as_junit(decision: Decision, record: Record) -> str:
    """A test a cell, and one for the work of a step, as Jenkins and GitLab read them.

    A regression is a failure, a crash an error. Inconclusive and missing cells are failures where they decided the exit
    status, else skipped.
    """
    nothing = _test("comparison", 0.0, "failure", decision.verdict, decision.headline)
    tests = [_cell_test(cell, decision, record) for cell in decision.cells] or [nothing]
    tests.append(_work_test(decision, record))
    found = {tag: str(sum(test.find(tag) is not None for test in tests)) for tag in ("failure", "error", "skipped")}
    spent = f"{sum(float(test.attrib['time']) for test in tests):.3f}"
    counts = {"tests": str(len(tests)), "failures": found["failure"], "errors": found["error"], "time": spent}
    suites = Xml.Element("testsuites", {"name": "throughput gate", **counts})
    suite = Xml.SubElement(suites, "testsuite", {"name": "throughput", **counts, "skipped": found["skipped"]})
    if started := record.header.get("started_at"):
        suite.set("timestamp", str(started)[:19])  # the schema's has no zone
    suite.extend(tests)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def as_pytest_benchmark(decision: Decision, record: Record) -> Entry:
    """The slices in the shape of pytest-benchmark's JSON: a benchmark a cell and arm, seconds a step, a group a cell.

    `pytest-benchmark compare FILE` shows it. Its threshold rules don't know of launches: the verdict is ours.
    """
    header, where = record.header, record.header.get("environment") or {}
    head = header.get("head") or {}
    verdicts = {cell.cell: cell for cell in decision.cells}
    return _finite(
        {
            "machine_info": {
                "node": "",  # a host's name is nobody's business
                "processor": where.get("cpu") or "",
                "python_version": where.get("python") or "",
                "cpu": {"brand_raw": where.get("cpu") or "", "count": where.get("cores")},
                "torch": where.get("torch"),
            },
            "commit_info": {
                "id": head.get("commit") or "unversioned",
                "time": None,
                "author_time": None,
                "dirty": bool(head.get("dirty")),
                "project": "vit-cnn-bench",
                "branch": head.get("name") or "(unknown)",
            },
            "benchmarks": [
                _benchmark(slices, verdicts.get(cell))
                for cell in _names(record)
                for arm in ARMS
                if (slices := [each for each in record.slices if (each.cell, each.arm) == (cell, arm)])
            ],
            "datetime": header.get("started_at"),
            "version": PYTEST_BENCHMARK,
        }
    )


def as_github_benchmark(decision: Decision, record: Record) -> list[Entry]:
    """Head's throughput a cell, for github-action-benchmark's `customBiggerIsBetter`: a history to look at.

    value: median over launches; range: their standard deviation. Its points come from different machines, so its alerts
    are no verdict.
    """
    verdicts = {cell.cell: cell for cell in decision.cells}
    entries = []
    for cell in _names(record):
        images = record.work.get(cell, {}).get("head", {}).get("batch")  # a step, where that was counted
        rates = _rates_by_launch(record, cell, images or 1)
        if not rates:
            continue
        unit = "images/s" if images else "steps/s"
        entry: Entry = {"name": plain(cell), "unit": unit, "value": float(f"{statistics.median(rates):.6g}")}
        if len(rates) > 1:
            entry["range"] = f"± {float(f'{statistics.stdev(rates):.6g}')}"
        entry["extra"] = f"{len(rates)} launches"
        if found := verdicts.get(cell):
            entry["extra"] += f"\n{found.verdict}: {_change(found)}"
        entries.append(entry)
    return entries


def _cell(cell: CellVerdict) -> dict[str, Any]:
    estimate, (base, head) = cell.estimate, cell.seconds_per_step or (None, None)
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
        "base_seconds_per_step": base,
        "head_seconds_per_step": head,
    }


def _cell_test(cell: CellVerdict, decision: Decision, record: Record) -> Xml.Element:
    spent = math.fsum(piece.seconds for piece in record.slices if piece.cell == cell.cell)
    decided = decision.exit_status == EXIT_STATUS[cell.verdict]
    outcomes = {"pass": "", "regression": "failure", "crashed": "error"}
    outcome = outcomes.get(cell.verdict, "failure" if decided else "skipped")
    change = _change(cell)
    message = f"{cell.verdict}: {change if cell.estimate else cell.reason}"
    lines = [change, f"would have caught {caught_in_percent(cell.detectable)}", cell.reason] if cell.estimate else []
    lines += [failure_line(failure) for failure in decision.failures if failure.cell in (None, cell.cell)]
    lines += [work_line(change) for change in decision.work if change.cell == cell.cell]
    return _test(cell.cell, spent, outcome, message, "\n".join(plain(line) for line in lines if line))


def _change(cell: CellVerdict) -> str:
    return f"{change_in_words(cell.estimate)} ({interval_in_percent(cell.estimate)})"


def _work_test(decision: Decision, record: Record) -> Xml.Element:
    more = sum(change.direction == "more" for change in decision.work)
    if not any({"base", "head"} <= arms.keys() for arms in record.work.values()):
        return _test("work of a step", 0.0, "skipped", "no cell's work was counted in both trees", "")
    outcome = "failure" if more and decision.exit_status == EXIT_STATUS["regression"] else ""
    message = f"a step of head does more than one of base: {more} counts" if more else "a step of head does no more"
    return _test("work of a step", 0.0, outcome, message, "\n".join(plain(work_line(c)) for c in decision.work))


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


def _benchmark(slices: Sequence[Slice], verdict: CellVerdict | None) -> Entry:
    """Of the slices of one cell and arm."""
    cell, arm = plain(slices[0].cell), slices[0].arm
    return {
        "group": cell,
        "name": f"{cell}[{arm}]",
        "fullname": f"throughput::{cell}[{arm}]",
        "params": {"arm": arm},
        "param": arm,
        "extra_info": {"verdict": verdict.verdict} if verdict else {},
        "options": {"disable_gc": True, "warmup": True},
        "stats": _stats([each.seconds / each.steps for each in slices], [each.steps for each in slices]),
    }


def _stats(data: list[float], steps: list[int]) -> Entry:
    """pytest-benchmark's figures; a round is a slice, its iterations are steps. Quartiles are medians of the halves."""
    ordered, half = sorted(data), (len(data) + 1) // 2
    mean, spread = statistics.fmean(data), statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = statistics.median(ordered[:half]), statistics.median(ordered[-half:])
    fences = (q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))
    inside = [x for x in ordered if fences[0] <= x <= fences[1]]
    far = sum(abs(x - mean) > spread for x in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(data) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(data) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean,
        "total": math.fsum(data),
        "data": data,
        "iterations": round(statistics.median(steps)),
    }


def _names(record: Record) -> list[str]:
    return list(dict.fromkeys([*record.header.get("cells", ()), *(piece.cell for piece in record.slices)]))


def _rates_by_launch(record: Record, cell: str, size: int) -> list[float]:
    """Head's steps of so many images a second, in each launch."""
    launches: dict[int, list[Slice]] = {}
    for piece in record.slices:
        if (piece.cell, piece.arm) == (cell, "head"):
            launches.setdefault(piece.launch, []).append(piece)
    return [size * sum(p.steps for p in pieces) / sum(p.seconds for p in pieces) for pieces in launches.values()]


def _finite(content: Entry) -> Entry:
    """The same with null for infinite and undefined numbers."""
    return json.loads(json.dumps(content), parse_constant=lambda name: None)
