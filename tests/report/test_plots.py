"""Figures: drawn where there is something to show, legible, and the same every time."""

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from made_up import make_run
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.comparison import compare_rows
from bench.analysis.labels import plain_name, records
from bench.analysis.summary import Tables, read_tables
from bench.report.figures import GALLERY_PLOTS, HERO, LARGEST_SVG, MAIN_PLOTS, MISTAKES, RUN_PLOTS
from bench.report.plots.style import FAMILY_COLOURS, MOST_ROWS, STYLE, family_colours, house_style, save

PLOTS = {plot.name: plot for plot in (*HERO, *MAIN_PLOTS, *RUN_PLOTS)}


@pytest.fixture(scope="module", autouse=True)
def coarse_pixels() -> Iterator[None]:
    """Few of them: nobody looks at these, and each takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "savefig.dpi", 40)
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    bad = {"vit-p4-d4-amp-bf16-cpu-s2": {"status": "diverged", "error": "NaN"}}
    folder = tmp_path_factory.mktemp("runs") / "full"
    return read_tables(make_run(folder, overrides=bad, dtypes=["fp32", "amp-bf16"]))


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """With matched pairs, and with shares of the data."""
    configs, folder = [("vit", 7, 2), ("vit", 14, 2), ("cnn", None, 2)], tmp_path_factory.mktemp("runs") / "varied"
    return read_tables(
        make_run(folder, configs=configs, fractions=[0.01, 0.1, 1.0], matches=["params", "flops"], epochs=1)
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """More configurations than can be read."""
    configs = [("vit", patch, depth) for patch in (2, 4, 7, 14) for depth in range(1, 11)]
    folder = tmp_path_factory.mktemp("runs") / "many"
    return read_tables(make_run(folder, configs=[*configs, ("cnn", None, 2)], dtypes=["fp32"], seeds=[0]))


def draw(name: str, tables: Tables) -> Figure | None:
    with house_style():
        return PLOTS[name].draw(tables)


def drawn(name: str, tables: Tables) -> Figure:
    """A figure of a run, drawn once, since that takes long; nobody may change it."""
    if (name, tables.folder) not in DRAWN:
        figure = draw(name, tables)
        assert figure is not None
        DRAWN[name, tables.folder] = figure
    return DRAWN[name, tables.folder]


DRAWN: dict[tuple[str, Path], Figure] = {}


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


OF_PROCESSES = "scaling"  # drawn where a run has several numbers of them
OF_WIDTHS = "scaling_laws"  # drawn where a run has a ladder of them: tests/analysis/test_laws.py


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in (OF_PROCESSES, OF_WIDTHS)])
def test_every_plot_draws_a_full_run_and_leaves_nothing_open(varied: Tables, name: str) -> None:
    before = dict(mpl.rcParams)
    assert save(drawn(name, varied), "png").startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")  # which seaborn loads
    assert pyplot is None or not pyplot.get_fignums()


def test_the_same_run_gives_the_same_svg(full: Tables) -> None:
    once, again = drawn("memory", full), draw("memory", full)
    assert again is not None
    assert again is not once
    first = save(once, "svg")
    assert first == save(again, "svg")
    assert b"<dc:date>" not in first


def test_a_run_where_all_failed_has_no_plots(tmp_path: Path) -> None:
    failed = {"": {"status": "failed", "error": "boom"}}
    for folder in (
        make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides=failed),
        make_run(tmp_path / "empty", configs=[]),
    ):
        tables = read_tables(folder)
        assert [name for name in PLOTS if draw(name, tables) is not None] == []


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("patch_depth_heatmaps", {"configs": [("cnn", None, 2), ("cnn", None, 4)]}),
        ("time_to_accuracy", {"changes": {"targets": None, "target_accuracy": None}}),
        ("memory", {"overrides": {"": {"peak_memory_bytes": None}}}),
    ],
)
def test_what_a_run_lacks_is_not_drawn(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    """A family without patches, a run without targets, memory that wasn't measured."""
    assert draw(name, read_tables(make_run(tmp_path / "run", **{"configs": [("vit", 7, 2)], **how}))) is None


