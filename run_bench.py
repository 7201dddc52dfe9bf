"""Should it be a ViT or a CNN, on my images and my hardware? The command line; `--help` answers without torch."""

import errno
import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from bench.cli.gate import gate
from bench.cli.options import Time, folder
from bench.cli.results import compare, report, say, verify
from bench.cli.trained import predict, robustness, show
from bench.errors import UserError
from bench.system.process import listening, open_standard_streams

WRONG_USAGE, INTERRUPTED = 2, 130
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # of files: whoever typed can mend it

OPTION_GROUPS = {  # of the help, in order; a Ray cluster's and trackers' come last
    "What to run": ("suite", "data", "label_column", "data_dir", "settings", "epochs", "seeds", "tune", "devices"),
    "How to run it": ("dry_run", "out", "resume", "retry", "budget_seconds", "jobs", "yes"),
    "What is said": ("quiet", "as_json", "version", "help"),
    "Clusters and trackers": ("executor", "address", "tensorboard", "mlflow"),
}
COMMAND_GROUPS = {
    "Results": ("report", "compare", "verify"),
    "Trained models": ("predict", "show", "robustness"),
    "CI": ("gate",),
    "Inventory": ("list",),
}


class Grouped(click.Group):
    """A group whose help is in sections, with whole sentences."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        records["help"] = ("-h, --help", "Show this message and exit.")
        for title, names in OPTION_GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := records.get(name))])
        for title, names in COMMAND_GROUPS.items():
            with formatter.section(title):
                commands = [(name, self.commands[name]) for name in names]
                formatter.write_dl([(name, command.get_short_help_str(200)) for name, command in commands])


@click.group(cls=Grouped, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--suite", metavar="NAME|PATH", help="Run a suite: one of `list suites`, or a YAML file of yours.")
@click.option("--out", type=folder(), metavar="DIR", help="Folder of the new run [results/SUITE/TIME].")
@click.option("--resume", type=folder(), metavar="DIR", help="Go on with a run that was stopped.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the suite; as often as you like.")
@click.option("--epochs", type=int, metavar="N", help="Short for --set epochs=N.")
@click.option("--seeds", type=int, metavar="N", help="Short for --set seeds=N: how many.")
@click.option("--tune", type=click.IntRange(min=2), metavar="N", help="First try N recipes a family; compare the best.")
@click.option(
    "--device", "devices", multiple=True, metavar="NAME", help="auto, cpu, cuda, mps, xpu; repeat for several."
)
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="PATH", help="Your images: CSV, IDX, .npz, class folders."
)
@click.option("--label-column", metavar="NAME", help="Of your CSV: the label's name, first or last [found out].")
@click.option("--data-dir", type=folder(), metavar="DIR", help="Folder that holds the dataset's files.")
@click.option("--budget", "budget_seconds", type=Time(), help="Start no trial after this time, such as 10m.")
@click.option("--executor", default="subprocess", metavar="NAME", help="subprocess (the default), in-process, or ray.")
@click.option(
    "--address", metavar="HOST:PORT", help="Of a Ray cluster; without it, one of this machine alone is started."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N trials side by side [one a core].",
)
@click.option("--retry", is_flag=True, help="With --resume: run again whatever isn't ok.")
@click.option("--yes", is_flag=True, help="Go ahead with a plan of more than 1,000 trials.")
@click.option("--dry-run", is_flag=True, help="Show the plan: trials, parameters, estimated time. Run nothing.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard event files into the run's folder, too.")
@click.option("--mlflow", metavar="URI", help="Log the trials to an MLflow tracking server, too.")
@click.option("--quiet", is_flag=True, help="No progress, only the answer.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON on standard output.")
@click.version_option(package_name="vit-cnn-bench")
@click.pass_context
def cli(
    context: click.Context,
    settings: Sequence[str],
    epochs: int | None,
    seeds: int | None,
    tune: int | None,
    devices: Sequence[str],
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Should it be a ViT or a CNN, on my images and my hardware? Accuracy, speed, memory, time to accuracy.

    \b
    run_bench.py smoke          does it work here? 20 seconds, no download
    run_bench.py mnist-quick    a first answer in 2 minutes
    run_bench.py mnist          the main job: about 20 minutes on two CPU cores
    run_bench.py mnist --data DIR           the same on your own images

    `run_bench.py SUITE`, `run SUITE` and `--suite SUITE` are the same. Lists sweep: --set models.vit.depth=[2,4,6]
    """
    if context.invoked_subcommand:
        return
    if not options["suite"] and not options["resume"]:
        raise UserError("nothing to do: name a suite, such as --suite mnist; --help shows all there is")
    if options["resume"] and options["out"]:
        raise UserError("--resume goes on in its own folder; leave out --out")
    typed = {setting.partition("=")[0].strip() for setting in settings}
    for key, value in (("epochs", epochs), ("seeds", seeds), ("tune", tune), ("device", devices or None)):
        if value is not None and key in typed:
            raise UserError(f"--{key} and --set {key}=... are the same; leave one out")
    short = {"epochs": epochs, "seeds": seeds, "tune": tune, "device": f"[{', '.join(devices)}]" if devices else None}
    settings = [*settings, *(f"{key}={value}" for key, value in short.items() if value is not None)]
    context.exit(_dry_run(settings, options, as_json) if dry_run else _run(settings, options, as_json))


