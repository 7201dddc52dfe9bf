"""Limits on what may change from one run to another: `compare --fail-on speed:-10%`, and the exit status it gives.

A machine has another speed on another day. So what a clock measured is divided by how much faster the machine has
become: the ratio of the fastest matrix products (FLOP/s), which every trial measures beside its own work, over all
trials of the device in the same numeric mode and with as many threads. The interval of that ratio widens that of the
change.
"""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.analysis.comparison import Row, by_launches, nothing
from bench.analysis.formatting import listed, points
from bench.analysis.run_comparison import change, everything, twins, unmatched
from bench.analysis.summary import Tables
from bench.errors import UserError, nearest
from bench.measure.stats import Interval, ratio_interval

Verdict = Literal["ok", "worse", "uncertain", "missing"]
EXIT_STATUS: dict[Verdict, int] = {"worse": 1, "missing": 4, "uncertain": 3, "ok": 0}  # the first that occurs counts
UNKNOWN_ENDS = 1.1  # what has no interval is taken as known to a tenth
PEAK = "matmul_flops_per_second"
# name -> column ("" for that of the headline target), the worse direction, and whether the machine's speed is in it: 1
# of a speed, -1 of a time
METRICS = {
    "speed": ("images_per_second", "-", 1),
    "inference-speed": ("inference_images_per_second", "-", 1),
    "latency": ("latency_p50_seconds", "+", -1),
    "memory": ("peak_memory_bytes", "+", 0),
    "accuracy": ("test_accuracy", "-", 0),
    "time-to-accuracy": ("", "+", -1),
}
# name -> what has to be alike in both runs, unless it is allowed to differ
ALLOWED = {
    "cpu": "CPU",
    "device": "device",
    "threads": "threads",
    "torch": "torch",
    "data": "data",
    "new": "configurations that only the second run has",
}


@dataclass(frozen=True)
class Limit:
    """The worst change that still passes: a ratio less 1 (-0.1 is "-10%"), of accuracies a difference (-0.005)."""

    metric: str
    change: float
    text: str

    @property
    def none(self) -> float:
        return 0.0 if self.metric == "accuracy" else 1.0

    def exceeded_by(self, amount: float) -> bool:
        """Whether a ratio, or a difference of accuracies, is worse than the limit."""
        limit = self.none + self.change
        return amount < limit if self.change < 0 else amount > limit


@dataclass(frozen=True)
class Judged:
    """One configuration held against one limit; `change` and its interval are shares or fractions, None if unknown."""

    config_id: str
    label: str
    device_name: str
    metric: str
    limit: str
    verdict: Verdict
    change: float | None = None
    low: float | None = None
    high: float | None = None
    normalised: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Machine:
    """Its speed in the second run as a multiple of the first, by matrix products, with the interval's ends."""

    low: float
    speed: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """What the limits come to. `machine`: the speed by which figures were normalised, of each device and mode."""

    verdict: Verdict
    exit_status: int
    headline: str
    judged: list[Judged]
    machine: dict[str, Machine]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_limit(text: str) -> Limit:
    """A limit from "speed:-10%", "memory:+10%" or "accuracy:-0.5" (points).

    Raises:
        UserError: another shape, metric, unit or direction.
    """
    where = f"--fail-on {text}"
    found = re.fullmatch(r"\s*([^:]*?)\s*:\s*([+-]?)(\d+(?:\.\d*)?|\.\d+)\s*(\S*)\s*", text)
    name = found[1] if found else text.split(":")[0].strip()
    if name not in METRICS:
        raise UserError(f"{where}: no such metric; {nearest(name, METRICS)}")
    worse = METRICS[name][1]
    unit, example = ("points", f"{name}:-0.5") if name == "accuracy" else ("%", f"{name}:{worse}10%")
    if not found:
        raise UserError(f"{where}: should be METRIC:CHANGE, such as {example}")
    if found[4] != unit and not (name == "accuracy" and not found[4]):
        said = f"'{found[4]}' is no unit of it" if found[4] else "the unit is missing"
        raise UserError(f"{where}: {said}; {name} changes by {unit}: {example}")
    size = float(found[3]) / 100
    if found[2] != worse or size == 0 or (worse == "-" and size >= 1):
        way = "down, and by less than 100" if worse == "-" else "up"
        raise UserError(f"{where}: {name} gets worse by going {way}; write a change such as {example}")
    return Limit(name, -size if worse == "-" else size, text.strip())


