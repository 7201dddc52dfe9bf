"""Failures: the trials that didn't end well, those with one reason together, and where the program stood."""

import re
from typing import Any
from urllib.parse import quote

from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import whole
from bench.analysis.labels import records
from bench.analysis.summary import Tables

MOST = 100  # reasons that are shown
NAMED = 3  # trials of one reason
PLAIN = re.compile(r"[\w.+-]+", re.ASCII)  # what a trial's id is made of; anything else is no file of ours


def failure_sheet(tables: Tables) -> Sheet | None:
    """A row a status and reason, the most frequent first; None where all trials ended well."""
    failed = tables.trials[tables.trials["status"] != "ok"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in records(failed[["trial_id", "label", "status", "error"]]):
        groups.setdefault((str(trial["status"]), " ".join(str(trial["error"]).split())), []).append(trial)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    rows = [_row(tables, status, error, own) for (status, error), own in ordered[:MOST]]
    left_out = sum(len(own) for _, own in ordered[MOST:])
    said = [f"The {MOST} most frequent reasons; {whole(left_out)} more trials are in trials.csv."] if left_out else []
    kinds = f", {whole(len(groups))} reasons" if 1 < len(groups) < len(failed) else ""
    title = f"{whole(len(failed))} of {whole(len(tables.trials))} trials{kinds}"
    return Sheet(title, said, ["trials", "status", "reason", "where in the program"], rows)


def _row(tables: Tables, status: str, error: str, own: list[dict[str, Any]]) -> list[Cell]:
    names = [str(trial["trial_id"]) for trial in own]
    more = f" and {whole(len(names) - NAMED)} more" if len(names) > NAMED else ""
    count = Cell(f"{whole(len(own))} trial{'s' * (len(own) > 1)}", ", ".join(names[:NAMED]) + more)
    return [count, Cell(status or "unknown"), Cell(error or "no reason was kept"), _stack(tables, names)]


def _stack(tables: Tables, names: list[str]) -> Cell:
    """A link to the stack of the first trial that left one."""
    for name in names:
        if PLAIN.fullmatch(name) and (tables.folder / "failures" / f"{name}.txt").is_file():
            return Cell(f"{name}.txt", link=f"failures/{quote(name)}.txt")
    return Cell("–")
