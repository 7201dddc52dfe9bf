"""Two runs' comparison as text: a table for the terminal, and Markdown."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis.formatting import markdown_text
from bench.analysis.run_comparison import Change, Changes

HEAD = ("configuration", "metric", "before", "after", "change", "95% interval", "verdict")
COLOURS = {"better": "green", "worse": "red"}


def show_changes(found: Changes, console: Console) -> None:
    """Conditions first, then the sums, the table, and what has no counterpart."""
    for title, lines in _parts(found):
        if title == "table":
            console.print(_table(found.changes), "")
            continue
        console.print(f"[bold]{title}[/bold]")
        for line in lines:
            console.print(f"  {escape(line)}")
        console.print()


def as_markdown(found: Changes) -> str:
    """The same as a Markdown page."""
    blocks = ["# Two runs compared"]
    for title, lines in _parts(found):
        if title == "table":
            rows = [HEAD, (":--", ":--", "--:", "--:", "--:", "--:", ":--"), *map(_cells, found.changes)]
            told = [row if index == 1 else [markdown_text(cell) for cell in row] for index, row in enumerate(rows)]
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in told))
        else:
            blocks.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _parts(found: Changes) -> list[tuple[str, Sequence[str]]]:
    conditions = found.conditions or ["nothing that the runs tell of"]
    parts = [
        ("Runs", [f"before: {found.a}", f"after: {found.b}"]),
        ("What differs around them", conditions),
        ("In short", found.summary),
        ("table", ["table"]),
        ("Only before", found.only_a),
        ("Only after", found.only_b),
        ("Note", found.notes),
    ]
    return [(title, lines) for title, lines in parts if lines]


def _table(changes: list[Change]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(HEAD):
        table.add_column(name, justify="right" if 2 <= index <= 5 else "left", overflow="fold")
    previous = ""
    for change in changes:
        label, *cells, verdict = (escape(cell) for cell in _cells(change))
        colour = COLOURS.get(change.verdict.split(" ")[0])
        if previous and label != previous:
            table.add_row()
        said = f"[{colour}]{verdict}[/{colour}]" if colour else verdict
        table.add_row("" if label == previous else label, *cells, said)
        previous = label
    return table


def _cells(change: Change) -> list[str]:
    return [
        change.label,
        change.title,
        change.a_text,
        change.b_text,
        change.amount_text,
        change.interval_text,
        change.verdict,
    ]
