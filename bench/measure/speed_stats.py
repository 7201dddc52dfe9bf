"""What launches say about speeds: estimates of images/s and of ratios, with intervals whose unit is the launch.

A launch (bench.result.Launch) timed all configurations in turns within the same seconds, so what the machine did to
all of them drops out of a ratio. The noise that is left is the launch's own (layout of memory, placement on cores),
which is why more slices of one launch narrow nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.result import Launch

WAITED = 0.025  # of a slice's seconds, and of each thread: what it may have waited and still be undisturbed
STRETCHES = ("steps", "loop")  # longer than slices: plain steps, and the training loop between them
MOST_TAKEN = 0.2  # of a stretch, by others
# How much slower work becomes where the probes' loop does, on logarithms: what is expected before anything is seen, and
# how far off that may be. On a host whose cores are halves of shared ones it came to 0.5 to 1.2 by kind of work.
SLOPE, SLOPE_DEVIATION = 0.8, 0.3
NOISE = 0.1  # of a slice's log speed, about, that probes don't explain
UNDISTURBED = 0.02  # quantile of the probes' means that stands for cores of one's own
# Threads on cores without a common cache take about three times as long to pass data to each other, and nothing lies in
# between. Where cores are apart in more than this share of the slices, the others are too few to go by.
TOGETHER, APART = 0.05, 2.0  # quantile that stands for cores together; how many times as long they take apart
MOST_APART = 0.7
# Launches within minutes are not quite independent: of 356 ratios of known truth, in 40 phases of 5 launches, Student's
# 95% intervals held 92.4%, and those of this level 95.5% (results/reference/speed/proof.md).
NOMINAL = 0.98
FEWEST_LAUNCHES = 3  # that tell their own scatter
# Of the log ratio of two configurations, from launch to launch, where launches are too few to tell it: single launches
# scattered by 0.10, and some models by more (results/reference/speed/proof.md).
ASSUMED_DEVIATION, ASSUMED_CLEAN = 0.12, 0.5
MOST_PRIOR = 10.0  # degrees of freedom that other pairs lend a pair's variance

Array = NDArray[np.float64]


class Cell(NamedTuple):
    """What is timed: a step of training (`work` "train"; "loop" and "steps": see bench.result), or an inference."""

    config_id: str
    work: str
    batch_size: int
    num_threads: int


class Panel(NamedTuple):
    """Cells that are compared with each other: the same work with as many threads; one image is a work of its own.

    Inference at other batch sizes than a configuration's own is "other", since it has few slices.
    """

    work: str
    one_image: bool
    num_threads: int


class Estimate(NamedTuple):
    """A speed in images/s, or a ratio of two, between the ends of its 95% interval; n counts launches.

    Ends are NaN where they aren't known.
    """

    low: float
    amount: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Of the interval, as a share: 0.03 for 1.00 (0.971 to 1.030); infinite where it isn't known."""
        return math.inf if math.isnan(self.low) else math.log(self.high / self.low) / 2


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


def is_clean(piece: Mapping[str, Any]) -> bool:
    """Whether nothing took the processor from a slice, as far as the system tells."""
    waited, stolen, throttled = (piece.get(f"{kind}_seconds") or 0.0 for kind in ("waited", "stolen", "throttled"))
    return waited <= WAITED * piece["num_threads"] * piece["seconds"] and not stolen and not throttled


def _own_seconds(piece: Mapping[str, Any]) -> float:
    """Of a stretch, which is too long to be undisturbed: its seconds without what others took.

    0 where that was too much of it.
    """
    taken = sum(piece.get(f"{kind}_seconds") or 0.0 for kind in ("waited", "stolen", "throttled"))
    return piece["seconds"] - taken if taken <= MOST_TAKEN * piece["seconds"] else 0.0