def judge(a: Tables, b: Tables, limits: Sequence[Limit], allow: Collection[str] = ()) -> Judgement:
    """Hold what changed from run `a` to run `b` against limits.

    A configuration is worse where the change is beyond the limit and shown to be one (its interval leaves out "no
    change"), and uncertain where the interval holds both the limit and no change. What has no interval is
    taken as known to a tenth.

    Raises:
        UserError: the runs differ in something that isn't in `allow`, or that has a name which can't be there.
    """
    for name in sorted(set(allow) - ALLOWED.keys()):
        raise UserError(f"--allow {name}: no such difference; {nearest(name, ALLOWED)}")
    pairs = twins(a, b)
    differ = _differences(a, b, pairs)
    if refused := [name for name in differ if name not in allow]:
        told = "; ".join(differ[name] for name in refused)
        raise UserError(f"{told}; compare like with like, or --allow {','.join(refused)}")
    judged = [each for x, y in pairs for limit in limits for each in _judge(limit, a, b, x, y, "new" in allow)]
    gone = unmatched(a, (x for x, _ in pairs))
    new = [] if "new" in allow else unmatched(b, (y for _, y in pairs))
    judged += [
        Judged(*_about(limit, row, row), "missing", reason=f"in the {which} run only")
        for which, rows in (("first", gone), ("second", new))
        for row in rows
        for limit in limits
    ]
    verdicts = {each.verdict for each in judged}
    verdict: Verdict = next((verdict for verdict in EXIT_STATUS if verdict in verdicts), "missing")
    unmeasured = [limit.text for limit in limits if all(each.limit != limit.text for each in judged)]
    if unmeasured and verdict != "worse":
        verdict = "missing"
    headline = _headline(verdict, judged, unmeasured)
    machine = {_mode(x): found for x, y in pairs if (found := _machine(a, b, x, y))}
    return Judgement(verdict, EXIT_STATUS[verdict], headline, judged, machine, list(_notes(a, judged, machine, differ)))


def _differences(a: Tables, b: Tables, pairs: Sequence[tuple[Row, Row]]) -> dict[str, str]:
    """What isn't alike, a clause each, by its name in `ALLOWED`."""
    if not pairs:
        return {}
    values: dict[str, list[Any]] = {"cpu": [], "device": [], "threads": [], "torch": [], "data": []}
    counts = [(x, y) for x, y in pairs if everything({x["num_threads"]}) != everything({y["num_threads"]})]
    for side, tables in enumerate((a, b)):
        machine, rows = tables.run.get("environment") or {}, [pair[side] for pair in pairs]
        names = {"cpu": [machine.get("cpu")], "device": []}
        for row in rows:
            names["cpu" if row["device"] == "cpu" else "device"].append(row["device_name"])
        for kind, found in names.items():
            values[kind].append(listed(list(dict.fromkeys(name or "unknown" for name in found))))
        values["threads"].append(everything({pair[side]["num_threads"] for pair in counts}))
        values["torch"].append(".".join(str(machine.get("torch") or "unknown").split("+")[0].split(".")[:2]))
        values["data"].append((tables.run.get("dataset") or {}).get("checksum"))
    return {
        name: f"{ALLOWED[name]}: {old or 'unknown'} in the first run, {new or 'unknown'} in the second"
        for name, (old, new) in values.items()
        if old != new or (name == "threads" and counts)
    }


def _about(limit: Limit, x: Row, y: Row) -> tuple[str, str, str, str, str]:
    """The first fields of a Judged: `x` of the first run, on the device of `y`."""
    return x["config_id"], x["label"], y["device_name"], limit.metric, limit.text


def _judge(limit: Limit, a: Tables, b: Tables, x: Row, y: Row, new: bool) -> Iterator[Judged]:
    """One configuration's verdict; none where neither run measured it, or only the second did and that is allowed."""
    column, _, power = METRICS[limit.metric]
    column = column or a.goal
    if not column or column not in y:
        return
    before, after = (row[column] == row[column] for row in (x, y))
    about = _about(limit, x, y)
    if column == a.goal and (x["n_raced"] or y["n_raced"]):
        (reached, of), (then, of_then) = [
            (row[column.replace("seconds_to", "reached")], row["n_raced"]) for row in (x, y)
        ]
        if reached < of or then < of_then:
            reason = f"target reached by {reached:g} of {of:g} seeds, then by {then:g} of {of_then:g}"
            missed: Verdict = "ok" if then == of_then else "worse" if reached == of and not then else "uncertain"
            yield Judged(*about, missed, reason=reason)
            return
    if not before or not after:
        if before or (after and not new):
            yield Judged(*about, "missing", reason=f"not measured in the {'second' if before else 'first'} run")
        return
    found = change(a, b, x, y, column)
    if found is None:
        yield Judged(*about, "missing", reason="timed by launches in one run only")
        return
    machine = _machine(a, b, x, y) if power else None
    low, middle, high = _normalised(found.interval, machine, power) if nothing(column) else found.interval[:3]
    shown = not found.blurred and not low <= limit.none <= high
    verdict: Verdict = "ok"
    if limit.exceeded_by(middle):
        verdict = "worse" if shown else "uncertain"
    elif not shown and (math.isnan(low) or limit.exceeded_by(low) or limit.exceeded_by(high)):
        verdict = "uncertain"
    amount_, least, most = (None if math.isnan(end) else end - limit.none for end in (middle, low, high))
    yield Judged(*about, verdict, amount_, least, most, machine is not None)