def test_what_does_not_vary_is_not_drawn(full: Tables, many: Tables) -> None:
    assert [draw(name, full) for name in ("data_efficiency", "matched_pairs", OF_PROCESSES, OF_WIDTHS)] == [None] * 4
    assert draw("mode_ratios", many) is None


def test_labels_of_the_scatter_do_not_overlap_each_other(full: Tables) -> None:
    figure = drawn("accuracy_by_time", full)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent().padded(-0.5) for text in figure.axes[0].texts]
    assert len(boxes) == len(full.summary)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_points_are_named_by_their_shape_twins_too(varied: Tables) -> None:
    (axes,) = drawn("accuracy_by_parameters", varied).axes
    twins = varied.summary[varied.summary["match"].notna() & (varied.summary["train_fraction"] == 1)]
    shapes = {f"d2 w{width:g}" for width in twins["width"]}
    shown = {text.get_text() for text in axes.texts}
    assert len(shapes) > 0
    assert not any("=" in text for text in shown)
    assert shown & shapes
    assert not any("e32" in text for text in shown)


def test_a_seed_that_missed_stands_at_the_edge_with_its_count(full: Tables) -> None:
    (axes,) = drawn("time_to_accuracy", full).axes
    assert {text.get_text() for text in axes.texts} == {"", "1/3", "3/3"}
    assert "97% on validation" in axes.get_xlabel()


def test_chance_and_perfection_stay_within_the_frame(tmp_path: Path) -> None:
    figures = {"vit": {"test_accuracy": 0.1}, "cnn": {"test_accuracy": 1.0}}
    tables = read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)], overrides=figures))
    low, high = drawn("accuracy_by_parameters", tables).axes[0].get_ylim()
    assert low < 0.1
    assert high > 0.9999


def test_families_keep_their_colours_and_later_ones_get_their_own(tmp_path: Path) -> None:
    names = read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("mixer", 7, 2), ("kan", None, 2)])).summary
    colours = family_colours(names["model"])
    assert colours["vit"] == FAMILY_COLOURS["vit"]
    assert len({colours[name] for name in ("vit", "cnn", "mixer", "kan")}) == 4


def test_a_big_run_is_cut_to_what_can_be_read(many: Tables) -> None:
    figure = drawn("memory", many)
    assert len(figure.axes[0].get_yticklabels()) == MOST_ROWS
    assert any(f"{MOST_ROWS} of 41: the smallest" in text.get_text() for text in figure.texts)
    names = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert set(many.summary.loc[many.summary["best_of_family"], "label"]) <= names


@pytest.mark.parametrize("name", [plot.name for plot in HERO])
def test_of_a_big_run_the_best_are_drawn_in_full_and_the_rest_faint(many: Tables, name: str) -> None:
    figure = drawn(name, many)
    assert len(figure.axes[0].texts) <= MOST_ROWS + 1
    faint, spots = (dots for dots in figure.axes[0].collections if isinstance(dots, PathCollection))
    assert np.asarray(faint.get_offsets()).shape == (41 - MOST_ROWS, 2)
    assert faint.get_rasterized()
    assert len(spots.get_urls()) == MOST_ROWS


def test_many_curves_are_pixels_within_the_svg(many: Tables) -> None:
    figure = drawn("inference_by_batch", many)
    assert [curves.get_rasterized() for curves in figure.axes[0].collections if len(curves.get_paths()) > MOST_ROWS]
    assert len(save(figure, "svg")) < LARGEST_SVG


def test_learning_has_a_line_and_a_band_of_each_familys_best(full: Tables) -> None:
    (axes,) = drawn("learning_curves", full).axes
    best = full.summary[full.summary["best_of_family"]]
    assert [line.get_label() for line in axes.get_lines()] == [f"{plain_name(row)}, n = 3" for row in records(best)]
    assert len(axes.collections) == 2
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in axes.get_lines()]
    assert ends == pytest.approx(best["val_accuracy"].tolist())


