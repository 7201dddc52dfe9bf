"""The commands on finished runs: `report`, `compare`, `verify`. None of them needs torch, and `--help` nothing
heavy."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import folder
from bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.analysis.run_comparison import Change, Changes

HEAD = ("configuration", "metric", "before", "after", "change", "95% interval", "verdict")
COLOURS = {"better": "green", "worse": "red"}
DAMAGED = 1  # exit status of `verify`


@click.command()
@click.argument("run_dirs", nargs=-1, required=True, type=folder(), metavar="RUN_DIR...")
@click.option("--out", type=folder(), metavar="DIR", help="Of several runs' report [results/side-by-side/TIME].")
def report(run_dirs: Sequence[Path], out: Path | None) -> None:
    """Build a run's report again, from what it has on disk; of several runs (machines, days), one side by side.

    Needs no torch.
    """
    if len(run_dirs) == 1 and out is None:
        from bench.analysis.answer import keep_verdicts
        from bench.report.build import write_report

        verdicts = write_report(run_dirs[0])
        keep_verdicts(run_dirs[0], verdicts)
        say(run_dirs[0], verdicts, quiet=False)
    else:
        from bench.report.side_by_side import write_side_by_side

        out = out or Path("results", "side-by-side", datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"))
        say(out, write_side_by_side(list(run_dirs), out), quiet=False)


@click.command()
@click.argument("run_a", type=folder())
@click.argument("run_b", type=folder())
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on standard output.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it here too.")
def compare(run_a: Path, run_b: Path, as_json: bool, markdown: Path | None) -> None:
    """What changed from one run to another, configuration by configuration; needs no torch."""
    from rich.console import Console

    from bench.analysis.run_comparison import compare_runs

    changes = compare_runs(run_a, run_b)
    if markdown:
        _write(markdown, as_markdown(changes))
    if as_json:
        click.echo(json.dumps(changes.as_json(), indent=2, allow_nan=False))
    else:
        show_changes(changes, Console())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file") from None


def say(run_dir: Path, verdicts: Sequence[Any], quiet: bool) -> None:
    """The answer, on standard output."""
    for verdict in verdicts:
        click.echo("")
        click.secho(verdict.headline, bold=True)
        if verdict.summary:
            click.echo("  " + " ".join(verdict.summary) + "\n")
        for sentence in () if quiet else verdict.sentences:
            click.echo(f"  {sentence}")
    click.echo(f"\nReport: {run_dir / 'report.html'}")


def show_changes(found: "Changes", console: "Console") -> None:
    """Conditions first, then the sums, the table, and what has no counterpart."""
    from rich.markup import escape

    for title, lines in _parts(found):
        if title == "table":
            console.print(_table(found.changes), "")
            continue
        console.print(f"[bold]{title}[/bold]")
        for line in lines:
            console.print(f"  {escape(line)}")
        console.print()


def as_markdown(found: "Changes") -> str:
    """The same as a Markdown page."""
    from bench.analysis.formatting import markdown_text

    blocks = ["# Two runs compared"]
    for title, lines in _parts(found):
        if title == "table":
            rows = [HEAD, (":--", ":--", "--:", "--:", "--:", "--:", ":--"), *map(_cells, found.changes)]
            told = [row if index == 1 else [markdown_text(cell) for cell in row] for index, row in enumerate(rows)]
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in told))
        else:
            blocks.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _parts(found: "Changes") -> list[tuple[str, Sequence[str]]]:
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


def _table(changes: "list[Change]") -> "Table":
    from rich.markup import escape
    from rich.table import Table

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


def _cells(change: "Change") -> list[str]:
    return [
        change.label,
        change.title,
        change.a_text,
        change.b_text,
        change.amount_text,
        change.interval_text,
        change.verdict,
    ]


@click.command()
@click.argument("run_dirs", nargs=-1, required=True, type=folder(), metavar="RUN_DIR...")
@click.option("--json", "as_json", is_flag=True, help="What was found, as JSON on standard output.")
@click.pass_context
def verify(context: click.Context, run_dirs: Sequence[Path], as_json: bool) -> None:
    """Check run folders against their own record: every row, every file, nothing twice, nothing changed.

    Changes nothing. Exit status: 0 all whole, 1 something is wrong (a line each). Needs no torch.
    """
    from bench.store.verify import verify_run

    found = {run_dir: verify_run(run_dir) for run_dir in run_dirs}
    if as_json:
        click.echo(json.dumps([{"run": str(run_dir), **each.as_json()} for run_dir, each in found.items()], indent=2))
    else:
        for run_dir, each in found.items():
            for problem in each.problems:
                click.echo(f"{run_dir}: {problem}")
            for note in each.notes:
                click.echo(f"{run_dir}: note: {note}")
            wrong = len(each.problems)
            verdict = f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong" if wrong else "whole"
            click.echo(f"{run_dir}: {each.trials:,} trials, {verdict}")
    context.exit(DAMAGED if any(each.problems for each in found.values()) else 0)
