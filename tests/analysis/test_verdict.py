"""The answer in words, on made-up runs whose answer is known."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.answer import Verdict
from bench.analysis.summary import read_tables
from bench.analysis.verdict import decide, overall_sentence

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
    said = (
        "The CNN is more accurate by 1.15 points, reaches 97% sooner (4.63 s against 6.03 s) and needs 48% less memory;"
    )
    assert found.headline == f"{said} the ViT trains 2.51 times as fast."
    accuracy = sentence(found, "Test accuracy: CNN d4 fp32 99.")
    assert "n = 3 seeds" in accuracy
    assert found.winners == {"accuracy": "CNN", "time to 97%": "CNN", "training speed": "ViT", "memory": "CNN"}
    assert "points above the ViT (95% interval" in accuracy
    assert found.sentences[-1].startswith("On this machine choose the CNN: CNN d4 fp32 for accuracy (99.")


def test_a_trade_off_names_what_it_costs(tmp_path: Path) -> None:
    found = verdict(tmp_path, dtypes=["fp32"])
    assert "If training speed matters most, choose ViT p14 d2 fp32 (" in found.sentences[-1]
    assert "points less accurate on test" in found.sentences[-1]
    assert re.search(r"The ViT trains 2\.[45]\d times .* paired by seed\)", sentence(found, "Training speed"))
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
    assert (
        found.headline
        == "No difference in accuracy is shown; the ViT trains 3.00 times as fast and needs 29% less memory."
    )
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
    assert re.match(
        r"The CNN is more accurate by \S+ points and alone reaches 98% with every seed \(\S+ s\)", found.headline
    )


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
    assert "one seed, so the interval is that of the test images alone" in sentence(found, "Test accuracy")
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
    assert found.warnings == [
        "ViT p7 d2 fp32, ViT p7 d2 amp-bf16, CNN d2 fp32 and CNN d2 amp-bf16: 12 of 12 trials failed (boom)."
    ]


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


def test_the_summary_tells_each_lead_with_its_interval_and_n(tmp_path: Path) -> None:
    """Figures worked out by hand: seeds that are all alike leave an interval of no width but accuracy's floor."""
    known = {
        "vit": figures(accuracy=0.97, speed=3000.0) | {"peak_memory_bytes": 2**20},
        "cnn": figures(accuracy=0.99, speed=1000.0) | {"peak_memory_bytes": 2**21},
    }
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=known, changes={"targets": []})
    assert found.headline == (
        "The CNN is more accurate by 2.00 points; the ViT trains 3.00 times as fast and needs 50% less memory."
    )
    assert found.summary == [
        "The best CNN (CNN d2 fp32) reaches 99.00% on test, 2.00 points (1.61 to 2.39) above the best ViT (ViT p7 d2 "
        "fp32); ranges are 95% intervals, n = 3 seeds.",
        "The ViT trains 3.00 times (3.00 to 3.00) as fast as the CNN.",
        "The best ViT trains in 1.00 MiB of memory, the best CNN takes 2.00 MiB, 2.00 times (2.00 to 2.00) as much; no "
        "pair of equal parameters or FLOPs was measured (`--set match=params` or `--set match=flops` adds one).",
    ]
    assert sentence(found, "Equal size") == (
        "Equal size: no pair of equal parameters or FLOPs was measured (`--set match=params` or `--set match=flops` "
        "adds one)."
    )


def test_the_summary_tells_of_fastest_and_most_accurate_where_those_differ(tmp_path: Path) -> None:
    known = {
        "vit-p7": figures(accuracy=0.97, speed=3000.0),
        "vit-p14": figures(accuracy=0.96, speed=9000.0),
        "cnn": figures(accuracy=0.99, speed=1000.0),
    }
    configs = [*SMALL, ("vit", 14, 2)]
    found = verdict(tmp_path, configs=configs, dtypes=["fp32"], overrides=known, changes={"targets": []})
    assert found.summary[1] == (
        "Each at its fastest, the ViT trains 9.00 times (9.00 to 9.00) as fast as the CNN, at their most accurate 3.00 "
        "times (3.00 to 3.00)."
    )


