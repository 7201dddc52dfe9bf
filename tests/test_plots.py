"""Figures: drawn where there is something to show, legible, and the same every time."""

import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from made_up import make_run
from matplotlib.figure import Figure

from bench.canvas import FAMILY_COLOURS, family_colours, save
from bench.plots import MOST_ROWS, PLOTS
from bench.summary import Tables, read_tables


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    bad = {"vit-p4-d4-amp-bf16-cpu-s2": {"status": "diverged", "error": "NaN"}}
    return read_tables(make_run(tmp_path_factory.mktemp("runs") / "full", overrides=bad))


def drawn(name: str, tables: Tables) -> Figure:
    figure = PLOTS[name](tables)
    assert figure is not None
    return figure


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_draws_the_main_suite_and_leaves_nothing_open(full: Tables, name: str) -> None:
    before = dict(mpl.rcParams)
    assert save(drawn(name, full), "png").startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before
    assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_same_run_gives_the_same_svg(full: Tables) -> None:
    first = save(drawn("memory", full), "svg")
    assert first == save(drawn("memory", full), "svg")
    assert b"<dc:date>" not in first


@pytest.mark.parametrize("name", PLOTS)
def test_a_run_where_all_failed_has_no_plots(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides={"": {"status": "failed", "error": "boom"}})
    assert PLOTS[name](read_tables(folder)) is None
    assert PLOTS[name](read_tables(make_run(tmp_path / "empty", configs=[]))) is None


def test_a_family_without_patches_has_no_patch_map(tmp_path: Path) -> None:
    tables = read_tables(make_run(tmp_path / "run", configs=[("cnn", None, 2), ("cnn", None, 4)]))
    assert PLOTS["patch_depth_heatmaps"](tables) is None


def test_a_run_without_targets_has_no_times_to_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2)], changes={"targets": None, "target_accuracy": None})
    assert PLOTS["time_to_accuracy"](read_tables(folder)) is None


def test_what_memory_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    tables = read_tables(
        make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides={"": {"peak_memory_bytes": None}})
    )
    assert PLOTS["memory"](tables) is None


def test_labels_of_the_scatter_do_not_overlap_each_other(full: Tables) -> None:
    figure = drawn("accuracy_against_throughput", full)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(full.summary)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_a_seed_that_missed_stands_at_the_edge_with_its_count(full: Tables) -> None:
    figure = drawn("time_to_accuracy", full)
    said = {text.get_text() for text in figure.axes[-1].texts}
    assert "3/3" in said
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["90%", "95%", "97%", "98%", "99%"]


def test_chance_and_perfection_stay_within_the_frame(tmp_path: Path) -> None:
    figures = {"vit": {"test_accuracy": 0.1}, "cnn": {"test_accuracy": 1.0}}
    tables = read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)], overrides=figures))
    low, high = drawn("accuracy_against_throughput", tables).axes[0].get_ylim()
    assert low < 0.1
    assert high > 0.9999


def test_families_keep_their_colours_and_later_ones_get_their_own(tmp_path: Path) -> None:
    names = read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("mixer", 7, 2), ("kan", None, 2)])).summary
    colours = family_colours(names["model"])
    assert colours["vit"] == FAMILY_COLOURS["vit"]
    assert len({colours[name] for name in ("vit", "cnn", "mixer", "kan")}) == 4


def test_a_big_run_is_cut_to_what_can_be_read(tmp_path: Path) -> None:
    configs = [("vit", patch, depth) for patch in (2, 4, 7, 14) for depth in range(1, 11)]
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], seeds=[0]))
    figure = drawn("memory", tables)
    assert len(figure.axes[0].get_yticklabels()) == MOST_ROWS
    assert any(f"the {MOST_ROWS} smallest of 40" in text.get_text() for text in figure.texts)
