"""The gate's measurements in the shapes of tools that keep histories: pytest-benchmark, github-action-benchmark.

Their thresholds know nothing of launches; the verdict is the gate's own.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from bench.gate.decision_types import CellVerdict, Decision
from bench.gate.journal import Record
from bench.gate.wording import change_in_words, finite, interval_in_percent, plain

PYTEST_BENCHMARK = "5.0.0"  # whose shape `as_pytest_benchmark` has
ARMS = ("base", "head")
Entry = dict[str, Any]


def as_pytest_benchmark(decision: Decision, record: Record) -> Entry:
    """The slices in the shape of pytest-benchmark's JSON: a benchmark a cell and arm, seconds a step, a group a cell.

    `pytest-benchmark compare FILE` shows it. Its threshold rules don't know of launches: the verdict is ours.
    """
    header, where = record.header, record.header.get("environment") or {}
    head = header.get("head") or {}
    verdicts = {cell.cell: cell for cell in decision.cells}
    return finite(
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
                _benchmark(cell, arm, found, verdicts.get(cell)) for (cell, arm), found in _slices(record).items()
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
        rates = _rates_by_launch(record, cell)
        if not rates:
            continue
        unit = "images/s" if _batch(record, cell) else "steps/s"
        entry: Entry = {"name": plain(cell), "unit": unit, "value": _digits(statistics.median(rates))}
        if len(rates) > 1:
            entry["range"] = f"± {_digits(statistics.stdev(rates))}"
        entry["extra"] = "\n".join([f"{len(rates)} launches", *_extra(verdicts.get(cell))])
        entries.append(entry)
    return entries


def _benchmark(cell: str, arm: str, found: Sequence[tuple[int, float]], verdict: CellVerdict | None) -> Entry:
    return {
        "group": plain(cell),
        "name": f"{plain(cell)}[{arm}]",
        "fullname": f"throughput::{plain(cell)}[{arm}]",
        "params": {"arm": arm},
        "param": arm,
        "extra_info": {"verdict": verdict.verdict} if verdict else {},
        "options": {"disable_gc": True, "warmup": True},
        "stats": _stats([seconds / steps for steps, seconds in found], [steps for steps, _ in found]),
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


def _slices(record: Record) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(cell, arm) -> steps and seconds of every slice, in order; only where there is one."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {(cell, arm): [] for cell in _names(record) for arm in ARMS}
    for piece in record.slices:
        found[piece.cell, piece.arm].append((piece.steps, piece.seconds))
    return {key: pieces for key, pieces in found.items() if pieces}


def _names(record: Record) -> list[str]:
    return list(dict.fromkeys([*record.header.get("cells", ()), *(piece.cell for piece in record.slices)]))


def _rates_by_launch(record: Record, cell: str) -> list[float]:
    """Images, or without a known batch steps, a second of head in each launch."""
    pieces = [piece for piece in record.slices if piece.cell == cell and piece.arm == "head"]
    size = _batch(record, cell) or 1
    spent: dict[tuple[str, int], list[float]] = {}
    for piece in pieces:
        steps_and_seconds = spent.setdefault((piece.phase, piece.launch), [0.0, 0.0])
        steps_and_seconds[0] += piece.steps
        steps_and_seconds[1] += piece.seconds
    return [size * steps / seconds for steps, seconds in spent.values()]


def _batch(record: Record, cell: str) -> int | None:
    """Images in a step of head, where its work was counted."""
    found = record.work.get(cell, {}).get("head", {}).get("batch")
    return found if isinstance(found, int) and found > 0 else None


def _extra(cell: CellVerdict | None) -> list[str]:
    if cell is None:
        return []
    return [f"{cell.verdict}: {change_in_words(cell.estimate)} ({interval_in_percent(cell.estimate)})"]


def _digits(x: float) -> float:
    return float(f"{x:.6g}")
