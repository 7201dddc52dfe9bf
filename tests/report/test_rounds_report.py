"""The report of a run whose speeds come from launches: the page, its figures, and several runs side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import make_run
from made_up_launch import time_in_rounds
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from report_page import SMALL, assert_well_made, read_page, write_plainly

from bench.analysis.comparison import compare_rows
from bench.analysis.cross_device import cross_device_sheet
from bench.analysis.labels import records
from bench.analysis.scorecard import BEST
from bench.analysis.summary import Tables, read_tables
from bench.analysis.verdict import decide
from bench.report.figures import HERO, MAIN_PLOTS, RUN_PLOTS
from bench.report.plots.style import STYLE, house_style
from bench.report.sections import OF_LAUNCHES, OF_TIMED_TRIALS
from bench.report.side_by_side import join
from bench.report.tables import column_groups, results_grid
from bench.store.tables import RECORD

PLOTS = {plot.name: plot for plot in (*HERO, *MAIN_PLOTS, *RUN_PLOTS)}
SPEEDS = {"vit-p7-d2-fp32-cpu": 12_000.0, "cnn-d2-fp32-cpu": 8_000.0, "cnn-d2-fp32-params-7-2-cpu": 7_000.0}
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def in_rounds(folder: Path, factor: float = 1.0, device: str = "AMD EPYC 7R13", **how: Any) -> Path:
    untimed: dict[str, Any] = {"overrides": {"": {"timed": False}}, "devices": {"cpu": device}}
    make_run(folder, configs=SMALL, dtypes=["fp32"], matches=["params"], **untimed)
    speeds = {name: factor * speed for name, speed in SPEEDS.items()}
    return time_in_rounds(folder, speeds, device_name=device, **how)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_rounds(tmp_path_factory.mktemp("runs") / "rounds")


@pytest.fixture(scope="module")
def tables(folder: Path) -> Tables:
    return read_tables(folder)


def drawn(name: str, tables: Tables) -> tuple[Figure, str]:
    """A figure, and all that is written on it."""
    with pytest.MonkeyPatch.context() as patch, house_style():
        patch.setitem(STYLE, "savefig.dpi", 40)
        figure = PLOTS[name].draw(tables)
    assert figure is not None
    parts: list[Any] = [figure, *figure.axes]
    return figure, " ".join(text.get_text() for part in parts for text in part.texts)


def test_the_page_says_how_good_speeds_are_and_by_which_rules(folder: Path) -> None:
    write_plainly(folder)
    page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert_well_made(page)
    assert (
        page.text.count("Ratios of training speeds are known to ±")
        == text.count("Ratios of training speeds are known to ±")
        == 1
    )
    assert OF_LAUNCHES in page.text
    assert OF_TIMED_TRIALS not in page.text
    assert "Accuracy alone" not in page.text
    assert "0 timed" not in page.text
    assert "n = 3; 8 launches" in page.text


def test_the_rules_of_timed_trials_stand_where_trials_were_timed(tmp_path: Path) -> None:
    write_plainly(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"]))
    said = read_page(tmp_path / "run").text
    assert OF_TIMED_TRIALS in said
    assert OF_LAUNCHES not in said


def test_the_table_has_one_thread_images_and_stalls_beside_the_speeds(tables: Tables) -> None:
    groups = {title: [column.key for column in columns] for title, columns in column_groups(tables).items()}
    assert "images_per_second_one_thread" in groups["With one thread"]
    assert "images_to_0.97" in groups["Images to accuracy"]
    assert "stall_share" in groups["Time of a step"]


def test_a_time_that_the_first_evaluation_ended_is_within_in_the_table(tmp_path: Path) -> None:
    early = [{"epoch": 0.2, "step": 86, "val_accuracy": 0.98}]
    run = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides={"cnn": {"evaluations": early}})
    grid = results_grid(read_tables(time_in_rounds(run, SPEEDS)))
    place = [column.key for column in grid.columns].index("seconds_to_0.97")
    assert [cells[place].text.startswith("within ") for _, cells in grid.rows] == [True, False]


@pytest.mark.parametrize(
    "name",
    ["accuracy_by_latency", "accuracy_by_time", "matched_pairs", "step_split", "inference_by_batch"],
)
def test_figures_of_speeds_count_launches(tables: Tables, name: str) -> None:
    _, said = drawn(name, tables)
    assert "8 launches" in said
    assert "median and" not in said


def test_curves_run_against_seconds_that_are_images_by_speed(tables: Tables) -> None:
    figure, _ = drawn("learning_curves", tables)
    assert figure.axes[0].get_xlabel() == "training seconds (evaluations not counted)"
    _, said = drawn("time_to_accuracy", tables)
    assert "by the speed of launches" in said


def test_inference_by_batch_shows_the_speeds_that_the_table_has(tables: Tables) -> None:
    figure, _ = drawn("inference_by_batch", tables)
    heights = {float(y) for line in figure.axes[0].lines for y in np.asarray(line.get_ydata())}
    best = tables.summary[tables.summary["best_of_family"]]
    assert set(best["inference_images_per_second"]) <= heights


def test_a_ratio_that_is_too_noisy_is_a_word_and_no_point(tmp_path: Path) -> None:
    tables = read_tables(in_rounds(tmp_path / "run", noise=0.3))
    figure, said = drawn("matched_pairs", tables)
    assert said.count("too noisy") == 1
    words: list[Any] = [text for text in figure.axes[1].texts if text.get_text() == "too noisy"]
    low, high = figure.axes[1].get_xlim()
    assert [low < word.xy[0] < high for word in words] == [True]
    assert not figure.axes[1].collections


def test_runs_side_by_side_keep_the_launches_of_each(tmp_path: Path, folder: Path) -> None:
    other = in_rounds(tmp_path / "fast", factor=4.0, device="Xeon")
    tables = join([read_tables(folder), read_tables(other)])
    assert list(tables.devices) == ["AMD EPYC 7R13", "Xeon"]
    assert set(tables.summary["n_launches"]) == {8}
    rows = records(tables.summary)
    slow, fast = (row for row in rows if row["model"] == "vit")
    found = compare_rows(tables, fast, slow, "images_per_second")
    assert (found.paired, found.shown) == (False, True)
    assert found.amount == pytest.approx(4.0, rel=0.15)
    sheet = cross_device_sheet(tables)
    assert sheet
    assert "trains 3." in sheet.said[0] or "trains 4." in sheet.said[0]
    assert all(verdict.notes[-1].startswith("Ratios of training speeds are known to ±") for verdict in decide(tables))


@pytest.mark.parametrize("run", sorted(REFERENCE.rglob(RECORD)), ids=lambda path: path.parent.name)
def test_committed_runs_have_an_answer_however_they_were_timed(run: Path) -> None:
    tables = read_tables(run.parent)
    assert bool(tables.devices) == bool((tables.summary["n_launches"] > 0).any())
    for verdict in decide(tables):
        assert [card.title for card in verdict.cards][:1] == [BEST]
        assert "noisy to call" not in " ".join([verdict.headline, *verdict.advice, *verdict.notes])


def test_lines_go_from_left_to_right_whatever_the_order_in_which_cells_were_timed() -> None:
    """In mnist-cpu every launch timed its cells in an order of its own."""
    tables, lines = read_tables(REFERENCE / "mnist-cpu"), 0
    for name in ("inference_by_batch", "learning_curves"):
        figure, _ = drawn(name, tables)
        for line in (line for axes in figure.axes for line in axes.get_lines() if line.get_linestyle() != "None"):
            assert (np.diff(np.asarray(line.get_xdata(), dtype=float)) > 0).all(), name
            lines += len(np.asarray(line.get_xdata())) > 2
        for faint in (each for axes in figure.axes for each in axes.collections if isinstance(each, LineCollection)):
            assert all((np.diff(curve[:, 0]) > 0).all() for curve in faint.get_segments()), name
            lines += sum(len(curve) > 2 for curve in faint.get_segments())
    others = int((tables.summary["n"] > 0).sum()) - 2
    assert lines == 2 * 2 + others, "the best of each family twice, and the others faintly"


def test_one_thread_columns_stand_only_beside_more_threads(tables: Tables) -> None:
    assert "With one thread" in column_groups(tables)
    alone = replace(tables, summary=tables.summary.assign(speed_threads=1))
    assert "With one thread" not in column_groups(alone), "all of its speeds are"