@dataclass
class Speeds:
    """The launches of one device, analysed; ratios are ratios of the speeds that are given.

    Speeds are what an additive model of launches and cells leaves on each cell (least squares, on logarithms): where
    all launches have all cells, the geometric mean over launches. A launch's own figure for a cell is the mean pace of
    its undisturbed slices, each moved by what probes of its cores say of them meanwhile (bench.system.core_probe): the
    mean, so that what the code does once in a while counts. Slices whose cores were apart (`apart_share`) are left
    out, since that slows one model more than another.
    """

    launches: Sequence[Launch]
    _panels: dict[Panel, "_Fit"] = field(default_factory=dict)

    @cached_property
    def cells(self) -> list[Cell]:
        """All that was timed undisturbed at least once, in the order of the first launch that has it."""
        return list(self.logs)

    @property
    def threads(self) -> list[int]:
        """Numbers of CPU threads that were tried, fewest first."""
        return sorted({piece["num_threads"] for launch in self.launches for piece in launch.slices})

    def speed(self, cell: Cell) -> Estimate:
        """Images/s; of one image, 1 over the median seconds of a call."""
        return self._fit(self._panel(cell)).speed(cell)

    def ratio(self, a: Cell, b: Cell) -> Estimate:
        """Speed of a over that of b, which do the same work with as many threads."""
        return self._fit(self._panel(a)).ratio(a, b)

    def stall_share(self, config_id: str, batch_size: int, num_threads: int) -> Estimate:
        """Share of training time that a step's undisturbed pace doesn't explain: waits for data, collections, sleep.

        Taken launch by launch, from the training loop's pace against that of plain steps just before and after it.
        """
        kept = self._stalls.get((config_id, batch_size, num_threads), np.zeros(0))
        variance, n = _variance(kept)
        if not n:
            return UNKNOWN
        expected, lent = _prior(map(_variance, self._stalls.values()), len(self._stalls) - 1)
        degrees, half = n - 1 + lent, math.nan
        if n >= FEWEST_LAUNCHES:
            half = _half_width((lent * expected + (n - 1) * variance) / degrees, n, degrees)
        middle = float(kept.mean())
        return Estimate(1 - math.exp(middle + half), 1 - math.exp(middle), 1 - math.exp(middle - half), n)

    def clean_share(self, num_threads: int) -> float:
        """Share of the slices with so many threads that nothing disturbed; NaN of none."""
        pieces = (piece for each in self.launches for piece in each.slices if piece["work"] not in STRETCHES)
        own = [is_clean(piece) for piece in pieces if piece["num_threads"] == num_threads]
        return sum(own) / len(own) if own else math.nan

    def slowdown(self, num_threads: int) -> float:
        """How many times as long as at best probes took beside slices with so many threads, on average; NaN of none."""
        return self.slowness.slowdown(num_threads)

    def apart_share(self, num_threads: int) -> float:
        """Share of undisturbed slices with so many threads whose cores had no common cache; 0 where it isn't known.

        A host that moves the cores of a rented machine about sets them apart for seconds or minutes.
        """
        return self._placement.share.get(num_threads, 0.0)

    def half_widths(self, panel: Panel) -> list[float]:
        """Of the ratios of all pairs of a panel's cells; infinite where a ratio isn't known."""
        return self._fit(panel).half_widths()

    @cached_property
    def panels(self) -> list[Panel]:
        """Those of training steps, inference at each configuration's own batch size, and of one image."""
        found = dict.fromkeys(self._panel(cell) for cell in self.cells)
        return [panel for panel in found if panel.work in ("train", "infer")]

    @cached_property
    def logs(self) -> dict[Cell, dict[int, float]]:
        """Cell -> launch -> log of its images/s there."""
        found: dict[Cell, dict[int, float]] = defaultdict(dict)
        for launch in self.together:
            for cell, value in _launch_logs(launch, self.slowness).items():
                found[cell][launch.launch] = value
        return dict(found)

    @cached_property
    def _stalls(self) -> dict[tuple[str, int, int], Array]:
        """Configuration, batch size and threads -> of each launch, log of the loop's pace over that of plain steps."""
        plain, loop = STRETCHES
        found = {}
        for cell in (cell for cell in self.cells if cell.work == plain):
            steps, looped = self.logs[cell], self.logs.get(cell._replace(work=loop), {})
            kept = [looped[launch] - steps[launch] for launch in sorted(steps.keys() & looped.keys())]
            found[cell.config_id, cell.batch_size, cell.num_threads] = np.array(kept)
        return found

    @cached_property
    def slowness(self) -> "Slowness":
        """What shared cores took, by probes."""
        return Slowness(self.together)

    @cached_property
    def _placement(self) -> "_Placement":
        return _Placement(self.launches)

    @cached_property
    def together(self) -> list[Launch]:
        """The launches without slices whose cores were apart."""
        keeps = self._placement.keeps
        return [replace(launch, slices=[*filter(keeps, launch.slices)]) for launch in self.launches]

    @cached_property
    def _own_sizes(self) -> dict[str, int]:
        return {cell.config_id: cell.batch_size for cell in self.cells if cell.work == "train"}

    def _panel(self, cell: Cell) -> Panel:
        other = cell.work == "infer" and cell.batch_size not in (
            1,
            self._own_sizes.get(cell.config_id, cell.batch_size),
        )
        return Panel("other", False, cell.num_threads) if other else panel_of(cell)

    def _fit(self, panel: Panel) -> "_Fit":
        if panel not in self._panels:
            own = {cell: values for cell, values in self.logs.items() if self._panel(cell) == panel}
            is_calm = self.clean_share(panel.num_threads) >= ASSUMED_CLEAN
            self._panels[panel] = _Fit(own, ASSUMED_DEVIATION if is_calm else math.nan)
        return self._panels[panel]


