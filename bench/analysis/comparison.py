"""Comparison: two configurations in one metric, with its interval, and what it comes to.

One rule for a difference: its 95% interval leaves out "none". There are four verdicts:

- "equivalent": the whole interval lies within the smallest difference that matters (`equivalent_speed`,
  `equivalent_accuracy` of the run), whether or not it leaves out none.
- "better": a difference is shown.
- "too noisy": a ratio of speeds that is known to less than twice the precision that the launches went for, and isn't
  twice as far from 1 as its interval is wide, or any that isn't known to a factor of 2; its figure is no answer.
- "inconclusive": anything else, such as times to a target that are closer than two evaluations.

Memory is counted, not clocked: where one seed tells no interval, a ratio beyond what the allocator does by itself
counts as shown. Nothing else is shown without an interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from bench.analysis.formatting import between, points, ratio, ratio_end, seconds
from bench.analysis.speeds import LATENCY, TRAINING, WIDEST, WORK, cell_of, number_of, precision_of
from bench.analysis.summary import ACCURACIES, GRID, MEMORY, Tables, accuracy_floor
from bench.measure.speed_stats import FEWEST_LAUNCHES, Estimate
from bench.measure.stats import (
    BySeed,
    Interval,
    accuracy_difference,
    difference_by_seed,
    ratio_by_seed,
    ratio_interval,
    times,
)

MEMORY_APART = 0.05  # a peak is that of the tensors that live at once to 5%, and repeats to 1%
MEMORY_GRID = 2**20  # bytes that pages and workspace may differ by, whatever the model
EQUIVALENT_SPEED, EQUIVALENT_ACCURACY = 0.03, 0.001  # smallest differences that matter, where a run doesn't say
TIME = "seconds_to_"  # what columns of times to a target begin with

Row = dict[str, Any]  # of the summary


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Comparison:
    """One configuration against another: the difference of accuracies, the ratio of everything else.

    Attributes:
        interval: of the difference or ratio; its ends are NaN where they can't be known.
        paired: taken unit by unit.
        unit: whose scatter the interval is of: "seed", "launch" or "image".
        margin: the smallest difference that matters: of accuracies a difference, of all else a share.
        noisy: too noisy to call.
        blurred: closer than times or bytes can be told apart, so that neither is shown to be more.
    """

    metric: str
    interval: Interval
    paired: bool = False
    unit: str = "seed"
    margin: float = 0.0
    noisy: bool = False
    blurred: bool = False

    @property
    def amount(self) -> float:
        return self.interval.amount

    @property
    def verdict(self) -> str:
        """ "better", "equivalent", "inconclusive" or "too noisy"."""
        low, amount, high, n = self.interval
        none = nothing(self.metric)
        if self.noisy:
            return "too noisy"
        if self.blurred or not n:
            return "inconclusive"
        within = (-self.margin, self.margin) if none == 0 else (1 / (1 + self.margin), 1 + self.margin)
        if within[0] <= low and high <= within[1]:
            return "equivalent"
        if math.isnan(low):
            by_itself = 1 / (1 + MEMORY_APART) <= amount <= 1 + MEMORY_APART
            return "better" if self.metric == MEMORY and not by_itself else "inconclusive"
        return "inconclusive" if low <= none <= high else "better"

    @property
    def shown(self) -> bool:
        """Whether one is shown to have more, by an amount that matters or may matter."""
        return self.verdict == "better"

    @property
    def unsure(self) -> str:
        """What to say in place of a claim: "equivalent within 3%", "no difference shown"; "" where one is shown."""
        margin = points(self.margin) if nothing(self.metric) == 0 else f"{100 * self.margin:g}%"
        return {
            "better": "",
            "equivalent": f"equivalent within {margin}",
            "too noisy": "too noisy to call",
            "inconclusive": "no difference shown",
        }[self.verdict]

    @property
    def side(self) -> int:
        """1 where the first one is shown to have more, -1 where the second one is, else 0."""
        return 0 if not self.shown else 1 if self.amount > nothing(self.metric) else -1

    @property
    def range(self) -> str:
        """ "(95% interval 1.2 to 1.4, paired)", or "" where it isn't known."""
        return between(self.interval, self._show, f", paired by {self.unit}" if self.paired else "")

    @property
    def ends(self) -> str:
        """ "1.2 to 1.4", or "" where it isn't known."""
        low, high = self.interval.low, self.interval.high
        return "" if math.isnan(low) else f"{self._show(low)} to {self._show(high)}"

    @property
    def text(self) -> str:
        if self.noisy:
            return "too noisy"
        return points(self.amount) if self.metric in ACCURACIES else ratio(self.amount)

    def _show(self, x: float) -> str:
        return f"{100 * x:.2f}" if self.metric in ACCURACIES else ratio_end(x)


