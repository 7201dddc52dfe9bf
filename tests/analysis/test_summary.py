"""The summary: what is averaged, over what, and how a configuration is called."""

import csv
import math
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up import change_rows, make_run, read_table

from bench.analysis.labels import labelled, plain_name, records
from bench.analysis.summary import Tables, read_tables, summarise, with_times, write_summary
from bench.measure.stats import binomial_half_width

SMALL = [("vit", 7, 2), ("cnn", None, 2)]


def read(tmp_path: Path, **how: Any) -> Tables:
    return read_tables(make_run(tmp_path / "run", **how))


def row_of(tables: Tables, label: str) -> pd.Series:
    (found,) = (row for _, row in tables.summary.iterrows() if row["label"] == label)
    return found


def test_a_row_is_a_configuration_with_the_mean_over_seeds(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL)
    assert list(tables.summary["label"]) == ["ViT p7 d2 fp32", "ViT p7 d2 amp-bf16", "CNN d2 fp32", "CNN d2 amp-bf16"]
    row, trials = row_of(tables, "CNN d2 fp32"), tables.trials
    own = trials[trials["label"] == "CNN d2 fp32"]
    assert row["n"] == row["n_seen"] == 3
    assert row["not_ok"] == ""
    for metric in ("test_accuracy", "val_accuracy", "images_per_second", "peak_memory_bytes", "train_seconds"):
        average = statistics.fmean if "accuracy" in metric else statistics.geometric_mean
        assert row[metric] == pytest.approx(average(own[metric]))
        assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]


def test_accuracy_is_no_surer_than_its_test_set_allows(tmp_path: Path) -> None:
    same = {"": {"test_accuracy": 0.99}}
    row = row_of(read(tmp_path, configs=SMALL, overrides=same), "CNN d2 fp32")
    assert row["test_accuracy_high"] - 0.99 == pytest.approx(binomial_half_width(0.99, 10_000))


def test_a_run_that_does_not_say_its_split_has_no_floor(tmp_path: Path) -> None:
    row = row_of(read(tmp_path, configs=SMALL, seeds=[0], changes={"split": None}), "CNN d2 fp32")
    assert math.isnan(row["test_accuracy_low"])


def test_one_seed_has_the_interval_of_its_blocks(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, seeds=[0])
    row = row_of(tables, "CNN d2 fp32")
    assert row["images_per_second_interval"] == "blocks of one trial"
    assert row["images_per_second_low"] == pytest.approx(0.985 * row["images_per_second"])
    assert math.isnan(row["peak_memory_bytes_low"])


def test_what_did_not_end_well_is_counted_and_not_averaged(tmp_path: Path) -> None:
    bad = {
        "cnn-d2-fp32-cpu-s0": {"status": "failed", "error": "boom"},
        "cnn-d2-fp32-cpu-s1": {"status": "diverged", "error": "NaN", "test_accuracy": 0.1},
    }
    row = row_of(read(tmp_path, configs=SMALL, overrides=bad), "CNN d2 fp32")
    assert (row["n"], row["n_trained"], row["n_seen"]) == (1, 2, 3)
    assert row["not_ok"] == "1 failed, 1 diverged"
    assert row["test_accuracy"] > 0.9


def test_a_seed_that_missed_the_target_counts_as_infinity(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"])
    seconds = tables.trials.set_index("trial_id")["seconds_to_0.97"]
    first = tables.evaluations[
        (tables.evaluations["trial_id"] == "cnn-d2-fp32-cpu-s1") & (tables.evaluations["val_accuracy"] >= 0.97)
    ]
    assert seconds["cnn-d2-fp32-cpu-s1"] == first["train_seconds"].iloc[0]
    two_missed = tables.evaluations[tables.evaluations["trial_id"] == "cnn-d2-fp32-cpu-s1"]
    trials, _ = with_times(tables.trials, two_missed, [0.97], {})
    summary = summarise(trials, tables.run | {"targets": [0.97]}, {})
    row = summary[summary["model"] == "cnn"].iloc[0]
    assert row["reached_0.97"] == 1
    assert math.isnan(row["seconds_to_0.97"])


def test_an_evaluation_of_just_the_target_reaches_it(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0])
    own = tables.evaluations[tables.evaluations["trial_id"] == "cnn-d2-fp32-cpu-s0"]
    rising = own[own["val_accuracy"] > own["val_accuracy"].cummax().shift(fill_value=0.0)]
    for place in (0, 1):
        target, beyond = rising["val_accuracy"].iloc[place], rising.iloc[place + 1]
        for asked, reached in ((target, rising.iloc[place]), (math.nextafter(target, 1), beyond)):
            trials, _ = with_times(tables.trials, tables.evaluations, [asked], {})
            found = trials.set_index("trial_id").loc["cnn-d2-fp32-cpu-s0"]
            assert found[f"images_to_{asked:g}"] == reached["step"] * 128
            assert found[f"seconds_to_{asked:g}"] == reached["train_seconds"]
            assert found[f"first_{asked:g}"] == (reached["step"] == own["step"].min())