def panel_of(cell: Cell) -> Panel:
    return Panel(cell.work, cell.work == "infer" and cell.batch_size == 1, cell.num_threads)


class _Fit:
    """One panel: a matrix of launches and cells on logarithms, with gaps where a launch has no figure for a cell.

    Args:
        assumed: standard deviation of a log ratio that fewer than three launches know; NaN: that isn't known then.
    """

    def __init__(self, logs: Mapping[Cell, Mapping[int, float]], assumed: float = math.nan) -> None:
        self._assumed = assumed
        self.cells = list(logs)
        self._column = {cell: index for index, cell in enumerate(self.cells)}
        numbers = sorted({launch for values in logs.values() for launch in values})
        self._values = np.array(
            [[logs[cell].get(launch, math.nan) for cell in self.cells] for launch in numbers], dtype=float
        ).reshape(len(numbers), len(self.cells))
        self._means = _cell_effects(self._values)
        spread = [_variance(column) for column in self._values.T]
        self._own_prior = _prior(spread, 1)

    @cached_property
    def _pairs(self) -> tuple[Array, Array]:
        """Of all pairs of cells, in the order of `combinations`: variance and count of their log ratios by launch."""
        variances, counts = [np.zeros(0)], [np.zeros(0)]
        for column in range(len(self.cells) - 1):
            apart = self._values[:, column + 1 :] - self._values[:, column : column + 1]
            known = ~np.isnan(apart)
            n = known.sum(axis=0).astype(float)
            with np.errstate(divide="ignore", invalid="ignore"):  # of none there is no mean, of one no variance
                off = np.where(known, apart - np.where(known, apart, 0.0).sum(axis=0) / n, 0.0)
                variances.append(np.where(n > 1, (off**2).sum(axis=0) / (n - 1), math.nan))
            counts.append(n)
        return np.concatenate(variances), np.concatenate(counts)

    @cached_property
    def _pair_prior(self) -> tuple[float, float]:
        return _prior(zip(*(each.tolist() for each in self._pairs), strict=True), len(self.cells) - 2)

    def half_widths(self) -> list[float]:
        """Of the ratios of all pairs; infinite where one isn't known."""
        from scipy.special import stdtrit

        (variances, counts), (expected, lent) = self._pairs, self._pair_prior
        enough = counts >= FEWEST_LAUNCHES
        n = counts[enough]
        degrees = n - 1 + lent
        pooled = (lent * expected + (n - 1) * variances[enough]) / degrees
        found = np.array([self._assumed_half_width(int(each)) for each in counts])
        found[enough] = stdtrit(degrees, (1 + NOMINAL) / 2) * np.sqrt(pooled / n)
        return [math.inf if math.isnan(width) else float(width) for width in found]

    def speed(self, cell: Cell) -> Estimate:
        if cell not in self._column:
            return UNKNOWN
        column = self._column[cell]
        return self._estimate(self._means[column], self._values[:, column], self._own_prior, math.nan)

    def ratio(self, a: Cell, b: Cell) -> Estimate:
        if a not in self._column or b not in self._column:
            return UNKNOWN
        first, second = self._column[a], self._column[b]
        apart = self._values[:, first] - self._values[:, second]
        fewest = self._assumed_half_width(int((~np.isnan(apart)).sum()))
        return self._estimate(self._means[first] - self._means[second], apart, self._pair_prior, fewest)

    def _assumed_half_width(self, n: int) -> float:
        """Of a log ratio in so few launches that they don't tell it themselves."""
        from scipy.special import ndtri

        return float(ndtri((1 + NOMINAL) / 2)) * self._assumed / math.sqrt(n) if n else math.nan

    def _estimate(self, middle: float, values: Array, prior: "tuple[float, float]", assumed: float) -> Estimate:
        variance, n = _variance(values)
        if not n or math.isnan(middle):
            return UNKNOWN
        half = assumed
        if n >= FEWEST_LAUNCHES:
            expected, lent = prior
            degrees = n - 1 + lent
            half = _half_width((lent * expected + (n - 1) * variance) / degrees, n, degrees)
        return Estimate(math.exp(middle - half), math.exp(middle), math.exp(middle + half), n)


