"""The commands on finished runs: `report`, `compare`, `verify`. None of them needs torch, and `--help` nothing
heavy."""

import json
import re
import textwrap
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from bench.cli.options import file, folder, write
from bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.analysis.answer import Verdict
    from bench.analysis.run_comparison import Changes
    from bench.analysis.run_limits import Judgement
    from bench.analysis.scorecard import Scorecard

HEAD = ("configuration", "metric", "before", "after", "change", "95% interval", "verdict")
LIMITS_HEAD = ("configuration", "limit", "change", "95% interval", "verdict")
COLOURS = {"better": "green", "worse": "red", "ok": "green", "uncertain": "yellow", "missing": "magenta"}
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

        out = run_dirs[0]
        verdicts = write_report(out)
        keep_verdicts(out, verdicts)
    else:
        from bench.report.side_by_side import write_side_by_side

        out = out or Path("results", "side-by-side", datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"))
        verdicts = write_side_by_side(list(run_dirs), out)
    say(out, verdicts, quiet=False)


@click.command()
@click.argument("run_a", type=folder())
@click.argument("run_b", type=folder())
@click.option(
    "--fail-on", multiple=True, metavar="METRIC:CHANGE", help="A limit, such as speed:-10%; as often as you like."
)
@click.option(
    "--allow", default="", metavar="WHAT,...",
    help="With --fail-on: put up with another cpu, device, threads, torch, data, or new configurations.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on standard output.")
@click.option("--markdown", type=file(), metavar="FILE", help="Write it here too.")
@click.pass_context
def compare(
    context: click.Context,
    run_a: Path,
    run_b: Path,
    fail_on: Sequence[str],
    allow: str,
    as_json: bool,
    markdown: Path | None,
) -> None:
    """What changed from one run to another, configuration by configuration; needs no torch.

    \b
    run_bench.py compare BASELINE RUN
    run_bench.py compare BASELINE RUN --fail-on speed:-10% --fail-on memory:+10%

    Metrics of --fail-on: speed, inference-speed, latency, memory, time-to-accuracy (in %), accuracy (in points). Its
    exit status: 0 nothing beyond a limit, 1 something is, 2 wrong usage or unlike runs, 3 too uncertain to tell, 4
    configurations missing or not measured. Speeds are divided by the machine's own; docs/gate.md.
    """
    from rich.console import Console

    from bench.analysis.run_comparison import compare_runs, compare_tables
    from bench.analysis.run_limits import judge, read_limit
    from bench.analysis.summary import read_tables

    judgement = None
    if fail_on:
        limits = [read_limit(text) for text in fail_on]
        a, b = read_tables(run_a), read_tables(run_b)
        judgement = judge(a, b, limits, {word.strip() for word in allow.split(",") if word.strip()})
        changes = compare_tables(a, b)
    elif allow:
        raise UserError("--allow goes with --fail-on: without a limit nothing is refused")
    else:
        changes = compare_runs(run_a, run_b)
    if markdown:
        write(markdown, as_markdown(changes, judgement))
    if as_json:
        found = changes.as_json() | ({"limits": judgement.as_json()} if judgement else {})
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        show_changes(changes, Console(), judgement)
    context.exit(judgement.exit_status if judgement else 0)


WIDE = 100  # columns of a terminal that has room for intervals


def say(run_dir: Path, verdicts: Sequence["Verdict"], quiet: bool) -> None:
    """The answer, on standard output: a dozen lines a device."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for verdict in verdicts:
        console.print()
        if len(verdicts) > 1:
            console.print(verdict.device_name)
        console.print(verdict.headline, style="bold")
        if quiet:
            continue
        if verdict.cards:
            card = verdict.cards[0]
            table = _card_table(card, console.width >= WIDE)
            console.print("", f"{' against '.join(card.names)}:", table, "", sep="\n")
        for line in verdict.advice:
            console.print(line)
        if verdict.warnings:
            console.print(_note(verdict.warnings, console.width), style="yellow")
    click.echo(f"\nReport: {run_dir / 'report.html'}")


def _note(warnings: Sequence[str], width: int) -> str:
    """The first warning, or its main clause where it has no room on two lines, and how many more the report has."""
    rest = len(warnings) - 1
    more = f" ({rest} more in the report)" if rest else ""
    if len(whole := f"Note: {warnings[0]}{more}") <= 2 * width:
        return whole
    more, clause = more or " (more in the report)", re.split(r"[.;](?:\s|$)| \(", warnings[0])[0]
    return textwrap.shorten(f"Note: {clause}", 2 * width - len(more), placeholder=" …") + more


def _card_table(card: "Scorecard", wide: bool) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", overflow="fold")
    for family in card.families:
        table.add_column(Text(family), justify="right", overflow="fold")
    several = len(card.names) > 1
    for title in [*(["difference", "95% interval"] if wide else []), ""] if several else []:
        table.add_column(title, justify="right" if title else "left", overflow="fold")
    for line in card.lines:
        verdict = Text(line.verdict, style="bold" if line.winner else "")
        more = [*([Text(line.difference), Text(line.ends)] if wide else []), verdict] if several else []
        table.add_row(Text(line.subject), *map(Text, line.figures), *more)
    return table


def show_changes(found: "Changes", console: "Console", judgement: "Judgement | None" = None) -> None:
    """Conditions first, then the sums, the table, what has no counterpart, and what the limits come to."""
    from rich.markup import escape

    for title, part in _parts(found, judgement):
        if isinstance(part, Grid):
            console.print(_table(part), "")
            continue
        console.print(f"[bold]{title}[/bold]")
        for line in part:
            console.print(f"  {escape(line)}")
        console.print()


def as_markdown(found: "Changes", judgement: "Judgement | None" = None) -> str:
    """The same as a Markdown page."""
    from bench.analysis.formatting import markdown_table, markdown_text

    blocks = ["# Two runs compared"]
    for title, part in _parts(found, judgement):
        if isinstance(part, Grid):
            blocks.append(markdown_table(*part))
        else:
            blocks.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in part))
    return "\n\n".join(blocks) + "\n"


class Grid(NamedTuple):
    """A table's texts. The verdict is the last of a row; `right` are the columns that stand to the right."""

    head: Sequence[str]
    rows: list[list[str]]
    right: Collection[int]


def _parts(found: "Changes", judgement: "Judgement | None") -> "list[tuple[str, Sequence[str] | Grid]]":
    """Titles with lines or tables, without those that are empty."""
    from bench.analysis.run_limits import amount, interval_text

    changes = [
        [each.label, each.title, each.a_text, each.b_text, each.amount_text, each.interval_text, each.verdict]
        for each in found.changes
    ]
    parts: list[tuple[str, Sequence[str] | Grid]] = [
        ("Runs", [f"before: {found.a}", f"after: {found.b}"]),
        ("What differs around them", found.conditions or ["nothing that the runs tell of"]),
        ("In short", found.summary),
        ("", Grid(HEAD, changes, range(2, 6)) if changes else ()),
        ("Only before", found.only_a),
        ("Only after", found.only_b),
        ("Note", found.notes),
    ]
    if judgement:
        judged = [[one.label, one.limit, amount(one), interval_text(one), one.verdict] for one in judgement.judged]
        parts += [
            ("Limits", [judgement.headline]),
            ("", Grid(LIMITS_HEAD, judged, (2, 3)) if judged else ()),
            ("About the limits", judgement.notes),
        ]
    return [(title, part) for title, part in parts if part]


def _table(grid: Grid) -> "Table":
    """A configuration's name stands in the first of its rows only."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(grid.head):
        table.add_column(name, justify="right" if index in grid.right else "left", overflow="fold")
    previous = ""
    for label, *texts, verdict in grid.rows:
        if previous and label != previous:
            table.add_row()
        said = Text(verdict, style=COLOURS.get(verdict.split(" ")[0], ""))
        table.add_row("" if label == previous else escape(label), *map(escape, texts), said)
        previous = label
    return table


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
        click.echo(json.dumps([{"run": str(run_dir), **vars(each)} for run_dir, each in found.items()], indent=2))
    else:
        for run_dir, each in found.items():
            for problem in each.problems:
                click.echo(f"{run_dir}: {problem}")
            for note in each.notes:
                click.echo(f"{run_dir}: note: {note}")
            wrong = len(each.problems)
            verdict = f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong" if wrong else "whole"
            launches = f"{each.launches:,} launch{'es' if each.launches > 1 else ''}, " if each.launches else ""
            click.echo(f"{run_dir}: {each.trials:,} trials, {launches}{verdict}")
    context.exit(DAMAGED if any(each.problems for each in found.values()) else 0)