def test_one_seed_of_unknown_test_size_has_an_accuracy_without_a_range(tmp_path: Path) -> None:
    known = {"vit": figures(accuracy=0.97, speed=3000.0), "cnn": figures(accuracy=0.99, speed=1000.0)}
    changes: dict[str, Any] = {"targets": [], "split": None}
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0], overrides=known, changes=changes)
    assert found.summary[0] == (
        "No difference in accuracy is shown: the best CNN (CNN d2 fp32) reaches 99.00% on test, 2.00 points above the "
        "best ViT (ViT p7 d2 fp32); n = 1 seed."
    ).replace("No", "On one seed, no", 1)
    assert found.summary[1].startswith("The ViT trains 3.00 times (2.94 to 3.06) as fast as the CNN")


def test_a_pair_of_equal_size_is_told_with_its_intervals(tmp_path: Path) -> None:
    known = {
        "vit": figures(accuracy=0.97, speed=1000.0),
        "cnn": figures(accuracy=0.96, speed=1000.0),
        "cnn-d2-fp32-params": figures(accuracy=0.96, speed=500.0),
    }
    how: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"], "overrides": known, "changes": {"targets": []}}
    found = verdict(tmp_path, matches=["params"], **how)
    assert found.summary[2].endswith(
        "; at equal parameters the ViT is more accurate by 1.00 points (0.49 to 1.51) and trains 2.00 times (2.00 to "
        "2.00) as fast (ViT p7 d2 fp32 against CNN d2 w16); no pair of equal FLOPs was measured (`--set match=flops` "
        "adds one)."
    )
    assert not [text for text in found.sentences if text.startswith("Equal size")]


def test_pairs_of_both_kinds_leave_nothing_to_ask_for(tmp_path: Path) -> None:
    configs = [*SMALL, ("vit", 14, 2)]
    found = verdict(tmp_path, configs=configs, dtypes=["fp32"], matches=["params", "flops"])
    assert re.search(r"at equal parameters the CNN is more accurate in 2 of 2 pairs, by .* points", found.summary[2])
    assert "at equal FLOPs the CNN is more accurate in 2 of 2 pairs" in found.summary[2]
    assert "--set" not in " ".join(found.summary)


def test_the_summary_of_one_family_and_of_none_compares_nothing(tmp_path: Path) -> None:
    (alone,) = verdict(tmp_path, configs=[("vit", 7, 2), ("vit", 14, 2)], dtypes=["fp32"]).summary
    assert re.match(
        r"ViT p7 d2 fp32 is the best ViT .* \(95% interval .* n = 3 seeds\); the fastest, ViT p14 d2", alone
    )
    assert alone.endswith("nothing is said of which is better.")
    gone = verdict(tmp_path / "failed", configs=SMALL, overrides={"": {"status": "failed"}})
    assert (gone.summary, gone.winners) == ([], {})


def test_a_run_on_several_devices_says_where_the_winner_differs(tmp_path: Path) -> None:
    devices = {"cpu": "EPYC", "cuda": "H100"}
    how: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"], "devices": devices}
    found = decide(read_tables(make_run(tmp_path / "split", overrides={"vit-p7-d2-fp32-cuda": {"speed": 0.3}}, **how)))
    assert overall_sentence(found) == (
        "The winner depends on the device: in training speed the ViT wins on EPYC and the CNN wins on H100."
    )
    agreed = decide(read_tables(make_run(tmp_path / "agreed", **how)))
    assert overall_sentence(agreed) == (
        "The devices agree wherever they show a difference: "
        "the CNN in accuracy and time to 97% and the ViT in training speed and memory."
    )
    assert overall_sentence(found[:1]) == ""


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
