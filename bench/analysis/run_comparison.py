"""Compare two runs: the same configurations, before and after; what changed, how surely, and under which conditions.

Configurations are matched by config_id and device. A change is from the first run to the second: a difference of test
accuracies, a ratio of everything else.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.analysis.comparison import Row, compare, grouped, nothing
from bench.analysis.formatting import listed, mebibytes, percent, rate, seconds
from bench.analysis.labels import records
from bench.analysis.summary import GRID, Tables, accuracy_floor, read_tables
from bench.errors import StoreError
from bench.result import COLUMNS

METRICS = {
    "test_accuracy": ("test accuracy", percent),
    "images_per_second": ("training speed", rate),
    "inference_images_per_second": ("inference speed", rate),
    "peak_memory_bytes": ("peak memory", mebibytes),
}
OF_THE_DEVICE = ("images_per_second", "inference_images_per_second", "seconds_to_")
CONDITIONS = {"torch": "torch", "python": "Python", "cpu": "CPU", "cores": "cores", "os": "system"}
MANY = 20  # comparisons, of which about one is shown by chance


@dataclass(frozen=True)
class Change:
    """One configuration in one metric; `amount` and its interval are None where they aren't known."""

    config_id: str
    label: str
    device_name: str
    metric: str
    title: str
    a: float | None
    b: float | None
    n_a: int
    n_b: int
    amount: float | None
    low: float | None
    high: float | None
    paired: bool
    verdict: str
    a_text: str
    b_text: str
    amount_text: str
    interval_text: str


@dataclass(frozen=True)
class Changes:
    """All that two runs have to say about each other."""

    a: str
    b: str
    conditions: list[str]
    summary: list[str]
    changes: list[Change]
    only_a: list[str]
    only_b: list[str]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_runs(folder_a: Path, folder_b: Path) -> Changes:
    """Compare two runs, finished or not.

    Raises:
        StoreError: one of them isn't a run, or they have no configuration in common.
    """
    a, b = read_tables(folder_a), read_tables(folder_b)
    if not twins(a, b):
        raise StoreError(
            f"{folder_a} and {folder_b}: no configuration in common "
            f"({len(a.summary)} and {len(b.summary)} of their own); compare runs of the same suite and settings"
        )
    return compare_tables(a, b)


def compare_tables(a: Tables, b: Tables) -> Changes:
    """Compare two runs that have been read; what has no counterpart is only named."""
    pairs = twins(a, b)
    changes = [change for x, y in pairs for change in _changes(a, b, x, y)]
    return Changes(
        str(a.folder),
        str(b.folder),
        _conditions(a, b, pairs),
        list(_sums(changes)),
        changes,
        [row["label"] for row in unmatched(a, (x for x, _ in pairs))],
        [row["label"] for row in unmatched(b, (y for _, y in pairs))],
        _notes(changes),
    )


def twins(a: Tables, b: Tables) -> list[tuple[Row, Row]]:
    """Rows of both with the same config_id: on the same device, or else on the only one that the other run has."""
    ours, theirs = ({_key(row): row for row in records(tables.summary)} for tables in (a, b))
    free = {row["config_id"]: row for key, row in theirs.items() if key not in ours}
    pairs = [(row, theirs.get(key) or free.pop(row["config_id"], None)) for key, row in ours.items()]
    return [(row, twin) for row, twin in pairs if twin]


def unmatched(tables: Tables, matched: Iterable[Row]) -> list[Row]:
    """Rows of a run's summary that aren't among those that have a twin."""
    keys = {_key(row) for row in matched}
    return [row for row in records(tables.summary) if _key(row) not in keys]


def _key(row: Row) -> tuple[str, str]:
    return row["config_id"], row["device_name"]


