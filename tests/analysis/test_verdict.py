"""The answer in words and its scorecard, on made-up runs whose answer is known."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.answer import Verdict
from bench.analysis.summary import read_tables
from bench.analysis.verdict import decide, overall_sentence, question

SMALL = [("vit", 7, 2), ("cnn", None, 2)]


def verdict(tmp_path: Path, **how: Any) -> Verdict:
    (only,) = decide(read_tables(make_run(tmp_path / "run", **how)))
    return only


def figures(**of: float) -> dict[str, float]:
    return {"val_accuracy": of["accuracy"], "test_accuracy": of["accuracy"], "images_per_second": of["speed"]}


def lines(found: Verdict, card: int = 0) -> dict[str, list[str]]:
    """Subject -> figures, difference, interval and verdict."""
    return {line.subject: [*line.figures, line.difference, line.ends, line.verdict] for line in found.cards[card].lines}


def test_a_scorecard_has_one_model_a_family_in_all_rows(tmp_path: Path) -> None:
    """Figures worked out by hand: seeds that are all alike leave an interval of no width but accuracy's floor."""
    known = {
        "vit-p7": figures(accuracy=0.97, speed=3000.0)
        | {"peak_memory_bytes": 2**20, "latency_p50_seconds": 2e-3, "images_to_accuracy": 0},
        "vit-p14": figures(accuracy=0.96, speed=9000.0) | {"peak_memory_bytes": 2**19},
        "cnn": figures(accuracy=0.99, speed=1000.0) | {"peak_memory_bytes": 2**21, "latency_p50_seconds": 1e-3},
    }
    configs = [*SMALL, ("vit", 14, 2)]
    found = verdict(tmp_path, configs=configs, dtypes=["fp32"], overrides=known, changes={"targets": []})
    (card,) = found.cards
    assert (card.title, card.families) == ("each family's best", ["ViT", "CNN"])
    assert (card.names[0], card.codes) == ("ViT, 7 px patches, 2 blocks", ["ViT p7 d2 fp32", "CNN d2 fp32"])
    assert lines(found) == {
        "errors in 10,000 images": ["300 (97.00%)", "100 (99.00%)", "200 fewer", "161 to 239", "CNN better"],
        "training speed": ["3,000 images/s", "1,000 images/s", "3.00×", "3.00 to 3.00", "ViT better"],
        "latency, one image": ["2.00 ms", "1.00 ms", "2.00×", "2.00 to 2.00", "CNN better"],
        "memory to train": ["1.00 MiB", "2.00 MiB", "2.00×", "2.00 to 2.00", "ViT better"],
    }
    assert found.headline == (
        "The CNN makes 200 fewer errors in 10,000 images; the ViT trains 3.00 times as many images a second and needs "
        "50% less memory to train."
    )
    assert found.advice == [
        f"Take the {card.names[1]}. For training speed and memory: the ViT, 14 px patches, 2 blocks (96.00%)."
    ]
    assert found.winners == {
        "accuracy": "CNN",
        "training speed": "ViT",
        "time of one image": "CNN",
        "memory": "ViT",
    }


def test_intervals_that_overlap_show_no_difference(tmp_path: Path) -> None:
    alike = {"peak_memory_bytes": 1000, "latency_p50_seconds": 1e-3}
    level = {
        "cnn": figures(accuracy=0.980, speed=1000.0) | alike,
        "vit": figures(accuracy=0.981, speed=1000.0) | alike,
    }
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=level, changes={"targets": []})
    assert found.headline == "No difference in accuracy is shown."
    assert lines(found)["errors in 10,000 images"][-1] == "inconclusive"
    assert lines(found)["training speed"][-1] == "equivalent"
    assert found.advice == ["Take either: no difference is shown."]
    assert not any(found.winners.values())


def test_without_a_difference_in_accuracy_the_quicker_is_taken(tmp_path: Path) -> None:
    level = {"cnn": figures(accuracy=0.98, speed=1000.0), "vit": figures(accuracy=0.98, speed=3000.0)}
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=level, changes={"targets": []})
    assert found.headline == (
        "No difference in accuracy is shown; the ViT trains 3.00 times as many images a second and needs 29% less "
        "memory to train."
    )
    assert found.advice[0].startswith("Take the ViT, 7 px patches, 2 blocks")


def test_the_best_on_test_is_not_preferred_to_the_best_on_validation(tmp_path: Path) -> None:
    lucky = {
        "cnn-d4": {"val_accuracy": 0.97, "test_accuracy": 0.999},
        "cnn-d2": {"val_accuracy": 0.99, "test_accuracy": 0.98},
    }
    found = verdict(tmp_path, configs=[*SMALL, ("cnn", None, 4)], dtypes=["fp32"], overrides=lucky)
    assert found.cards[0].codes[1] == "CNN d2 fp32"


