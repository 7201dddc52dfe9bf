"""Several runs in one report: told apart by device, day or folder, and refused where they can't stand side by side."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up import ENVIRONMENT, make_run
from report_page import SMALL, assert_well_made, drawing, read_page

from bench.analysis.cross_device import cross_device_sheet
from bench.analysis.labels import records, without_device
from bench.analysis.summary import Tables, read_tables
from bench.analysis.verdict import decide
from bench.errors import StoreError
from bench.report.sections import condition_sets
from bench.report.side_by_side import join, write_side_by_side

XEON, EPYC, H100 = "Intel(R) Xeon(R) Processor", "AMD EPYC 7R13 48-Core Processor", "NVIDIA H100 80GB HBM3"


def run(folder: Path, cpu: str = XEON, date: str = "2026-03-01", **how: Any) -> Path:
    changes = {"created_at": f"{date}T09:30:00Z"} | how.pop("changes", {})
    options: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"], "devices": {"cpu": cpu}} | how
    return make_run(folder, changes=changes, **options)


def joined(*folders: Path) -> Tables:
    return join([read_tables(folder) for folder in folders])


def devices(tables: Tables) -> list[str]:
    return list(dict.fromkeys(tables.summary["device_name"]))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs") / "desk")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three times as fast, with a seed that failed, an accelerator beside the processor, and one planned trial open."""
    slow = {"cnn-d2-fp32-cpu-s1": {"status": "failed", "error": "boom"}}
    how: dict[str, Any] = {"devices": {"cpu": EPYC, "cuda": H100}, "overrides": {"": {"speed": 3.0}} | slow}
    return run(tmp_path_factory.mktemp("runs") / "server", **how)


def test_each_device_has_the_figures_of_its_own_run(desk: Path, server: Path) -> None:
    tables = joined(desk, server)
    assert devices(tables) == ["Intel Xeon", "AMD EPYC 7R13", "NVIDIA H100"]
    apart = [row for folder in (desk, server) for row in read_tables(folder).summary.to_dict("records")]
    for own, row in zip(apart, tables.summary.to_dict("records"), strict=True):
        said = {"label", "device_name"}
        assert {k: v for k, v in own.items() if k not in said and v == v} == {
            k: v for k, v in row.items() if k not in said and v == v
        }
    assert list(tables.summary["label"][:2]) == ["ViT p7 d2 fp32 Intel Xeon", "CNN d2 fp32 Intel Xeon"]
    assert [without_device(row) for row in records(tables.summary)] == ["ViT p7 d2 fp32", "CNN d2 fp32"] * 3
    assert [verdict.device_name for verdict in decide(tables)] == devices(tables)


def test_trials_of_equal_settings_stay_apart_and_keep_their_curves(desk: Path, server: Path) -> None:
    tables = joined(desk, server)
    assert tables.trials["trial_id"].is_unique
    assert tables.trials["config_id"].nunique() == 4  # two for the processors, two for the accelerator
    assert set(tables.evaluations["trial_id"]) | set(tables.inference["trial_id"]) <= set(tables.trials["trial_id"])
    assert len(tables.evaluations) == sum(len(read_tables(folder).evaluations) for folder in (desk, server))
    assert set(tables.run["plan"]) == set(tables.trials["trial_id"])


def test_one_machine_on_two_days_is_told_apart_by_date(tmp_path: Path, desk: Path) -> None:
    tables = joined(desk, run(tmp_path / "later", date="2026-04-04"))
    assert devices(tables) == ["Intel Xeon (2026-03-01)", "Intel Xeon (2026-04-04)"]


def test_one_machine_on_one_day_is_told_apart_by_folder(tmp_path: Path, desk: Path) -> None:
    again, twin = run(tmp_path / "again", date="2026-04-04"), run(tmp_path / "x" / "again", date="2026-04-04")
    assert devices(joined(desk, run(tmp_path / "more"))) == ["Intel Xeon (desk)", "Intel Xeon (more)"]
    assert devices(joined(again, twin)) == [f"Intel Xeon ({tmp_path.name}/again)", "Intel Xeon (x/again)"]


def test_a_name_is_not_shortened_into_anothers(tmp_path: Path) -> None:
    names = ["Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel(R) Xeon(R) CPU @ 2.80GHz"]
    folders = [run(tmp_path / str(index), cpu=name, seeds=[0]) for index, name in enumerate(names)]
    assert devices(joined(*folders)) == names


SHORT = ("vit-p7-d2-fp32-cpu-s5", "cnn-d2-fp32-cpu-s5")


def test_what_the_runs_share_and_what_is_open_is_in_the_record(tmp_path: Path, desk: Path) -> None:
    changes = {"targets": [0.5, 0.97], "plan": [*SHORT, "a", "b"], "left_out": "budget of 1s spent", "suite": "other"}
    changes |= {"environment": ENVIRONMENT | {"torch": "2.15.0", "git_dirty": True}}
    tables = joined(desk, run(tmp_path / "short", cpu=EPYC, seeds=[5], changes=changes))
    record = tables.run
    assert record["suite"] == "mnist and other"
    assert record["targets"][:2] == [0.5, 0.9]
    assert tables.summary["reached_0.5"].tolist() == [3, 3, 1, 1]
    assert record["seeds"] == [0, 1, 2, 5]
    assert record["left_out"] == "AMD EPYC 7R13: budget of 1s spent"
    assert {"short: a", "short: b"} < set(record["plan"])
    assert "environment" not in record
    assert [note.split(" (")[0] for note in record["notes"]] == [
        "The runs were made with different versions of torch",
        "Of one run or more, the program had uncommitted changes.",
    ]