def _changes(a: Tables, b: Tables, x: Row, y: Row) -> Iterator[Change]:
    metrics = dict(METRICS)
    if a.goal and a.goal in y:
        metrics[a.goal] = (f"time to {100 * a.run['target_accuracy']:g}%", seconds)
    for metric, (title, show) in metrics.items():
        values = a.samples(x, metric), b.samples(y, metric)
        if not any(values):
            continue
        found = compare(metric, values[1], values[0], **resolution(metric, a, b, x, y))
        low, middle, high, _ = found.interval
        missed = ["", ""]  # " (2 of 3)": how many seeds reached a target that some missed
        if metric == a.goal:
            reached = metric.replace("seconds_to", "reached")
            raced = [(row[reached], row["n_raced"]) for row in (x, y)]
            missed = ["" if count == of > 0 else f" ({count:g} of {of:g})" for count, of in raced]
        if any(missed) or not all(values):
            verdict = "not reached by every seed" if any(missed) else "measured in one run only"
            low = middle = high = math.nan
        elif x["device_name"] != y["device_name"] and metric.startswith(OF_THE_DEVICE):
            verdict = "not comparable: other device"
        else:
            more_is_better = metric != a.goal and COLUMNS[metric]["better"] == "higher"
            better = "better" if (found.side > 0) == more_is_better else "worse"
            one_seed = math.isnan(low) or min(map(len, values)) == 1
            verdict = f"{better if found.side else 'no difference shown'}{' (one seed)' if one_seed else ''}"
        yield Change(
            config_id=x["config_id"],
            label=x["label"],
            device_name=y["device_name"],
            metric=metric,
            title=title,
            a=_number(x[metric]),
            b=_number(y[metric]),
            n_a=len(values[0]),
            n_b=len(values[1]),
            amount=_number(middle),
            low=_number(low),
            high=_number(high),
            paired=found.paired,
            verdict=verdict,
            a_text=f"{show(x[metric])}{missed[0]}",
            b_text=f"{show(y[metric])}{missed[1]}",
            amount_text="–" if math.isnan(middle) else found.text,
            interval_text="" if math.isnan(low) else found.ends,
        )


def resolution(metric: str, a: Tables, b: Tables, x: Row, y: Row) -> dict[str, float]:
    """What two rows can't tell apart: of accuracies for their test images, of times for the evaluations' distance."""
    floors = [accuracy_floor(t.run, "test", row[metric]) for t, row in ((a, x), (b, y)) if nothing(metric) == 0]
    grid = max((row[GRID] for row in (x, y) if row[GRID] > 0), default=0.0) if metric.startswith("seconds_to_") else 0.0
    return {"floor": math.hypot(*floors), "grid": grid}


def _conditions(a: Tables, b: Tables, twins: list[tuple[Row, Row]]) -> list[str]:
    """What isn't alike around the two runs, a line each; it's said before any figure."""
    sides: list[dict[str, Any]] = []
    for tables, rows in zip((a, b), ([x for x, _ in twins], [y for _, y in twins]), strict=True):
        machine = tables.run.get("environment") or {}
        changed = " with uncommitted changes" if machine.get("git_dirty") else ""
        around = {name: machine.get(key) for key, name in CONDITIONS.items()}
        around["commit"] = str(machine.get("git_commit") or "")[:12] + changed
        around["threads"] = everything({row["num_threads"] for row in rows})
        around["device"] = everything({row["device_name"] for row in rows})
        around["checksum of the data"] = (tables.run.get("dataset") or {}).get("checksum")
        around["split"] = str(tables.run.get("split") or "")
        sides.append(around)
    before, after = sides
    lines = [f"{name}: {_said(old)}, then {_said(after[name])}" for name, old in before.items() if old != after[name]]
    return lines + [f"{t.folder} isn't finished" for t in (a, b) if len(t.trials) < len(t.run.get("plan") or [])]


def everything(values: set[Any]) -> str:
    known = sorted(value for value in values if value == value and value is not None)
    return listed([f"{value:g}" if isinstance(value, float) else str(value) for value in known])


def _said(value: Any) -> str:
    return "unknown" if value in (None, "") else str(value)


def _sums(changes: list[Change]) -> Iterator[str]:
    """For each metric, how many configurations got better and worse."""
    for title, kinds in grouped((each.title, each.verdict.split(" (")[0]) for each in changes).items():
        parts = [f"{kind} in {count}" for kind, count in Counter(kinds).items()]
        yield f"{title}: {listed(parts)} of {len(kinds)} configuration{'s' * (len(kinds) > 1)}"


def _notes(changes: list[Change]) -> list[str]:
    notes = ["Intervals are over seeds; what a machine does differently from one day to the next isn't in them."]
    if any("one seed" in change.verdict for change in changes):
        notes.append("Of one seed, accuracies have the interval of their test images; all else must differ by a tenth.")
    if len(changes) >= MANY:
        notes.append(f"Of {len(changes)} comparisons at 95%, about one in twenty shows a difference by chance.")
    return notes


def _number(x: float) -> float | None:
    return None if math.isnan(x) else float(x)
