"""A session: from the words on the command line to a run folder, its report and an exit status."""

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.download import Fetched, fetch
from bench.environment import describe_environment
from bench.errors import DataError, StoreError, UserError, nearest
from bench.estimate import estimate_seconds
from bench.executors import EXECUTORS
from bench.progress import Display, Progress, Quiet
from bench.recipes import RECIPES
from bench.results import read_rows, read_run
from bench.store import Store, refuse_used
from bench.suite import Plan, load_plan
from bench.suite_file import SUITES_FOLDER, SuiteText, find_suite, read_suite
from bench.sweep import Outcome, run_sweep

if TYPE_CHECKING:
    from bench.verdict import Verdict

RESULTS = Path("results")
FAILURES = ("failed", "diverged", "oom", "timeout")
OK, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        suite: name or path; None with `resume`.
        settings: KEY=VALUE overrides, in the order typed.
        budget_seconds: no trial starts after this time.
    """

    suite: str | None
    resume: Path | None = None
    out: Path | None = None
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    budget_seconds: float | None = None
    executor: str = "subprocess"
    quiet: bool = False


@dataclass(frozen=True)
class Answer:
    """What a person gets: where it lies, what it says, and how it went."""

    folder: Path
    verdicts: list["Verdict"]
    statuses: Counter[str]
    left_out: str | None
    exit_status: int


def make_plan(request: Request, console: Console) -> tuple[Plan, SuiteText, dict[str, float]]:
    """The checked plan, the suite that it came from, and trial_id -> estimated seconds.

    Raises:
        UserError: anything that can't be run.
    """
    if request.executor not in EXECUTORS:
        raise UserError(f"unknown executor '{request.executor}'; {nearest(request.executor, EXECUTORS)}")
    if request.out:
        refuse_used(request.out)
    record = read_run(request.resume) if request.resume else {}
    source = request.suite or record.get("source")
    if source is None:
        raise StoreError(f"{request.resume}: its run.json doesn't say which suite it came from; name it with --suite")
    text = read_suite(find_suite(source), [*record.get("options", []), *request.settings])
    with console.status("checking the suite") if console.is_terminal else nullcontext():
        plan = load_plan(text, record.get("matches"))
    if not set(record.get("plan", [])) <= {trial.trial_id for trial in plan.trials}:
        raise StoreError(
            f"{request.resume}: suite '{plan.name}' no longer has all trials of this run (was the suite, an option or "
            "the device changed?); put it back, or start a new run"
        )
    return plan, text, estimate_seconds(plan.trials, RESULTS)


def run_session(request: Request) -> Answer:
    """Plan, run, report.

    Raises:
        UserError: a mistake of the person's; nothing has been written then.
    """
    console = Console(stderr=True, quiet=request.quiet)
    plan, text, estimates = make_plan(request, console)
    record = read_run(request.resume) if request.resume else {}
    data_dir = request.data_dir or (Path(record["data_dir"]) if record.get("data_dir") else None)
    data = fetch(plan.suite.dataset, data_dir)
    if record and record["dataset"]["checksum"] != data.checksum:
        raise DataError(f"{request.resume}: was made with other contents of {plan.suite.dataset}; start a new run")
    record = _record(plan, text, request, record, data, data_dir)
    store = Store.open(request.resume) if request.resume else Store.create(_new_folder(request, plan.name), record)
    try:
        outcome = _run_trials(plan, store, request, data_dir, estimates, record, console)
        return _conclude(store, plan, outcome, record, console)
    finally:
        store.close()


def _run_trials(
    plan: Plan,
    store: Store,
    request: Request,
    data_dir: Path | None,
    estimates: dict[str, float],
    record: dict[str, Any],
    console: Console,
) -> Outcome:
    finished = store.finished()
    todo = [trial for trial in plan.trials if trial.trial_id not in finished]
    estimates = {trial.trial_id: estimates[trial.trial_id] for trial in todo}
    console.print(_opening(plan, store.folder, len(todo), sum(estimates.values())), highlight=False, soft_wrap=True)
    executor = EXECUTORS[request.executor](data_dir, plan.suite.trial_timeout_seconds)
    progress: Progress = Quiet() if request.quiet else Display(console, estimates)
    try:
        store.write_run(record)
        return run_sweep(todo, plan.skipped, store, executor, progress, request.budget_seconds)
    finally:
        progress.close()
        executor.close()


def _conclude(store: Store, plan: Plan, outcome: Outcome, record: dict[str, Any], console: Console) -> Answer:
    """Say in the record what was left out, build the report, choose the exit status."""
    from bench.report import write_report  # pandas and matplotlib load while nothing is being measured

    left_out = _left_out(plan, outcome, store.finished())
    record |= {"left_out": left_out, "interrupted": outcome.interrupted}
    store.write_run(record)
    with console.status("writing the report") if console.is_terminal else nullcontext():
        verdicts = write_report(store.folder)
    _point_latest(store.folder)
    statuses = Counter(row["status"] for row in read_rows(store.folder / "trials.csv"))
    failed = any(statuses[status] for status in FAILURES)
    exit_status = INTERRUPTED if outcome.interrupted else SOME_FAILED if failed else OK
    return Answer(store.folder, verdicts, statuses, left_out, exit_status)


def _record(
    plan: Plan, text: SuiteText, request: Request, before: dict[str, Any], data: Fetched, data_dir: Path | None
) -> dict[str, Any]:
    """run.json: all that a reader, a report or a resume needs to know."""
    from bench.datasets import DATASETS

    spec = DATASETS[plan.suite.dataset]
    recipes = {trial.recipe: RECIPES[trial.recipe].model_dump() for trial in plan.trials}
    return {
        "suite": plan.name,
        "source": _source(request, before),
        "options": text.options,
        "description": plan.suite.description,
        "content": plan.content,
        "created_at": before.get("created_at", datetime.now(UTC).isoformat(timespec="seconds")),
        "command": [*before.get("command", []), *([";"] if before else []), "run_bench.py", *sys.argv[1:]],
        "data_dir": str(data_dir.resolve()) if data_dir else None,
        "dataset": {
            "name": spec.name,
            "title": spec.title,
            "checksum": data.checksum,
            "image_size": spec.image_size,
            "in_channels": spec.in_channels,
            "num_classes": spec.num_classes,
        },
        "split": {
            "train": spec.num_train - spec.num_val,
            "val": spec.num_val,
            "test": spec.num_test,
            "seed": plan.suite.split_seed,
        },
        "seeds": sorted({trial.seed for trial in plan.trials}),
        "targets": list(plan.trials[0].targets),
        "target_accuracy": plan.trials[0].target_accuracy,
        "recipes": recipes,
        "environment": describe_environment(),
        "plan": [trial.trial_id for trial in plan.trials],
        "matches": plan.matches,
        "left_out": None,
        "interrupted": False,
    }


def _source(request: Request, before: dict[str, Any]) -> str:
    """The suite as a later resume finds it, from whichever folder: its name, or its file's whole path."""
    path = find_suite(request.suite) if request.suite else None
    if path is None:
        return before["source"]
    return path.stem if path.parent == SUITES_FOLDER else str(path.resolve())


