"""The gate's answer as text: for the terminal, and as Markdown for a step summary or a comment.

Names of cells and revisions, and the reasons of failures, come from anywhere; they are shown as they are, and can
neither end a table nor call a person.
"""

import math
import re
from collections.abc import Sequence
from textwrap import fill, indent

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis.formatting import listed, markdown_text, seconds
from bench.gate.decision import CellVerdict, Decision
from bench.gate.journal import Record
from bench.gate.wording import (
    attempts,
    caught_in_percent,
    change_in_words,
    clipped,
    command_of,
    failure_line,
    interval_in_percent,
    meaning_of,
    measured,
    percent,
    plain,
    sides,
    verdict_line,
    work_line,
)
from bench.gate.work_diff import WorkChange

MARKER = "<!-- vit-cnn-bench gate -->"  # by which a bot finds its own comment
HEAD = ("cell", "change", "95% interval", "verdict", "would have caught", "n")
COLOURS = {"pass": "green", "regression": "red", "inconclusive": "yellow", "missing": "magenta", "crashed": "magenta"}
LEGEND = (
    "Change of the time that a step takes, head against base. Would have caught: the slowdown that these launches catch"
    " 19 times of 20. n: launches."
)
LONGEST_COMMENT = 65_000  # GitHub refuses more than 65,536 characters
LONGEST_REASON, MOST_CHANGES = 2000, 30


def show_decision(decision: Decision, record: Record, console: Console) -> None:
    """The answer, the table, and what stands behind it; readable in 80 columns and without colours."""
    console.print(f"[bold {COLOURS[decision.verdict]}]{escape(verdict_line(decision))}[/]")
    console.print(f"{escape(sides(record))}\n")
    if decision.cells:
        console.print(_table(decision), "")
    for heading, lines in _parts(decision):
        console.print(f"[bold]{heading}[/bold]")
        for line in lines:
            console.print(escape(indent(fill(plain(line), console.width - 4), "  ")), soft_wrap=True)
        console.print()
    console.print(escape(meaning_of(decision, record).replace("`", "")))
    if command := command_of(record):
        console.print("Again:", escape(plain(command)), soft_wrap=True)  # one line, to be copied


def as_markdown(decision: Decision, record: Record) -> str:
    """The same for a step summary or a comment. Begins with MARKER; the verdict comes first."""
    blocks = [MARKER, "## Throughput gate", f"**{safe(verdict_line(decision))}**", safe(sides(record))]
    if decision.cells:
        blocks.append(_rows(*_columns(decision)))
    if measured(decision):
        blocks.append(f"<sub>{LEGEND}</sub>")
    blocks += [
        f"**{heading}**\n\n" + "\n".join(f"- {safe(line)}" for line in lines) for heading, lines in _parts(decision)
    ]
    blocks.append(f"**What it means**\n\n{meaning_of(decision, record)}")
    if command := command_of(record):
        blocks.append(f"**To reproduce**\n\n{_fenced(command)}")
    text, details = "\n\n".join(blocks), _details(decision, record)
    if len(text) + len(details) <= LONGEST_COMMENT:
        return f"{text}\n\n{details}\n"
    text = text if len(text) <= LONGEST_COMMENT else text[:LONGEST_COMMENT].rpartition("\n")[0]
    return f"{text}\n\nThe rest is left out here for its length; `--json` has it.\n"


def safe(text: object) -> str:
    """Text that Markdown shows as it is; a name behind an @, as every decorator is, must not call a person."""
    return markdown_text(plain(text)).replace("@", "@<!-- -->")


def _parts(decision: Decision) -> list[tuple[str, Sequence[str]]]:
    told = {failure.reason for failure in decision.failures}
    reasons = [f"{cell.cell}: {cell.reason}" for cell in decision.cells if cell.reason and cell.reason not in told]
    parts = [
        ("Why", reasons if measured(decision) else []),
        ("Work of a step that differs", _work_lines(decision.work)),
        ("What failed", [failure_line(failure) for failure in decision.failures]),
        ("Noise and attempts", [*_noise_lines(decision.cells), attempts(decision)]),
        ("Notes", decision.notes),
    ]
    return [(heading, [line for line in lines if line]) for heading, lines in parts if any(lines)]


def _work_lines(changes: Sequence[WorkChange]) -> list[str]:
    lines = [work_line(change) for change in changes[:MOST_CHANGES]]
    return lines + ([f"and {len(changes) - MOST_CHANGES} more: see --json"] if len(changes) > MOST_CHANGES else [])


