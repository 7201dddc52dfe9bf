"""The answer in words, on made-up runs whose answer is known."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.summary import read_tables
from bench.verdict import Verdict, decide

SMALL = [("vit", 7, 2), ("cnn", None, 2)]


def verdict(tmp_path: Path, **how: Any) -> Verdict:
    (only,) = decide(read_tables(make_run(tmp_path / "run", **how)))
    return only


def sentence(found: Verdict, topic: str) -> str:
    (only,) = (text for text in found.sentences if text.startswith(topic))
    return only


def figures(**of: float) -> dict[str, float]:
    return {"val_accuracy": of["accuracy"], "test_accuracy": of["accuracy"], "images_per_second": of["speed"]}


def test_a_clear_win_is_named_with_points_interval_and_n(tmp_path: Path) -> None:
    found = verdict(tmp_path, dtypes=["fp32"])
    assert found.headline.startswith("The CNN is more accurate, reaches 97% sooner")
    accuracy = sentence(found, "Test accuracy: CNN d4 fp32 99.")
    assert "n = 3 seeds" in accuracy
    assert "points above the ViT (95% interval" in accuracy
    assert found.sentences[-1].startswith("On this machine choose the CNN: CNN d4 fp32 for accuracy (99.")


def test_a_trade_off_names_what_it_costs(tmp_path: Path) -> None:
    found = verdict(tmp_path, dtypes=["fp32"])
    assert "If training speed matters most, choose ViT p14 d2 fp32 (" in found.sentences[-1]
    assert "points less accurate on test" in found.sentences[-1]
    assert re.search(r"The ViT trains 2\.[45]\d times .* paired\)", sentence(found, "Training speed"))
    assert "Of the most accurate" in sentence(found, "Training speed")


def test_intervals_that_overlap_show_no_difference(tmp_path: Path) -> None:
    level = {
        "cnn": figures(accuracy=0.980, speed=1000.0) | {"peak_memory_bytes": 1000},
        "vit": figures(accuracy=0.981, speed=1000.0) | {"peak_memory_bytes": 1000},
    }
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=level, changes={"targets": []})
    assert found.headline == "No difference is shown between ViT and CNN."
    assert "No difference shown: the ViT is 0.10 points above" in sentence(found, "Test accuracy")
    assert found.sentences[-1] == (
        "On this machine either will do: no difference is shown in accuracy or training speed."
    )


def test_without_a_difference_in_accuracy_the_quicker_is_recommended(tmp_path: Path) -> None:
    level = {"cnn": figures(accuracy=0.98, speed=1000.0), "vit": figures(accuracy=0.98, speed=3000.0)}
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=level, changes={"targets": []})
    assert found.headline.startswith("No difference in accuracy is shown; the ViT trains more images a second")
    assert "choose the ViT, since no difference in accuracy is shown" in found.sentences[-1]


def test_the_best_on_test_is_not_preferred_to_the_best_on_validation(tmp_path: Path) -> None:
    lucky = {
        "cnn-d4": {"val_accuracy": 0.97, "test_accuracy": 0.999},
        "cnn-d2": {"val_accuracy": 0.99, "test_accuracy": 0.98},
    }
    found = verdict(tmp_path, configs=[*SMALL, ("cnn", None, 4)], dtypes=["fp32"], overrides=lucky)
    assert "CNN d2 fp32 98.00%" in sentence(found, "Test accuracy")
    assert "CNN d4" not in sentence(found, "Test accuracy")


def test_a_target_that_one_family_misses_is_the_others_win(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], changes={"target_accuracy": 0.98})
    assert "reached by 3 of 3" in sentence(found, "Time to 98%")
    assert sentence(found, "Time to 98%").endswith("and no ViT reached it.")
    assert found.headline.startswith("The CNN is more accurate and reaches 98% sooner")


def test_a_target_reached_by_some_seeds_says_by_how_many(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"])
    tables = read_tables(folder)
    tables.summary.loc[tables.summary["model"] == "vit", ["reached_0.97", "seconds_to_0.97"]] = [2, float("nan")]
    (found,) = decide(tables)
    assert "no ViT reached it with every seed (at best ViT p7 d2 fp32: 2 of 3)" in sentence(found, "Time to 97%")


def test_a_target_that_nobody_reached_is_a_warning(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, changes={"targets": [0.97, 0.999], "target_accuracy": 0.999})
    assert not [text for text in found.sentences if text.startswith("Time to 99.9%")]
    assert "99.9% on validation was reached by no trial." in found.warnings
    assert "reaches 97% sooner" in found.headline


def test_times_closer_than_the_grid_of_evaluations_show_no_difference(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"])
    tables = read_tables(folder)
    tables.summary["evaluation_interval_seconds"] = 1000.0
    (found,) = decide(tables)
    assert "No difference shown" in sentence(found, "Time to 97%")


def test_one_seed_says_so(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0])
    assert found.headline.startswith("On one seed, the CNN is more accurate")
    assert "one seed, so no interval over seeds: the interval is the binomial floor" in sentence(found, "Test accuracy")
    assert found.sentences[-1].endswith("One seed is little to go by: run more before relying on it.")
    assert "ViT and CNN: one seed each, so no interval over seeds." in found.warnings


def test_one_family_alone_is_not_compared(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=[("vit", 7, 2), ("vit", 14, 2)])
    assert found.headline.startswith("Only one family was measured: its best, ViT p7 d2")
    assert found.sentences[-1].startswith("On this machine choose ViT p7 d2")


def test_three_families_are_all_named(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=[*SMALL, ("mixer", 7, 2)], dtypes=["fp32"])
    assert "mixer p7 d2 fp32" in sentence(found, "Test accuracy")
    assert "above the ViT" in sentence(found, "Test accuracy")
    assert "above the mixer" in sentence(found, "Test accuracy")


def test_when_all_failed_there_is_nothing_to_compare(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, overrides={"": {"status": "failed", "error": "boom"}})
    assert found.headline == "Nothing to compare: no trial ended well."
    assert found.sentences == []
    assert "CNN d2 fp32: 3 of 3 trials failed (seed 0, seed 1 and seed 2: boom)." in found.warnings


def test_a_run_without_trials_says_so(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=[], changes={"plan": ["a", "b"], "left_out": "budget of 10m spent"})
    assert found.headline == "Nothing to compare yet: no trial has finished."
    assert found.warnings == [
        "Unfinished: 0 of 2 planned trials are in (budget of 10m spent); `--resume` adds the rest."
    ]


def test_each_device_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], devices={"cpu": "EPYC", "cuda": "H100"})
    cpu, cuda = decide(read_tables(folder))
    assert (cpu.device_name, cuda.device_name) == ("EPYC", "H100")
    assert cuda.sentences[-1].startswith("On H100 choose the CNN")
    assert "cpu" not in " ".join(cuda.sentences)


@pytest.mark.parametrize("status", ["skipped", "diverged", "oom"])
def test_what_did_not_end_well_is_listed_with_its_reason(tmp_path: Path, status: str) -> None:
    bad = {"cnn-d2-amp-bf16-cpu-s1": {"status": status, "error": "so it goes"}}
    found = verdict(tmp_path, configs=SMALL, overrides=bad)
    assert f"CNN d2 amp-bf16: 1 of 3 trials {status} (seed 1: so it goes)." in found.warnings


def test_noise_and_slow_modes_are_warned_of(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, overrides={"vit": {"throughput_spread": 0.2}})
    noisy, slow = found.warnings
    assert "more than 10% between timed blocks: ViT p7 d2 fp32 (20%)" in noisy
    assert noisy.endswith("Close other programs, and run again.")
    assert slow.startswith("amp-bf16 is slower than fp32 here: 0.7")
    assert slow.endswith("in 2 of 2 configurations.")


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], changes={"plan": ["x", "y"], "interrupted": True})
    assert (
        found.warnings[0]
        == "Unfinished: 0 of 2 planned trials are in (the run was interrupted); `--resume` adds the rest."
    )
