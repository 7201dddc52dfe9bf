"""More processes: ladders of one configuration, what they bring, and families compared at equal numbers of them."""

from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

from bench.analysis.matched_pairs import find_pairs
from bench.analysis.scaling import efficiency, ladders, scaling_sentence, scaling_sheets, speed_up
from bench.analysis.summary import Tables, read_tables
from bench.analysis.verdict import decide
from bench.report.plots.cost import scaling
from bench.report.plots.style import house_style
from bench.report.tables import page_table
from bench.result import COLUMNS

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
SPEEDS = {
    "cnn-d2-fp32-cpu": {"images_per_second": 1000.0},
    "cnn-d2-fp32-x2": {"images_per_second": 1800.0},
    "cnn-d2-fp32-x4-fixed": {"images_per_second": 3000.0},
    "cnn-d2-fp32-x4-scaled": {"images_per_second": 3600.0},
    "vit-p7-d2-fp32-x2": {"val_accuracy": 0.9999},
}


def read(folder: Path, **how: Any) -> Tables:
    usual: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"]}
    return read_tables(make_run(folder, **(usual | how)))


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    how: dict[str, Any] = {"processes": [1, 2, 4], "global_batches": ["fixed", "scaled"], "overrides": SPEEDS}
    return read(tmp_path_factory.mktemp("runs") / "scaled", **how)


def test_labels_say_how_many_processes_and_what_became_of_the_batch(scaled: Tables) -> None:
    assert list(scaled.summary["label"])[5:] == [
        "CNN d2 fp32",
        "CNN d2 fp32 x2 processes",
        "CNN d2 fp32 x2 processes (scaled batch)",
        "CNN d2 fp32 x4 processes",
        "CNN d2 fp32 x4 processes (scaled batch)",
    ]
    table = page_table(scaled)
    assert [choice["options"] for choice in table.choices if choice["title"] == "Processes"] == [
        [("1", "1"), ("2", "2"), ("4", "4")],
    ]
    assert {"processes", "batch size"} <= {column.title for column in table.grid.columns}
    assert table.data["values"]["world_size"] == scaled.summary.loc[table.grid.numbers, "world_size"].tolist()


def test_a_device_has_ladders_of_its_own_only(scaled: Tables) -> None:
    assert ladders(scaled, "another") == []
    assert len(ladders(scaled, "AMD EPYC 7R13")) == 4


def test_efficiency_is_speed_over_processes_times_the_speed_of_one(scaled: Tables) -> None:
    found = [ladder for ladder in ladders(scaled) if ladder.base["model"] == "cnn"]
    assert [(ladder.global_batch, [row["world_size"] for row in ladder.rows]) for ladder in found] == [
        ("fixed", [1, 2, 4]),
        ("scaled", [1, 2, 4]),
    ]
    for ladder, shares in zip(found, ([0.9, 0.75], [0.9, 0.9]), strict=True):
        got = [efficiency(scaled, ladder, row) for row in ladder.more]
        assert [share.amount for share in got if share] == pytest.approx(shares)
        assert [share.n for share in got if share] == [3, 3]
        up = speed_up(scaled, ladder, ladder.more[-1])
        assert up
        assert up.amount == pytest.approx(4 * shares[-1])


def test_the_sheet_has_a_row_a_rung_and_says_that_processes_share_the_cores(scaled: Tables) -> None:
    (sheet,) = scaling_sheets(scaled)
    assert sheet.head == [
        *("configuration", "processes", "images/s", "speed-up", "efficiency", "to 97%", "test accuracy", "difference"),
    ]
    cnn = [[cell.text for cell in row[:5]] for row in sheet.rows if row[0].text.startswith("CNN")]
    assert cnn[:3] == [
        ["CNN d2 fp32", "1", "1,000", "–", "–"],
        ["CNN d2 fp32", "2", "1,800", "1.80", "90%"],
        ["CNN d2 fp32", "4", "3,000", "3.00", "75%"],
    ]
    assert [(row[0].interval, row[1].interval) for row in sheet.rows[:2]] == [
        ("n = 3", ""),
        ("n = 3", "batch of all fixed"),
    ]
    assert [row[1].text for row in sheet.rows] == ["1", "2", "4", "2", "4"] * 2  # one process is said once
    assert sheet.rest is None
    assert any("share its cores (2 on this machine)" in line for line in sheet.said)