def test_the_time_is_that_to_the_highest_target_that_both_reach(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"])
    assert "time to 97%" in lines(found)
    assert "time to 98%" not in lines(found)  # the ViT doesn't


def test_a_target_that_nobody_reached_is_a_warning(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, changes={"targets": [0.97, 0.999], "target_accuracy": 0.999})
    assert "99.9% on validation was reached by no trial." in found.warnings
    assert "time to 97%" in lines(found)


def test_times_closer_than_the_grid_of_evaluations_show_no_difference(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"])
    tables = read_tables(folder)
    tables.summary["evaluation_interval_seconds"] = 1000.0
    (found,) = decide(tables)
    assert lines(found)["time to 97%"][-1] == "inconclusive"


def test_a_ratio_that_may_be_anything_is_too_noisy_to_call(tmp_path: Path) -> None:
    wide = {f"cnn-d2-fp32-cpu-s{seed}": {"images_per_second": 10.0 ** (3 + seed)} for seed in range(3)}
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=wide)
    assert lines(found)["training speed"][2:] == ["", "", "too noisy to call"]


@pytest.mark.parametrize(
    ("latency", "told"),
    [
        (1.0, "training speed is too noisy to call"),
        (10.0, "training speed and time of one image are too noisy to call"),
    ],
)
def test_where_nothing_is_shown_the_headline_says_what_is_too_noisy(tmp_path: Path, latency: float, told: str) -> None:
    level = {"test_accuracy": 0.98, "peak_memory_bytes": 1000, "latency_p50_seconds": 1e-3}
    wide: dict[str, dict[str, Any]] = {"vit": level}
    for seed in range(3):
        noisy = {"images_per_second": 10.0 ** (3 + seed), "latency_p50_seconds": 1e-3 * latency**seed}
        wide[f"cnn-d2-fp32-cpu-s{seed}"] = level | noisy
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=wide, changes={"targets": []})
    assert found.headline == f"No difference in accuracy is shown; {told}."
    subjects = told.partition(" is ")[0].partition(" are ")[0]
    assert found.advice == [f"Take either: no difference is shown. Too noisy to call: {subjects}."]


def test_one_seed_says_so(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0])
    assert found.headline.startswith("On one seed, the CNN makes ")
    assert found.advice[-1] == "One seed is little to go by: give --seeds 3 before you rely on it."
    assert "ViT and CNN: one seed each, so no interval over seeds." in found.warnings


def test_a_family_of_which_one_seed_is_left_is_named_alone(tmp_path: Path) -> None:
    lost = {f"vit-p7-d2-fp32-cpu-s{seed}": {"status": "failed"} for seed in (1, 2)}
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], overrides=lost)
    assert "ViT: one seed each, so no interval over seeds." in found.warnings
    assert found.headline.startswith("The CNN makes ")
    assert not any("One seed" in text for text in found.advice)


def test_one_family_alone_is_not_compared(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=[("vit", 7, 2), ("vit", 14, 2)], dtypes=["fp32"])
    assert re.fullmatch(
        r"The best ViT, 7 px patches, 2 blocks, reaches 97\.\d\d% on test \(95% interval 9\d\.\d\d to 9\d\.\d\d, n = 3 "
        r"seeds\); no other family was measured\.",
        found.headline,
    )
    assert found.advice == []
    assert {tuple(line[1:]) for line in lines(found).values()} == {("", "", "")}


def test_of_three_families_the_best_stands_against_the_second(tmp_path: Path) -> None:
    known = {
        "vit": figures(accuracy=0.97, speed=3000.0),
        "cnn": figures(accuracy=0.99, speed=1000.0),
        "mixer": figures(accuracy=0.95, speed=6000.0),
    }
    found = verdict(tmp_path, configs=[*SMALL, ("mixer", 7, 2)], dtypes=["fp32"], overrides=known)
    assert found.cards[0].families == ["ViT", "CNN", "mixer"]
    assert lines(found)["errors in 10,000 images"][3:4] == ["200 fewer"]
    assert lines(found)["training speed"][3::2] == ["2.00×", "mixer better"]


def test_when_all_failed_there_is_nothing_to_compare(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, overrides={"": {"status": "failed", "error": "boom"}})
    assert found.headline == "Nothing to compare: no trial ended well."
    assert (found.advice, found.cards, found.winners) == ([], [], {})
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
    assert "EPYC" not in str(cuda.as_json())


