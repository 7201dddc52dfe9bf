"""The command `gate`: what may be typed, and what is printed and written."""

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import Share, Time, file, folder, refuse_no_folder, write
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.gate.decision import Decision
    from bench.gate.journal import Record

JOURNALS = Path("results", "gate")
CRASHED, INTERRUPTED = 5, 130
EXPORTS = ("json_file", "markdown", "junit", "pytest_benchmark", "github_benchmark")  # options that name a file


@click.command()
@click.option("--base", metavar="REV", help="Compare with this revision, such as origin/main.")
@click.option(
    "--head", default="HEAD", show_default=True, metavar="REV", help="The one in question; or 'working tree'."
)
@click.option("--base-dir", type=folder(), metavar="DIR", help="Folders instead of revisions: the base,")
@click.option("--head-dir", type=folder(), metavar="DIR", help="and the head.")
@click.option("--suite", default="gate", show_default=True, metavar="NAME|PATH", help="Whose configurations to time.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the suite; as often as you like.")
@click.option("--cell", "cells", multiple=True, metavar="TEXT", help="Only cells whose name holds it; repeat for more.")
@click.option("--budget", "budget_seconds", type=Time(), help="Time in all [40 s a cell, 2m at least].")
@click.option(
    "--ignore-below",
    "--margin",
    "margin",
    type=Share(),
    default="3%",
    show_default=True,
    help="A slowdown that isn't worth failing.",
)
@click.option(
    "--fail-above",
    "--promise",
    "promise",
    type=Share(),
    default="10%",
    show_default=True,
    help="A slowdown that never passes.",
)
@click.option(
    "--inconclusive", type=click.Choice(["fail", "warn", "pass"]), default="fail", show_default=True,
    help="Whether noise that leaves the answer open fails (exit status 3).",
)  # fmt: skip
@click.option(
    "--work", type=click.Choice(["fail", "warn"]), default="fail", show_default=True,
    help="Whether more work a step (operators, FLOPs, parameters, memory) fails.",
)  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Cells that base doesn't have don't fail.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of a worker.")
@click.option("--data-dir", type=folder(), metavar="DIR", help="Folder that holds the dataset's files.")
@click.option("--journal", type=file(), metavar="FILE", help="The raw slices [results/gate/TIME.jsonl].")
@click.option("--resume", type=file(), metavar="JOURNAL", help="Go on with a gate that was stopped.")
@click.option("--replay", type=file(), metavar="JOURNAL", help="Decide again from raw slices; runs nothing.")
@click.option("--aa", is_flag=True, help="Compare head with itself: this machine's noise, and what it can detect.")
@click.option(
    "--only-invariants", "only_work", is_flag=True, help="Compare the work a step, and time nothing: seconds."
)
@click.option("--json", "json_file", type=file(), metavar="FILE", help="Write the verdict here, too.")
@click.option("--markdown", type=file(), metavar="FILE", help="As a comment or a step's summary.")
@click.option("--junit", type=file(), metavar="FILE", help="As JUnit's XML.")
@click.option("--pytest-benchmark", type=file(), metavar="FILE", help="As pytest-benchmark's JSON.")
@click.option("--github-benchmark", type=file(), metavar="FILE", help="As github-action-benchmark's JSON.")
@click.pass_context
def gate(context: click.Context, **options: Any) -> None:
    """Has a change made it slower? Runs two revisions in alternation, here and now.

    \b
    run_bench.py gate --base origin/main    HEAD against it, in 2 to 3 minutes
    run_bench.py gate --base HEAD --head "working tree"
    run_bench.py gate --aa                  what this machine can tell

    Exit status: 0 pass, 1 regression, 2 wrong usage, 3 inconclusive, 4 nothing comparable or cells missing, 5 a worker
    or the gate itself crashed, or hangs, 130 interrupted. How to read the table: docs/gate.md.
    """
    for name in EXPORTS:
        if options[name]:
            refuse_no_folder(options[name])
    record = _measured(options)
    from bench.gate.decision import decide

    decision = decide(record, options["work"], options["inconclusive"], options["allow_missing"])
    _show(decision, record, options)
    context.exit(decision.exit_status)


def _measured(options: dict[str, Any]) -> "Record":
    """The journal, read again or written now."""
    if options["replay"]:
        from bench.gate.journal import read_journal

        return read_journal(options["replay"])
    from bench.gate.driver import resume_gate, run_gate

    if options["resume"]:
        return _kept(lambda: resume_gate(options["resume"], _say), options["resume"])
    request = _request(options)
    return _kept(lambda: run_gate(request, _say), request.journal)


def _request(options: dict[str, Any]) -> Any:
    """What was asked for, if it makes sense."""
    from bench.gate.request import GateRequest

    folders = [options["base_dir"], options["head_dir"]]
    if any(folders) and (not all(folders) or options["base"] or options["head"] != "HEAD" or options["aa"]):
        raise UserError("--base-dir and --head-dir go together, and without --base, --head and --aa")
    if options["aa"] and options["base"]:
        raise UserError("--aa compares --head with itself; leave out --base")
    if not (options["base"] or options["aa"] or all(folders)):
        raise UserError(
            "nothing to compare with: name --base, such as --base origin/main; --aa is for this machine's noise"
        )
    if options["margin"] >= options["promise"]:
        low, high = (f"{100 * options[key]:g}%" for key in ("margin", "promise"))
        raise UserError(f"--ignore-below {low} should be below --fail-above {high}")
    journal = options["journal"] or JOURNALS / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.jsonl"
    base = options["head"] if options["aa"] else options["base"]
    asked = {key: options[key] for key in GateRequest.model_fields} | {"journal": journal, "base": base}
    return GateRequest.model_validate(asked)


def _kept(measure: Callable[[], "Record"], journal: Path) -> "Record":
    """An interrupted gate leaves its journal, and says how to go on."""
    try:
        return measure()
    except KeyboardInterrupt:
        kept = f"; what was measured is kept: run_bench.py gate --resume {journal}" if journal.is_file() else ""
        click.echo(f"interrupted{kept}", err=True)
        sys.exit(INTERRUPTED)
    except (UserError, OSError):
        raise
    except Exception:  # noqa: BLE001 - of itself its exit status would be that of a regression
        traceback.print_exc()
        sys.exit(CRASHED)


def _show(decision: "Decision", record: "Record", options: dict[str, Any]) -> None:
    from rich.console import Console

    from bench.gate.exports import as_github_benchmark, as_json, as_junit, as_pytest_benchmark
    from bench.gate.text import as_markdown, show_decision

    show_decision(decision, record, Console())
    forms: Sequence[Callable[..., Any]] = (as_json, as_markdown, as_junit, as_pytest_benchmark, as_github_benchmark)
    for name, form in zip(EXPORTS, forms, strict=True):
        if options[name]:
            content = form(decision, record)
            text = content if isinstance(content, str) else json.dumps(content, indent=2, allow_nan=False) + "\n"
            write(options[name], text)


def _say(text: str) -> None:
    click.echo(text, err=True)