def nothing(metric: str) -> float:
    """What a comparison comes to without a difference."""
    return 0.0 if metric in ACCURACIES else 1.0


def margin_of(run: Mapping[str, Any], metric: str) -> float:
    """The smallest difference in a metric that matters in a run."""
    if metric in ACCURACIES:
        return number_of(run, "equivalent_accuracy", EQUIVALENT_ACCURACY)
    return number_of(run, "equivalent_speed", EQUIVALENT_SPEED)


def compare(
    metric: str, a: BySeed, b: BySeed, *, margin: float = 0.0, floor: float = 0.0, grid: float = 0.0
) -> Comparison:
    """`a` against `b`: values by seed.

    Args:
        margin: the smallest difference that matters.
        floor: the half-width of a difference of accuracies is at least this.
        grid: of times and bytes, what their resolution can't tell apart.
    """
    paired = False
    if metric in ACCURACIES:
        interval, paired = difference_by_seed(a, b, floor)
    else:
        positive = [{seed: value for seed, value in values.items() if value > 0} for values in (a, b)]
        # times are medians, as in the tables: one seed more may miss the target
        interval, paired = ratio_by_seed(*positive, medians=metric.startswith(TIME))
    found = Comparison(metric, interval, paired, "seed", margin)
    return on_grid(found, [median(values.values()) for values in (a, b)], grid) if grid and a and b else found


def on_grid(found: Comparison, values: Sequence[float], grid: float) -> Comparison:
    """The comparison of two values that are known to so much: closer ones aren't told apart.

    They may still be equivalent, where the grid is finer than what matters.
    """
    finer = grid <= found.margin * min(values)
    close = max(values) - min(values) < grid
    return replace(found, blurred=close and not (finer and found.verdict == "equivalent"))


def compare_rows(tables: Tables, a: Row, b: Row, metric: str) -> Comparison:
    """Two rows of one run's summary in a metric of theirs."""
    key = (a["config_id"], a["device_name"], b["config_id"], b["device_name"], metric)
    if key not in tables.compared:
        plain = _compared(tables, a, b, metric)
        wide = nothing(metric) == 1 and plain.interval.high > plain.interval.low * math.exp(2 * WIDEST)
        tables.compared[key] = replace(plain, noisy=plain.noisy or wide)
    found: Comparison = tables.compared[key]
    return found


def compare_speeds(tables: Tables, a: Row, b: Row, threads: int) -> Comparison:
    """Training speeds of two rows with so many threads, whichever number leads."""
    return _compared(tables, {**a, "speed_threads": threads}, {**b, "speed_threads": threads}, TRAINING)


def compare_measured(tables: Tables, a: Row, b: Row, metric: str) -> Comparison | None:
    """compare_rows for a metric that is above 0; None where one of the rows is missing its value."""
    return compare_rows(tables, a, b, metric) if a[metric] > 0 and b[metric] > 0 else None


def _compared(tables: Tables, a: Row, b: Row, metric: str) -> Comparison:
    margin = margin_of(tables.run, metric)
    launched = [by_launches(row) for row in (a, b)]
    if metric in WORK and (any(launched) or has_blocks(a, b, metric)):
        return _compared_speeds(tables, a, b, metric, margin)
    if metric.startswith(TIME):
        grid = max((row[GRID] for row in (a, b) if row[GRID] > 0), default=0.0)
        if any(launched):
            return _compared_products(tables, a, b, metric, margin, grid)
        return compare(metric, tables.samples(a, metric), tables.samples(b, metric), margin=margin, grid=grid)
    if metric == "test_accuracy":
        right = [[tables.correct.get(trial_id) for trial_id in tables.trials_of(row)] for row in (a, b)]
        known = [[each for each in seeds if each is not None] for seeds in right]
        if known == right and all(known) and len({len(each) for seeds in known for each in seeds}) == 1:
            return Comparison(metric, accuracy_difference(*known), True, "image", margin)
    floor = math.hypot(*(accuracy_floor(tables.run, "test", row[metric]) for row in (a, b) if metric in ACCURACIES))
    grid = MEMORY_GRID if metric == MEMORY else 0.0
    return compare(metric, tables.samples(a, metric), tables.samples(b, metric), margin=margin, floor=floor, grid=grid)


def by_launches(row: Row) -> bool:
    """Whether launches timed a configuration."""
    return bool(row["speed_threads"] > 0)


def ratio_of_rows(a: Row, b: Row, metric: str) -> Interval:
    """Ratio of two rows' figures, a / b, from the intervals that they have of their own."""
    first, second = (
        Interval(row[f"{metric}_low"], row[metric], row[f"{metric}_high"], int(n))
        for row in (a, b)
        for n in [row["n_launches"] if by_launches(row) else row["n_timed"]]
    )
    return times(first, second, -1)