def test_accuracy_stands_against_the_latency_of_one_image(full: Tables) -> None:
    (axes,) = drawn("accuracy_by_latency", full).axes
    points = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    drawn_at = sorted({float(x) for line in points for x in np.asarray(line.get_xdata())})
    assert drawn_at == pytest.approx(sorted(full.summary["latency_p50_seconds"] * 1e3))
    (front,) = (line for line in axes.get_lines() if line.get_linestyle() == "--")
    best = full.summary.sort_values("test_accuracy").iloc[-1]
    assert np.asarray(front.get_xdata())[-1] == pytest.approx(best["latency_p50_seconds"] * 1e3)
    (spots,) = (dots for dots in axes.collections if isinstance(dots, PathCollection))
    assert spots.get_urls() == [f"#row-{number}" for number in full.summary.index]


def test_a_run_without_latency_has_no_chart_of_it(full: Tables) -> None:
    unknown = dataclasses.replace(full, summary=full.summary.assign(latency_p50_seconds=float("nan")))
    assert draw("accuracy_by_latency", unknown) is None


def test_each_choice_is_held_against_its_plain_twin(full: Tables) -> None:
    speed, memory, accuracy = drawn("mode_ratios", full).axes
    head, *names = [text.get_text() for text in speed.get_yticklabels()]
    assert head == "amp-bf16 against fp32"
    assert len(names) == 8
    rows = {row["label"]: row for row in records(full.summary)}
    twins = [(rows[name], rows[name.replace("amp-bf16", "fp32")]) for name in names]
    ratios = [compare_rows(full, row, plain, "images_per_second").amount for row, plain in twins]
    assert [text.get_text() for text in speed.texts] == [f"{ratio:.2f}" for ratio in ratios]
    assert len(memory.texts) == len(accuracy.texts) == len(names)


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in (OF_PROCESSES, OF_WIDTHS)])
def test_the_alt_text_says_what_is_seen_with_numbers(varied: Tables, name: str) -> None:
    text = PLOTS[name].alt(varied)
    assert len(re.findall(r"\d", text)) > 5
    assert "nan" not in text


def test_alt_texts_name_the_ends_of_the_range(full: Tables) -> None:
    text = PLOTS["memory"].alt(full)
    rows = full.summary.sort_values("peak_memory_bytes", ascending=False)
    first, last = rows.iloc[0], rows.iloc[-1]
    assert text == (
        f"Peak training memory goes from {first['peak_memory_bytes'] / 2**20:.0f} MiB ({first['label']}) to "
        f"{last['peak_memory_bytes'] / 2**20:.1f} MiB ({last['label']}). The table of configurations holds the numbers."
    )


def test_no_two_plots_write_the_same_files() -> None:
    names = [*PLOTS, *(plot.name for plot in (*MISTAKES, *GALLERY_PLOTS))]
    assert len(names) == len(set(names)) == sum(map(len, (HERO, MAIN_PLOTS, RUN_PLOTS, MISTAKES, GALLERY_PLOTS)))


def test_data_efficiency_has_a_line_a_family(varied: Tables) -> None:
    (axes,) = drawn("data_efficiency", varied).axes
    lines = {line.get_label(): np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()}
    assert lines == {"ViT": [550, 5500, 55_000], "CNN": [550, 5500, 55_000]}
    assert len(axes.collections) == 3  # a band for each, and the others


def test_matched_pairs_have_a_row_a_pair(varied: Tables) -> None:
    accuracy, speed = drawn("matched_pairs", varied).axes
    pairs = [text.get_text() for text in accuracy.get_yticklabels()]
    assert len(pairs) == len(set(pairs)) == len(speed.texts) == 2 * 2 * 3 * 2  # shapes, kinds, shares, modes
    assert sum(pair.endswith("equal FLOPs") for pair in pairs) == 12
    assert 2 <= len(speed.get_xticks()) <= 7  # few enough to read


