"""The report: a run as `report.html` (one file that needs nothing else) and `report.md`, made from the store alone."""

import base64
import hashlib
import html
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from bench.analysis import formatting
from bench.analysis.answer import Verdict
from bench.analysis.cross_device import cross_device_sheet, node_sheet
from bench.analysis.formatting import clean_text
from bench.analysis.labels import family_title
from bench.analysis.matched_pairs import find_pairs, pair_sentences, pair_sheets
from bench.analysis.modes import mode_sheets
from bench.analysis.recommendations import recommendation_sheets
from bench.analysis.scaling import scaling_sheets
from bench.analysis.summary import Tables, write_summary
from bench.analysis.verdict import decide, overall_sentence
from bench.analysis.warnings import side_by_side, unfinished
from bench.report.figures import draw_gallery, draw_run
from bench.report.sections import condition_sets, failure_sheet, published_sheets, rules_of
from bench.report.tables import costs_grid, page_table, results_grid
from bench.system.files import write_atomically

ROWS_OF_TEXT = 50  # rows of a table in report.md; nobody reads on, and GitHub shows no file beyond 512 KB
SECTIONS = {  # anchor on the page -> name in its contents; those that a run has nothing for are left out
    "answer": "Answer",
    "choices": "What to choose",
    "across": "Device against device",
    "published": "Published figures",
    "figures": "Pictures",
    "learned": "What the models learned",
    "table": "Every configuration",
    "pairs": "Matched pairs",
    "modes": "Numeric modes",
    "scaling": "More processes",
    "failures": "Failures",
    "conditions": "Conditions",
    "rules": "Rules",
}
# Parts of the page beside the answer and the tables: name -> what makes it, and what stands there where that fails.
BESIDES: dict[str, tuple[Callable[[Tables], Any], Any]] = {
    "choices": (recommendation_sheets, []),
    "across": (cross_device_sheet, None),
    "published": (published_sheets, []),
    "figures": (draw_run, []),
    "learned": (lambda tables: draw_gallery(tables.folder), []),
    "pairs": (pair_sheets, []),
    "pair_sentences": (lambda tables: pair_sentences(find_pairs(tables)), []),
    "modes": (mode_sheets, []),
    "scaling": (scaling_sheets, []),
    "failures": (failure_sheet, None),
    "nodes": (node_sheet, None),
}


def write_report(folder: Path) -> list[Verdict]:
    """Write summary.csv, plots/, report.md and report.html into a run's folder; return the answer for each device.

    Raises:
        StoreError: the folder isn't a run.
    """
    return write_pages(write_summary(folder))


def write_pages(tables: Tables) -> list[Verdict]:
    """Write plots/, report.md and report.html of tables into their folder; return the answer for each device."""
    verdicts = decide(tables)
    page = _page(tables, verdicts)
    for name in ("report.md", "report.html"):
        write_atomically(tables.folder / name, _templates().get_template(f"{name}.j2").render(page))
    return verdicts


def _page(tables: Tables, verdicts: list[Verdict]) -> dict[str, Any]:
    """What the templates need, in reading order."""
    several, warnings = len(verdicts) > 1, list(tables.run.get("notes", ()))
    for verdict in verdicts:  # of several devices, each says which it is about
        warnings += [f"{verdict.device_name}: {text}" if several and text else text for text in verdict.warnings]
    page: dict[str, Any] = {
        "title": _title(tables),
        "context": _context(tables),
        "notices": [text for text in (unfinished(tables), *side_by_side(tables)) if text],
        "verdicts": verdicts,
        "overall": overall_sentence(verdicts),
        "warnings": [*dict.fromkeys(text for text in warnings if text)],
        "table": page_table(tables) if len(tables.summary) else None,
        "results": results_grid(tables, ROWS_OF_TEXT),
        "costs": costs_grid(tables, ROWS_OF_TEXT),
        "conditions": condition_sets(tables),
        "rules": rules_of(tables),
        "rows_of_text": ROWS_OF_TEXT,
    }
    for name, (make, without) in BESIDES.items():
        try:
            page[name] = make(tables)
        except Exception as error:  # noqa: BLE001 - what was measured, and the answer, are worth more than any of these
            page[name] = without
            reason = " ".join(clean_text(f"{type(error).__name__}: {error}").split())[:300]
            page["notices"].append(
                f"'{SECTIONS.get(name, name)}' couldn't be made ({reason}); "
                f"`python run_bench.py report {tables.folder}` tries again."
            )
            print(f"warning: {page['notices'][-1]}", file=sys.stderr)
    page["script"], page["script_digest"] = _script()
    always = ("answer", "conditions")
    return page | {"contents": {key: name for key, name in SECTIONS.items() if key in always or page[key]}}


@cache  # to compile them takes longer than to fill them in
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        # no switches of direction or controls, whoever put them on the page; markup was cleaned as text
        finalize=lambda value: clean_text(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["md"] = formatting.markdown_text
    templates.filters["one_line"] = lambda text: html.escape(" ".join(str(text).split()))
    return templates


@cache
def _script() -> tuple[str, str]:
    """The page's script, and its digest for the page's policy: a browser runs this script and no other."""
    script = (Path(__file__).parent / "templates" / "table.js").read_text(encoding="utf-8")
    return script, base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _title(tables: Tables) -> str:
    dataset = tables.run.get("dataset") or {}
    families = [family_title(model) for model in tables.summary["model"].unique()]
    asked = formatting.listed(families or ["Benchmark"], "or")
    mark = "?" if len(families) > 1 else ""
    return f"{asked} on {dataset.get('title') or dataset.get('name') or 'unnamed data'}{mark}"


def _context(tables: Tables) -> str:
    """One line: suite, devices, trials, seeds, date."""
    ok, seeds = int((tables.trials["status"] == "ok").sum()), tables.trials["seed"].nunique()
    planned = len(tables.run.get("plan") or []) or len(tables.trials)
    parts = [
        f"suite {tables.run['suite']}" if tables.run.get("suite") else "",
        formatting.listed(list(tables.summary["device_name"].unique())),
        f"{formatting.whole(ok)} of {formatting.whole(planned)} trials ok",
        f"{seeds} seed{'' if seeds == 1 else 's'}",
        str(tables.run.get("created_at") or "")[:10],
    ]
    return " · ".join(part for part in parts if part)