def _noise_lines(cells: Sequence[CellVerdict]) -> list[str]:
    known = [f"{cell.cell} {percent(cell.noise)}" for cell in cells if cell.noise is not None]
    return [f"a launch's comparison scatters by (standard deviation): {', '.join(known)}"] if known else []


def _table(decision: Decision) -> Table:
    """Names, changes and reasons wrap where it is narrow; figures and verdicts keep their width."""
    head, rows, right = _columns(decision)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for index, name in enumerate(head):
        title = name.replace("have ", "have\n")
        width = max(map(len, [*title.split("\n"), *(row[index] for row in rows)]))
        wraps = name in ("cell", "change", "why")
        table.add_column(
            title,
            justify="right" if index in right else "left",
            vertical="top",
            overflow="fold",
            width=None if wraps else width,
        )
    at = head.index("verdict")
    for cell, row in zip(decision.cells, rows, strict=True):
        texts = [escape(plain(text)) for text in row]
        texts[at] = f"[{COLOURS[cell.verdict]}]{texts[at]}[/]"
        table.add_row(*texts)
    return table


def _columns(decision: Decision) -> tuple[Sequence[str], list[list[str]], Sequence[int]]:
    """Head, rows, and which columns stand to the right; where nothing was timed, only verdicts and why."""
    if measured(decision):
        return HEAD, [_cells(cell) for cell in decision.cells], (2, 4, 5)
    return ("cell", "verdict", "why"), [[c.cell, c.verdict, clipped(c.reason, 300) or "–"] for c in decision.cells], ()


def _cells(cell: CellVerdict) -> list[str]:
    return [
        cell.cell,
        change_in_words(cell.estimate),
        interval_in_percent(cell.estimate),
        "pass, faster" if cell.faster and cell.verdict == "pass" else cell.verdict,
        caught_in_percent(cell.detectable),
        str(cell.estimate.n) if cell.estimate else "–",
    ]


def _details(decision: Decision, record: Record) -> str:
    """What few will open: times of a step, p-values, the machine, the last words of what failed."""
    head = ("cell", "a step of base", "a step of head", "p, screen", "p, confirm")
    rows = [
        [cell.cell, *_step_times(cell), _p_value(cell.p_screen), _p_value(cell.p_confirm)]
        for cell in decision.cells
        if cell.estimate
    ]
    blocks = [_rows(head, rows, right=(1, 2, 3, 4))] if rows else []
    blocks.append("\n".join(f"- {safe(key)}: {safe(value)}" for key, value in _conditions(decision, record)))
    blocks += [
        f"{failure.arm}, {safe(failure.cell or 'every cell')}:\n\n{_fenced(clipped(failure.reason, LONGEST_REASON))}"
        for failure in decision.failures[:10]
        if "\n" in failure.reason.strip() or len(failure.reason) > 300
    ]
    return "<details><summary>Figures and conditions</summary>\n\n" + "\n\n".join(blocks) + "\n\n</details>"


def _conditions(decision: Decision, record: Record) -> list[tuple[str, str]]:
    header, where = record.header, record.header.get("environment") or {}
    shown = [
        ("exit status", decision.exit_status),
        ("margin", _share(header.get("margin"))),
        ("promise", _share(header.get("promise"))),
        ("started at", header.get("started_at")),
        ("launches took", seconds(sum(record.wall_seconds)) if record.wall_seconds else None),
        ("threads", header.get("threads")),
        ("machine", listed([str(where[key]) for key in ("cpu", "os") if where.get(key)])),
        ("cores", where.get("cores")),
        ("software", listed([f"{key} {where[key]}" for key in ("python", "torch") if where.get(key)])),
    ]
    return [(key, str(value)) for key, value in shown if value is not None and value != ""]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["--:" if index in right else ":--" for index in range(len(head))]
    lines = [head, rule, *([safe(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(text: str) -> str:
    """Text in a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _step_times(cell: CellVerdict) -> tuple[str, str]:
    base, head = cell.seconds_per_step or (math.nan, math.nan)
    return seconds(base), seconds(head)


def _p_value(p: float | None) -> str:
    return "–" if p is None else f"{p:.2g}"


def _share(x: float | None) -> str | None:
    return None if x is None else f"{100 * x:g}%"