def has_blocks(a: Row, b: Row, metric: str) -> bool:
    """Whether the timed blocks of single trials are all that tells how sure two speeds are."""
    return "blocks of one trial" in (a.get(f"{metric}_interval"), b.get(f"{metric}_interval"))


def _compared_speeds(tables: Tables, a: Row, b: Row, metric: str, margin: float) -> Comparison:
    """Launch by launch where both were timed in the same ones; else from the intervals of both.

    On two devices, or with unlike numbers of threads, nothing drops out of a ratio, so no precision was aimed at.
    """
    if a["device_name"] == b["device_name"] and a["speed_threads"] == b["speed_threads"]:
        cells = cell_of(a, metric), cell_of(b, metric)
        speeds = tables.speeds[a["device_name"]]
        found = Interval(*(speeds.ratio(*reversed(cells)) if metric == LATENCY else speeds.ratio(*cells)))
        return Comparison(metric, found, True, "launch", margin, noisy=is_too_noisy(found, precision_of(tables.run)))
    launched = [row["n_launches"] for row in (a, b) if by_launches(row)]
    unit, few = "launch" if len(launched) == 2 else "seed", min(launched, default=math.inf) < FEWEST_LAUNCHES
    return Comparison(metric, ratio_of_rows(a, b, metric), False, unit, margin, noisy=few)


def is_too_noisy(found: Estimate | Interval, precision: float) -> bool:
    """Whether a ratio of speeds is no answer, where launches went for a half-width of `precision`.

    A wide interval may still tell two configurations apart that differ by far more. Of 400 ratios of equal work, this
    and the interval let the same four be told as a difference as asking for twice the precision of all would.
    """
    half_width = math.log(found.high / found.low) / 2
    apart = half_width <= WIDEST and abs(math.log(found.amount)) > 2 * half_width if found.n else False
    return not (half_width <= 2 * precision or apart)


def _compared_products(tables: Tables, a: Row, b: Row, metric: str, margin: float, grid: float) -> Comparison:
    """Times to a target as images to it, of which seeds tell, times seconds an image, of which launches tell."""
    column = metric.replace(TIME, "images_to_")
    images = ratio_interval(tables.samples(a, column).values(), tables.samples(b, column).values(), medians=True)
    speed = compare_rows(tables, a, b, TRAINING)
    found = times(images, speed.interval)
    factor, amount = found.high / found.amount, a[metric] / b[metric]
    interval = Interval(amount / factor, amount, amount * factor, images.n)
    return on_grid(Comparison(metric, interval, False, "seed", margin, speed.noisy), (a[metric], b[metric]), grid)


def is_within(row: Row, metric: str) -> bool:
    """Whether a time to a target is the first evaluation's in the median, so that it says "no later than"."""
    return metric.startswith(TIME) and 2 * row[metric.replace(TIME, "first_")] > row["n_raced"]


def time_text(row: Row, metric: str) -> str:
    """A row's time to a target: "1.2 s", or "within 1.2 s"."""
    return f"{'within ' * is_within(row, metric)}{seconds(row[metric])}"


def row_ends(row: Row, metric: str, show: Callable[[float], str] = lambda x: f"{100 * x:.2f}") -> str:
    """The ends of a row's own interval, "99.18 to 99.50"; "" where it isn't known."""
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "" if math.isnan(low) else f"{show(low)} to {show(high)}"


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a figure, and its interval below it. `link` is a path beside the report, quoted."""

    text: str
    interval: str = ""
    best: bool = False
    link: str = ""


@dataclass(frozen=True)
class Sheet:
    """A small table in words, with sentences above it; what stands beside a row's name may have its interval below.

    Attributes:
        figures: it is one of numbers: on a narrow screen it stays a table, to be moved sideways.
        rest: more rows of it, for those who ask.
    """

    title: str
    said: list[str]
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    figures: bool = False
    rest: "Sheet | None" = None


def comparison_cell(found: Comparison | None) -> Cell:
    """The figure and its interval, and where no difference is shown, that; what is too noisy has no figure."""
    if found is None:
        return Cell("–")
    notes = [] if found.noisy else [found.ends, found.unsure]
    return Cell(found.text, "; ".join(filter(None, notes)))


def sheets_by_device(tables: Tables, make: Callable[[Tables, str, str], Sheet | None]) -> list[Sheet]:
    """A sheet for each device that has one: make(tables, device name, words for its title, " on NAME" of several)."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    sheets = [make(tables, name, f" on {name}" if len(names) > 1 else "") for name in names]
    return [sheet for sheet in sheets if sheet and sheet.rows]