def test_limits_of_a_container_stand_with_the_hardware(tmp_path: Path) -> None:
    limits = {"cpu_quota": 1.5, "memory_limit_bytes": 2 * 2**30}
    for index, (more, told) in enumerate(
        [({}, "8.0 GiB memory"), (limits, "CPU quota of 1.5, 8.0 GiB memory, limited to 2.0 GiB")]
    ):
        folder = run(tmp_path / str(index), cpu=EPYC, changes={"environment": ENVIRONMENT | more})
        ((_, rows),) = condition_sets(read_tables(folder))
        assert dict(rows)["Hardware"] == f"AMD EPYC 7R13, 2 cores, {told}"


def test_every_run_has_its_own_conditions(tmp_path: Path, desk: Path) -> None:
    dataset = {"name": "mnist", "notes": ["resized from 17 sizes to 32 x 32 pixels", "Read while training."]}
    sets = condition_sets(joined(desk, run(tmp_path / "other", cpu=EPYC, changes={"dataset": dataset})))
    assert [title for title, _ in sets] == ["Intel Xeon", "AMD EPYC 7R13"]
    first, second = (dict(rows) for _, rows in sets)
    assert (first["Run"], second["Run"]) == ("desk", "other")
    assert second["Preparation"] == "Resized from 17 sizes to 32 x 32 pixels. Read while training."
    assert "Preparation" not in first
    assert first["Recipe vit"].startswith("optimizer adamw")
    ((title, rows),) = condition_sets(read_tables(desk))
    assert title == ""
    assert "Run" not in dict(rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": {"name": "digits"}}, "its data is digits, that of .*desk is mnist"),
        ({"dataset": {"name": "mnist", "checksum": "0"}}, "checksum"),
        ({"split": {"train": 55_000, "val": 5_000, "test": 9_000}}, "number of test images is 9000"),
    ],
)
def test_runs_on_other_images_are_refused(tmp_path: Path, desk: Path, changes: dict[str, Any], said: str) -> None:
    other = run(tmp_path / "other", configs=[], changes=changes)
    with pytest.raises(StoreError, match=said):
        write_side_by_side([desk, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_twice_alone_or_not_a_run_is_refused(tmp_path: Path, desk: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(desk)
    for folders, said in (([desk, link], "named twice"), ([desk], "two or more"), ([desk, tmp_path], "not a run")):
        with pytest.raises(StoreError, match=said):
            write_side_by_side(folders, tmp_path / "out")


def test_only_an_earlier_report_of_several_runs_is_replaced(tmp_path: Path, desk: Path, server: Path) -> None:
    with pytest.raises(StoreError, match="a run is in this folder"):
        write_side_by_side([desk, server], desk)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="already holds something"):
        write_side_by_side([desk, server], tmp_path)
    empty = run(tmp_path / "empty", configs=[])  # what isn't measured is drawn in no time
    out = tmp_path / "new" / "out"
    for _ in range(2):
        (verdict,) = write_side_by_side([empty, run_beside(tmp_path)], out)
        assert verdict.headline.startswith("Nothing to compare yet")
        assert_well_made(read_page(out))
    found = {path.name for path in out.iterdir()}
    assert found == {"summary.csv", "plots", "report.md", "report.html", "side_by_side.json"}
    assert [each["run"] for each in json.loads((out / "side_by_side.json").read_text())["runs"]] == ["empty", "beside"]


def run_beside(folder: Path) -> Path:
    beside = folder / "beside"
    return beside if beside.exists() else run(beside, configs=[])


def test_the_page_of_two_machines_shows_both(tmp_path: Path, desk: Path) -> None:
    other = run(tmp_path / "other", cpu=EPYC, seeds=[0])
    with drawing():
        verdicts = write_side_by_side([desk, other], tmp_path / "out")
    page = read_page(tmp_path / "out")
    assert_well_made(page)
    assert len([table for table in page.attributes("table") if table.get("class") == "card"]) == 2
    assert [verdict.device_name for verdict in verdicts] == ["Intel Xeon", "AMD EPYC 7R13"]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for verdict in verdicts:
        assert f"\n## {verdict.device_name}\n" in text


def test_the_same_configuration_is_compared_across_devices(desk: Path, server: Path) -> None:
    sheet = cross_device_sheet(joined(desk, server))
    assert sheet is not None
    assert sheet.head[:2] == ["configuration", "devices"]
    names = [[cell.text for cell in row[:2]] for row in sheet.rows]
    assert names == [
        [name, f"{device} over Intel Xeon"]
        for name in ("ViT p7 d2 fp32", "CNN d2 fp32")
        for device in ("AMD EPYC 7R13", "NVIDIA H100")
    ]
    assert (sheet.rows[0][3].text, sheet.rows[0][3].interval) == (
        "3.00",
        "3.00 to 3.00",
    )  # the same noise, seed by seed
    assert float(sheet.rows[2][3].text) == pytest.approx(3, rel=0.1)  # two seeds against three
    assert [float(row[3].text) for row in sheet.rows[1::2]] == [pytest.approx(75, rel=0.1)] * 2
    assert all("no difference shown" in row[5].interval for row in sheet.rows)
    assert re.fullmatch(
        r"AMD EPYC 7R13 trains 2\.\d\d to 3\.00 times as fast as Intel Xeon in 2 configurations that both measured\.",
        sheet.said[0],
    )
    assert "no difference between the two is shown in any of 2 configurations" in sheet.said[1]


def test_one_device_has_nothing_across(desk: Path) -> None:
    assert cross_device_sheet(read_tables(desk)) is None


def test_a_machine_that_saw_fewer_images_still_has_its_best(tmp_path: Path, desk: Path) -> None:
    tables = joined(desk, run(tmp_path / "less", cpu=EPYC, fractions=[0.1], seeds=[0]))
    assert tables.summary["best_of_family"].all()
    assert len(tables.like_for_like) == 4
