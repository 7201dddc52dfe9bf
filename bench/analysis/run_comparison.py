"""Compare two runs: the same configurations, before and after; what changed, how surely, and under which conditions.

Configurations are matched by config_id and device. A change is from the first run to the second: a difference of test
accuracies, a ratio of everything else. The launches of two runs see a machine in different states, so speeds are held
against the run's mean speed; how the means differ is a line about the machine.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.analysis.comparison import (
    MEMORY_GRID,
    TIME,
    Comparison,
    Row,
    by_launches,
    compare,
    has_blocks,
    margin_of,
    nothing,
    on_grid,
    ratio_of_rows,
)
from bench.analysis.formatting import listed, mebibytes, percent, rate, seconds
from bench.analysis.labels import family_title, grouped, records
from bench.analysis.speeds import INFERENCE, LATENCY, TRAINING, WORK, cell_of, count_threads
from bench.analysis.summary import GRID, MEMORY, Tables, accuracy_floor, read_tables
from bench.errors import StoreError
from bench.measure.speed_stats import FEWEST_LAUNCHES
from bench.measure.stats import Interval, ratio_by_seed, ratio_interval, times
from bench.result import COLUMNS

METRICS = {
    "test_accuracy": ("test accuracy", percent),
    "images_per_second": ("training speed", rate),
    "inference_images_per_second": ("inference speed", rate),
    "peak_memory_bytes": ("peak memory", mebibytes),
}
OF_THE_DEVICE = ("images_per_second", "inference_images_per_second", "seconds_to_")
CONDITIONS = {"torch": "torch", "python": "Python", "cpu": "CPU", "cores": "cores", "os": "system"}
MACHINE_MARGIN = 0.03  # less isn't worth a line
MANY = 20  # comparisons, of which about one is shown by chance


LevelKey = tuple[str, str, str, int]  # devices of both runs, metric, threads


@dataclass(frozen=True)
class Level:
    """How fast each launch of two runs was: launch -> mean log images/s of the `count` configurations in common."""

    count: int
    a: dict[int, float]
    b: dict[int, float]


Levels = Mapping[LevelKey, Level]


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
            f"({len(a.summary)} and {len(b.summary)} of their own{_unlike(a, b)}); compare runs of the same suite and "
            "settings"
        )
    return compare_tables(a, b)


def compare_tables(a: Tables, b: Tables) -> Changes:
    """Compare two runs that have been read; what has no counterpart is only named."""
    pairs = twins(a, b)
    levels = find_levels(a, b, pairs)
    changes = [change for x, y in pairs for change in _changes(a, b, x, y, levels)]
    return Changes(
        str(a.folder),
        str(b.folder),
        [*_conditions(a, b, pairs), *_machine_lines(levels)],
        list(_sums(changes)),
        changes,
        [row["label"] for row in unmatched(a, (x for x, _ in pairs))],
        [row["label"] for row in unmatched(b, (y for _, y in pairs))],
        _notes(changes, levels),
    )


def _unlike(a: Tables, b: Tables) -> str:
    """ "; ViT: unlike in learning_rate", of the first configurations of a family that both have; or ""."""
    for x in records(a.summary):
        for y in (row for row in records(b.summary) if row["model"] == x["model"]):
            sides = [
                {"dtype": row["dtype"]} | _settings(row["settings"]) | _settings(row["training"]) for row in (x, y)
            ]
            keys = [key for key in sides[0] | sides[1] if sides[0].get(key) != sides[1].get(key)]
            return f"; {family_title(x['model'])}: unlike in {listed(keys)}" if keys else ""
    return ""


def _settings(text: str) -> dict[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


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


def find_levels(a: Tables, b: Tables, pairs: list[tuple[Row, Row]]) -> Levels:
    """How fast each launch of two runs was as a whole, wherever they have two configurations or more in common."""
    timed = grouped(
        (_level_key(x, y, metric), (x, y))
        for metric in (TRAINING, INFERENCE)
        for x, y in pairs
        if by_launches(x) and by_launches(y) and x[metric] > 0 and y[metric] > 0
    )
    return {
        key: Level(
            len(own),
            _by_launch([_logs(a, x, key[2], key[3]) for x, _ in own]),
            _by_launch([_logs(b, y, key[2], key[3]) for _, y in own]),
        )
        for key, own in timed.items()
        if len(own) > 1
    }


def _level_key(x: Row, y: Row, metric: str) -> LevelKey:
    """Where two runs lead with unlike numbers of threads, the smaller one is known in both."""
    return x["device_name"], y["device_name"], metric, int(min(x["speed_threads"], y["speed_threads"]))


def _logs(tables: Tables, row: Row, metric: str, threads: int) -> Mapping[int, float]:
    """Launch -> log images/s of a row."""
    return tables.speeds[row["device_name"]].logs.get(cell_of(row, metric, threads), {})


def _by_launch(cells: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over cells in each launch; what a launch lacks doesn't move it, since each cell's own mean is known."""
    known = [(logs, statistics.fmean(logs.values())) for logs in cells if logs]
    middle = statistics.fmean(mean for _, mean in known)
    apart = grouped((launch, value - mean) for logs, mean in known for launch, value in logs.items())
    return {launch: middle + statistics.fmean(values) for launch, values in apart.items()}


