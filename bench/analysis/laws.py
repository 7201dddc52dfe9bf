"""Scaling laws: how errors fall with parameters, training FLOPs and training images, and where two families cross.

A family's law is error = a * x**-b + c (Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017;
Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022): a power of x above a floor that the rest of
the training leaves. It goes through the geometric means over seeds, each weighted by its number of seeds. The points
are one ladder: configurations that differ in width alone, or in the share of the training images alone. The largest is
left out of the fit, which has to predict it.

Intervals are Student's t over what the points leave of the law: that holds the scatter of seeds and how far errors are
from such a law. A bootstrap over seeds knows the first alone, and of two or three seeds hardly that. All are of the
one test set. Where two laws cross has Fieller's interval: every x at which they can't be told apart ("Some Problems in
Interval Estimation", 1954).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bench.analysis.comparison import Cell, Row, Sheet, sentence, sheets_by_device
from bench.analysis.formatting import listed, percent, span, three_digits
from bench.analysis.labels import family_title, grouped, records, trained_epochs
from bench.analysis.modes import WIDTHS, twin_key
from bench.analysis.summary import Tables, split_size
from bench.measure.power_law import FEWEST, PowerLaw, fit_power_law
from bench.measure.stats import Interval, log_mean_interval

LEAST_SPAN = 10.0  # of a fit: its largest size over its smallest
PLACES = 200  # at which two laws are held against each other, evenly apart on logarithms
PARAMS, BUDGET, IMAGES = "num_params", "training_flops", "num_train_images"
TITLES = {PARAMS: "parameters", BUDGET: "training FLOPs", IMAGES: "training images"}
UNITS = TITLES | {BUDGET: "TFLOP of training"}


class Point(NamedTuple):
    """A size of a ladder: x, the geometric mean of its test errors, and these seed by seed."""

    x: float
    error: float
    errors: list[float]


@dataclass(frozen=True)
class Law:
    """What a family's errors do along a ladder.

    Attributes:
        scale: what x is: a key of TITLES.
        points: those of the fit, smallest first.
        held: the largest size, which the fit doesn't know.
    """

    model: str
    scale: str
    points: list[Point]
    held: Point
    fit: PowerLaw

    @property
    def predicted(self) -> Interval:
        """What the error of the largest size should be, as a mean over its seeds."""
        return self.fit.at(self.held.x, len(self.held.errors))

    @property
    def kept(self) -> bool:
        """Whether the largest size lies within its predicted interval."""
        return self.predicted.low <= self.held.error <= self.predicted.high


@dataclass(frozen=True)
class Crossing:
    """Two families' laws where sizes of both were tried.

    Attributes:
        models: the one with fewer errors at the smallest size, and the other.
        ends: the smallest and the largest x that both were tried at.
        verdict: "overtakes" where each is shown to have fewer errors at one end, "overtakes and again falls behind"
            where the other is shown to have fewer in between alone, "doesn't overtake" where the laws don't cross,
            "isn't shown to overtake" between the two; "" where they can't be told apart at any x.
        at: x where they cross, of those that are shown to.
    """

    scale: str
    models: tuple[str, str]
    ends: tuple[float, float]
    verdict: str
    at: Interval | None

    @property
    def claim(self) -> str:
        """Who overtakes whom."""
        first, last = map(family_title, self.models)
        return (
            f"the {last} {self.verdict} the {first}"
            if self.verdict
            else f"no difference between {first} and {last} is shown"
        )

    @property
    def place(self) -> str:
        """ "at 12,300 parameters (95% interval 9,020 to 16,300)", or "within the parameters tried"."""
        if not self.at:
            return f"within the {TITLES[self.scale]} tried"
        low, middle, high = (figure(self.scale, x) for x in self.at[:3])
        return f"at {middle} {UNITS[self.scale]} (95% interval {low} to {high})"


def figure(scale: str, x: float) -> str:
    """x in the scale's unit."""
    return three_digits(x / 1e12 if scale == BUDGET else x)


