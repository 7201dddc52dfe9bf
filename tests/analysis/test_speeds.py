"""Speeds from launches whose truth is known: figures, ratios, verdicts, times to accuracy, and what is too noisy."""

import itertools
import math
import random
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import make_run
from made_up_launch import INFERENCE, PEAK, made_up_launch, packed, time_in_rounds

from bench.analysis.answer import Verdict
from bench.analysis.comparison import Comparison, compare_rows
from bench.analysis.labels import records
from bench.analysis.matched_pairs import find_pairs, pair_sentences
from bench.analysis.run_comparison import Changes, change, compare_runs, compare_tables
from bench.analysis.run_limits import judge, read_limit
from bench.analysis.speeds import DeviceSpeeds, device_speeds, leading_sentence
from bench.analysis.summary import GRID, Tables, read_tables
from bench.analysis.verdict import decide
from bench.measure.speed_stats import Cell, Speeds
from bench.measure.stats import Interval
from bench.result import Launch

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
CPU = "AMD EPYC 7R13"
VIT, CNN = "vit-p7-d2-fp32-cpu", "cnn-d2-fp32-cpu"
SPEEDS = {VIT: 12_000.0, CNN: 8_000.0}  # of one thread
UNTIMED: dict[str, dict[str, Any]] = {"": {"timed": False}}
OF_RUN = ("configs", "seeds", "matches", "changes", "overrides")  # what is asked of the run, not of its launches
TWO = 2**0.8  # times as fast as one thread


def rounds(folder: Path, speeds: dict[str, float] | None = None, *, count: int = 8, **how: Any) -> Tables:
    """A run whose trials ran side by side and whose speeds come from launches; `how` is of the run or of a launch."""
    of_run: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"]}
    of_run |= {key: how.pop(key) for key in OF_RUN if key in how}
    make_run(folder, **(of_run | {"overrides": UNTIMED | of_run.get("overrides", {})}))
    return read_tables(time_in_rounds(folder, speeds or SPEEDS, count, **how))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return rounds(tmp_path_factory.mktemp("rounds") / "run")


def rows_of(tables: Tables) -> tuple[dict[str, Any], dict[str, Any]]:
    vit, cnn = records(tables.summary)[:2]
    return vit, cnn


def answer(tables: Tables) -> Verdict:
    (found,) = decide(tables)
    return found


# Figures


def test_a_row_has_the_speeds_of_launches_with_their_intervals(tables: Tables) -> None:
    vit, _ = rows_of(tables)
    assert (vit["n"], vit["n_timed"], vit["n_launches"], vit["speed_threads"]) == (3, 0, 8, 2)
    assert vit["images_per_second_interval"] == vit["inference_images_per_second_interval"] == "launches"
    truths = {"images_per_second": 12_000 * TWO, "inference_images_per_second": INFERENCE * 12_000 * TWO}
    truths |= {"latency_p50_seconds": 1 / (INFERENCE * 12_000 * TWO)}
    for metric, truth in truths.items():
        assert vit[metric] == pytest.approx(truth, rel=0.08)
        assert vit[f"{metric}_low"] < vit[metric] < vit[f"{metric}_high"]
    assert vit["latency_p99_seconds"] == pytest.approx(1.6 * vit["latency_p50_seconds"], rel=0.06)
    assert vit["step_seconds"] == 128 / vit["images_per_second"]
    assert vit["forward_seconds"] == pytest.approx(0.3 * 128 / (12_000 * TWO))
    assert vit["matmul_flops_per_second"] == PEAK
    assert vit["flops_share"] == vit["images_per_second"] * vit["num_train_flops"] / PEAK


def test_the_other_number_of_threads_stands_beside_it(tables: Tables) -> None:
    vit, _ = rows_of(tables)
    assert vit["images_per_second_one_thread"] == pytest.approx(12_000, rel=0.08)
    assert vit["latency_p50_seconds_one_thread"] == pytest.approx(1 / INFERENCE / 12_000, rel=0.08)


def test_what_one_number_of_threads_was_timed_with_has_no_other(tmp_path: Path) -> None:
    vit, _ = rows_of(rounds(tmp_path / "run", threads=(2,)))
    assert vit["speed_threads"] == 2
    assert math.isnan(vit["images_per_second_one_thread"])


