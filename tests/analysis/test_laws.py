"""Scaling laws: known ones are found again, with intervals that hold what they promise; other runs have none."""

import csv
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import make_run
from report_page import drawing
from scipy.optimize import curve_fit
from scipy.stats import t

from bench.analysis.laws import (
    BUDGET,
    FEWEST,
    IMAGES,
    PARAMS,
    Crossing,
    Law,
    Point,
    crossings,
    find_laws,
    fitted_to,
    law_sentences,
    law_sheets,
)
from bench.analysis.summary import Tables, read_tables
from bench.analysis.verdict import decide, question
from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.report.build import write_report
from bench.report.plots.comparisons import data_efficiency
from bench.report.plots.laws import scaling_laws
from bench.report.plots.style import house_style

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
DEVICE = "AMD EPYC 7R13"
WIDTHS = {8: 1_000, 12: 2_000, 16: 5_000, 24: 10_000, 32: 20_000, 48: 50_000, 64: 100_000, 96: 200_000}  # parameters
SHARES = (0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
TRUTH = {"vit": (5.0, 0.5), "cnn": (0.25, 0.2)}  # a and b: they cross at 20 ** (1 / 0.3) = 21,715 parameters
CROSS = 20 ** (1 / 0.3)


def make_ladders(
    folder: Path,
    truth: dict[str, tuple[float, float]] = TRUTH,
    widths: dict[int, int] = WIDTHS,
    shares: Sequence[float] = (1.0,),
    noise: float = 0.03,
    floor: float = 0.0,
    seeds: Sequence[int] = (0, 1, 2),
    more: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """A run whose errors are a * parameters**-b * share**-0.3 + floor; the depth in a trial's id is its width.

    Args:
        more: trial_id -> other fields of its Result.
    """
    dice, overrides = random.Random(0), dict[str, dict[str, Any]]()
    for (model, (a, b)), (width, size), share, seed in product(truth.items(), widths.items(), shares, seeds):
        family = "vit-p7" if model == "vit" else "cnn"
        key = "embed_dim" if model == "vit" else "width"
        error = (a * size**-b * share**-0.3 + floor) * math.exp(dice.gauss(0, noise))
        some = f"-{share:g}" if share < 1 else ""
        trial_id = f"{family}-d{width}-fp32{some}-cpu-s{seed}"
        overrides[trial_id] = {
            "depth": 2,
            key: width,
            "settings": json.dumps({"depth": 2, key: width}),
            "num_params": size,
            "num_flops": 40 * size,
            "num_train_flops": 120 * size,
            "test_accuracy": 1 - min(error, 0.95),
        } | (more or {}).get(trial_id, {})
    configs = [(model, 7 if model == "vit" else None, width) for model in truth for width in widths]
    return make_run(
        folder, configs=configs, dtypes=["fp32"], fractions=shares, seeds=seeds, epochs=1, overrides=overrides
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_ladders(tmp_path_factory.mktemp("runs") / "laws", shares=SHARES, floor=0.01, noise=0.01)
    with drawing(MAIN_PLOTS=(scaling_laws, data_efficiency)):
        write_report(folder)
    return folder


@pytest.fixture(scope="module")
def tables(run: Path) -> Tables:
    return read_tables(run)


def made_law(model: str, truth: tuple[float, float], dice: random.Random, floor: float = 0.0) -> Law:
    a, b = truth
    *points, held = (Point(x, (a * x**-b + floor) * math.exp(dice.gauss(0, 0.03)), [0.0]) for x in WIDTHS.values())
    return Law(model, PARAMS, points, held, fitted_to(points))


def test_ladders_vary_in_one_thing_alone(tables: Tables) -> None:
    laws = {(law.model, law.scale): law for law in find_laws(tables, DEVICE)}
    assert list(laws) == [(model, scale) for scale in (PARAMS, BUDGET, IMAGES) for model in TRUTH]
    for model in TRUTH:
        sizes = [*WIDTHS.values()]
        assert [point.x for point in laws[model, PARAMS].points] == sizes[:-1]
        assert laws[model, PARAMS].held.x == sizes[-1]
        assert laws[model, BUDGET].held.x == pytest.approx(120 * sizes[-1] * 55_000)  # one epoch
        assert [point.x for point in laws[model, IMAGES].points] == [round(55_000 * share) for share in SHARES[:-1]]
        assert laws[model, IMAGES].held.x == 55_000
    assert find_laws(tables, "another device") == []


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_an_exponent_and_a_larger_size_are_within_their_intervals_at_the_rate_that_is_said(floor: float) -> None:
    dice, runs = random.Random(1), 500
    held = {"exponent": 0, "prediction": 0}
    for _ in range(runs):
        law = made_law("vit", TRUTH["vit"], dice, floor)
        low, _, high, _ = law.fit.exponent_interval()
        held["exponent"] += low <= 0.5 <= high
        held["prediction"] += law.kept
    for name, count in held.items():
        assert count / runs == pytest.approx(0.95, abs=0.03), name


def test_two_laws_cross_only_where_each_is_shown_to_be_ahead() -> None:
    dice = random.Random(3)
    verdicts = set()
    for _ in range(20):  # near the largest size, 200,000
        (found,) = crossings([made_law(model, truth, dice) for model, truth in (TRUTH | {"vit": (9.4, 0.5)}).items()])
        verdicts.add(found.verdict)
        assert found.models == ("cnn", "vit")
        assert found.verdict == "overtakes" or (found.at, found.place) == (None, "within the parameters tried")
    assert {"isn't shown to overtake", "doesn't overtake"} <= verdicts


def test_a_law_that_is_ahead_between_the_ends_alone_overtakes_and_falls_behind() -> None:
    sizes = np.geomspace(10, 40_000, 9).tolist()

    def crossing(floor: float, noise: float) -> Crossing:
        dice, laws = random.Random(0), []
        for model, (a, b, c) in {"vit": (3.0, 1.0, floor), "cnn": (0.45, 0.32, 0.0)}.items():
            *points, held = (Point(x, (a * x**-b + c) * math.exp(dice.gauss(0, noise)), [0.0]) for x in sizes)
            laws.append(Law(model, PARAMS, points, held, fitted_to(points)))
        (found,) = crossings(laws)
        return found

    found = crossing(floor=0.02, noise=0.001)
    assert (found.claim, found.at) == ("the ViT overtakes and again falls behind the CNN", None)
    assert crossing(floor=0.5, noise=0.001).claim == "the ViT doesn't overtake the CNN"
    assert crossing(floor=0.064, noise=0.2).verdict == "isn't shown to overtake"


def test_a_budget_counts_the_steps_that_a_recipe_asks_for(tmp_path: Path) -> None:
    shorter = {
        f"vit-p7-d{width}-fp32-cpu-s{seed}": {"training": json.dumps({"steps_fraction": 0.85})}
        for width in WIDTHS
        for seed in (0, 1, 2)
    }
    laws = {
        (law.model, law.scale): law
        for law in find_laws(read_tables(make_ladders(tmp_path / "run", more=shorter)), DEVICE)
    }
    size = max(WIDTHS.values())
    assert laws["vit", BUDGET].held.x == pytest.approx(0.85 * 120 * size * 55_000)
    assert laws["cnn", BUDGET].held.x == pytest.approx(120 * size * 55_000)


@pytest.mark.slow
def test_a_planted_crossing_is_found_and_its_interval_holds_it() -> None:
    dice, runs, within = random.Random(2), 60, 0
    for _ in range(runs):
        (found,) = crossings([made_law(model, truth, dice) for model, truth in TRUTH.items()])
        assert found.at
        assert found.models == ("cnn", "vit")
        assert found.claim == "the ViT overtakes the CNN"
        assert found.ends[0] <= found.at.low <= found.at.amount <= found.at.high <= found.ends[1]
        within += found.at.low <= CROSS <= found.at.high
    assert within >= 52


def test_the_answer_names_where_the_lines_cross(tmp_path: Path) -> None:
    (verdict,) = decide(read_tables(make_ladders(tmp_path / "run")))
    said = re.fullmatch(
        r"The ViT overtakes the CNN at ([\d,]+) parameters \(95% interval ([\d,]+) to ([\d,]+)\) and at ([\d.]+) TFLOP "
        r"of training \(95% interval ([\d.]+) to ([\d.]+)\)\.",
        verdict.headline,
    )
    assert said, verdict.headline
    at, low, high, *budget = (float(number.replace(",", "")) for number in said.groups())
    assert low < CROSS < high
    assert at == pytest.approx(CROSS, rel=0.15)
    assert budget == pytest.approx([x * 120 * 55_000 / 1e12 for x in (at, low, high)], rel=0.01)
    assert re.search(r"parameters: ViT 0\.\d\d \(0\.\d\d to 0\.\d\d\), CNN 0\.\d\d", verdict.notes[0])
    assert "within its predicted interval in 4 of 4 cases." in verdict.notes[1]


def test_lines_that_would_cross_further_on_do_so_not_within_what_was_tried(tmp_path: Path) -> None:
    tables = read_tables(make_ladders(tmp_path / "run", {"vit": (12.0, 0.5), "cnn": (0.1, 0.2)}))
    assert law_sentences(tables, DEVICE)[0] == (
        "The ViT doesn't overtake the CNN within the parameters and training FLOPs tried."
    )
    (sheet,) = law_sheets(tables)
    assert sheet.said[1] == (
        "The ViT doesn't overtake the CNN: not within what was tried; both were tried from 1,000 to 200,000 parameters."
    )


def test_lines_that_cannot_be_told_apart_have_no_crossing(tmp_path: Path) -> None:
    tables = read_tables(make_ladders(tmp_path / "run", {"vit": (1.0, 0.3), "cnn": (1.0, 0.3)}, noise=0.3))
    assert law_sentences(tables, DEVICE)[0] == (
        "No difference between ViT and CNN is shown within the parameters and training FLOPs tried."
    )


def test_a_line_that_bends_misses_the_larger_size(tmp_path: Path) -> None:
    stuck = {f"vit-p7-d96-fp32-cpu-s{seed}": {"test_accuracy": 0.9} for seed in range(3)}
    tables = read_tables(make_ladders(tmp_path / "run", more=stuck))
    assert "in 2 of 4 cases (not ViT by parameters and ViT by training FLOPs)" in law_sentences(tables, DEVICE)[2]


def test_no_errors_and_failed_trials_break_nothing(tmp_path: Path) -> None:
    odd: dict[str, dict[str, Any]] = {
        **{f"cnn-d3-fp32-cpu-s{seed}": {"status": "failed", "error": "boom"} for seed in range(3)},
        "vit-p7-d16-fp32-cpu-s0": {"status": "diverged", "error": "NaN"},
        "vit-p7-d48-fp32-cpu-s1": {"test_accuracy": 1.0},
    }
    tables = read_tables(make_ladders(tmp_path / "run", widths={3: 300} | WIDTHS, more=odd))
    laws = {law.model: law for law in find_laws(tables, DEVICE) if law.scale == PARAMS}
    assert [len(law.points) for law in laws.values()] == [8, 7]
    law = laws["vit"]
    assert [len(point.errors) for point in law.points] == [3, 3, 3, 2, 3, 3, 3, 3]
    assert law.points[6].errors[1] == 0.5 / 10_000
    assert all(map(math.isfinite, [*law.fit.exponent_interval(), *law.predicted]))


@pytest.mark.parametrize(
    "widths",
    [
        dict([*WIDTHS.items()][-FEWEST:]),  # the largest leaves one too few for the fit
        {width: 1_000 + 100 * width for width in WIDTHS},  # within a decade
    ],
)
def test_few_sizes_or_close_ones_are_not_fitted(tmp_path: Path, widths: dict[int, int]) -> None:
    tables = read_tables(make_ladders(tmp_path / "run", widths=widths, seeds=[0]))
    assert not any([find_laws(tables, DEVICE), law_sheets(tables), law_sentences(tables, DEVICE)])
    with house_style():
        assert scaling_laws.draw(tables) is None
    assert question(tables) == "ViT or CNN for MNIST?"


def other_runs() -> list[Any]:
    made: dict[str, Callable[[Path], Path]] = {
        "mnist": lambda folder: make_run(folder, matches=["params", "flops"], seeds=[0]),
        "shares": lambda folder: make_run(folder, fractions=SHARES, dtypes=["fp32"], seeds=[0]),
        "depths": lambda folder: make_run(folder, configs=[("vit", 7, depth) for depth in range(1, 10)], seeds=[0]),
    }
    for name in ("mnist-cpu", "mnist-data-efficiency", "notebook-vit"):
        made[name] = lambda folder, name=name: REFERENCE / name  # type: ignore[misc]
    return [pytest.param(make, id=name) for name, make in made.items()]


@pytest.mark.parametrize("make", other_runs())
def test_other_runs_have_no_laws(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    tables = read_tables(make(tmp_path / "run"))
    assert len(tables.summary)
    assert [law for name in tables.summary["device_name"].unique() for law in find_laws(tables, name)] == []
    assert law_sheets(tables) == []
    assert "fall with size" not in question(tables)


def law_of(z: Any, height: float, exponent: float, floor: float) -> Any:
    return np.log(np.exp(height - exponent * z) + floor)


def test_every_number_of_the_table_comes_out_of_trials_csv_again(run: Path) -> None:
    with (run / "trials.csv").open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    rows = re.findall(
        r"^\| (ViT|CNN), (.*?) \(n = 3\) \| (.*) to (.*) \(\d sizes\) \| (.*) \((.*) to (.*)\) \| (.*)% \| (.*) \| "
        r"(.*)% \((.*) to (.*)\) \| (.*)% \((within|not within)\) \|$",
        (run / "report.md").read_text(encoding="utf-8").replace("\\", ""),
        re.MULTILINE,
    )
    assert len(rows) == 6
    for family, unit, *figures, kept in rows:
        points: dict[float, list[float]] = {}
        for trial in trials:
            full, images = float(trial["train_fraction"]) == 1, float(trial["num_train_images"])
            smallest = trial["num_params"] == "1000"  # of ladders of shares, the first
            if trial["model"] != family.lower() or not (smallest if unit == "training images" else full):
                continue
            params, budget = float(trial["num_params"]), float(trial["num_train_flops"]) * 55_000 / 1e12
            place = {"parameters": params, "TFLOP of training": budget, "training images": images}[unit]
            points.setdefault(place, []).append(1 - float(trial["test_accuracy"]))
        x, y = np.log(sorted(points)), np.array([np.log(points[place]).mean() for place in sorted(points)])
        start = (y[0] + 0.5 * x[0], 0.5, math.exp(y[-1]) / 2)
        found, covariance = curve_fit(law_of, x[:-1], y[:-1], start, ftol=1e-14, xtol=1e-14)
        degrees = len(x) - 1 - 3
        variance = ((y[:-1] - law_of(x[:-1], *found)) ** 2).sum() / degrees
        steps = [1e-6 * np.eye(3)[place] for place in range(3)]
        slopes = np.array([(law_of(x[-1], *(found + h)) - law_of(x[-1], *(found - h))) / 2e-6 for h in steps])
        sure = t.ppf(0.975, degrees)
        half = sure * math.sqrt(slopes @ covariance @ slopes + variance)
        predicted = [law_of(x[-1], *found) + end * half for end in (0, -1, 1)]
        exponent = [found[1] + end * sure * math.sqrt(covariance[1, 1]) for end in (0, -1, 1)]
        printed = [float(figure.replace(",", "")) for figure in figures]
        assert printed[:2] == pytest.approx(np.exp(x[[0, -2]]), rel=6e-3)
        assert printed[2:5] == pytest.approx(exponent, abs=0.0051)
        assert printed[5:7] == [pytest.approx(100 * found[2], abs=0.0051), pytest.approx(math.exp(x[-1]), rel=6e-3)]
        assert printed[7:] == pytest.approx([100 * math.exp(each) for each in (*predicted, y[-1])], abs=0.0051)
        assert kept == ("within" if predicted[1] <= y[-1] <= predicted[2] else "not within")


def test_the_page_asks_it_first_and_shows_one_figure_of_it(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<title>How do the errors of ViT and CNN fall with size on MNIST?</title>" in page
    asked = page[page.index('aria-label="What was asked"') :].partition("</section>")[0]
    assert asked.count("<figure>") == 1  # data efficiency would be the third panel again
    assert "Scaling laws" in asked
    assert "Scaling laws: exponents, predictions, crossings</summary>" in page
    assert len((run / "report.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_figure_has_a_panel_a_scale_and_a_hollow_point_a_law(tables: Tables) -> None:
    with house_style():
        figure = scaling_laws.draw(tables)
    assert figure
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "parameters",
        "training FLOPs, 10^12",
        "training images",
    ]
    laws = find_laws(tables, DEVICE)
    for axes in figure.axes:
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert len(hollow) == 2
        assert {float(np.asarray(line.get_ydata())[0]) for line in hollow} <= {100 * law.held.error for law in laws}
        assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "x^-b" in scaling_laws.alt(tables)


def test_the_suite_has_ladders_of_one_and_a_half_decades() -> None:
    plan = load_plan(read_suite(find_suite("scaling-laws")))
    for model in ("vit", "cnn"):
        own = [trial for trial in plan.trials if trial.model == model]
        sizes = sorted({plan.num_params[trial.config_id] for trial in own})
        shares = sorted({trial.train_fraction for trial in own})
        assert min(len(sizes), len(shares)) > FEWEST
        assert math.log10(sizes[-2] / sizes[0]) >= 1.5
        assert math.log10(shares[-2] / shares[0]) >= 1.5