def test_pairs_of_one_configuration_with_several_are_told_apart(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("cnn", None, 2)]
    how: dict[str, Any] = {"configs": configs, "dtypes": ["fp32"], "matches": ["flops", "params"]}
    deeper = {"cnn-d2-fp32-params": {"match": "flops", "depth": 4}}
    accuracy, _ = drawn("matched_pairs", read_tables(make_run(tmp_path / "run", **how, overrides=deeper))).axes
    names = {text.get_text() for text in accuracy.get_yticklabels()}
    assert names == {f"ViT p7 d2 fp32, equal FLOPs: CNN d{depth} w16" for depth in (2, 4)}


def test_a_step_is_split_only_where_all_its_parts_were_measured(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("cnn", None, 2)]
    gone = {"cnn": {"backward_seconds": None}}
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], overrides=gone))
    (axes,) = drawn("step_split", tables).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ViT p7 d2 fp32"]
    widths = [bar.get_width() for bar in bars(axes)]
    row = tables.summary.iloc[0]
    parts = [row[f"{part}_seconds"] * 1e3 for part in ("data", "forward", "backward", "optimizer")]
    assert widths == pytest.approx(parts)


def test_memory_that_is_not_split_is_one_plain_bar(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("cnn", None, 2)]
    gone = {"cnn": {"activation_bytes": None}}
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], overrides=gone))
    figure = drawn("memory", tables)
    assert len(bars(figure.axes[0])) == 4 + 1
    assert [text.get_text() for legend in figure.legends for text in getattr(legend, "texts", [])][-1] == "not split"
    ends = max(bar.get_x() + bar.get_width() for bar in bars(figure.axes[0])) * 2**20
    assert ends == pytest.approx(tables.summary["peak_memory_bytes"].max())


def test_inference_by_batch_needs_two_batch_sizes_and_names_the_latency(full: Tables) -> None:
    (axes,) = drawn("inference_by_batch", full).axes
    assert all("latency p50" in text.get_text() for text in getattr(axes.get_legend(), "texts", [None]))
    for rows in (full.inference[full.inference["batch_size"] == 1], full.inference.head(0)):
        assert draw("inference_by_batch", dataclasses.replace(full, inference=rows)) is None


def test_scaling_has_a_line_a_ladder_beside_the_ideal_one(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("cnn", None, 2)]
    tables = read_tables(
        make_run(tmp_path / "$x^$ 名", configs=configs, dtypes=["fp32"], processes=[1, 2, 4], epochs=1)
    )
    speed, share = drawn(OF_PROCESSES, tables).axes
    assert [text.get_text() for text in getattr(share.get_legend(), "texts", [])] == ["CNN d2 fp32", "ViT p7 d2 fp32"]
    ideal = [line for line in speed.lines if line.get_linestyle() == "--"]
    for line in ideal:
        first, *_, last = np.asarray(line.get_ydata())
        assert last == pytest.approx(4 * first)
    assert len(ideal) == 2
    assert share.get_ylim()[0] == 0
    text = PLOTS[OF_PROCESSES].alt(tables)
    assert "CNN d2 fp32, batch of all processes fixed: " in text


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    odd = {"vit": {"model": "$\\frac{$ $x"}}
    how: dict[str, Any] = {"configs": [("vit", 7, 2), ("cnn", None, 2)], "dtypes": ["fp32"], "seeds": [0], "epochs": 1}
    tables = read_tables(make_run(tmp_path / "run", **how, overrides=odd))
    assert save(drawn("memory", tables), "svg").startswith(b"<?xml")


def test_figures_in_a_heat_map_stand_out_from_their_cells(full: Tables) -> None:
    figure, told = drawn("patch_depth_heatmaps", full), 0
    for axes in figure.axes:
        faces = axes.collections[0].get_facecolors()  # type: ignore[attr-defined]
        for text in axes.texts:
            x, y = (int(place) for place in text.get_position())
            face = faces[y * (len(faces) // round(axes.get_ylim()[0])) + x]
            assert contrast(face, text.get_color()) >= 4.5
            told += 1
    assert told >= 12


def contrast(first: Any, second: Any) -> float:
    """WCAG 2's ratio."""
    lights = []
    for colour in (first, second):
        parts = np.asarray(to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)