def change(a: Tables, b: Tables, x: Row, y: Row, metric: str, levels: Levels | None = None) -> Comparison | None:
    """From row `x` of run `a` to row `y` of run `b`; None where they were timed in ways that can't be compared.

    Launches of two runs share no moment, so nothing is paired by them. With `levels`, speeds are multiples of how fast
    each launch was as a whole; a configuration without a level can't be told from its machine.
    """
    margin, time = margin_of(b.run, metric), metric.startswith(TIME)
    launched = [by_launches(row) for row in (x, y)]
    if not (time or metric in WORK) or not any(launched):
        if has_blocks(x, y, metric):
            return Comparison(metric, ratio_of_rows(y, x, metric), margin=margin)
        new, old = b.samples(y, metric), a.samples(x, metric)
        return compare(metric, new, old, margin=margin, **resolution(metric, a, b, x, y))
    key = _level_key(x, y, TRAINING if time else metric) if all(launched) else None
    level = levels.get(key) if key and levels is not None else Level(1, {}, {})
    if key is None or level is None:
        return None
    sides = [
        [math.exp(log - base.get(launch, 0.0)) for launch, log in _logs(tables, row, *key[2:]).items()]
        for tables, row, base in ((b, y, level.b), (a, x, level.a))
    ]
    speed, grid = ratio_interval(*sides, questions=level.count), 0.0
    noisy = speed.n < FEWEST_LAUNCHES
    if time:
        images = [t.samples(row, metric.replace(TIME, "images_to_")) for t, row in ((b, y), (a, x))]
        speed = times(ratio_by_seed(*images, medians=True)[0], speed, -1)
        grid = resolution(metric, a, b, x, y)["grid"]
    elif metric == LATENCY:
        speed = Interval(1 / speed.high, 1 / speed.amount, 1 / speed.low, speed.n)
    return on_grid(Comparison(metric, speed, False, "launch", margin, noisy), (x[metric], y[metric]), grid)


