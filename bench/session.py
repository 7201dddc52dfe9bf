"""A session: from the words on the command line to a run folder, its report and an exit status."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.analysis.answer import Answer, keep_verdicts, kept_verdicts
from bench.config.plan import Plan, load_plan, side_by_side
from bench.config.suite_file import MOST_TRIALS, SuiteText, find_suite, read_suite
from bench.data.download import fetch
from bench.data.spec import UserData
from bench.errors import DataError, StoreError, UserError
from bench.execution import EXECUTORS
from bench.execution.base import Options
from bench.execution.devices import inventory_of
from bench.execution.estimate import estimate_seconds
from bench.execution.progress import Display, Quiet
from bench.execution.run_record import Begun, make_record, read_begun, refuse_secrets
from bench.execution.sweep import Outcome, run_sweep
from bench.execution.trackers.base import Several, Tracker, make_trackers
from bench.store.run_folder import RunFolder, refuse_used
from bench.system.redaction import redacted

if TYPE_CHECKING:
    from bench.analysis.answer import Verdict

# Conclusion: what is written when a sweep has ended, and what the person is told.
RESULTS = Path("results")  # where runs usually are, from where the program is started
FAILURES = ("failed", "diverged", "oom", "timeout")


OK, SOME_FAILED, INTERRUPTED = 0, 1, 130


def conclude(
    store: RunFolder, plan: Plan, outcome: Outcome, record: dict[str, Any], data_dir: Path | None, console: Console
) -> Answer:
    """Say in the record what was left out, look at what was learned, build the report, choose the exit status.

    Raises:
        StoreError: the report can't be written; the tables are whole all the same.
    """
    left_out = _left_out(plan, outcome, store.finished())
    record |= {"left_out": left_out, "interrupted": outcome.interrupted}
    store.write_run(record)
    verdicts = None if outcome.statuses else kept_verdicts(store.folder)
    if verdicts is None:
        with console.status("writing the report") if console.is_terminal else nullcontext():
            verdicts = _look_and_report(store.folder, plan, data_dir, console)
    _point_latest(store.folder)
    statuses = Counter(store.statuses())
    failed = any(statuses[status] for status in FAILURES)
    exit_status = INTERRUPTED if outcome.interrupted else SOME_FAILED if failed else OK
    return Answer(store.folder, verdicts, statuses, left_out, exit_status)


def _look_and_report(folder: Path, plan: Plan, data_dir: Path | None, console: Console) -> list["Verdict"]:
    from bench.inference.gallery import collect
    from bench.report.build import write_report  # pandas and matplotlib load while nothing is being measured

    try:
        collect(folder, data_dir, {trial.trial_id for trial in plan.trials})
        _predict_unlabelled(folder, plan, console)
        verdicts = write_report(folder)
        keep_verdicts(folder, verdicts)
        return verdicts
    except OSError as error:
        raise StoreError(
            f"{folder}: the report can't be written ({error.strerror or error}), every finished trial is kept; "
            f"when that is mended, run_bench.py report {folder}"
        ) from None


def _predict_unlabelled(folder: Path, plan: Plan, console: Console) -> None:
    """Submissions, where the data have images to predict; should that fail, what was measured is still reported."""
    unlabelled = getattr(plan.spec, "unlabelled_path", None)
    if unlabelled is None:
        return
    from bench.inference.gallery import write_submissions

    try:
        for path in write_submissions(folder, Path(unlabelled), {trial.trial_id for trial in plan.trials}):
            console.print(f"submission: {path}", highlight=False, markup=False, soft_wrap=True)
    except UserError as error:
        console.print(f"warning: no submission: {error}", highlight=False, markup=False, soft_wrap=True)


def _left_out(plan: Plan, outcome: Outcome, finished: set[str]) -> str | None:
    missing = [trial for trial in plan.trials if trial.trial_id not in finished]
    if not missing:
        return None
    why = "interrupted" if outcome.interrupted else "the budget was spent"
    rounds = len({t.seed for t in plan.trials} - {t.seed for t in missing})
    return f"{why}: {len(missing)} of {len(plan.trials)} trials not run; {rounds} whole rounds of seeds are there"


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
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # Windows without the right to links: the folder's name tells its age


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        suite: name or path; None with `resume`.
        settings: KEY=VALUE overrides, in the order typed.
        budget_seconds: no trial starts after this time.
        data: images of the person's own, in place of the suite's.
        mlflow: address of a tracking server.
        retry: run again what failed, when a run goes on.
        jobs: trials side by side on this machine, for their accuracy alone.
        address: of a cluster, for the executor `ray`.
        yes: to a plan of very many trials.
    """

    suite: str | None
    resume: Path | None = None
    out: Path | None = None
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    budget_seconds: float | None = None
    data: Path | None = None
    tensorboard: bool = False
    mlflow: str | None = None
    retry: bool = False
    executor: str = "subprocess"
    jobs: int | None = None
    address: str | None = None
    yes: bool = False
    quiet: bool = False


