"""Comparison: two configurations in one metric, with its interval, and whether a difference is shown."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

from bench.analysis.formatting import between, points, ratio, ratio_end
from bench.analysis.summary import ACCURACIES, Tables, accuracy_floor
from bench.measure.stats import BySeed, Interval, difference_by_seed, ratio_by_seed

ONE_SEED_MARGIN = 1.1  # what has no interval at all must differ by this factor

Row = dict[str, Any]  # of the summary
K = TypeVar("K")
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, in their order."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Comparison:
    """One configuration against another: the difference of accuracies, the ratio of everything else.

    Attributes:
        interval: of the difference or ratio; its ends are NaN where one seed doesn't tell them.
        paired: taken seed by seed.
        shown: the interval leaves out "none"; without an interval, the ratio is beyond a tenth.
    """

    metric: str
    interval: Interval
    paired: bool
    shown: bool

    @property
    def amount(self) -> float:
        return self.interval.median

    @property
    def side(self) -> int:
        """1 where the first one is shown to have more, -1 where the second one is, else 0."""
        return 0 if not self.shown else 1 if self.amount > nothing(self.metric) else -1

    @property
    def range(self) -> str:
        """ "(95% interval 1.2 to 1.4, paired)", or "" where it isn't known."""
        return between(self.interval, self._show, ", paired" if self.paired else "")

    @property
    def ends(self) -> str:
        """ "1.2 to 1.4", or "" where it isn't known."""
        low, high = self.interval.low, self.interval.high
        return "" if math.isnan(low) else f"{self._show(low)} to {self._show(high)}"

    @property
    def text(self) -> str:
        return points(self.amount) if self.metric in ACCURACIES else ratio(self.amount)

    def _show(self, x: float) -> str:
        return f"{100 * x:.2f}" if self.metric in ACCURACIES else ratio_end(x)


def nothing(metric: str) -> float:
    """What a comparison comes to without a difference."""
    return 0.0 if metric in ACCURACIES else 1.0


def compare(metric: str, a: BySeed, b: BySeed, floor: float = 0.0, grid: float = 0.0) -> Comparison:
    """`a` against `b`: values by seed.

    Args:
        floor: the half-width of a difference of accuracies is at least this.
        grid: of times, what their resolution can't tell apart.
    """
    if metric in ACCURACIES:
        interval, paired = difference_by_seed(a, b, floor)
    else:
        positive = [{seed: value for seed, value in values.items() if value > 0} for values in (a, b)]
        interval, paired = ratio_by_seed(*positive)
    none = nothing(metric)
    if math.isnan(interval.low):
        shown = none == 1.0 and not 1 / ONE_SEED_MARGIN < interval.median < ONE_SEED_MARGIN and interval.n > 0
    else:
        shown = not interval.low <= none <= interval.high
    if grid and a and b and abs(median(a.values()) - median(b.values())) < grid:
        shown = False
    return Comparison(metric, interval, paired, shown)


def compare_rows(tables: Tables, a: Row, b: Row, metric: str) -> Comparison:
    """Two rows of one run's summary in a metric of its trials."""
    key = (a["config_id"], a["device_name"], b["config_id"], b["device_name"], metric)
    if key not in tables.compared:
        tables.compared[key] = _compared(tables, a, b, metric)
    found: Comparison = tables.compared[key]
    return found


def compare_measured(tables: Tables, a: Row, b: Row, metric: str) -> Comparison | None:
    """compare_rows for a metric that is above 0; None where one of the rows is missing its value."""
    return compare_rows(tables, a, b, metric) if a[metric] > 0 and b[metric] > 0 else None


def _compared(tables: Tables, a: Row, b: Row, metric: str) -> Comparison:
    floors = [accuracy_floor(tables.run, "test", row[metric]) for row in (a, b) if metric in ACCURACIES]
    grids = [row["evaluation_interval_seconds"] for row in (a, b) if metric.startswith("seconds_to_")]
    grid = max((grid for grid in grids if grid > 0), default=0.0)
    both = tables.samples(a, metric), tables.samples(b, metric)
    return compare(metric, *both, floor=math.hypot(*floors), grid=grid)


def row_ends(row: Row, metric: str, show: Callable[[float], str] = lambda x: f"{100 * x:.2f}") -> str:
    """The ends of a row's own interval, "99.18 to 99.50"; "" where it isn't known."""
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "" if math.isnan(low) else f"{show(low)} to {show(high)}"


def apart(a: Row, b: Row, found: Comparison) -> bool:
    """Whether two rows are shown to differ by the stricter rule for a family's verdict.

    Their own intervals mustn't overlap either, for the two were picked as the best of several. Of one seed, the
    intervals over its timed blocks are asked.
    """
    ends = [row.get(f"{found.metric}_{end}", math.nan) for row in (a, b) for end in ("low", "high")]
    if any(math.isnan(end) for end in ends):
        return found.shown
    overlap = ends[0] <= ends[3] and ends[2] <= ends[1]
    return not overlap and (found.shown or math.isnan(found.interval.low))


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


def comparison_cell(found: Comparison | None, unsure: str = "") -> Cell:
    """The figure and its interval; `unsure` is added where no difference is shown."""
    if found is None:
        return Cell("–")
    return Cell(found.text, "; ".join(part for part in (found.ends, "" if found.shown else unsure) if part))


def sheets_by_device(tables: Tables, make: Callable[[Tables, str, str], Sheet | None]) -> list[Sheet]:
    """A sheet for each device that has one: make(tables, device name, words for its title, " on NAME" of several)."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    sheets = [make(tables, name, f" on {name}" if len(names) > 1 else "") for name in names]
    return [sheet for sheet in sheets if sheet and sheet.rows]