def _machine(a: Tables, b: Tables, x: Row, y: Row) -> Machine | None:
    """How much faster the machine has become in the mode of a configuration; None where a run hasn't measured it."""
    if not (x[PEAK] > 0 and y[PEAK] > 0):
        return None
    return Machine(*_ends(ratio_interval(_peaks(b, y), _peaks(a, x))))


def _ends(ratio: Interval) -> tuple[float, float, float]:
    """A ratio between the ends of its interval; unknown ends are a tenth away."""
    low, middle, high, _ = ratio
    return (middle / UNKNOWN_ENDS, middle, middle * UNKNOWN_ENDS) if math.isnan(low) else (low, middle, high)


def _peaks(tables: Tables, row: Row) -> list[float]:
    """Those of all launches, or trials, in the same mode: a single one, measured in tenths of a second, says little."""
    if by_launches(row):
        launches = tables.speeds[row["device_name"]].launches
        return [peak for launch in launches if (peak := launch.peaks.get(row["dtype"]) or 0.0) > 0]
    trials = tables.trials[tables.trials["status"] == "ok"]
    for key in ("device_name", "dtype", "num_threads"):
        trials = trials[(trials[key] == row[key]) | (trials[key].isna() & (row[key] != row[key]))]
    return [float(peak) for peak in trials[PEAK] if peak > 0]


def _mode(row: Row) -> str:
    return f"{row['device_name']}, {row['dtype']}, {everything({row['num_threads']}) or 'unknown'} threads"


def _normalised(interval: Interval, machine: Machine | None, power: int) -> tuple[float, float, float]:
    """A ratio over the machine's, whose uncertainty widens its interval."""
    low, middle, high = _ends(interval)
    widths = [math.log(middle / low), math.log(high / middle)]
    if machine:
        widths = [math.hypot(width, math.log(machine.high / machine.speed)) for width in widths]
        middle /= machine.speed**power
    return middle * math.exp(-widths[0]), middle, middle * math.exp(widths[1])


def _headline(verdict: Verdict, judged: Sequence[Judged], unmeasured: Sequence[str]) -> str:
    """The answer in one sentence."""
    found = [each for each in judged if each.verdict == verdict]
    of = f"{len(found)} of {len(judged)} comparisons"
    told = listed([f"{each.label} ({each.metric} {amount(each)})" for each in found[:5]])
    told += f" and {len(found) - 5} more" if len(found) > 5 else ""
    nobody = f"no configuration has been measured in both runs for {listed(unmeasured)}" if unmeasured else ""
    return {
        "worse": f"Worse than the limit in {of}: {told}.",
        "missing": f"Not comparable: {'; '.join(filter(None, (nobody, told)))}.",
        "uncertain": f"Too uncertain to tell in {of}: {told}; more seeds or launches narrow the intervals.",
        "ok": f"Nothing is worse than its limit, in {len(judged)} comparison{'s' * (len(judged) != 1)}.",
    }[verdict]


def _notes(a: Tables, judged: Sequence[Judged], machine: dict[str, Machine], differ: dict[str, str]) -> Iterator[str]:
    yield from (f"{told} (allowed)" for told in differ.values())
    if any(each.normalised for each in judged):
        told = ", ".join(f"{found.speed:.2f} times ({mode})" for mode, found in machine.items())
        yield (
            "Speeds and times are normalised: by the matrix products that both runs measured, the machine was "
            f"{told} as fast in the second run."
        )
    if any(METRICS[each.metric][2] and each.change is not None and not each.normalised for each in judged):
        yield "Speeds and times are as measured where a run hasn't measured its machine's fastest matrix product."
    if (a.run.get("environment") or {}).get("git_dirty"):
        yield "The first run was made with uncommitted changes."
    yield "Figures of two days are advice: whether a change made training slower is for `run_bench.py gate` to say."


def amount(judged: Judged) -> str:
    """ "-12.3%", "-0.52 points", or why there is none."""
    return _shown(judged.metric, judged.change) if judged.change is not None else judged.reason


def interval_text(judged: Judged) -> str:
    """ "-14.0% to -10.5%", or "" where it isn't known."""
    if judged.low is None or judged.high is None:
        return ""
    return f"{_shown(judged.metric, judged.low)} to {_shown(judged.metric, judged.high)}"


def _shown(metric: str, change: float) -> str:
    return points(change) if metric == "accuracy" else f"{100 * change:+.1f}%"