def find_laws(tables: Tables, device_name: str) -> list[Law]:
    """A device's laws, scale by scale; none of a run in which no family has a ladder of widths that can be fitted."""
    summary = tables.summary
    if not summary.groupby("model")[[*WIDTHS]].nunique().gt(FEWEST).any(axis=None):
        return []  # of most runs
    own = summary[(summary["device_name"] == device_name) & (summary["n"] > 0)]
    own = own.sort_values("train_fraction", ascending=False, kind="stable")  # of ladders as long, that of most images
    rows = [
        row | {BUDGET: row["num_train_flops"] * trained_epochs(row) * row[IMAGES] / row["train_fraction"]}
        for row in records(own)
        if not row["match"]
    ]
    widths, shares = _ladders(rows, *WIDTHS), _ladders(rows, "train_fraction")
    laws = [*_fits(tables, PARAMS, widths), *_fits(tables, BUDGET, widths)]
    return [*laws, *_fits(tables, IMAGES, shares)] if laws else []


def _ladders(rows: list[Row], *but: str) -> list[list[Row]]:
    """Each family's longest ladder, the first of equals: rows that are alike but for some columns."""
    longest: dict[str, list[Row]] = {}
    for (model, *_), own in grouped(((row["model"], twin_key(row, *but)), row) for row in rows).items():
        longest[model] = max(longest.get(model, []), own, key=len)
    return [*longest.values()]


def _fits(tables: Tables, scale: str, ladders: list[list[Row]]) -> Iterator[Law]:
    size = split_size(tables.run, "test")
    least = 0.5 / size if size > 0 else 0.0  # half an image wrong stands for none, which has no logarithm
    for rows in ladders:
        points = []
        for row in rows:
            errors = [max(1 - value, least) for value in tables.samples(row, "test_accuracy").values()]
            errors = [error for error in errors if error > 0]
            if errors and row[scale] > 0:
                points.append(Point(row[scale], log_mean_interval(errors).amount, errors))
        fitted = sorted(points)[:-1]
        if len(fitted) >= FEWEST and fitted[-1].x >= LEAST_SPAN * fitted[0].x:
            yield Law(rows[0]["model"], scale, fitted, max(points), fitted_to(fitted))


def fitted_to(points: list[Point]) -> PowerLaw:
    """The law through points; the FEWEST at least."""
    x, error, errors = zip(*points, strict=True)
    return fit_power_law(x, error, [*map(len, errors)])


def crossings(laws: list[Law]) -> list[Crossing]:
    """Of every two families, in each scale in which both have a law and sizes in common."""
    found = [_crossing(one, other) for one, other in combinations(laws, 2) if one.scale == other.scale]
    return [crossing for crossing in found if crossing]


def _crossing(one: Law, other: Law) -> Crossing | None:
    low, high = max(one.points[0].x, other.points[0].x), min(one.held.x, other.held.x)
    if low >= high:
        return None
    places = np.geomspace(low, high, PLACES).tolist()
    ratios = [one.fit.over(other.fit, x) for x in places]
    unsure = [x for x, each in zip(places, ratios, strict=True) if each.low <= 1 <= each.high]
    behind = [each.amount > 1 for each in ratios]
    models, at = (other.model, one.model) if behind[0] else (one.model, other.model), None
    verdict = "isn't shown to overtake" if len(unsure) < PLACES else ""
    between = {x for x, each in zip(places, behind, strict=True) if each != behind[0]}
    if verdict and not between:
        verdict = "doesn't overtake"
    elif verdict and behind[0] == behind[-1]:
        verdict = "overtakes and again falls behind" if between - {*unsure} else verdict
    elif not {places[0], places[-1]} & {*unsure}:
        verdict = "overtakes"
        last = PLACES - 1 - behind[::-1].index(behind[0])  # the place after it is beyond the crossing
        before, after = (abs(math.log(each.amount)) for each in ratios[last : last + 2])
        x = places[last] * (places[last + 1] / places[last]) ** (before / (before + after))
        at = Interval(min([x, *unsure]), x, max([x, *unsure]), ratios[0].n)
    return Crossing(one.scale, models, (low, high), verdict, at)