def test_pareto_marks_what_nothing_beats_on_both(tmp_path: Path) -> None:
    figures = {
        "cnn-d2": {"test_accuracy": 0.99, "images_per_second": 100.0},
        "cnn-d4": {"test_accuracy": 0.98, "images_per_second": 90.0},
        "vit-p7-d2": {"test_accuracy": 0.95, "images_per_second": 300.0},
    }
    configs = [("cnn", None, 2), ("cnn", None, 4), ("vit", 7, 2)]
    tables = read(tmp_path, configs=configs, dtypes=["fp32"], overrides=figures)
    assert list(tables.summary["pareto"]) == [True, False, True]


def test_the_best_of_a_family_is_chosen_on_validation_and_equals_by_speed(tmp_path: Path) -> None:
    figures = {
        "cnn-d2": {"val_accuracy": 0.99, "test_accuracy": 0.90, "images_per_second": 100.0},
        "cnn-d4": {"val_accuracy": 0.98, "test_accuracy": 0.99, "images_per_second": 100.0},
        "vit-p7-d2": {"val_accuracy": 0.95, "images_per_second": 100.0},
        "vit-p7-d4": {"val_accuracy": 0.95, "images_per_second": 200.0},
    }
    configs = [("cnn", None, 2), ("cnn", None, 4), ("vit", 7, 2), ("vit", 7, 4)]
    tables = read(tmp_path, configs=configs, dtypes=["fp32"], overrides=figures)
    assert list(tables.summary["best_of_family"]) == [True, False, False, True]


def test_a_configuration_that_diverged_does_not_stand_for_its_family(tmp_path: Path) -> None:
    bad = {"cnn-d4-fp32-cpu-s2": {"status": "diverged"}}
    tables = read(tmp_path, configs=[("cnn", None, 2), ("cnn", None, 4)], dtypes=["fp32"], overrides=bad)
    assert list(tables.summary["best_of_family"]) == [True, False]


def test_labels_name_the_device_only_where_there_are_several(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0], devices={"cpu": "EPYC", "cuda": "H100"})
    assert set(tables.summary["label"]) == {
        f"{name} fp32 {d}" for name in ("ViT p7 d2", "CNN d2") for d in ("cpu", "cuda")
    }


def test_a_trial_that_never_saw_its_device_has_its_neighbours_name(tmp_path: Path) -> None:
    skipped = {"cnn-d2-amp-bf16": {"status": "skipped", "device_name": None, "num_params": None}}
    tables = read(tmp_path, configs=SMALL, overrides=skipped)
    assert set(tables.summary["device_name"]) == {"AMD EPYC 7R13"}
    assert row_of(tables, "CNN d2 amp-bf16")["not_ok"] == "3 skipped"


def test_labels_of_different_settings_are_told_apart(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=[("cnn", None, 2)], dtypes=["fp32"], seeds=[0])
    twin = tables.trials.assign(config_id="other", settings='{"depth": 2, "width": 32}', width=16.0)
    both = labelled(pd.concat([tables.trials, twin], ignore_index=True))
    assert list(both["label"]) == ["CNN d2 fp32 width=16", "CNN d2 fp32 width=32"]
    nothing = labelled(pd.concat([tables.trials, tables.trials.assign(config_id="other")], ignore_index=True))
    assert nothing["label"].nunique() == 2


def test_summary_csv_is_what_was_summarised(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL)
    tables = write_summary(folder)
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(tables.summary["label"])
    assert float(rows[0]["test_accuracy"]) == tables.summary["test_accuracy"].iloc[0]
    assert rows[0]["seconds_to_0.99"] == ""


def test_a_run_without_trials_has_an_empty_summary(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[])
    assert read_tables(folder).summary.empty
    assert read_table(folder, "trials.csv").empty


def test_seeds_that_ran_side_by_side_count_for_all_that_no_clock_tells(tmp_path: Path) -> None:
    beside = {f"cnn-d2-fp32-cpu-s{seed}": {"timed": False} for seed in (3, 4)}
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=range(5), overrides=beside)
    row, own = row_of(tables, "CNN d2 fp32"), tables.trials[tables.trials["model"] == "cnn"]
    assert (row["n"], row["n_timed"], row["n_raced"], row["reached_0.97"]) == (5, 3, 3, 3)
    assert row["test_accuracy"] == pytest.approx(own["test_accuracy"].mean())
    assert row["peak_memory_bytes"] == pytest.approx(statistics.geometric_mean(own["peak_memory_bytes"]))
    assert row["images_to_0.97"] == own["images_to_0.97"].median()
    alone = own[own["timed"] == "true"]
    for metric in ("images_per_second", "latency_p50_seconds"):
        assert row[metric] == pytest.approx(statistics.geometric_mean(alone[metric]))
    assert row["seconds_to_0.97"] == alone["seconds_to_0.97"].median()


