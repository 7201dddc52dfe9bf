"""Matched pairs, modes and shares of the data: who is compared with whom, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.matched_pairs import ALLOWED, find_pairs, mismatches, pair_sentences, pair_sheets
from bench.analysis.modes import mode_sentences, mode_sheets, twin_key
from bench.analysis.scaling import data_sentences
from bench.analysis.summary import IDENTITY, Tables, read_tables
from bench.analysis.warnings import find_warnings
from bench.config.matching import TOLERANCE
from bench.result import AXES

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
DEVICE = "AMD EPYC 7R13"


def tables(tmp_path: Path, **how: Any) -> Tables:
    options: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"]} | how
    return read_tables(make_run(tmp_path / "run", **options))


def test_a_pair_is_a_configuration_and_the_one_made_equal_to_it(tmp_path: Path) -> None:
    pairs = find_pairs(tables(tmp_path, configs=[("vit", 7, 2), ("vit", 7, 4), ("cnn", None, 2)], matches=["params"]))
    assert [(pair.by, pair.base["label"], pair.made["label"]) for pair in pairs] == [
        ("params", "ViT p7 d2 fp32", "CNN d2 fp32 =params ViT p7 d2"),
        ("params", "ViT p7 d4 fp32", "CNN d2 fp32 =params ViT p7 d4"),
    ]


def test_a_pair_names_its_winner_in_each_metric_that_is_better_whichever_way(tmp_path: Path) -> None:
    figures = {
        "cnn-d2-fp32-params": {"test_accuracy": 0.99, "images_per_second": 500.0, "peak_memory_bytes": 100 * 2**20},
        "vit": {"test_accuracy": 0.95, "images_per_second": 1000.0, "peak_memory_bytes": 200 * 2**20},
    }
    (pair,) = find_pairs(tables(tmp_path, matches=["params"], overrides=figures))
    assert pair.winner("test_accuracy") == "CNN"
    assert pair.winner("images_per_second") == "ViT"
    assert pair.winner("peak_memory_bytes") == "CNN"
    assert pair.found["test_accuracy"].amount == pytest.approx(0.04)
    assert pair.found["images_per_second"].amount == pytest.approx(0.5)
    assert pair.found["test_accuracy"].paired


def test_one_sentence_sums_up_each_kind_of_match(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("vit", 14, 2), ("cnn", None, 2)]
    figures = {
        "cnn": {"test_accuracy": 0.99, "images_per_second": 900.0, "peak_memory_bytes": 100},
        "vit-p7": {"test_accuracy": 0.98, "images_per_second": 600.0, "peak_memory_bytes": 100},
        "vit-p14": {"test_accuracy": 0.96, "images_per_second": 1800.0, "peak_memory_bytes": 100},
    }
    found = find_pairs(tables(tmp_path, configs=configs, matches=["params", "flops"], overrides=figures))
    assert pair_sentences(found) == [
        f"At equal {what}: the CNN is more accurate in 2 of 2 pairs, by 1.00 to 3.00 points; the CNN trains faster in "
        "1 of 2 pairs, by a factor of 1.50, the ViT in 1 of 2 pairs, by a factor of 2.00; no difference in memory is "
        "shown in 2 pairs."
        for what in ("parameters", "FLOPs")
    ]


def test_pairs_that_show_no_difference_say_so(tmp_path: Path) -> None:
    same = {"": {"test_accuracy": 0.98, "images_per_second": 900.0, "inference_images_per_second": 900.0}}
    sheets = pair_sheets(tables(tmp_path, matches=["flops"], overrides=same, changes={"target_accuracy": None}))
    assert [sheet.title for sheet in sheets] == ["Equal FLOPs"]
    (row,) = sheets[0].rows
    assert "accuracy" not in row[1].text
    assert "speed" not in row[1].text
    assert len(row) == len(sheets[0].head)


def test_a_time_that_some_seed_never_got_has_counts_instead_of_a_ratio(tmp_path: Path) -> None:
    run = tables(tmp_path, matches=["params"], changes={"target_accuracy": 0.98})
    (sheet,) = pair_sheets(run)
    assert sheet.head[-1] == "ratio of times to 98%"
    assert sheet.rows[0][-1].text == "–"
    assert sheet.rows[0][-1].interval == "reached by ViT 0 of 3, CNN 3 of 3"


def test_a_pair_whose_other_half_is_missing_is_no_pair(tmp_path: Path) -> None:
    failed = {"vit": {"status": "failed", "error": "boom"}}
    run = tables(tmp_path, matches=["params"], overrides=failed)
    assert find_pairs(run) == []
    assert pair_sheets(run) == []


def test_a_match_that_missed_by_more_than_allowed_is_a_warning(tmp_path: Path) -> None:
    run = tables(tmp_path, matches=["flops"], overrides={"cnn-d2-fp32-flops": {"mismatch": -0.08}})
    (line,) = mismatches(find_pairs(run))
    assert line == "Not equal FLOPs within 5%: CNN d2 fp32 =FLOPs ViT p7 d2 (-8.0%)."
    assert line in find_warnings(run, DEVICE)


def test_of_many_pairs_that_miss_three_are_named(tmp_path: Path) -> None:
    for count, said in ((3, ""), (4, " and 1 more"), (5, " and 2 more")):
        configs = [("vit", patch, depth) for depth in (2, 4) for patch in (4, 7, 14)][:count]
        missed = {"": {"mismatch": -0.08}}
        run = tables(tmp_path / f"{count}", configs=configs, matches=["flops"], overrides=missed)
        (line,) = mismatches(find_pairs(run))
        assert line.count("(-8.0%)") == 3
        assert line.endswith(f"(-8.0%){said}.")


def test_what_is_allowed_is_what_matching_aims_at() -> None:
    assert ALLOWED == TOLERANCE


def test_families_are_compared_like_for_like_and_each_at_its_best(tmp_path: Path) -> None:
    speeds = {
        "vit-p7-d2-fp32-cpu": 100.0,
        "vit-p7-d2-fp32-default": 120.0,
        "vit-p7-d2-fp32-cl": 100.0,
        "vit-p7-d2-fp32-default-cl": 110.0,
        "cnn-d2-fp32-cpu": 50.0,
        "cnn-d2-fp32-default": 90.0,
        "cnn-d2-fp32-cl": 100.0,
        "cnn-d2-fp32-default-cl": 180.0,
    }
    figures = {start: {"images_per_second": speed} for start, speed in speeds.items()}
    run = tables(tmp_path, compiles=["false", "default"], layouts=[False, True], overrides=figures)
    (sheet,) = mode_sheets(run)
    assert sheet.head == ["mode", "ViT p7 d2, images/s", "CNN d2, images/s", "CNN over ViT"]
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        ["fp32", "100", "50.0", "0.50"],
        ["fp32 channels-last", "100", "100", "1.00"],
        ["fp32 compile", "120", "90.0", "0.75"],
        ["fp32 compile channels-last", "110", "180", "1.64"],
        ["each at its own best", "120", "180", "1.50"],
    ]
    assert "equivalent within 3%" in sheet.rows[1][-1].interval
    assert mode_sentences(run, DEVICE) == [
        "Modes: like for like the CNN trains 0.50 to 1.64 times as fast as the ViT (4 modes); each in its own fastest, "
        "1.50 times (CNN in fp32 compile channels-last and ViT in fp32 compile)."
    ]


def test_a_layout_that_is_each_familys_own_is_no_mode_and_a_mode_may_be_one_familys_alone(tmp_path: Path) -> None:
    speeds = {
        "vit-p7-d2-fp32-cpu": 100.0,
        "vit-p7-d2-fp32-default": 125.0,
        "cnn-d2-fp32-cpu": 50.0,
        "cnn-d2-fp32-default": 100.0,
        "cnn-d2-fp32-max": 200.0,
    }
    figures: dict[str, Any] = {start: {"images_per_second": speed} for start, speed in speeds.items()}
    figures |= {"cnn": {"channels_last": True}, "vit-p7-d2-fp32-max": {"status": "failed"}}
    run = tables(tmp_path, seeds=[0], compiles=["false", "default", "max-autotune"], overrides=figures)
    (sheet,) = mode_sheets(run)
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        ["fp32", "100", "50.0", "0.50"],
        ["fp32 compile", "125", "100", "0.80"],
        ["fp32 max-autotune", "–", "200", "–"],
        ["each at its own best", "125", "200", "1.60"],
    ]
    assert sheet.said[0].startswith(
        "Modes: like for like the CNN trains 0.50 to 0.80 times as fast as the ViT (2 modes)"
    )


@pytest.mark.parametrize("axis", AXES)
def test_what_differs_in_any_axis_is_no_twin_unless_that_is_asked_for(axis: str) -> None:
    row = dict.fromkeys(IDENTITY, "1")
    other = row | {axis: '{"a": 2}'}
    assert twin_key(row) != twin_key(other)
    assert twin_key(row, axis) == twin_key(other, axis)


def test_the_order_of_settings_makes_no_difference_and_their_attention_only_where_it_is_asked_for() -> None:
    row = dict.fromkeys(IDENTITY, "") | {"settings": '{"a": 1, "attention": "auto"}'}
    assert twin_key(row) == twin_key(row | {"settings": '{"attention": "auto", "a": 1}'})
    other = row | {"settings": '{"a": 1, "attention": "fused"}'}
    assert twin_key(row) != twin_key(other)
    assert twin_key(row, "attention") == twin_key(other, "attention")


def test_one_mode_or_one_family_is_not_compared_by_mode(tmp_path: Path) -> None:
    assert mode_sheets(tables(tmp_path)) == []
    assert mode_sheets(tables(tmp_path / "one", configs=SMALL[:1], compiles=["false", "default"])) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"images_per_second": 10.0}, "compile is slower than no compilation here: "),
        ({"test_accuracy": 0.5}, "compile is less accurate than no compilation here: by 4"),
        ({"peak_memory_bytes": 10**9}, "compile takes more memory than no compilation here: "),
    ],
)
def test_a_choice_that_made_something_worse_is_named(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    worse = {f"{family}-fp32-default": fields for family in ("vit-p7-d2", "cnn-d2")}
    lines = find_warnings(tables(tmp_path, compiles=["false", "default"], overrides=worse), DEVICE)
    (line,) = (line for line in lines if line.startswith(said))
    assert line.endswith("in 2 of 2 configurations.")


def test_a_choice_that_made_nothing_worse_is_not_named(tmp_path: Path) -> None:
    assert find_warnings(tables(tmp_path, compiles=["false", "default"], layouts=[False, True]), DEVICE) == []


def test_a_layout_that_slows_one_family_is_named_with_its_interval(tmp_path: Path) -> None:
    lines = find_warnings(
        tables(tmp_path, layouts=[False, True], overrides={"vit-p7-d2-fp32-cl": {"speed": 0.5}}), DEVICE
    )
    (line,) = (line for line in lines if line.startswith("channels-last is slower than the usual layout here: 0.50"))
    assert "(95% interval" in line
    assert line.endswith("in 1 of 2 configurations.")


def test_attention_of_one_kind_is_held_against_the_automatic_choice(tmp_path: Path) -> None:
    explicit = {"vit-p7-d2-amp-bf16": {"attention": "explicit", "dtype": "fp32", "images_per_second": 5.0}}
    lines = find_warnings(tables(tmp_path, dtypes=["fp32", "amp-bf16"], overrides=explicit), DEVICE)
    assert any(line.startswith("explicit attention is slower than auto attention here") for line in lines)


def test_the_lead_is_told_for_every_number_of_training_images(tmp_path: Path) -> None:
    figures = {
        "vit-p7-d2-fp32-0.01": {"test_accuracy": 0.6, "val_accuracy": 0.6},
        "cnn-d2-fp32-0.01": {"test_accuracy": 0.9, "val_accuracy": 0.9},
        "vit-p7-d2-fp32-cpu": {"test_accuracy": 0.98, "val_accuracy": 0.98},
        "cnn-d2-fp32-cpu": {"test_accuracy": 0.98, "val_accuracy": 0.98},
    }
    run = tables(tmp_path, fractions=[0.01, 1.0], overrides=figures)
    assert data_sentences(run, DEVICE) == [
        "The CNN is ahead with 550 by 30.00 points; no difference is shown with 55,000."
    ]
    assert data_sentences(tables(tmp_path / "all"), DEVICE) == []


def test_of_many_numbers_of_training_images_five_are_told_from_end_to_end(tmp_path: Path) -> None:
    fractions = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0]
    figures = {"vit": {"test_accuracy": 0.8}, "cnn": {"test_accuracy": 0.9}}
    run = tables(tmp_path, seeds=[0], fractions=fractions, overrides=figures)
    told = [f"with {size} by 10.00" for size in ("550", "2,200", "4,400", "8,800", "55,000")]
    assert data_sentences(run, DEVICE) == [f"The CNN is ahead {', '.join(told[:-1])} and {told[-1]} points."]


def test_a_configuration_that_saw_fewer_images_stands_for_no_family(tmp_path: Path) -> None:
    lucky = {"cnn-d2-fp32-0.1": {"val_accuracy": 1.0, "images_per_second": 1e6}}
    run = tables(tmp_path, fractions=[0.1, 1.0], overrides=lucky)
    assert set(run.summary.loc[run.summary["best_of_family"], "label"]) == {
        "ViT p7 d2 fp32 100% data",
        "CNN d2 fp32 100% data",
    }
    assert set(run.like_for_like["train_fraction"]) == {1.0}