class _Placement:
    """Which slices had their threads on cores without a common cache, by how long passing data took beside them.

    Attributes:
        share: of the slices that nothing else disturbed, by number of threads.
    """

    def __init__(self, launches: Sequence[Launch]) -> None:
        times: dict[int, list[float]] = defaultdict(list)
        for piece in (piece for launch in launches for piece in launch.slices):
            if (seconds := _positive(piece.get("exchange_seconds"))) and is_clean(piece):
                times[piece["num_threads"]].append(seconds)
        self._limit = {threads: APART * float(np.quantile(own, TOGETHER)) for threads, own in times.items()}
        self.share = {threads: float(np.mean(np.array(own) > self._limit[threads])) for threads, own in times.items()}

    def keeps(self, piece: Mapping[str, Any]) -> bool:
        """Whether a slice counts."""
        threads = piece["num_threads"]
        tells = self.share.get(threads, 1.0) <= MOST_APART
        return not tells or _positive(piece.get("exchange_seconds")) <= self._limit[threads]


class Slowness:
    """What cores that were shared took from slices, by kind of work; by probes that ran beside them.

    A regression of log speeds on the log times of the probes' loop, within each launch and cell, so that no difference
    between cells enters, with one slope for all cells of a panel: a ratio of two keeps what a neighbour takes from one
    more than from the other.
    """

    def __init__(self, launches: Sequence[Launch]) -> None:
        groups: dict[tuple[Panel, int, Cell, int], list[tuple[float, float]]] = defaultdict(list)
        for launch in launches:
            for piece in launch.slices:
                cell = _cell(piece)
                if cell.work not in STRETCHES and _probe(piece) and (rate := _rate(piece, cell)):
                    key = panel_of(cell), launch.launch, cell, int(piece.get("group") or 0)
                    groups[key].append((math.log(_probe(piece)), math.log(rate)))
        every = [probe for values in groups.values() for probe, _ in values]
        self._least = float(np.quantile(every, UNDISTURBED)) if every else 0.0
        sums: dict[Panel, Array] = defaultdict(lambda: np.zeros(4))
        for (panel, *_), values in groups.items():
            probes, rates = np.array(values).T
            off = probes - probes.mean()
            sums[panel] += [len(values), probes.sum(), off @ off, -(off @ (rates - rates.mean()))]
        ridge = (NOISE / SLOPE_DEVIATION) ** 2
        self._mean = {panel: (n, total / n - self._least) for panel, (n, total, *_) in sums.items()}
        self._slope = {panel: (both + ridge * SLOPE) / (own + ridge) for panel, (*_, own, both) in sums.items()}

    def slowdown(self, num_threads: int) -> float:
        own = [(n, n * mean) for panel, (n, mean) in self._mean.items() if panel.num_threads == num_threads]
        count, total = np.sum(own, axis=0) if own else (0.0, math.nan)
        return math.exp(total / count) if count else math.nan

    def lost(self, piece: Mapping[str, Any], panel: Panel) -> float:
        """Of a slice's log speed; where its own probes are missing, as much as slices of its panel lose on average."""
        probe = _probe(piece)
        if panel.work in STRETCHES:
            panel = panel._replace(work="train")
        slowness = math.log(probe) - self._least if probe else self._mean.get(panel, (0.0, 0.0))[1]
        return self._slope.get(panel, SLOPE) * slowness


def _probe(piece: Mapping[str, Any]) -> float:
    """Mean seconds of the probes' loop beside a slice; 0 where it isn't known. A journal may be anybody's."""
    return _positive(piece.get("probe_seconds"))


def _positive(seconds: float | None) -> float:
    return float(seconds) if seconds and 0 < seconds < 1e6 else 0.0


def _cell(piece: Mapping[str, Any]) -> Cell:
    return Cell(piece["config_id"], piece["work"], int(piece["batch_size"]), int(piece["num_threads"]))


