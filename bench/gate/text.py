"""The gate's answer in words: for the terminal, and as Markdown for a step summary or a comment.

Names of cells and revisions, and the reasons of failures, come from anywhere; they are shown as they are, and can
neither end a table nor call a person.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from textwrap import fill, indent
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis.formatting import listed, markdown_table, markdown_text, seconds
from bench.gate.decision import CellVerdict, Decision, Estimate, Verdict
from bench.gate.journal import Failure, Record
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

MEANING: dict[Verdict, str] = {
    "pass": "No cell is slower by as much as the gate promises to catch. Nothing to do.",
    "regression": "A cell was flagged, and fresh launches confirmed it; running again is no cure. Find the change (if"
    " work differs, that is a hint); if it is meant, say so where you merge.",
    "inconclusive": "This machine was too noisy, or the time too short, to tell. It says nothing about the change. Give"
    " more time (`--budget`), a quieter machine, or let it warn (`--inconclusive warn`).",
    "missing": "Something could not be compared, and what is not compared does not pass. Cells that are new in head:"
    " `--allow-missing`.",
    "crashed": "A worker ended early or ran out of time; its last words stand under what failed. Run the command on"
    " your machine.",
}
SUSPECT = (
    "A cell looks slower, and what was measured does not suffice to say so, or not by how much. Give more time"
    " (`--budget`) or a quieter machine."
)
MORE_WORK = (
    "A step of head does more than one of base. This is counted, not timed: running again changes nothing. Remove it,"
    " or accept it with `--work warn`."
)
ONLY_WORK = "A step of head does no more than one of base. Nothing was timed."
ONLY_WORK_ACCEPTED = "A step of head does more than one of base, and that was accepted. Nothing was timed."
ITSELF = (
    "Both are the same source, so what differs is this machine's noise. The slowdown that would have been caught is"
    " what it can tell in this time."
)
FALSE_ALARM = (
    "Both are the same source, so this is a false alarm: please report it, with the journal. Until then, let the gate"
    " only advise on this machine."
)


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
    if command := record.header.get("command"):
        console.print("Again:", escape(plain(command)), soft_wrap=True)  # one line, to be copied


def as_markdown(decision: Decision, record: Record) -> str:
    """The same for a step summary or a comment. Begins with MARKER; the verdict comes first."""
    blocks = [MARKER, "## Throughput gate", f"**{safe(verdict_line(decision))}**", safe(sides(record))]
    if decision.cells:
        head, rows, right = _columns(decision)
        blocks.append(markdown_table(head, [list(map(plain, row)) for row in rows], right))
    if measured(decision):
        blocks.append(f"<sub>{LEGEND}</sub>")
    blocks += [
        f"**{heading}**\n\n" + "\n".join(f"- {safe(line)}" for line in lines) for heading, lines in _parts(decision)
    ]
    blocks.append(f"**What it means**\n\n{meaning_of(decision, record)}")
    if command := record.header.get("command"):
        blocks.append(f"**To reproduce**\n\n{_fenced(command)}")
    text, details = "\n\n".join(blocks), _details(decision, record)
    if len(text) + len(details) <= LONGEST_COMMENT:
        return f"{text}\n\n{details}\n"
    text = text if len(text) <= LONGEST_COMMENT else text[:LONGEST_COMMENT].rpartition("\n")[0]
    return f"{text}\n\nThe rest is left out here for its length; `--json` has it.\n"


def safe(text: object) -> str:
    """Text that Markdown shows as it is."""
    return markdown_text(plain(text))


def _parts(decision: Decision) -> list[tuple[str, Sequence[str]]]:
    told = {"", *(failure.reason for failure in decision.failures)}
    reasons = [f"{cell.cell}: {cell.reason}" for cell in decision.cells if cell.reason not in told]
    work = [work_line(change) for change in decision.work[:MOST_CHANGES]]
    unsaid = len(decision.work) - MOST_CHANGES
    noises = ", ".join(f"{cell.cell} {percent(cell.noise)}" for cell in decision.cells if cell.noise is not None)
    scatter = f"a launch's comparison scatters by (standard deviation): {noises}" if noises else ""
    screen, confirm = decision.launches.get("screen", 0), decision.launches.get("confirm", 0)
    again = f"{confirm} fresh ones of those flagged or left open" if confirm else "no fresh ones after that"
    attempts = f"launches: {screen} of all cells, {again}" if screen or confirm else "launches: none finished"
    parts: list[tuple[str, Sequence[str]]] = [
        ("Why", reasons if measured(decision) else []),
        ("Work of a step that differs", [*work, f"and {unsaid} more: see --json" if unsaid > 0 else ""]),
        ("What failed", [failure_line(failure) for failure in decision.failures]),
        ("Noise and attempts", [scatter, attempts]),
        ("Notes", decision.notes),
    ]
    return [(heading, [line for line in lines if line]) for heading, lines in parts if any(lines)]


def _table(decision: Decision) -> Table:
    """Names, changes and reasons wrap where it is narrow; figures and verdicts keep their width."""
    head, rows, right = _columns(decision)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for index, name in enumerate(head):
        side: Literal["right", "left"] = "right" if index in right else "left"
        keeps = name not in ("cell", "change", "why")
        table.add_column(name.replace("have ", "have\n"), justify=side, overflow="fold", no_wrap=keeps)
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
    rows = []
    for cell in (cell for cell in decision.cells if cell.estimate):
        times = [seconds(time) for time in cell.seconds_per_step or (math.nan, math.nan)]
        ps = ["–" if p is None else f"{p:.2g}" for p in (cell.p_screen, cell.p_confirm)]
        rows.append([plain(cell.cell), *times, *ps])
    blocks = [markdown_table(head, rows, right=(1, 2, 3, 4))] if rows else []
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
        *((key, f"{100 * header[key]:g}%") for key in ("margin", "promise") if header.get(key) is not None),
        ("started at", header.get("started_at")),
        ("launches took", seconds(sum(record.wall_seconds)) if record.wall_seconds else None),
        ("threads", header.get("threads")),
        ("machine", listed([str(where[key]) for key in ("cpu", "os") if where.get(key)])),
        ("cores", where.get("cores")),
        ("software", listed([f"{key} {where[key]}" for key in ("python", "torch") if where.get(key)])),
    ]
    return [(key, str(value)) for key, value in shown if value is not None and value != ""]


def _fenced(text: str) -> str:
    """Text in a code block whose fence is longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}\n{text}\n{fence}"


