"""The command `verify`: is what a run folder holds what was written there?"""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.options import folder

DAMAGED = 1


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