def test_a_pair_of_equal_size_has_a_scorecard_of_its_own(tmp_path: Path) -> None:
    known = {
        "vit": figures(accuracy=0.97, speed=1000.0),
        "cnn": figures(accuracy=0.96, speed=1000.0),
        "cnn-d2-fp32-params": figures(accuracy=0.96, speed=500.0),
    }
    how: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"], "overrides": known, "changes": {"targets": []}}
    found = verdict(tmp_path, matches=["params"], **how)
    assert [card.title for card in found.cards] == ["each family's best", "at equal parameters"]
    assert lines(found, 1)["errors in 10,000 images"][2:] == ["100 fewer", "49 to 151", "ViT better"]
    assert lines(found, 1)["training speed"] == [
        *("1,000 images/s", "500 images/s", "2.00×"),
        *("2.00 to 2.00", "ViT better"),
    ]


def test_a_run_on_several_devices_says_where_the_winner_differs(tmp_path: Path) -> None:
    devices = {"cpu": "EPYC", "cuda": "H100"}
    how: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"], "devices": devices}
    found = decide(read_tables(make_run(tmp_path / "split", overrides={"vit-p7-d2-fp32-cuda": {"speed": 0.3}}, **how)))
    assert "in training speed the ViT wins on EPYC and the CNN wins on H100" in overall_sentence(found)
    agreed = decide(read_tables(make_run(tmp_path / "agreed", **how)))
    assert overall_sentence(agreed).startswith("The devices agree wherever they show a difference: the CNN in accuracy")
    assert overall_sentence(found[:1]) == ""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "ViT or CNN for MNIST?"),
        ({"configs": SMALL[:1]}, "How good is the ViT on MNIST?"),
        ({"fractions": [0.01, 1.0]}, "How many images of MNIST do ViT and CNN need?"),
        ({"processes": [1, 2]}, "What do more processes bring on MNIST?"),
        ({"configs": []}, "Benchmark on MNIST"),
    ],
)
def test_each_kind_of_run_has_its_question(tmp_path: Path, how: dict[str, Any], said: str) -> None:
    options: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"]}
    folder = make_run(tmp_path / "run", **options | how)
    assert question(read_tables(folder)) == said


def test_what_such_a_run_asks_is_what_its_headline_answers(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], fractions=[0.01, 1.0])
    assert re.match(r"The CNN is ahead with \S+ by \d+\.\d\d", found.headline)
    assert found.notes[0].startswith("The CNN makes ")


@pytest.mark.parametrize("status", ["skipped", "diverged", "oom"])
def test_what_did_not_end_well_is_listed_with_its_reason(tmp_path: Path, status: str) -> None:
    bad = {"cnn-d2-amp-bf16-cpu-s1": {"status": status, "error": "so it goes"}}
    found = verdict(tmp_path, configs=SMALL, overrides=bad)
    assert f"CNN d2 amp-bf16: 1 of 3 trials {status} (seed 1: so it goes)." in found.warnings


@pytest.mark.parametrize(("failed", "named"), [(4, 4), (5, 3), (8, 3)])
def test_of_many_configurations_with_one_reason_some_are_named(tmp_path: Path, failed: int, named: int) -> None:
    shapes = [(patch, depth) for depth in (2, 4, 6) for patch in (4, 7, 14)][: failed + 1]
    bad = {f"vit-p{p}-d{d}-": {"status": "oom", "error": "no room"} for p, d in shapes[:failed]}
    configs = [("vit", patch, depth) for patch, depth in shapes]
    found = verdict(tmp_path, configs=configs, dtypes=["fp32"], seeds=[0], overrides=bad)
    (line,) = (text for text in found.warnings if "no room" in text)
    assert line.count("ViT p") == named
    assert (f"and {failed - named} more: {failed} of {failed} trials oom" in line) == (failed > named)


def test_noise_and_slow_modes_are_warned_of(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, overrides={"vit": {"throughput_spread": 0.2}})
    noisy, slow = found.warnings
    assert "varied by up to 20% between timed blocks (ViT p7 d2 fp32)" in noisy
    assert noisy.endswith("Close other programs, and run again.")
    assert slow.startswith("amp-bf16 is slower than fp32 here: 0.7")
    assert slow.endswith("in 2 of 2 configurations.")


def test_an_unfinished_run_says_what_is_missing_and_advises_nothing(tmp_path: Path) -> None:
    found = verdict(tmp_path, configs=SMALL, dtypes=["fp32"], changes={"plan": ["x", "y"], "interrupted": True})
    assert (
        found.warnings[0]
        == "Unfinished: 0 of 2 planned trials are in (the run was interrupted); `--resume` adds the rest."
    )
    assert found.advice == []