def test_a_speed_beside_others_is_not_believed_even_if_it_was_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"])
    change_rows(folder, {"cnn-d2-fp32-cpu-s1": {"timed": False}})
    row = row_of(read_tables(folder), "CNN d2 fp32")
    assert (row["n"], row["n_timed"], row["reached_0.97"]) == (3, 2, 2)


def test_instruments_are_summarised_by_their_means(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], joules=True)
    row, own = row_of(tables, "ViT p7 d2 fp32"), tables.trials[tables.trials["model"] == "vit"]
    for metric in ("forward_seconds", "latency_p99_seconds", "activation_bytes", "flops_share", "joules_per_epoch"):
        assert row[metric] == pytest.approx(own[metric].mean())
    assert row["inference_images_per_second_interval"] == "seeds"
    assert row["inference_images_per_second_low"] < row["inference_images_per_second"]
    assert math.isnan(row["compile_seconds"])


def test_axes_stand_in_labels_only_where_they_vary(tmp_path: Path) -> None:
    cnn = [("cnn", None, 2)]
    one = read(tmp_path / "one", configs=cnn, dtypes=["fp32"], compiles=["default"], layouts=[True], fractions=[0.1])
    assert list(one.summary["label"]) == ["CNN d2 fp32"]
    how: dict[str, Any] = {"compiles": ["false", "max-autotune"], "layouts": [False, True], "fractions": [0.1, 1.0]}
    many = read(tmp_path / "many", configs=cnn, dtypes=["fp32"], **how)
    assert list(many.summary["label"]) == [
        f"CNN d2 fp32{mode}{layout} {share} data"
        for mode in ("", " max-autotune")
        for layout in ("", " channels-last")
        for share in ("10%", "100%")
    ]


def test_a_matched_configuration_is_called_by_what_it_equals(tmp_path: Path) -> None:
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], matches=["params", "flops"])
    assert list(tables.summary["label"]) == [
        "ViT p7 d2 fp32",
        "CNN d2 fp32",
        "CNN d2 fp32 =params ViT p7 d2",
        "CNN d2 fp32 =FLOPs ViT p7 d2",
    ]


def test_a_name_for_people_has_the_threads_where_they_vary(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", configs=[("cnn", None, 2)], dtypes=["fp32"], seeds=[0])
    (row,) = records(read_tables(run).summary)
    assert plain_name(row) == "CNN, 2 blocks, 16 channels"
    assert plain_name(row | {"label": "CNN d2 fp32 1 thread"}) == "CNN, 2 blocks, 16 channels, 1 thread"


def test_batch_threads_and_attention_stand_in_labels_where_they_vary_in_the_family(tmp_path: Path) -> None:
    trials = read(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0]).trials
    twin = trials.assign(config_id=trials["config_id"] + "-2", batch_size=64.0, num_threads=1.0)
    twin.loc[twin["model"] == "vit", "attention"] = "fused"
    assert list(labelled(pd.concat([trials, twin], ignore_index=True))["label"]) == [
        "ViT p7 d2 fp32 auto 2 threads batch 128",
        "CNN d2 fp32 2 threads batch 128",
        "ViT p7 d2 fp32 fused 1 thread batch 64",
        "CNN d2 fp32 1 thread batch 64",
    ]


def test_samples_are_the_measured_values_of_trials_that_ended_well(tmp_path: Path) -> None:
    bad: dict[str, dict[str, Any]] = {"cnn-d2-fp32-cpu-s1": {"status": "failed"}}
    bad |= {"cnn-d2-fp32-cpu-s2": {"images_per_second": None}}
    tables = read(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=bad, devices={"cpu": "EPYC", "cuda": "H100"})
    row: dict[str, Any] = {str(key): value for key, value in row_of(tables, "CNN d2 fp32 cpu").items()}
    own = tables.trials.set_index("trial_id").loc["cnn-d2-fp32-cpu-s0"]
    assert tables.samples(row, "images_per_second") == {0.0: own["images_per_second"]}
    assert list(tables.samples(row, "test_accuracy")) == [0.0, 2.0]
    assert tables.samples(row | {"device_name": "H100"}, "test_accuracy") == {}  # its config_id is another's