def test_families_are_compared_at_equal_numbers_of_processes(scaled: Tables) -> None:
    """More processes buy speed, so they don't make a family faster."""
    assert set(scaled.summary.loc[scaled.summary["best_of_family"], "label"]) == {"ViT p7 d2 fp32", "CNN d2 fp32"}
    assert set(scaled.like_for_like["world_size"]) == {1.0}
    assert set(scaled.summary.loc[scaled.summary["pareto"], "world_size"]) == {1.0}
    (verdict,) = decide(scaled)
    assert verdict.headline == scaling_sentence(scaled, verdict.device_name)
    assert (
        "with 4 processes (batch of all processes fixed) the best CNN trains 3.00 times (3.00 to 3.00) as fast as with "
        "one process, an efficiency of 75%"
    ) in verdict.headline
    assert verdict.headline.startswith("Families are compared with one process each; with 4 processes")
    assert "processes" not in " ".join([*verdict.advice, *verdict.notes, *verdict.cards[0].names])


def test_where_families_share_no_number_of_processes_the_headline_names_both(tmp_path: Path) -> None:
    bad = {name: {"status": "failed"} for name in ("vit-p7-d2-fp32-cpu", "cnn-d2-fp32-x2")}
    tables = read(tmp_path / "run", processes=[1, 2], overrides=bad)
    assert ladders(tables) == []  # a rung that failed is none
    (verdict,) = decide(tables)
    assert verdict.headline.endswith("(ViT: 2 processes and CNN: one process).")
    assert any("share no number of processes (ViT with 2 and CNN with 1)" in text for text in verdict.warnings)


def test_what_isnt_a_familys_best_is_folded_away(tmp_path: Path) -> None:
    configs = [*SMALL, ("vit", 14, 2)]
    (sheet,) = scaling_sheets(read(tmp_path / "run", configs=configs, seeds=[0], processes=[1, 2]))
    assert [row[0].text for row in sheet.rows] == ["CNN d2 fp32"] * 2 + ["ViT p7 d2 fp32"] * 2
    assert sheet.rest
    assert (sheet.rest.title, sheet.rest.said, sheet.rest.head) == ("1 more configuration", [], sheet.head)
    assert [row[0].text for row in sheet.rest.rows] == ["ViT p14 d2 fp32"] * 2


def test_an_interval_of_two_seeds_that_differ_is_as_good_as_open(tmp_path: Path) -> None:
    speeds = {"cnn-d2-fp32-cpu-s1": {"images_per_second": 3_000.0}, "cnn-d2-fp32-x2-fixed-cpu-s1": {"speed": 9.0}}
    tables = read(tmp_path / "run", configs=SMALL[1:], seeds=[0, 1], processes=[1, 2], overrides=speeds)
    ((_, rung),) = [sheet.rows for sheet in scaling_sheets(tables)]
    assert (rung[3].text, rung[3].interval, rung[4].text) == ("too noisy", "", "–")
    with house_style():
        figure = scaling.draw(tables)
    assert figure
    assert figure.axes[1].get_ylim()[1] < 1_000  # %: such an interval doesn't set the scale


def test_a_ladder_without_one_process_starts_at_its_fewest(tmp_path: Path) -> None:
    speeds = {"cnn-d2-fp32-x2": {"images_per_second": 100.0}, "cnn-d2-fp32-x4": {"images_per_second": 150.0}}
    tables = read(tmp_path / "run", configs=SMALL[1:], processes=[2, 4], overrides=speeds)
    (ladder,) = ladders(tables)
    share = efficiency(tables, ladder, ladder.more[0])
    assert share
    assert share.amount == pytest.approx(0.75)


def test_rows_from_before_there_were_processes_are_of_one(tmp_path: Path) -> None:
    tables = read(tmp_path / "run", seeds=[0], overrides={"": {"world_size": None, "global_batch": None}})
    assert set(tables.summary["world_size"]) == {1.0}
    assert (ladders(tables), scaling_sheets(tables)) == ([], [])
    assert "world_size" in COLUMNS


def test_a_pair_of_equal_size_has_equal_processes(tmp_path: Path) -> None:
    tables = read(tmp_path / "run", seeds=[0], processes=[1, 2], matches=["params"])
    assert [(pair.base["world_size"], pair.made["world_size"]) for pair in find_pairs(tables)] == [(1, 1), (2, 2)]