def _opening(plan: Plan, folder: Path, todo: int, seconds: float) -> str:
    from bench.progress import duration

    have = len(plan.trials) - todo
    done = f", {have} already there" if have else ""
    return f"{plan.name}: {len(plan.trials)} trials{done}, about {duration(seconds)}, into {folder}"


def _left_out(plan: Plan, outcome: Outcome, finished: set[str]) -> str | None:
    missing = [trial for trial in plan.trials if trial.trial_id not in finished]
    if not missing:
        return None
    why = "interrupted" if outcome.interrupted else "the budget was spent"
    rounds = len({t.seed for t in plan.trials} - {t.seed for t in missing})
    return f"{why}: {len(missing)} of {len(plan.trials)} trials not run; {rounds} whole rounds of seeds are there"


def _new_folder(request: Request, name: str) -> Path:
    """results/<suite>/<UTC time>, with a number behind it if two runs start in one second."""
    if request.out:
        return request.out
    stem = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    base = RESULTS / name
    return next(f for f in (base / stem, *(base / f"{stem}-{i}" for i in range(2, 1000))) if not f.exists())


def _point_latest(folder: Path) -> None:
    """`latest` beside the run folders leads to the newest; only for runs in their usual place."""
    if folder.resolve().parent.parent != RESULTS.resolve():
        return
    link, temporary = folder.parent / "latest", folder.parent / f".latest.{folder.name}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(link)
    except OSError:
        temporary.unlink(missing_ok=True)  # Windows without the right to make links: the folder's name tells its age