def _run(settings: Sequence[str], options: dict[str, Any], as_json: bool) -> int:
    from bench.config.suite_file import find_suite

    if options["suite"]:
        find_suite(options["suite"])  # before torch loads
    from bench.execution.local import start_fork_server

    with redirect_stdout(sys.stderr):  # what a model of the user's prints is no part of the answer
        start_fork_server()  # it loads torch while this process does
        from bench.session import Request, run_session

        answer = run_session(Request(settings=settings, **options))
    if as_json:
        click.echo(json.dumps(_answer_as_json(answer), indent=2, allow_nan=False))
    else:
        say(answer.folder, answer.verdicts, options["quiet"])
    return answer.exit_status


def _dry_run(settings: Sequence[str], options: dict[str, Any], as_json: bool) -> int:
    from bench.cli.list import plan_as_json, show_plan
    from bench.session import Request, console_for, estimate_tuning, make_plan
    from bench.system.environment import usable_cores

    request = Request(settings=settings, **options)
    with redirect_stdout(sys.stderr):
        plan, _, estimates = make_plan(request, console_for(request))
    at_once, tuning_seconds = request.jobs or usable_cores(), estimate_tuning(plan, request)
    if as_json:
        click.echo(json.dumps(plan_as_json(plan, estimates, at_once, tuning_seconds), indent=2))
    else:
        show_plan(plan, estimates, at_once, tuning_seconds)
    return 0


@cli.command("list")
@click.argument("what", required=False)
@click.option("--data-dir", type=folder(), metavar="DIR", help="Look for datasets here, too.")
def list_(what: str | None, data_dir: Path | None) -> None:
    """Show suites, models, datasets, devices, dtypes: all, or those of one kind."""
    from bench.cli.list import show

    show(what, data_dir)


def _answer_as_json(answer: Any) -> dict[str, Any]:
    return {
        "run": str(answer.folder),
        "report": str(answer.folder / "report.html"),
        "exit_status": answer.exit_status,
        "trials": dict(answer.statuses),
        "left_out": answer.left_out,
        "answers": [verdict.as_json() for verdict in answer.verdicts],
    }


def with_suite(words: Sequence[str]) -> list[str]:
    """`run mnist ...` and `mnist ...` as `--suite mnist ...`."""
    words = list(words[1:] if words[:1] == ["run"] else words)
    if not words or words[0].startswith("-") or get_close_matches(words[0], cli.commands, 1, 0.75):
        return words  # a command, or one with a slip, of which click says more
    return ["--suite", *words]


for command in (report, compare, predict, show, robustness, gate, verify):
    cli.add_command(command)


def main() -> int:
    """The program; its exit status: 0 all ok, 1 a trial failed, 2 wrong usage, 130 interrupted."""
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone gets question marks
            stream.reconfigure(errors="replace")
    try:
        with listening():  # what a scheduler, `timeout` or a closed terminal sends is kept like Ctrl-C
            return cli.main(with_suite(sys.argv[1:]), standalone_mode=False) or 0
    except click.ClickException as error:
        message = error.format_message()
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in NOT_OURS or error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    from bench.system.redaction import redacted

    click.echo(f"error: {' '.join(redacted(message).split())}", err=True)
    return WRONG_USAGE


if __name__ == "__main__":
    sys.exit(main())
