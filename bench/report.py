"""The report: a run as `report.html` (one file that needs nothing else) and `report.md`, made from the store alone."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from bench import units
from bench.conditions import RULES, conditions, recipes
from bench.doubts import unfinished
from bench.labels import family_title, records
from bench.modes import mode_sheets
from bench.pairs import find_pairs, pair_sentences, pair_sheets
from bench.pictures import draw_all
from bench.store import write_atomically
from bench.summary import Tables, write_summary
from bench.tables import costs_grid, results_grid
from bench.verdict import Verdict, decide

FAILURES_SHOWN = 100


def write_report(folder: Path) -> list[Verdict]:
    """Write summary.csv, plots/, report.md and report.html into a run's folder; return the answer for each device.

    Raises:
        StoreError: the folder isn't a run.
    """
    tables = write_summary(folder)
    verdicts = decide(tables)
    page = {
        "run": tables.run,
        "title": _title(tables),
        "context": _context(tables),
        "unfinished": unfinished(tables),
        "verdicts": verdicts,
        "warnings": list(dict.fromkeys(text for verdict in verdicts for text in verdict.warnings if text)),
        "pictures": draw_all(tables),
        "grid": results_grid(tables),
        "costs": costs_grid(tables),
        "pairs": pair_sheets(tables),
        "pair_sentences": pair_sentences(find_pairs(tables)),
        "modes": mode_sheets(tables),
        "failures": _failures(tables),
        "conditions": conditions(tables.run),
        "recipes": recipes(tables.run),
        "rules": RULES,
    }
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["md"] = units.markdown_text
    for name in ("report.md", "report.html"):
        write_atomically(folder / name, templates.get_template(f"{name}.j2").render(page))
    return verdicts


def _title(tables: Tables) -> str:
    dataset = tables.run.get("dataset") or {}
    families = [family_title(str(model)) for model in dict.fromkeys(tables.summary["model"])]
    asked = units.listed(families or ["Benchmark"], "or")
    mark = "?" if len(families) > 1 else ""
    return f"{asked} on {dataset.get('title') or dataset.get('name') or 'unnamed data'}{mark}"


def _context(tables: Tables) -> str:
    """One line: suite, devices, trials, seeds, date."""
    ok, seeds = int((tables.trials["status"] == "ok").sum()), tables.trials["seed"].nunique()
    planned = len(tables.run.get("plan") or []) or len(tables.trials)
    parts = [
        f"suite {tables.run['suite']}" if tables.run.get("suite") else "",
        units.listed(list(dict.fromkeys(tables.summary["device_name"]))),
        f"{ok} of {planned} trials ok",
        f"{seeds} seed{'' if seeds == 1 else 's'}",
        str(tables.run.get("created_at") or "")[:10],
    ]
    return " · ".join(part for part in parts if part)


def _failures(tables: Tables) -> list[dict[str, Any]]:
    return records(tables.trials[tables.trials["status"] != "ok"].head(FAILURES_SHOWN))