def test_a_run_without_launches_leaves_their_columns_empty(tmp_path: Path) -> None:
    vit, _ = rows_of(read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"])))
    for column in ("n_launches", "speed_threads", "stall_share", "images_per_second_one_thread"):
        assert math.isnan(vit[column])
    assert vit["images_per_second_interval"] == "seeds"


def test_launches_win_over_trials_that_were_timed(tmp_path: Path) -> None:
    vit, _ = rows_of(rounds(tmp_path / "run", overrides={"vit": {"timed": True}}))
    assert vit["n_timed"] == 3
    assert vit["images_per_second_interval"] == "launches"
    assert vit["images_per_second"] == pytest.approx(12_000 * TWO, rel=0.08)


def test_a_configuration_that_launches_could_not_time_has_no_speed_and_is_named(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", missing={CNN: "out of memory"})
    vit, cnn = rows_of(tables)
    assert vit["images_per_second"] == pytest.approx(SPEEDS[VIT] * TWO, rel=0.05)
    assert math.isnan(cnn["images_per_second"])
    assert math.isnan(cnn["seconds_to_0.97"])
    own = tables.trials[tables.trials["config_id"] == CNN]
    assert cnn["images_to_0.97"] == own["images_to_0.97"].median()
    assert "CNN d2 fp32: speed not measured (out of memory)." in answer(tables).warnings


# Ratios and verdicts


def test_a_ratio_is_paired_by_launch_and_is_that_of_the_printed_figures(tables: Tables) -> None:
    vit, cnn = rows_of(tables)
    for metric, truth in (
        ("images_per_second", 1.5),
        ("inference_images_per_second", 1.5),
        ("latency_p50_seconds", 1 / 1.5),
    ):
        found = compare_rows(tables, vit, cnn, metric)
        assert (found.paired, found.unit, found.verdict) == (True, "launch", "better")
        assert found.amount == pytest.approx(vit[metric] / cnn[metric])
        assert found.interval.low < truth < found.interval.high
        wide = math.hypot(*(math.log(row[f"{metric}_high"] / row[f"{metric}_low"]) for row in (vit, cnn)))
        assert math.log(found.interval.high / found.interval.low) < wide, "what a launch does to both drops out"


def interval(low: float, amount: float, high: float, n: int = 8) -> Interval:
    return Interval(low, amount, high, n)


@pytest.mark.parametrize(
    ("metric", "found", "more", "verdict", "side"),
    [
        ("images_per_second", interval(1.1, 1.2, 1.3), {}, "better", 1),
        ("images_per_second", interval(0.7, 0.8, 0.9), {}, "better", -1),
        ("images_per_second", interval(0.99, 1.01, 1.02), {}, "equivalent", 0),
        ("images_per_second", interval(1.005, 1.01, 1.02), {}, "equivalent", 0),  # shown, and too small to matter
        ("images_per_second", interval(0.95, 1.05, 1.16), {}, "inconclusive", 0),
        ("images_per_second", interval(1.1, 1.2, 1.3), {"noisy": True}, "too noisy", 0),
        ("images_per_second", interval(math.nan, 2.0, math.nan, 1), {}, "inconclusive", 0),
        ("seconds_to_0.97", interval(1.1, 1.2, 1.3), {"blurred": True}, "inconclusive", 0),
        ("peak_memory_bytes", interval(math.nan, 1.2, math.nan, 1), {}, "better", 1),
        ("peak_memory_bytes", interval(math.nan, 1.02, math.nan, 1), {}, "inconclusive", 0),
        ("test_accuracy", interval(0.002, 0.004, 0.006), {"margin": 0.001}, "better", 1),
        ("test_accuracy", interval(-0.0008, 0.0, 0.0008), {"margin": 0.001}, "equivalent", 0),
        ("test_accuracy", interval(-0.002, 0.001, 0.004), {"margin": 0.001}, "inconclusive", 0),
    ],
)
def test_an_interval_gives_one_of_four_verdicts(
    metric: str, found: Interval, more: dict[str, Any], verdict: str, side: int
) -> None:
    comparison = Comparison(metric, found, **({"margin": 0.03} | more))
    assert (comparison.verdict, comparison.side, comparison.shown) == (verdict, side, verdict == "better")


def test_speeds_that_are_alike_are_equivalent_and_nobody_wins(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", {VIT: 10_000.0, CNN: 10_050.0}, noise=0.01, count=12)
    found = compare_rows(tables, *rows_of(tables), "images_per_second")
    assert (found.verdict, found.unsure) == ("equivalent", "equivalent within 3%")
    said = answer(tables)
    assert said.cards[0].lines[1].verdict == "equivalent"
    assert said.winners["training speed"] == ""


@pytest.mark.parametrize(("count", "noise"), [(1, 0.01), (2, 0.01), (8, 0.3)])
def test_too_few_launches_or_too_wide_a_ratio_give_no_figure_for_an_answer(
    tmp_path: Path, count: int, noise: float
) -> None:
    tables = rounds(tmp_path / "run", {VIT: 7_000.0, CNN: 5_500.0}, count=count, noise=noise)
    found = compare_rows(tables, *rows_of(tables), "images_per_second")
    assert (found.verdict, found.text, found.side) == ("too noisy", "too noisy", 0)
    said = answer(tables)
    assert said.notes[-1].startswith("Speeds are rough: ratios are known to ±")
    noisy = [line for line in said.cards[0].lines if line.verdict == "too noisy to call"]
    assert [line.subject for line in noisy] == ["training speed", "latency, one image", "time to 97%"]
    assert {line.difference + line.winner for line in noisy} == {""}
    assert all(re.fullmatch(r"(±\d\d%(, aim ±3%)?)?", line.ends) for line in noisy)
    assert "times as " not in " ".join([said.headline, *said.advice, *said.notes])
    assert any(
        "Close other programs, or give a larger --budget or --set speed_seconds=N." in text for text in said.warnings
    )


@pytest.mark.parametrize(("count", "noise"), [(1, 0.01), (2, 0.01), (8, 0.3)])
def test_a_difference_far_larger_than_its_wide_interval_is_told_with_it(
    tmp_path: Path, count: int, noise: float
) -> None:
    tables = rounds(tmp_path / "run", {VIT: 20_000.0, CNN: 5_000.0}, count=count, noise=noise)
    found = compare_rows(tables, *rows_of(tables), "images_per_second")
    assert (found.verdict, found.side) == ("better", 1)
    assert found.interval.low < 4 < found.interval.high
    assert found.interval.high / found.interval.low > 1.2
    assert "the ViT" in answer(tables).headline
    assert "times as many images a second" in answer(tables).headline


def test_one_launch_whose_slices_were_mostly_disturbed_tells_no_ratio(tmp_path: Path) -> None:
    calm, busy = [made_up_launch(1)], [disturbed(made_up_launch(1), 1)]
    known, unknown = (Speeds(own).ratio(Cell(VIT, "train", 128, 1), Cell(CNN, "train", 128, 1)) for own in (calm, busy))
    assert known.half_width == pytest.approx(2.326 * 0.12, abs=1e-3)
    assert unknown.half_width == math.inf


def test_pairs_that_are_too_noisy_are_counted_as_that(tmp_path: Path) -> None:
    made = "cnn-d2-fp32-params-7-2-cpu"
    tables = rounds(tmp_path / "run", SPEEDS | {made: 10_000.0}, noise=0.3, matches=["params"])
    (line,) = pair_sentences(find_pairs(tables))
    assert "training speed is too noisy to call in 1 pair" in line
    assert "faster" not in line


# Times are images times seconds an image


def test_times_are_images_by_the_leading_speed(tables: Tables) -> None:
    vit, _ = rows_of(tables)
    own = tables.trials[tables.trials["config_id"] == VIT]
    assert vit["images_to_0.97"] == own["images_to_0.97"].median()
    assert vit["seconds_to_0.97"] == pytest.approx(vit["images_to_0.97"] / vit["images_per_second"])
    evaluations = tables.evaluations[tables.evaluations["trial_id"].isin(own["trial_id"])]
    assert np.allclose(evaluations["train_seconds"], evaluations["step"] * 128 / vit["images_per_second"])
    assert vit["train_seconds"] == pytest.approx(evaluations["images"].max() / vit["images_per_second"])
    assert (vit["n_raced"], vit["reached_0.97"]) == (3, 3)


def test_a_time_has_the_scatter_of_seeds_and_of_launches(tables: Tables) -> None:
    vit, _ = rows_of(tables)
    width = math.log(vit["seconds_to_0.97_high"] / vit["seconds_to_0.97_low"])
    of_speed = math.log(vit["images_per_second_high"] / vit["images_per_second_low"])
    logs = [math.log(images) for images in tables.samples(vit, "images_to_0.97").values()]
    of_seeds = 2 * 4.302653 * 1.2533 * statistics.stdev(logs) / math.sqrt(3)
    assert width == pytest.approx(math.hypot(of_speed, of_seeds), rel=1e-3)


def test_a_ratio_of_times_is_that_of_the_printed_ones_and_less_sure_than_that_of_speeds(tables: Tables) -> None:
    vit, cnn = rows_of(tables)
    found = compare_rows(tables, vit, cnn, "seconds_to_0.97")
    assert found.amount == pytest.approx(vit["seconds_to_0.97"] / cnn["seconds_to_0.97"])
    speed = compare_rows(tables, cnn, vit, "images_per_second").interval
    assert math.log(found.interval.high / found.interval.low) > math.log(speed.high / speed.low)


def test_times_from_launches_are_told_apart_from_a_whole_step_of_the_coarser_grid_on(tables: Tables) -> None:
    vit, cnn = rows_of(tables)
    apart = abs(vit["seconds_to_0.97"] - cnn["seconds_to_0.97"])

    def blurred(of_vit: float, of_cnn: float) -> bool:
        tables.compared.clear()
        return compare_rows(tables, vit | {GRID: of_vit}, cnn | {GRID: of_cnn}, "seconds_to_0.97").blurred

    above = math.nextafter(apart, math.inf)
    assert [blurred(0.0, above), blurred(above, math.nan)] == [True, True]
    assert [blurred(0.0, apart), blurred(apart, math.nan)] == [False, False]
    tables.compared.clear()
    later = vit | {"seconds_to_0.97": vit["seconds_to_0.97"] + 2.0}
    apart = abs(vit["seconds_to_0.97"] - later["seconds_to_0.97"])
    for grid, close in ((apart, False), (math.nextafter(apart, math.inf), True)):  # from one run to another
        found = change(tables, tables, vit | {GRID: 0.5}, later | {GRID: grid}, "seconds_to_0.97")
        assert found
        assert found.blurred is close


def test_two_launches_tell_no_change_of_a_speed_and_three_do(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    vit, cnn = rows_of(tables)
    for fewest, noisy in ((8, False), (9, True)):  # there are eight
        monkeypatch.setattr("bench.analysis.run_comparison.FEWEST_LAUNCHES", fewest)
        found = change(tables, tables, vit, vit, "images_per_second")
        assert found
        assert (found.interval.n, found.noisy) == (8, noisy)
    unlike = cnn | {"speed_threads": 4.0}
    for count, noisy in ((2, True), (3, False)):
        tables.compared.clear()
        rows = vit | {"n_launches": 8}, unlike | {"n_launches": count}
        assert compare_rows(tables, rows[0], rows[1], "images_per_second").noisy is noisy
    tables.compared.clear()


def test_one_seed_tells_no_interval_of_a_time(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", seeds=[0])
    vit, cnn = rows_of(tables)
    assert math.isnan(vit["seconds_to_0.97_low"])
    assert compare_rows(tables, vit, cnn, "seconds_to_0.97").verdict == "inconclusive"


def test_a_target_that_the_first_evaluation_finds_reached_is_told_as_within(tmp_path: Path) -> None:
    early = [{"epoch": 0.2, "step": 86, "val_accuracy": 0.98}, {"epoch": 0.4, "step": 172, "val_accuracy": 0.98}]
    tables = rounds(tmp_path / "run", overrides={"cnn": {"evaluations": early}})
    vit, cnn = rows_of(tables)
    assert (cnn["first_0.97"], vit["first_0.97"]) == (3, 0)
    line = answer(tables).cards[0].line("seconds_to_")
    assert line
    assert (line.winner, [figure.startswith("within 0.") for figure in line.figures]) == ("CNN", [False, True])


# The number of threads that leads


def disturbed(launch: Launch, threads: int, share: float = 1.0) -> Launch:
    """The same launch in which other programs took the processor from slices with so many threads."""
    for number, piece in enumerate(piece for piece in launch.slices if piece["num_threads"] == threads):
        if number % 10 < 10 * share:
            piece["waited_seconds"] = 0.5 * piece["seconds"]
    return launch


def device(launches: Sequence[Launch], precision: float = 0.03) -> DeviceSpeeds:
    return device_speeds(launches, precision)[CPU]


def test_all_threads_lead_where_their_ratios_are_known() -> None:
    found = device([made_up_launch(number) for number in range(8)])
    assert (found.leading.threads, found.leading.most, found.leading.known) == (2, 2, True)
    width = found.leading.half_width
    launches = found.speeds.launches
    assert device(launches, width / 2).leading.known  # twice the precision is enough
    assert not device(launches, math.nextafter(width / 2, 0)).leading.known
    half_width = 100 * width
    assert (
        leading_sentence(found) == f"ratios of training speeds are known to ±{half_width:.1f}% (8 launches, 2 threads)"
    )


def test_one_thread_leads_where_others_disturb_all() -> None:
    found = device([disturbed(made_up_launch(number), 2) for number in range(8)])
    assert (found.leading.threads, found.leading.most, found.leading.known) == (1, 2, True)
    told = "with both threads other programs disturbed too many of the measurements for an answer"
    assert leading_sentence(found).endswith(f"(8 launches, one thread); {told}")


def test_one_thread_leads_where_all_are_known_too_roughly_and_how_roughly_is_said() -> None:
    dice, launches = random.Random(0), [made_up_launch(number) for number in range(8)]
    for launch in launches:
        moved = {config: math.exp(dice.gauss(0, 0.15)) for config in sorted({x["config_id"] for x in launch.slices})}
        for piece in launch.slices:
            piece["seconds"] *= moved[piece["config_id"]] if piece["num_threads"] == 2 else 1.0
    found = device(launches)
    assert (found.leading.threads, found.leading.most, found.leading.known) == (1, 2, True)
    assert re.search(r"\(8 launches, one thread\); with both threads to ±2\d\.\d% only$", leading_sentence(found))


def test_one_thread_leads_where_cores_were_apart_for_some_of_the_time() -> None:
    loses = dict(zip(sorted(SPEEDS), (1.2, 1.6), strict=True))
    found = device([made_up_launch(number, rounds=8, apart=0.2, loses=loses) for number in range(8)])
    assert found.leading[:2] == (1, 2)
    assert found.leading.of_most < 0.06
    assert re.search(
        r"\(8 launches, one thread\); with both threads, whose cores shared a cache for 8\d% of the time, to ±",
        leading_sentence(found),
    )
    now_and_then = device([made_up_launch(number, rounds=8, apart=0.02, loses=loses) for number in range(8)])
    assert now_and_then.leading.threads == 2
    alone = [disturbed(made_up_launch(number, rounds=8, apart=0.2, loses=loses), 1) for number in range(8)]
    assert device(alone).leading.threads == 2  # of one thread nothing is known


def test_what_all_threads_show_stands_beside_one_that_leads(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", rounds=8, apart=0.2, loses={VIT: 1.6, CNN: 1.2})
    assert rows_of(tables)[0]["speed_threads"] == 1
    (note,) = (note for note in answer(tables).notes if note.startswith("Ratios"))
    told = re.search(r"of the time, the ViT trains (\S+) times as many images a second \((\S+) to (\S+)\)", note)
    assert told
    amount, low, high = map(float, told.groups())
    assert low < 1.5 < high
    assert 1.45 < amount < 1.55


def test_where_nothing_is_known_all_threads_stand_there_and_are_too_noisy() -> None:
    found = device([made_up_launch(number, noise=0.1) for number in range(4)])
    assert (found.leading.threads, found.leading.known) == (2, False)
    assert leading_sentence(found).startswith("speeds are rough: ratios are known to ±")


def test_where_nothing_is_known_and_others_disturbed_all_threads_one_thread_stands_there() -> None:
    launch = disturbed(made_up_launch(0), 2)
    found = device([launch])
    assert (found.leading.threads, found.leading.most, found.leading.known) == (1, 2, False)
    assert leading_sentence(found).startswith("speeds are rough: ratios are known to ±")
    single = device([replace(launch, slices=[piece for piece in launch.slices if piece["config_id"] == VIT])])
    assert (single.leading.threads, single.leading.known) == (1, False)
    assert device([disturbed(disturbed(made_up_launch(0), 2), 1)]).leading.threads == 2


def test_a_single_configuration_has_no_ratio_and_its_speed_counts_once_it_is_known() -> None:
    found = device([made_up_launch(number, {VIT: 12_000.0}) for number in range(8)])
    assert (found.leading.threads, found.leading.known) == (2, True)
    assert found.leading.half_width == found.speeds.speed(Cell(VIT, "train", 128, 2)).half_width
    beside = device([disturbed(made_up_launch(number, {VIT: 12_000.0}), 2) for number in range(8)])
    assert (beside.leading.threads, beside.leading.known) == (1, True)
    assert not device([made_up_launch(0, {VIT: 12_000.0})]).leading.known


def test_what_a_configuration_asks_for_itself_decides_for_no_other() -> None:
    launches = []
    for number in range(8):
        launch = made_up_launch(number, {VIT: 12_000.0, CNN: 8_000.0, "own": 5_000.0})
        launch.slices = [
            piece | ({"num_threads": 4} if piece["config_id"] == "own" else {})
            for piece in launch.slices
            if piece["config_id"] != "own" or piece["num_threads"] == 2
        ]
        launches.append(launch)
    found = device(launches)
    assert found.leading.threads == 2
    assert [found.threads_of(config) for config in (VIT, "own", "unknown")] == [[2, 1], [4], []]


def test_rows_with_unlike_numbers_of_threads_are_compared_without_pairing(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", {CNN: 8_000.0})
    folder = time_in_rounds(tables.folder, {VIT: 12_000.0}, threads=(4,))
    both = read_tables(folder)
    vit, cnn = rows_of(both)
    assert (vit["speed_threads"], cnn["speed_threads"]) == (4, 2)
    found = compare_rows(both, vit, cnn, "images_per_second")
    assert (found.paired, found.shown) == (False, True)
    assert found.amount == pytest.approx(vit["images_per_second"] / cnn["images_per_second"])


def test_slices_without_what_a_speed_is_made_of_are_left_out() -> None:
    launches = [made_up_launch(number) for number in range(8)]
    usual = device(launches).speeds
    for launch in launches:
        for key, value in (("seconds", None), ("images", 0), ("num_threads", None), ("p50_seconds", -1.0)):
            launch.slices.append(launch.slices[0] | {key: value})
    found = device(launches)
    assert found.speeds.cells == usual.cells
    assert found.speeds.threads == [1, 2]


def test_several_processes_that_trials_timed_are_held_against_one_that_launches_did(tmp_path: Path) -> None:
    two = {f"{name}-fp32-x2": {"timed": True} for name in ("vit-p7-d2", "cnn-d2")}
    make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], processes=[1, 2], overrides=UNTIMED | two)
    both = read_tables(time_in_rounds(tmp_path / "run", SPEEDS))
    one, more = (row for row in records(both.summary) if row["model"] == "cnn")
    assert (one["n_launches"], more["n_timed"]) == (8, 3)
    assert math.isnan(more["speed_threads"])
    for metric in ("images_per_second", "seconds_to_0.97"):
        found = compare_rows(both, more, one, metric)
        assert found.amount == pytest.approx(more[metric] / one[metric])
        assert found.interval.low < found.amount < found.interval.high
        assert not found.paired
    assert any("efficiency" in text for text in [answer(both).headline])


# What to know before relying on them


def test_contention_is_told_with_what_it_was(tmp_path: Path) -> None:
    said = answer(rounds(tmp_path / "run", disturbed=0.3))
    (line,) = (text for text in said.warnings if text.startswith("Other programs disturbed"))
    assert "of the speed measurements (2 threads); those are left out" in line
    assert "of their time a thread was ready and had no core" in line
    assert "hypervisor" not in line
    quiet = answer(rounds(tmp_path / "quiet"))
    assert not any("took the processor" in text or "Training stalls" in text for text in quiet.warnings)


def test_cores_that_another_machine_shared_are_told_and_cost_no_ratio(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", neighbour=0.4)
    said = answer(tables)
    (line,) = (text for text in said.warnings if text.startswith("Speeds are corrected for something"))
    assert 1.35 < float(line.partition("took ")[2].split()[0]) < 1.6
    assert not any(
        text.startswith("Speeds are corrected for something") for text in answer(rounds(tmp_path / "quiet")).warnings
    )


def test_where_no_slice_was_undisturbed_nothing_is_known_and_the_remedy_is_told(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", disturbed=1.0)
    vit, _ = rows_of(tables)
    assert math.isnan(vit["images_per_second"] + vit["seconds_to_0.97"])
    said = answer(tables)
    assert said.notes[-1] == "Speeds are too noisy to call: ratios aren't known (8 launches, 2 threads)."
    assert any(text.startswith("Speeds are rough: no ratio of training speeds is known.") for text in said.warnings)
    assert any("disturbed 100% of the speed measurements" in text for text in said.warnings)


def test_what_training_loses_beside_its_steps_is_told_where_it_is_sure(tmp_path: Path) -> None:
    tables = rounds(tmp_path / "run", stall={VIT: 0.25, CNN: 0.5})
    vit, _ = rows_of(tables)
    assert vit["stall_share_low"] < 0.25 < vit["stall_share_high"] + 0.02
    (line,) = (text for text in answer(tables).warnings if text.startswith("Training stalls"))
    assert re.search(r"of its time, CNN d2 fp32 [45]\d% \(.*\) and ViT p7 d2 fp32 2\d% \(", line), "the worst first"
    assert "isn't explained by the pace of undisturbed steps" in line
    ends = [[f"{100 * row[f'stall_share_{end}']:.0f}" for end in ("low", "high")] for row in rows_of(tables)[::-1]]
    assert re.findall(r"\((\d+) to (\d+)%\)", line) == [tuple(each) for each in ends]


def test_what_training_loses_is_told_where_other_programs_left_the_loop_one_thread() -> None:
    launches = [made_up_launch(number, stall=0.25) for number in range(5)]
    for launch in launches:
        whole = launch.launch % 2 == 0
        disturbed(launch, 2, 1.0 if whole else 0.0)
        left = (piece for piece in launch.slices if (piece["num_threads"] == 1 and whole) or piece["work"] == "train")
        launch.slices = [*left]
    row = {"config_id": VIT, "batch_size": 128, "dtype": "fp32", "num_train_flops": 1e6}
    assert device(launches).columns(row)["stall_share"] == pytest.approx(0.25, abs=0.05)


def test_pauses_that_trials_counted_stand_for_what_launches_cannot_tell(tmp_path: Path) -> None:
    counted = {"": {"timed": False, "pause_share": 0.12}}
    vit, _ = rows_of(rounds(tmp_path / "within", stall=0.1, noise=0.2, overrides=counted))
    assert [vit[f"stall_share{end}"] for end in ("_low", "", "_high")] == [0.12] * 3
    vit, _ = rows_of(rounds(tmp_path / "beyond", stall=0.6, overrides=counted))  # such as slow decoding
    assert vit["stall_share"] == pytest.approx(0.6, abs=0.05)
    vit, _ = rows_of(rounds(tmp_path / "missed", stall=-0.1, overrides=counted))  # no rare sleep fell into a stretch
    assert vit["stall_share"] == 0.12
    vit, _ = rows_of(rounds(tmp_path / "none", count=0, overrides=counted))
    assert vit["stall_share"] == 0.12


def test_trials_side_by_side_with_launches_are_a_whole_run(tables: Tables) -> None:
    said = answer(tables)
    assert "the ViT trains 1." in said.headline
    assert said.notes[-1].startswith("Ratios of training speeds are known to ±")
    assert not any("side by side" in text for text in said.warnings)


# Accuracies on the same images


def test_accuracies_are_compared_image_by_image_where_the_run_kept_which_were_right(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    hard = dice.random(10_000)
    right = {}
    for (name, wrong), seed in itertools.product((("vit-p7-d2", 0.025), ("cnn-d2", 0.02)), range(3)):
        own = hard + 0.002 * dice.normal(size=hard.size) > wrong
        right[f"{name}-fp32-cpu-s{seed}"] = {"correct": packed(list(own)), "test_accuracy": float(own.mean())}
    tables = read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=right))
    vit, cnn = rows_of(tables)
    found = compare_rows(tables, cnn, vit, "test_accuracy")
    assert (found.paired, found.unit, found.verdict) == (True, "image", "better")
    assert found.amount == pytest.approx(cnn["test_accuracy"] - vit["test_accuracy"])
    assert found.interval.high - found.interval.low < 0.003, "the binomial floors of both alone are 0.8 points wide"
    low, amount, high = (10_000 * end for end in found.interval[:3])
    line = answer(tables).cards[0].lines[0]
    assert (line.difference, line.ends) == (f"{amount:,.0f} fewer", f"{low:,.0f} to {high:,.0f}")


def test_one_trial_of_which_it_is_not_known_leaves_the_seeds(tmp_path: Path) -> None:
    all_right = {"correct": packed([True] * 10_000)}
    known = dict.fromkeys(("vit", "cnn-d2-fp32-cpu-s0", "cnn-d2-fp32-cpu-s1"), all_right)
    tables = read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=known))
    assert compare_rows(tables, *rows_of(tables), "test_accuracy").unit == "seed"


# Two runs


MANY = [("vit", 7, 2), ("vit", 7, 4), ("vit", 14, 2), ("cnn", None, 2), ("cnn", None, 4)]
EACH = {
    f"{model}{f'-p{patch}' if patch else ''}-d{depth}-fp32-cpu": 4_000.0 * (place + 1)
    for place, (model, patch, depth) in enumerate(MANY)
}


def two_runs(tmp_path: Path, factor: float = 1.0, change: dict[str, float] | None = None, **how: Any) -> Changes:
    """A run and another minutes later, when the machine is `factor` times as fast."""
    rounds(tmp_path / "a", EACH, configs=MANY, **how)
    after = {name: speed * factor * (change or {}).get(name, 1.0) for name, speed in EACH.items()}
    rounds(tmp_path / "b", after, configs=MANY, seed=1, **how)
    return compare_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_nothing_changed_between_two_runs_of_the_same_on_a_machine_in_another_state(tmp_path: Path) -> None:
    found = two_runs(tmp_path, factor=0.8)
    assert {each.verdict for each in found.changes} <= {"no difference shown", "equivalent within 3%"}
    (line,) = (line for line in found.conditions if line.startswith("training speed on"))
    assert "the 5 configurations in common (2 threads) are in the mean 0." in line
    assert any("relative to the run's mean speed" in note for note in found.notes)


@pytest.mark.slow
def test_one_that_became_slower_is_found(tmp_path: Path) -> None:
    found = two_runs(tmp_path, factor=1.3, change={CNN: 0.7})
    (slower,) = (each for each in found.changes if (each.config_id, each.metric) == (CNN, "images_per_second"))
    assert (slower.verdict, slower.n_a, slower.n_b, slower.paired) == ("worse", 8, 8, False)
    assert slower.amount == pytest.approx(0.7 / 0.7**0.2, rel=0.05)  # of the mean, a fifth of which it is


@pytest.mark.slow
def test_a_single_configuration_cannot_be_told_from_its_machine(tmp_path: Path) -> None:
    for name, speed in (("a", 8_000.0), ("b", 16_000.0)):
        rounds(tmp_path / name, {CNN: speed}, configs=SMALL[1:])
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    verdicts = {each.metric: each.verdict for each in found.changes}
    assert verdicts["images_per_second"] == "not comparable: no second configuration"


def test_launches_and_timed_trials_are_not_compared(tmp_path: Path) -> None:
    rounds(tmp_path / "a")
    make_run(tmp_path / "b", configs=SMALL, dtypes=["fp32"])
    verdicts = {each.metric: each.verdict for each in compare_runs(tmp_path / "a", tmp_path / "b").changes}
    assert verdicts["images_per_second"] == "not comparable: timed in another way"
    assert verdicts["peak_memory_bytes"] == "equivalent within 3%"


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (0.6, 1)])
def test_limits_hold_launches_against_launches(tmp_path: Path, factor: float, status: int) -> None:
    a, b = (
        rounds(tmp_path / name, {VIT: 12_000.0, CNN: speed}, noise=0.01, drift=0.01, seed=seed)
        for name, speed, seed in (("a", 8_000.0, 0), ("b", 8_000.0 * factor, 1))
    )
    limits = [read_limit(text) for text in ("speed:-15%", "latency:+20%", "time-to-accuracy:+30%")]
    found = judge(a, b, limits)
    assert found.exit_status == status
    assert {each.label for each in found.judged if each.verdict == "worse"} == ({"CNN d2 fp32"} if status else set())
    changed = {(each.config_id, each.metric): 1 + (each.change or 0.0) for each in found.judged}
    for config, expected in ((VIT, 1.0), (CNN, factor)):
        assert changed[config, "speed"] == pytest.approx(expected, rel=0.03)
        assert changed[config, "latency"] == pytest.approx(1 / expected, rel=0.03)
        assert changed[config, "time-to-accuracy"] == pytest.approx(1 / changed[config, "speed"])  # of as many images
    mean = math.sqrt(factor)  # of both; each is held against it where all that changed is told
    beside = compare_tables(a, b)
    for each in beside.changes:
        of_mean = (1.0 if each.config_id == VIT else factor) / mean
        wanted = {
            "images_per_second": of_mean,
            "inference_images_per_second": of_mean,
            "seconds_to_0.97": 1 / of_mean,
        }
        assert each.amount == pytest.approx(
            wanted.get(each.metric, 0.0 if "accuracy" in each.metric else 1.0), rel=0.03
        )
    lines = [line.partition(" times as fast")[0] for line in beside.conditions]
    told = f"on {CPU}: the 2 configurations in common (2 threads) are in the mean"
    assert lines == ([f"training speed {told} 0.78", f"inference speed {told} 0.77"] if status else [])
    assert "hold for all 2 configurations at once" in beside.notes[0]