def law_sentences(tables: Tables, device_name: str) -> list[str]:
    """Who overtakes whom and where; the exponents; and whether the fits foretell the largest sizes."""
    laws = find_laws(tables, device_name)
    if not laws:
        return []
    claims = grouped((crossing.claim, crossing) for crossing in crossings(laws))
    told = [f"{claim} {_places(found)}" for claim, found in claims.items()]
    by_scale = grouped((TITLES[law.scale], law) for law in laws)
    exponents = [
        f"{title}: " + ", ".join(f"{family_title(law.model)} {exponent_text(law)}" for law in own)
        for title, own in by_scale.items()
    ]
    missed = [f"{family_title(law.model)} by {TITLES[law.scale]}" for law in laws if not law.kept]
    return [
        *([sentence("; ".join(told))] if told else []),
        f"Errors go as a x^-b + c with these b (95% interval): {'; '.join(exponents)}.",
        f"Left out of the fit, the largest size is within its predicted interval in {len(laws) - len(missed)} of "
        f"{len(laws)} cases{f' (not {listed(missed)})' if missed else ''}.",
    ]


def law_sheets(tables: Tables) -> list[Sheet]:
    """For each device with laws: their exponents, what they foretold, and where families cross."""
    return sheets_by_device(tables, _sheet)


def _sheet(tables: Tables, device_name: str, on_device: str) -> Sheet | None:
    laws = find_laws(tables, device_name)
    said = [
        "Fitted: error = a x^-b + c, by least squares on logarithms of the geometric means over seeds. Sizes differ in "
        "width alone (parameters, training FLOPs) or in their share of the images alone, at as many steps. The largest "
        "is left out of the fit, and predicted. 95% intervals, from what the sizes leave of the law.",
    ]
    for each in crossings(laws):
        first, last = (figure(each.scale, x) for x in each.ends)
        where = ": not within what was tried" if each.verdict == "doesn't overtake" else f" {each.place}"
        said.append(sentence(f"{each.claim}{where}; both were tried from {first} to {last} {UNITS[each.scale]}"))
    head = ["law", "sizes of the fit", "exponent b", "floor c", "largest size", "error, predicted", "measured"]
    rows = []
    for law in laws:
        low, middle, high, _ = law.predicted
        ends = [figure(law.scale, point.x) for point in (law.points[0], law.points[-1])]
        exponent, sure = exponent_text(law)[:-1].split(" (")
        rows.append(
            [
                Cell(f"{family_title(law.model)}, {UNITS[law.scale]}", f"n = {_seeds(law)}"),
                Cell(f"{ends[0]} to {ends[1]}", f"{len(law.points)} sizes"),
                Cell(exponent, sure),
                Cell(percent(law.fit.floor)),
                Cell(figure(law.scale, law.held.x)),
                Cell(percent(middle), f"{100 * low:.2f} to {100 * high:.2f}"),
                Cell(percent(law.held.error), "within" if law.kept else "not within"),
            ]
        )
    return Sheet(f"Scaling laws{on_device}", said, head, rows, figures=True)


def _places(found: list[Crossing]) -> str:
    """ "within the parameters and training FLOPs tried"; crossings one by one."""
    none = [TITLES[each.scale] for each in found if not each.at]
    return listed([each.place for each in found if each.at] + ([f"within the {listed(none)} tried"] if none else []))


def _seeds(law: Law) -> str:
    return span([len(point.errors) for point in (*law.points, law.held)], str)


def exponent_text(law: Law) -> str:
    """ "0.51 (0.45 to 0.57)"."""
    low, middle, high = (f"{round(x, 2) + 0.0:.2f}" for x in law.fit.exponent_interval()[:3])  # no -0.00
    return f"{middle} ({low} to {high})"