def _rate(piece: Mapping[str, Any], cell: Cell) -> float:
    """Images/s of an undisturbed slice, or of a stretch without what others took; 0 of any other."""
    seconds = _own_seconds(piece) if cell.work in STRETCHES else piece["seconds"] if is_clean(piece) else 0.0
    if seconds <= 0:
        return 0.0
    one: float | None = piece.get("p50_seconds") if panel_of(cell).one_image else None
    return 1 / one if one else float(piece["images"] / seconds)


def _launch_logs(launch: Launch, slowness: Slowness) -> dict[Cell, float]:
    """Cell -> log images/s of a launch's undisturbed slices.

    Configurations that were open in another process than the first group's are moved by what sets the processes apart:
    by the anchors', which stand in every group.
    """
    speeds: dict[tuple[int, Cell], list[float]] = defaultdict(list)
    for piece in launch.slices:
        cell = _cell(piece)
        if rate := _rate(piece, cell):
            speeds[int(piece.get("group") or 0), cell].append(math.log(rate) + slowness.lost(piece, panel_of(cell)))
    logs = {key: -float(np.log(np.mean(np.exp(np.negative(values))))) for key, values in speeds.items()}
    first = {cell: value for (group, cell), value in logs.items() if group == 0}
    moved = dict(first)
    shifts: dict[tuple[int, Panel], list[float]] = defaultdict(list)
    for (group, cell), value in logs.items():
        if group and cell in first:
            shifts[group, panel_of(cell)].append(first[cell] - value)
    for (group, cell), value in logs.items():
        if group and cell not in first and shifts[group, panel_of(cell)]:
            moved[cell] = value + float(np.mean(shifts[group, panel_of(cell)]))
    return moved


def _cell_effects(values: Array, rounds: int = 50) -> Array:
    """What a table of launches and cells, with gaps, has of each cell when launches and cells add up."""
    if not values.size:
        return np.zeros(values.shape[1])
    known = ~np.isnan(values)
    filled, cells = np.where(known, values, 0.0), np.zeros(values.shape[1])
    shared, per_cell = np.maximum(known.sum(axis=1), 1), np.maximum(known.sum(axis=0), 1)
    launches = np.zeros(values.shape[0])
    for _ in range(rounds):  # alternating means: the least squares of two-way tables
        cells = (filled - known * launches[:, None]).sum(axis=0) / per_cell
        launches = (filled - known * cells[None, :]).sum(axis=1) / shared
        launches -= launches.mean()
    return cells


def _variance(values: Array) -> tuple[float, int]:
    """Sample variance and count of what isn't NaN; the variance of fewer than two is NaN."""
    kept = values[~np.isnan(values)]
    return (float(kept.var(ddof=1)) if kept.size > 1 else math.nan), int(kept.size)


def _prior(variances: Iterable[tuple[float, float]], most: float) -> tuple[float, float]:
    """What variances of several say of any one of them: its expected value, and degrees of freedom that it is worth.

    The moderated variance of Smyth 2004 ("Linear models and empirical Bayes methods"): where the variances scatter no
    more than chance has it, others lend much; where they truly differ, little. `most` bounds the loan by how many
    independent ones there are, per launch.
    """
    from scipy.special import digamma, polygamma

    known = [(variance, n - 1) for variance, n in variances if variance > 0 and n >= FEWEST_LAUNCHES]
    if len(known) < 2 or most <= 0:
        return 0.0, 0.0
    degrees = np.array([d for _, d in known], dtype=float)
    logs = np.log([v for v, _ in known]) - digamma(degrees / 2) + np.log(degrees / 2)
    limit = min(MOST_PRIOR, most * float(np.median(degrees)))
    excess = float(logs.var(ddof=1) - polygamma(1, degrees / 2).mean())
    lent = limit if excess <= 0 else min(limit, 2 * _inverse_trigamma(excess))
    return float(np.exp(logs.mean() + digamma(lent / 2) - np.log(lent / 2))), lent


def _inverse_trigamma(y: float) -> float:
    """x with trigamma(x) = y, by Newton's method (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / y
    for _ in range(50):
        value = float(polygamma(1, x))
        step = value * (1 - value / y) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def _half_width(variance: float, n: int, degrees: float) -> float:
    if n < 2 or math.isnan(variance):
        return math.nan
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + NOMINAL) / 2)) * math.sqrt(variance / n)
