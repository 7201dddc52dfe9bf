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
from bench.analysis.laws import law_sheets
from bench.analysis.matched_pairs import pair_sheets
from bench.analysis.modes import mode_sheets
from bench.analysis.picks import picks
from bench.analysis.published import published_sheets
from bench.analysis.robustness import robustness_sheets
from bench.analysis.scaling import scaling_sheets
from bench.analysis.summary import Tables, write_summary
from bench.analysis.tuning import tuning_sheet
from bench.analysis.verdict import decide, overall_sentence, question
from bench.analysis.warnings import side_by_side, unfinished
from bench.report import figures
from bench.report.figures import draw_gallery, draw_run, remove_foreign
from bench.report.sections import citation, condition_sets, failure_sheet, rules_of
from bench.report.tables import page_table, results_grid
from bench.system.files import write_atomically

ROWS_OF_TEXT = 20  # of the table in report.md; nobody reads on
GALLERY = "what trained models say of test images"
# Parts of the page beside the answer and the table: name -> what it is, what makes it, what stands there if that fails.
BESIDES: dict[str, tuple[str, Callable[[Tables], Any], Any]] = {
    "picks": ("picks under limits", picks, []),
    "hero": ("accuracy against cost", lambda tables: draw_run(tables, figures.HERO, inline=True), []),
    "main_figures": ("learning curves", lambda tables: draw_run(tables, figures.MAIN_PLOTS, inline=True), []),
    "mistakes": ("mistakes", lambda tables: draw_gallery(tables.folder, figures.MISTAKES), []),
    "published": ("published figures", published_sheets, []),
    "across": ("device against device", cross_device_sheet, None),
    "figures": ("pictures", lambda tables: draw_run(tables, figures.RUN_PLOTS), []),
    "learned": (GALLERY, lambda tables: draw_gallery(tables.folder, figures.GALLERY_PLOTS), []),
    "tuning": ("tuning", tuning_sheet, None),
    "tuning_figures": ("tuning", lambda tables: draw_run(tables, figures.TUNING_PLOTS), []),
    "robustness": ("changed test images", robustness_sheets, []),
    "robustness_figures": ("changed test images", lambda tables: draw_run(tables, figures.ROBUSTNESS_PLOTS), []),
    "pairs": ("matched pairs", pair_sheets, []),
    "modes": ("numeric modes", mode_sheets, []),
    "laws": ("scaling laws", law_sheets, []),
    "scaling": ("more processes", scaling_sheets, []),
    "failures": ("failed trials", failure_sheet, None),
    "nodes": ("machines", node_sheet, None),
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
        "title": question(tables),
        "context": _context(tables),
        "notices": [text for text in (unfinished(tables), *side_by_side(tables)) if text],
        "verdicts": verdicts,
        "overall": overall_sentence(verdicts),
        "warnings": [*dict.fromkeys(text for text in warnings if text)],
        "table": page_table(tables) if len(tables.summary) else None,
        "results": results_grid(tables, ROWS_OF_TEXT),
        "conditions": condition_sets(tables),
        "rules": rules_of(tables),
        "cite": citation(tables),
    }
    for name, (title, make, without) in BESIDES.items():
        try:
            page[name] = make(tables)
        except Exception as error:  # noqa: BLE001 - what was measured, and the answer, are worth more than any of these
            page[name] = without
            reason = " ".join(clean_text(f"{type(error).__name__}: {error}").split())[:300]
            page["notices"].append(
                f"'{title}' couldn't be made ({reason}); `python run_bench.py report {tables.folder}` tries again."
            )
            print(f"warning: {page['notices'][-1]}", file=sys.stderr)
    remove_foreign(tables.folder)
    page["picks_data"] = [{"margin": each.margin, "models": each.models} for each in page["picks"]]
    page["script"], page["script_digest"] = _script()
    return page


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
    folder = Path(__file__).parent / "templates"
    script = "".join((folder / name).read_text(encoding="utf-8") for name in ("table.js", "picks.js"))
    return script, base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _context(tables: Tables) -> str:
    """One line: devices, date, suite, seeds, failures."""
    statuses, seeds = tables.trials["status"].value_counts(), tables.trials["seed"].nunique()
    ok, skipped = int(statuses.get("ok", 0)), int(statuses.get("skipped", 0))
    planned = (len(tables.run.get("plan") or []) or len(tables.trials)) - skipped
    parts = [
        formatting.listed(list(tables.summary["device_name"].unique())),
        str(tables.run.get("created_at") or "")[:10],
        f"suite {tables.run['suite']}" if tables.run.get("suite") else "",
        f"n = {seeds} seed{'' if seeds == 1 else 's'}",
        f"{formatting.whole(ok)} of {formatting.whole(planned)} trials ok" if ok < planned else "",
        f"{formatting.whole(skipped)} trials skipped" if skipped else "",
    ]
    return " · ".join(part for part in parts if part)