def console_for(request: Request) -> Console:
    """Where a person reads what happens; names of theirs are text, whatever brackets they hold."""
    return Console(stderr=True, quiet=request.quiet, markup=False, emoji=False)


def make_plan(request: Request, console: Console) -> tuple[Plan, SuiteText, dict[str, float]]:
    """The checked plan, the suite that it came from, and trial_id -> estimated seconds.

    Raises:
        UserError: anything that can't be run.
    """
    inventory = inventory_of(request.executor, request.address)
    if request.out:
        refuse_used(request.out)
    begun = read_begun(request.resume) if request.resume else Begun()
    source = request.suite or begun.source
    if source is None:
        raise StoreError(f"{request.resume}: its run.json doesn't say which suite it came from; name it with --suite")
    text = read_suite(find_suite(source), begun.options)
    if request.data:
        path = json.dumps(str(request.data.absolute()))
        text.set(f"dataset={{path: {path}}}", typed=f"--data {request.data}")
    for option in request.settings:
        text.set(option)
    with console.status("checking the suite") if console.is_terminal else nullcontext():
        plan = load_plan(text, inventory, yes=request.yes or len(begun.plan) > MOST_TRIALS)
    refuse_secrets(plan)
    if not set(begun.plan) <= {trial.trial_id for trial in plan.trials}:
        raise StoreError(
            f"{request.resume}: suite '{plan.name}' no longer has all trials of this run (was the suite, an option or "
            "the device changed?); put it back, or start a new run"
        )
    if (request.jobs or 1) > 1:
        plan = side_by_side(plan)
    return plan, text, estimate_seconds(plan.trials, RESULTS, inventory)


def run_session(request: Request) -> Answer:
    """Plan, run, report.

    Raises:
        UserError: a mistake of the person's; nothing has been written then.
    """
    console = console_for(request)
    plan, text, estimates = make_plan(request, console)
    begun = read_begun(request.resume) if request.resume else None
    data_dir = request.data_dir or (Path(begun.data_dir) if begun and begun.data_dir else None)
    own = isinstance(plan.spec, UserData)
    checksum = plan.spec.checksum if own else fetch(plan.spec.name, data_dir).checksum
    if begun and begun.dataset.checksum not in (None, checksum):
        raise DataError(f"{request.resume}: was made with other contents of {plan.spec.name}; start a new run")
    record = make_record(plan, text, request.suite, begun, data_dir)
    record |= {"executor": request.executor, "jobs": request.jobs}
    trackers = make_trackers(plan.name, request.tensorboard, request.mlflow, partial(_warn, console))
    if request.resume:
        store = RunFolder.open(request.resume, request.retry)
    else:
        store = RunFolder.create(_new_folder(request, plan.name), record)
    for notice in store.notices:
        _warn(console, f"{store.folder}: {notice}")
    try:
        outcome = _run_trials(plan, store, request, data_dir, estimates, record, console, trackers)
        answer = conclude(store, plan, outcome, record, data_dir, console)
        for tracker in trackers:
            tracker.finish(store.folder)
        return answer
    finally:
        store.close()


def _run_trials(
    plan: Plan,
    store: RunFolder,
    request: Request,
    data_dir: Path | None,
    estimates: dict[str, float],
    record: dict[str, Any],
    console: Console,
    trackers: Sequence[Tracker],
) -> Outcome:
    finished = store.finished()
    todo = [trial for trial in plan.trials if trial.trial_id not in finished]
    estimates = {trial.trial_id: estimates[trial.trial_id] for trial in todo}
    console.print(_opening(plan, store.folder, len(todo), sum(estimates.values())), highlight=False, soft_wrap=True)
    options = Options(data_dir, plan.suite.trial_timeout_seconds, request.jobs, request.address, request.budget_seconds)
    executor = EXECUTORS[request.executor](options)
    progress = Several([Quiet() if request.quiet else Display(console, estimates), *trackers])
    try:
        store.write_run(record)
        for tracker in trackers:
            tracker.open(store.folder, record)
        return run_sweep(todo, plan.skipped, store, executor, progress, request.budget_seconds)
    finally:
        progress.close()
        executor.close()


def _opening(plan: Plan, folder: Path, todo: int, seconds: float) -> str:
    from bench.execution.progress import duration

    have = len(plan.trials) - todo
    done = f", {have} already there" if have else ""
    return f"{plan.name}: {len(plan.trials)} trials{done}, about {duration(seconds)}, into {folder}"


def _new_folder(request: Request, name: str) -> Path:
    """results/<suite>/<UTC time>, with a number behind it if two runs start in one second."""
    if request.out:
        return request.out
    stem = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    base = RESULTS / name
    return next(f for f in (base / stem, *(base / f"{stem}-{i}" for i in range(2, 1000))) if not f.exists())


def _warn(console: Console, text: str) -> None:
    console.print(f"warning: {redacted(text)}", highlight=False, markup=False, soft_wrap=True)
