"""A session: from the words on the command line to a run folder, its report and an exit status."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.download import fetch
from bench.errors import DataError, StoreError, UserError
from bench.estimate import estimate_seconds
from bench.executors import EXECUTORS, Options, inventory_of
from bench.own_description import OwnData
from bench.progress import Display, Quiet
from bench.provenance import make_record
from bench.results import read_rows, read_run
from bench.store import Store, refuse_used
from bench.suite import Plan, load_plan, side_by_side
from bench.suite_file import SuiteText, find_suite, read_suite
from bench.sweep import Outcome, run_sweep
from bench.tracked import Tracker
from bench.trackers import Several, make_trackers

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
        data: images of the person's own, in place of the suite's.
        mlflow: address of a tracking server.
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
    executor: str = "subprocess"
    jobs: int | None = None
    address: str | None = None
    yes: bool = False
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
    inventory = inventory_of(request.executor, request.address)
    if request.out:
        refuse_used(request.out)
    record = read_run(request.resume) if request.resume else {}
    source = request.suite or record.get("source")
    if source is None:
        raise StoreError(f"{request.resume}: its run.json doesn't say which suite it came from; name it with --suite")
    text = read_suite(find_suite(source), record.get("options", []))
    if request.data:
        path = json.dumps(str(request.data.absolute()))
        text.set(f"dataset={{path: {path}}}", typed=f"--data {request.data}")
    for option in request.settings:
        text.set(option)
    with console.status("checking the suite") if console.is_terminal else nullcontext():
        plan = load_plan(text, record.get("matches"), inventory=inventory)
    if not set(record.get("plan", [])) <= {trial.trial_id for trial in plan.trials}:
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
    console = Console(stderr=True, quiet=request.quiet)
    plan, text, estimates = make_plan(request, console)
    record = read_run(request.resume) if request.resume else {}
    data_dir = request.data_dir or (Path(record["data_dir"]) if record.get("data_dir") else None)
    own = isinstance(plan.spec, OwnData)
    checksum = plan.spec.checksum if own else fetch(plan.spec.name, data_dir).checksum
    if record and record["dataset"]["checksum"] != checksum:
        raise DataError(f"{request.resume}: was made with other contents of {plan.spec.name}; start a new run")
    record = make_record(plan, text, request.suite, record, data_dir)
    trackers = make_trackers(plan.name, request.tensorboard, request.mlflow, partial(_warn, console))
    store = Store.open(request.resume) if request.resume else Store.create(_new_folder(request, plan.name), record)
    try:
        outcome = _run_trials(plan, store, request, data_dir, estimates, record, console, trackers)
        answer = _conclude(store, plan, outcome, record, data_dir, console)
        for tracker in trackers:
            tracker.finish(store.folder)
        return answer
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
    trackers: Sequence[Tracker],
) -> Outcome:
    finished = store.finished()
    todo = [trial for trial in plan.trials if trial.trial_id not in finished]
    estimates = {trial.trial_id: estimates[trial.trial_id] for trial in todo}
    console.print(_opening(plan, store.folder, len(todo), sum(estimates.values())), highlight=False, soft_wrap=True)
    options = Options(data_dir, plan.suite.trial_timeout_seconds, request.jobs, request.address)
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


def _conclude(
    store: Store, plan: Plan, outcome: Outcome, record: dict[str, Any], data_dir: Path | None, console: Console
) -> Answer:
    """Say in the record what was left out, look at what was learned, build the report, choose the exit status."""
    from bench.gallery import collect
    from bench.report import write_report  # pandas and matplotlib load while nothing is being measured

    left_out = _left_out(plan, outcome, store.finished())
    record |= {"left_out": left_out, "interrupted": outcome.interrupted}
    store.write_run(record)
    with console.status("writing the report") if console.is_terminal else nullcontext():
        collect(store.folder, data_dir)
        _predict_unlabelled(store.folder, plan, console)
        verdicts = write_report(store.folder)
    _point_latest(store.folder)
    statuses = Counter(row["status"] for row in read_rows(store.folder / "trials.csv"))
    failed = any(statuses[status] for status in FAILURES)
    exit_status = INTERRUPTED if outcome.interrupted else SOME_FAILED if failed else OK
    return Answer(store.folder, verdicts, statuses, left_out, exit_status)


def _predict_unlabelled(folder: Path, plan: Plan, console: Console) -> None:
    """Submissions, where the data have images to predict; should that fail, what was measured is still reported."""
    unlabelled = getattr(plan.spec, "unlabelled_path", None)
    if unlabelled is None:
        return
    from bench.submissions import write_submissions

    try:
        for path in write_submissions(folder, Path(unlabelled)):
            console.print(f"submission: {path}", highlight=False, markup=False, soft_wrap=True)
    except UserError as error:
        _warn(console, f"no submission: {error}")


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


def _warn(console: Console, text: str) -> None:
    console.print(f"warning: {text}", highlight=False, markup=False, soft_wrap=True)
