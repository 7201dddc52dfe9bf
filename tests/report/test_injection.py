"""The report: whatever names and errors hold comes through as text, in the page, the Markdown and the CSV."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from made_up import Node, make_run
from report_page import (
    SMALL,
    assert_tables_are_even,
    assert_text_is_inert,
    assert_well_made,
    drawing,
    read_page,
    write_plainly,
)

from bench.analysis.formatting import clean_text
from bench.analysis.summary import read_tables
from bench.report.build import write_report
from bench.report.plots.scatter import HERO
from bench.system.csv_cells import unguarded

NASTY = '<script>alert("1")</script> | a `b` *c*, "d"\n# ∂ατα'
NASTIEST = "\u202e\x07\x1b[31m[x](javascript:alert(1)) ![i](http://e.vil/i.png) www.e.vil a@b.c 1. $\\frac{$"
NASTIER = "=cmd()|'/c calc'!A1\r\n</script><!-- ]]> ${x} {{ 7*7 }} 名前 &amp; **"
FORMULA = re.compile(r"[=+@\t\r]|-(?![\d.])")
PAGE_SCRIPTS = 3  # the picks' values, the table's, and what works with them


def test_names_and_errors_inject_nothing(tmp_path: Path) -> None:
    bad = {"cnn-d2-fp32-cpu-s0": {"status": "failed", "error": NASTY}, "vit": {"model": NASTY}}
    dataset = {"name": NASTY, "title": NASTY}
    changes = {"suite": NASTY, "dataset": dataset, "command": [NASTY], "recipes": {NASTY: {NASTY: NASTY}}}
    folder = make_run(
        tmp_path / "run",
        configs=[*SMALL, ("vit", 14, 2)],
        dtypes=["fp32"],
        seeds=[0, 1],
        overrides=bad,
        changes=changes,
    )
    with drawing(HERO=HERO[:1]):
        write_report(folder)
    page = read_page(folder)
    assert_well_made(page)
    assert len(page.attributes("script")) == PAGE_SCRIPTS
    assert len(page.attributes("svg")) == 1
    assert " ".join(NASTY.split()) in page.text
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert_text_is_inert(text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert all("ατα" not in line or line.startswith("# ") for line in headings)


def test_a_name_cannot_turn_round_the_text_after_it(tmp_path: Path) -> None:
    changes = {"suite": "abc\u202eחדש\u2066"}
    write_plainly(make_run(tmp_path, configs=SMALL, dtypes=["fp32"], seeds=[0], changes=changes))
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
        write_plainly(folder)
        page, text = read_page(folder), (folder / "report.md").read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO((folder / "summary.csv").read_bytes().decode(), newline="")))
        labels = read_tables(folder).summary["label"].tolist()
    assert_well_made(page)
    assert len(page.attributes("script")) == PAGE_SCRIPTS
    for words in (model, error, title, device, recipe, node):
        assert " ".join(clean_text(words).split())[:40] in page.text  # a long name may be cut
    assert sorted(json.loads(page.data)["values"]["label"]) == sorted(labels)
    assert [unguarded(row["label"]) for row in rows] == labels
    assert unguarded(rows[0]["model"]).split() == clean_text(model).split()  # the store keeps a row on one line
    assert not [cell for row in rows for cell in row.values() if FORMULA.match(cell)], "a cell is a formula"
    assert_tables_are_even(text)
    assert_text_is_inert(text)