def _changes(a: Tables, b: Tables, x: Row, y: Row, levels: Levels) -> Iterator[Change]:
    metrics = dict(METRICS)
    if a.goal and a.goal in y:
        metrics[a.goal] = (f"time to {100 * a.run['target_accuracy']:g}%", seconds)
    for metric, (title, show) in metrics.items():
        measured = [row[metric] == row[metric] for row in (x, y)]
        counts = [_count(tables, row, metric) for tables, row in ((a, x), (b, y))]
        missed = ["", ""]  # " (2 of 3)": how many seeds reached a target that some missed
        if metric == a.goal:
            reached = metric.replace("seconds_to", "reached")
            raced = [(row[reached], row["n_raced"]) for row in (x, y)]
            missed = ["" if count == of > 0 else f" ({count:g} of {of:g})" for count, of in raced]
        if not any(measured) and not (metric == a.goal and any(counts)):
            continue
        found = change(a, b, x, y, metric, levels) if all(measured) else None
        low, middle, high = found.interval[:3] if found else [math.nan] * 3
        if any(missed) or not all(measured):
            verdict = "not reached by every seed" if any(missed) else "measured in one run only"
            low = middle = high = math.nan
        elif x["device_name"] != y["device_name"] and metric.startswith(OF_THE_DEVICE):
            verdict = "not comparable: other device"
        elif found is None:
            launched = [by_launches(row) for row in (x, y)]
            verdict = f"not comparable: {'no second configuration' if all(launched) else 'timed in another way'}"
        else:
            more_is_better = metric != a.goal and COLUMNS[metric]["better"] == "higher"
            better = "better" if (found.side > 0) == more_is_better else "worse"
            one_seed = found.unit == "seed" and min(counts) == 1
            verdict = f"{better if found.side else found.unsure}{' (one seed)' if one_seed else ''}"
        if found and found.noisy:
            low = middle = high = math.nan
        yield Change(
            config_id=x["config_id"],
            label=x["label"],
            device_name=y["device_name"],
            metric=metric,
            title=title,
            a=_number(x[metric]),
            b=_number(y[metric]),
            n_a=counts[0],
            n_b=counts[1],
            amount=_number(middle),
            low=_number(low),
            high=_number(high),
            paired=bool(found and found.paired),
            verdict=verdict,
            a_text=f"{show(x[metric])}{missed[0]}",
            b_text=f"{show(y[metric])}{missed[1]}",
            amount_text=found.text if found and not math.isnan(middle) else "–",
            interval_text=found.ends if found and not math.isnan(low) else "",
        )


def _count(tables: Tables, row: Row, metric: str) -> int:
    """How many launches or seeds stand behind a figure."""
    of_launches = metric in WORK and by_launches(row)
    return int(row["n_launches"]) if of_launches else len(tables.samples(row, metric))


def resolution(metric: str, a: Tables, b: Tables, x: Row, y: Row) -> dict[str, float]:
    """What two rows can't tell apart: for their test images, the evaluations' distance, or pages of memory."""
    floors = [accuracy_floor(t.run, "test", row[metric]) for t, row in ((a, x), (b, y)) if nothing(metric) == 0]
    grid = MEMORY_GRID if metric == MEMORY else 0.0
    if metric.startswith("seconds_to_"):
        grid = max((row[GRID] for row in (x, y) if row[GRID] > 0), default=0.0)
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
        tuned = tables.run.get("tuned") == "whole"  # a budget may have ended it before
        around["recipes"] = f"the best of {tables.run.get('tune')} tried" if tuned else "the suite's own"
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


def _machine_lines(levels: Levels) -> Iterator[str]:
    """The machine's own speed, where it is shown to differ from one run to the other."""
    for (_, device, metric, threads), level in levels.items():
        sides = [[math.exp(log) for log in side.values()] for side in (level.b, level.a)]
        found = Comparison(metric, ratio_interval(*sides), False, "launch", MACHINE_MARGIN)
        if found.shown:
            yield (
                f"{METRICS[metric][0]} on {device}: the {level.count} configurations in common "
                f"({count_threads(threads)}) are in the mean {found.text} times as fast in the second run "
                f"({found.ends})"
            )


def _notes(changes: list[Change], levels: Levels) -> list[str]:
    notes = ["Intervals are over seeds; what a machine does differently from one day to the next isn't in them."]
    if levels:
        most = max(level.count for level in levels.values())
        notes = [
            "Speeds, and times to accuracy, are relative to the run's mean speed over the configurations in common: "
            "what a machine does to all of them alike drops out. So where one becomes faster, the others seem a little "
            f"slower. Their intervals are over launches, and hold for all {most} configurations at once (Bonferroni); "
            "those of accuracy and memory are over seeds.",
        ]
    if any("one seed" in change.verdict for change in changes):
        notes.append("Of one seed, accuracies have the interval of their test images, speeds that of timed blocks.")
    if len(changes) >= MANY:
        notes.append(f"Of {len(changes)} comparisons at 95%, about one in twenty shows a difference by chance.")
    return notes


def _number(x: float) -> float | None:
    return None if math.isnan(x) else float(x)
