"""The report of a run that failed, stopped, or left things unmeasured: there all the same, and honest about it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from made_up import make_run
from report_page import SMALL, assert_well_made, drawing, read_page, write_plainly

from bench.analysis.formatting import markdown_text
from bench.analysis.summary import Tables, read_tables
from bench.report.build import write_report
from bench.report.figures import HERO, MAIN_PLOTS
from bench.report.plots.cost import memory
from bench.report.sections import failure_sheet
from bench.report.tables import column_groups, results_grid
from bench.store.tables import SCHEMA_VERSION


def test_a_run_without_a_finished_trial_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[], changes={"plan": ["a"], "left_out": "budget of 1s spent"})
    (verdict,) = write_plainly(folder)
    assert verdict.headline == "Nothing to compare yet: no trial has finished."
    assert_well_made(read_page(folder))
    assert "budget of 1s spent" in read_page(folder).text
    assert "budget of 1s spent" in (folder / "report.md").read_text()


def test_a_run_of_which_nothing_could_be_run_still_has_a_report(tmp_path: Path) -> None:
    unknown = dict.fromkeys(("device_name", "num_params", "num_flops"))
    skipped = {"status": "skipped", "error": "this processor has no bfloat16 of its own", **unknown}
    folder = make_run(tmp_path / "run", configs=SMALL, seeds=[0], overrides={"": skipped})
    (verdict,) = write_plainly(folder)
    assert verdict.headline == "Nothing to compare: no trial ended well."
    assert_well_made(read_page(folder))
    assert "this processor has no bfloat16 of its own" in read_page(folder).text


def test_a_run_that_says_next_to_nothing_of_itself_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0])
    (folder / "run.json").write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "environment": None, "recipes": {"x": None}})
    )
    write_plainly(folder)
    assert "unnamed data" in read_page(folder).text


def test_a_partial_run_says_so_at_the_top(tmp_path: Path) -> None:
    plan = ["not-run", "vit-p7-d2-fp32-cpu-s0"]
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0], changes={"plan": plan})
    (verdict,) = write_plainly(folder)
    for text in ((folder / "report.md").read_text(), read_page(folder).text):
        assert text.index("Unfinished: 1 of 2 planned trials") < text.index(verdict.headline[:20])


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides={"": {"status": "failed", "error": "boom"}})
    (folder / "plots").mkdir()
    (folder / "plots" / "memory.png").write_bytes(b"old")
    with drawing(RUN_PLOTS=(memory,)):
        write_report(folder)
    assert list((folder / "plots").iterdir()) == []


@pytest.mark.parametrize("part", ["draw", "caption", "alt"])
def test_a_figure_that_raises_is_a_line_of_the_report_and_never_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    def broken(tables: Tables) -> Any:
        raise ValueError("<script>alert(1)</script> | a `b`\nsecond line")

    title = {"draw": "Bad", "caption": "Without caption", "alt": "Without alt text"}[part]
    bad = replace(memory, name="bad", title=title, **cast("Any", {part: broken}))
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0], epochs=1)
    (folder / "plots").mkdir()
    (folder / "plots" / "bad.png").write_bytes(b"old")
    with drawing(MAIN_PLOTS=(bad, memory)):
        write_report(folder)
    page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert_well_made(page)
    what = {"draw": "the figure", "caption": "the caption", "alt": "the alt text"}[part]
    line = f"{title}: {what} failed (ValueError: <script>alert(1)</script> | a `b` second line)."
    assert line in page.text
    assert markdown_text(line) in text
    assert f"warning: {line}\n" in capsys.readouterr().err
    assert "plots/memory.png" in text
    assert (folder / "plots" / "bad.png").exists() == (part != "draw")
    assert len(page.pictures) == (1 if part == "draw" else 2)


def test_a_run_from_before_the_instruments_has_no_columns_of_costs(tmp_path: Path) -> None:
    parts = ("latency_p50", "latency_p95", "latency_p99", "step", "data", "forward", "backward", "optimizer")
    gone = {f"{part}_seconds": None for part in (*parts, "first_step", "warm_up")}
    gone |= {f"{part}_bytes": None for part in ("param", "gradient", "optimizer", "activation")}
    gone |= {"inference_images_per_second": None, "flops_per_second": None, "flops_share": None}
    gone |= {"compile": None, "channels_last": None, "train_fraction": None, "attention": None, "timed": None}
    folder = make_run(tmp_path / "run", configs=SMALL, overrides={"": gone})
    (folder / "inference.csv").unlink()
    (verdict,) = write_plainly(folder)
    assert verdict.headline.startswith("The CNN makes ")
    assert list(column_groups(read_tables(folder))) == [
        *(
            "Results",
            "Validation and training",
            "Times to other targets",
            "Images to accuracy",
            "Work and energy",
            "Settings",
        ),
    ]


def test_failures_of_one_reason_stand_together_and_link_to_where_it_happened(tmp_path: Path) -> None:
    broken = {"vit": {"status": "failed", "error": "boom"}, "cnn-d2-fp32-cpu-s1": {"status": "oom", "error": "full"}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=broken)
    (folder / "failures").mkdir(exist_ok=True)
    (folder / "failures" / "vit-p7-d2-fp32-cpu-s1.txt").write_text("Traceback", encoding="utf-8")
    sheet = failure_sheet(read_tables(folder))
    assert sheet
    assert sheet.title == "4 of 6 trials, 2 reasons"
    assert [[cell.text for cell in row[:3]] for row in sheet.rows] == [
        ["3 trials", "failed", "boom"],
        ["1 trial", "oom", "full"],
    ]
    write_plainly(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert "failures/vit-p7-d2-fp32-cpu-s1.txt" in {link["href"] for link in page.attributes("a")}


def test_reasons_beyond_a_hundred_are_counted(tmp_path: Path) -> None:
    broken = {f"vit-p7-d2-fp32-cpu-s{seed}": {"status": "failed", "error": f"boom {seed}"} for seed in range(102)}
    how: dict[str, Any] = {"configs": SMALL[:1], "dtypes": ["fp32"], "seeds": range(102), "epochs": 1}
    sheet = failure_sheet(read_tables(make_run(tmp_path / "run", **how, overrides=broken)))
    assert sheet
    assert (len(sheet.rows), sheet.said) == (100, ["The 100 most frequent reasons; 2 more trials are in trials.csv."])


def test_a_single_model_has_a_page_without_picks_and_chart(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL[1:], dtypes=["fp32"], seeds=[0])
    with drawing(HERO=HERO, MAIN_PLOTS=MAIN_PLOTS):
        (verdict,) = write_report(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert (verdict.advice, [form["id"] for form in page.attributes("form")]) == ([], ["controls"])
    assert [told.partition("?")[0] for told in page.pictures] == ["How fast do they learn"]


@pytest.mark.parametrize("what", ["failed", "diverged", "one family"])
def test_a_run_that_went_wrong_is_reported_in_full(tmp_path: Path, what: str) -> None:
    bad = {"vit" if what == "one family" else "": {"status": "failed", "error": "boom"}}
    if what == "diverged":
        bad = {"": {"status": "diverged", "error": "the loss became NaN"}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0, 1], overrides=bad)
    (verdict,) = write_plainly(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert "nan" not in re.findall(r"\w+", page.text.replace("became NaN", ""))
    assert verdict.headline.startswith("The best CNN, 2 blocks" if what == "one family" else "Nothing to compare")


def test_a_run_side_by_side_that_nothing_else_timed_is_about_accuracy_and_memory(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides={"": {"timed": False}})
    (verdict,) = write_plainly(folder)
    page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert_well_made(page)
    assert page.text.index("Accuracy alone: in this run") < page.text.index(verdict.headline)
    assert "> **Accuracy alone: in this run" in text
    assert verdict.headline.startswith("The CNN makes ")
    assert [line.subject for line in verdict.cards[0].lines] == ["errors in 10,000 images", "memory to train"]
    said = json.dumps(verdict.as_json())
    for word in ("faster", "images/s", "Time to", "reached by no", "nan"):
        assert word not in said
    assert list(column_groups(read_tables(folder))) == [
        *("Results", "Validation and training", "Images to accuracy", "Memory", "Work and energy", "Settings"),
    ]
    assert [column.title for column in results_grid(read_tables(folder)).columns] == [
        *("test accuracy, %", "memory, MiB", "parameters"),
    ]


def test_a_row_says_how_many_of_its_seeds_were_timed(tmp_path: Path) -> None:
    beside = {f"cnn-d2-fp32-cpu-s{seed}": {"timed": False} for seed in (1, 2)} | {"vit": {"timed": False}}
    tables = read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=beside))
    grid = results_grid(tables)
    assert [name.interval for name, _ in grid.rows] == [
        *("CNN d2 fp32; n = 3; 1 timed", "ViT p7 d2 fp32; n = 3; 0 timed"),
    ]
    assert not any(name.best for name, _ in grid.rows), "a name is no figure, and none is the best"
    speed = [column.key for column in grid.columns].index("images_per_second")
    assert [cells[speed].text == "–" for _, cells in grid.rows] == [False, True]