def meaning_of(decision: Decision, record: Record) -> str:
    """What the verdict means, and what to do."""
    slower = any(cell.verdict == "regression" for cell in decision.cells)
    if decision.verdict == "regression" and not slower:
        return MORE_WORK
    if decision.verdict == "pass" and not measured(decision):
        return ONLY_WORK_ACCEPTED if any(change.direction == "more" for change in decision.work) else ONLY_WORK
    if record.header.get("aa") and decision.verdict in ("pass", "inconclusive", "regression"):
        return FALSE_ALARM if slower else ITSELF
    # Shown to be slower, but not by how much, or not twice.
    suspects = [c for c in decision.cells if c.verdict == "inconclusive" and c.estimate and c.estimate.low > 1]
    return SUSPECT if decision.verdict == "inconclusive" and suspects else MEANING[decision.verdict]


def measured(decision: Decision) -> bool:
    """Whether any cell was timed."""
    return any(cell.estimate for cell in decision.cells)


def verdict_line(decision: Decision) -> str:
    """The headline, and that it is only a warning where an inconclusive gate may pass."""
    warning = f" A warning only: exit status 0, verdict {decision.verdict}."
    return plain(decision.headline) + warning * (decision.exit_status == 0 and decision.verdict != "pass")


def change_in_words(estimate: Estimate | None) -> str:
    """ "4.1% slower", "1.2% faster", "0.3% slower: no difference shown" when the interval holds 1."""
    if estimate is None or not math.isfinite(estimate.ratio):
        return "not measured"
    size, direction = percent(abs(estimate.ratio - 1)), "slower" if estimate.ratio > 1 else "faster"
    if estimate.low > 1 or estimate.high < 1:  # an end that isn't known excludes nothing
        return f"under 0.1% {direction}" if size == "0.0%" else f"{size} {direction}"
    return f"{size if size == '0.0%' else f'{size} {direction}'}: no difference shown"


def interval_in_percent(estimate: Estimate | None) -> str:
    """ "-0.8% to +2.1%"; an end that isn't known is "?"."""
    return f"{_signed(estimate.low)} to {_signed(estimate.high)}" if estimate else "–"


def caught_in_percent(detectable: float | None) -> str:
    """ "6%", to the next whole percent: never a promise that the launches don't keep."""
    if detectable is None or not math.isfinite(detectable):
        return "–"
    return f"{max(1, math.ceil(round(100 * detectable, 3)))}%"


def work_line(change: WorkChange) -> str:
    """ "cnn train: operators 412 -> 416, more work: 4 more aten.clone (float32) a step"."""
    weight = {"more": "more work", "less": "less work", "other": "another result"}[change.direction]
    detail = f": {change.detail}" if change.detail else ""
    return f"{change.cell}: {change.what} {change.base} -> {change.head}, {weight}{detail}"


def failure_line(failure: Failure) -> str:
    """ "crashed in head, cell cnn train, launch 3: killed by signal 9"."""
    kind = {"missing": "missing in", "crash": "crashed in", "timeout": "out of time in"}[failure.kind]
    where = [f"{kind} {failure.arm}", f"cell {failure.cell}" if failure.cell is not None else "every cell"]
    where += [f"launch {failure.launch}"] if failure.launch is not None else []
    return f"{', '.join(where)}: {clipped(failure.reason, 300)}"


def sides(record: Record) -> str:
    """ "Head fast-attention (89abcdef0123) against base origin/main (0123456789ab)."."""
    if record.header.get("aa"):
        return f"{_revision(record, 'head')} against itself."
    return f"Head {_revision(record, 'head')} against base {_revision(record, 'base')}."


def clipped(text: str, most: int) -> str:
    """The start of a line; the end of a longer text, since the last words of a traceback say most."""
    line = text.strip()
    if len(line) <= most:
        return line
    return "... " + line[-most:] if "\n" in line else line[:most] + " ..."


def plain(text: object) -> str:
    """Text on one line, without anything that a terminal or a parser would obey."""
    line = " ".join(str(text).split())
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def percent(x: float) -> str:
    return f"{100 * x:.1f}%" if x < 1 else f"{100 * x:.0f}%"


def _signed(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "?"
    size = percent(abs(ratio - 1))
    return size if size == "0.0%" else f"{'-' if ratio < 1 else '+'}{size}"


def _revision(record: Record, arm: str) -> str:
    """ "feature/x (0123456)", or as much of it as is known."""
    found: dict[str, Any] = record.header.get(arm) or {}
    name, commit = plain(found.get("name") or "unnamed"), plain(found.get("commit") or "")[:12]
    return name if commit.startswith(name) or name.startswith(commit) else f"{name} ({commit})"
