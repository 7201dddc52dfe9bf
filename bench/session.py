"""A session, from what is typed to the answer: request -> plan -> sweep -> summary -> report -> exit status.

`run_session` is all of it; the functions behind it stand in the order in which it calls them.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.analysis.answer import Answer, Verdict, keep_verdicts, kept_verdicts
from bench.analysis.formatting import listed
from bench.analysis.labels import family_title
from bench.config.inventory import HERE, Inventory
from bench.config.plan import Plan, load_plan
from bench.config.suite_file import MOST_TRIALS, SuiteText, find_suite, read_suite
from bench.data.download import fetch
from bench.data.spec import UserData, said_of
from bench.errors import DataError, DeviceError, StoreError, UserError, nearest
from bench.execution import EXECUTORS
from bench.execution.base import Executor, Options
from bench.execution.estimate import estimate_run, estimate_seconds
from bench.execution.progress import Display, Progress, duration
from bench.execution.run_record import Begun, make_record, read_begun, refuse_secrets
from bench.execution.speed_rounds import FIRST_SPEEDS, SpeedRounds
from bench.execution.sweep import Outcome, run_sweep
from bench.execution.trackers.base import Tracker, make_trackers
from bench.execution.tuning import FIRST_SHARE, candidates, check_tunable, representatives, tune
from bench.store.run_folder import RunFolder, refuse_used
from bench.system.environment import usable_cores
from bench.system.redaction import redacted
from bench.trial import Trial

RESULTS = Path("results")  # where runs usually are, seen from where the program is started
CUT = "cut"  # what run.json says of tuning that the budget ended
TUNING_SHARE = 0.5  # of a run's budget of time, at the most
FAILURES = ("failed", "diverged", "oom", "timeout")  # statuses of a trial
OK, SOME_FAILED, INTERRUPTED = 0, 1, 130  # exit statuses


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        suite: name or path; None with `resume`.
        resume: folder of a run that goes on.
        out: folder of a new run; None: results/<suite>/<time>.
        settings: KEY=VALUE overrides, in the order typed.
        data_dir: folder that holds the dataset's files; None: the cache.
        budget_seconds: no trial starts after this time.
        data: images of the user's own, in place of the suite's dataset.
        label_column: of a CSV among them.
        mlflow: address of a tracking server.
        retry: with `resume`, run again whatever isn't ok.
        jobs: trials side by side on this machine; None: one a core.
        address: of a cluster, for the executor `ray`.
        yes: go ahead with a plan of very many trials.
    """

    suite: str | None
    resume: Path | None = None
    out: Path | None = None
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    budget_seconds: float | None = None
    data: Path | None = None
    label_column: str | None = None
    tensorboard: bool = False
    mlflow: str | None = None
    retry: bool = False
    executor: str = "subprocess"
    jobs: int | None = None
    address: str | None = None
    yes: bool = False
    quiet: bool = False


def run_session(request: Request) -> Answer:
    """Plan, run, report.

    Raises:
        UserError: a mistake of the user's; nothing has been written then.
        StoreError: the run folder can't be written to, or the report can't; every finished trial is kept.
    """
    console = console_for(request)
    plan, text, estimates = make_plan(request, console)
    begun = read_begun(request.resume) if request.resume else None
    data_dir = request.data_dir or (Path(begun.data_dir) if begun and begun.data_dir else None)
    _check_data(plan, data_dir, request, begun)
    record = _record(plan, text, request, begun, data_dir)
    trackers = make_trackers(plan.name, request.tensorboard, request.mlflow, partial(_warn, console))
    with closing(_open_folder(request, plan, record, console)) as store:
        launches = store.launches
        start, interrupted = time.monotonic(), False
        if record["tuned"] == CUT and store.finished():
            _say(console, "note: a budget ended tuning before the first trial; each family keeps its own recipe")
        elif plan.suite.tune and record["tuned"] in ("", CUT):
            found = _tune(plan, text, store, request, data_dir, record, console)
            interrupted = found is None
            if found:
                plan, estimates, whole = found
                record = _record(plan, text, request, begun, data_dir) | {"tuned": "whole" if whole else CUT}
        outcome = Outcome(left_out=list(plan.trials), interrupted=True)
        if not interrupted:
            spent = time.monotonic() - start
            outcome = _run_trials(plan, store, request, data_dir, estimates, record, console, trackers, spent)
        left_out = _left_out(plan, outcome, store.finished())
        record |= {"left_out": left_out, "interrupted": outcome.interrupted}
        store.write_run(record)
        # Where nothing was measured, the answer that is there may still hold.
        verdicts = None if outcome.statuses or store.launches > launches else kept_verdicts(store.folder)
        if verdicts is None:
            with console.status("writing the report") if console.is_terminal else nullcontext():
                verdicts = _summarise_and_report(store.folder, plan, data_dir, console)
        _point_latest(store.folder)
        statuses = Counter(store.statuses().values())
        for tracker in trackers:
            tracker.finish(store.folder)
    if outcome.interrupted:
        kept = f"{sum(statuses.values())} of {len(plan.trials)} trials are kept"
        if plan.suite.tune and not record["tuned"]:
            kept = "what tuning tried is kept"
        _say(console, f"interrupted: {kept}; go on with: run_bench.py --resume {store.folder}")
    failed = any(statuses[status] for status in FAILURES)
    exit_status = INTERRUPTED if outcome.interrupted else SOME_FAILED if failed else OK
    return Answer(store.folder, verdicts, statuses, left_out, exit_status)


def _record(
    plan: Plan, text: SuiteText, request: Request, begun: Begun | None, data_dir: Path | None
) -> dict[str, Any]:
    made = make_record(plan, text, request.suite, begun, data_dir)
    tuned = begun.tuned if begun else ""  # then what was found is among the options
    return made | {"executor": request.executor, "jobs": request.jobs, "tune": plan.suite.tune, "tuned": tuned}


def console_for(request: Request) -> Console:
    """Where the user reads what happens; names of theirs are text, whatever brackets they hold."""
    return Console(stderr=True, quiet=request.quiet, markup=False, emoji=False)


def make_plan(request: Request, console: Console) -> tuple[Plan, SuiteText, dict[str, float]]:
    """The checked plan, the suite that it came from, and trial_id -> estimated seconds.

    Raises: UserError: anything that can't be run.
    """
    inventory = _inventory_of(request.executor, request.address)
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
    if request.label_column:
        typed = f"--label-column {request.label_column}"
        if not isinstance(text.content.get("dataset"), dict):
            raise UserError(f"{typed}: is for a CSV of yours; name it with --data")
        text.set(f"dataset.label_column={json.dumps(request.label_column)}", typed=typed)
    for option in request.settings:
        text.set(option)
    if request.executor == "ray":
        _time_each_trial(text)
    with console.status("checking the suite") if console.is_terminal else nullcontext():
        plan = load_plan(text, inventory, yes=request.yes or len(begun.plan) > MOST_TRIALS)
    for note in plan.notes:
        _say(console, f"note: {note}")
    refuse_secrets(plan)
    _refuse_nothing(plan)
    if plan.suite.tune:
        check_tunable(plan)
    if request.resume and plan.suite.tune != begun.tune:
        was = f"with tune {begun.tune}" if begun.tune else "without tuning"
        raise StoreError(f"{request.resume}: was begun {was}; leave that as it is, or start a new run")
    if not set(begun.plan) <= {trial.trial_id for trial in plan.trials}:
        raise StoreError(
            f"{request.resume}: suite '{plan.name}' no longer has all trials of this run (was the suite, an option or "
            "the device changed?); put it back, or start a new run"
        )
    if (request.jobs or 1) > 1 and plan.suite.timing == "whole":
        raise UserError("--jobs: with timing: whole each trial has the machine to itself; leave it out, or the timing")
    return plan, text, estimate_seconds(plan.trials, RESULTS, inventory)


def estimate_tuning(plan: Plan, request: Request) -> float:
    """Seconds that trying the settings of `tune` takes; 0 without."""
    if not plan.suite.tune:
        return 0.0
    first = [each.trial(FIRST_SHARE) for each in candidates(plan)]
    estimates = estimate_seconds(first, RESULTS, _inventory_of(request.executor, request.address))
    return 2 * sum(estimates.values()) / (request.jobs or usable_cores())  # then a quarter of them is trained whole


def _refuse_nothing(plan: Plan) -> None:
    """Raises: DeviceError: no trial can run here."""
    if len(plan.skipped) == len(plan.trials):
        dtypes, reasons = {trial.dtype for trial in plan.trials}, sorted(set(plan.skipped.values()))
        other = "" if "fp32" in dtypes else "; --set dtype=fp32 runs everywhere"
        raise DeviceError(f"none of the {len(plan.trials)} trials can run here: {', '.join(reasons)}{other}")


def _time_each_trial(text: SuiteText) -> None:
    """On a cluster a trial has a machine or a card to itself, and speed rounds would tell of this machine alone.

    Raises: UserError: the suite asks for rounds.
    """
    if text.content.get("timing") == "rounds":
        raise UserError(f"{text.where(('timing',))}: speed rounds measure this machine; on a cluster say timing: whole")
    if "timing" not in text.content:
        text.set("timing=whole")


def _inventory_of(executor: str, address: str | None) -> Inventory:
    """The devices of this machine, or of the cluster at an address."""
    if executor not in EXECUTORS:
        raise UserError(f"unknown executor '{executor}'; {nearest(executor, EXECUTORS)}")
    if executor == "ray":
        from bench.execution.cluster.executor import connect  # ray is an extra, and takes a second to load

        return connect(address)
    if address:
        raise UserError(f"--address is for --executor ray, not for '{executor}'")
    return HERE


def _check_data(plan: Plan, data_dir: Path | None, request: Request, begun: Begun | None) -> None:
    """The dataset is here, downloaded if need be, and a run that goes on has the one that it began with."""
    own = isinstance(plan.spec, UserData)
    checksum = plan.spec.checksum if own else fetch(plan.spec.name, data_dir).checksum
    if begun and begun.dataset.checksum not in (None, checksum):
        raise DataError(f"{request.resume}: was made with other contents of {plan.spec.name}; start a new run")


def _open_folder(request: Request, plan: Plan, record: dict[str, Any], console: Console) -> RunFolder:
    """The run that goes on, or results/<suite>/<UTC time>, with a number behind it if two start in one second."""
    if request.resume:
        store = RunFolder.open(request.resume, request.retry)
        for notice in store.notices:
            _warn(console, f"{store.folder}: {notice}")
        return store
    if request.out:
        return RunFolder.create(request.out, record)
    stem, base = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"), RESULTS / plan.name
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    return RunFolder.create(next(base / name for name in names if not (base / name).exists()), record)


def _tune(
    plan: Plan,
    text: SuiteText,
    store: RunFolder,
    request: Request,
    data_dir: Path | None,
    record: dict[str, Any],
    console: Console,
) -> tuple[Plan, dict[str, float], bool] | None:
    """The plan with each family at the best recipe of those tried, its estimates, and whether all were tried.

    None if interrupted.
    """
    inventory, at_once = _inventory_of(request.executor, request.address), request.jobs or usable_cores()

    def watch(trials: Sequence[Trial]) -> list[Progress]:
        estimates = estimate_seconds(trials, RESULTS, inventory)
        return [] if request.quiet or not trials else [Display(console, estimates, at_once)]

    expected = duration(estimate_tuning(plan, request))
    families = listed([each.label for each in representatives(plan).values()])
    _say(console, f"tuning: {plan.suite.tune} settings each of {families}, about {expected}")
    options = Options(data_dir, plan.suite.trial_timeout_seconds, request.jobs, request.address, request.budget_seconds)
    executor = EXECUTORS[request.executor](options)
    budget = request.budget_seconds and TUNING_SHARE * request.budget_seconds
    try:
        found = tune(plan, store, record, executor, watch, budget)
    finally:
        executor.close()
    if found is None:
        return None
    if not found:
        _warn(console, "the budget ended tuning, so each family keeps its own recipe")
    for best in found:
        _say(console, best.said)
        for option in best.options:
            text.set(option, typed=f"--tune {plan.suite.tune}")
    tuned = load_plan(text, inventory, yes=True)
    return tuned, estimate_seconds(tuned.trials, RESULTS, inventory), bool(found)


def _run_trials(
    plan: Plan,
    store: RunFolder,
    request: Request,
    data_dir: Path | None,
    estimates: dict[str, float],
    record: dict[str, Any],
    console: Console,
    trackers: Sequence[Tracker],
    spent_seconds: float = 0.0,
) -> Outcome:
    """Run what isn't finished yet; each result is on disk before the next trial begins.

    Args:
        spent_seconds: of the budget, so far.
    """
    budget = None if request.budget_seconds is None else max(0.0, request.budget_seconds - spent_seconds)
    finished = store.finished()
    todo = [trial for trial in plan.trials if trial.trial_id not in finished]
    estimates = {trial.trial_id: estimates[trial.trial_id] for trial in todo}
    todo = longest_first(todo, estimates)
    for line in said_of(plan.spec) or [_about(plan)]:
        _say(console, line)
    already = f", {len(plan.trials) - len(todo)} already there" if len(todo) < len(plan.trials) else ""
    at_once = request.jobs or usable_cores()
    expected = duration(estimate_run(plan, estimates, at_once))
    _say(console, f"{plan.name}: {len(plan.trials)} trials{already}, about {expected}, into {store.folder}")
    options = Options(data_dir, plan.suite.trial_timeout_seconds, request.jobs, request.address, budget)
    executor = EXECUTORS[request.executor](options)
    listeners: list[Progress] = [*trackers]
    if not request.quiet:
        listeners.insert(0, Display(console, estimates, at_once, plan.suite.rounds_seconds))
    try:
        store.write_run(record)
        for tracker in trackers:
            tracker.open(store.folder, record)
        return _run_rounds(plan, todo, store, executor, listeners, budget, data_dir, console)
    finally:
        for listener in listeners:
            listener.close()
        executor.close()


def longest_first(trials: Sequence[Trial], estimates: Mapping[str, float]) -> list[Trial]:
    """Seed by seed, so that no core waits for a long trial at a round's end; then those that run alone, as given."""
    seeds = list(dict.fromkeys(trial.seed for trial in trials))

    def rank(trial: Trial) -> tuple[int, bool, float]:
        return seeds.index(trial.seed), trial.timed, 0.0 if trial.timed else -estimates[trial.trial_id]

    return sorted(trials, key=rank)


def _about(plan: Plan) -> str:
    """ "data: MNIST, 28 x 28 pixels, grey, 10 classes; ViT x 12, CNN x 6, 3 seeds"."""
    spec, models = plan.spec, Counter(family_title(trial.model) for trial in plan.trials)
    seeds = len({trial.seed for trial in plan.trials})
    colour = {1: "grey", 3: "colour"}.get(spec.in_channels, f"{spec.in_channels} channels")
    data = f"{spec.title}, {spec.image_size} x {spec.image_size} pixels, {colour}, {spec.num_classes} classes"
    shapes = ", ".join(f"{name} x {count // seeds}" for name, count in models.items())
    return f"data: {data}; {shapes}, {seeds} seed{'s' * (seeds > 1)}"


def _run_rounds(
    plan: Plan,
    todo: Sequence[Trial],
    store: RunFolder,
    executor: Executor,
    listeners: Sequence[Progress],
    budget_seconds: float | None,
    data_dir: Path | None,
    console: Console,
) -> Outcome:
    """The first round of seeds, speeds, the other rounds, and speeds again if they aren't known well enough yet.

    After the first two there is a whole answer, wherever the run is stopped; it is said.
    """
    budget = math.inf if budget_seconds is None else budget_seconds
    suite = plan.suite
    speeds = SpeedRounds(plan.trials, store, suite.speed_precision, suite.rounds_seconds, data_dir, listeners, budget)
    start, first = time.monotonic(), plan.trials[0].seed
    later = [trial for trial in todo if trial.seed != first]
    trials, outcome = [trial for trial in todo if trial.seed == first], Outcome()
    for share in (FIRST_SPEEDS, 1.0) if later else (1.0,):
        left = budget - (time.monotonic() - start) - speeds.wanted(share)
        found = run_sweep(trials, plan.skipped, store, executor, listeners, left)
        outcome = Outcome(outcome.statuses | found.statuses, [*found.left_out, *later], found.interrupted)
        outcome.interrupted = outcome.interrupted or speeds.run(share, start + budget)
        if outcome.interrupted:
            break
        if later and not console.quiet:
            _say_so_far(store.folder, console)
        trials, later = outcome.left_out, []
    return outcome


def _say_so_far(folder: Path, console: Console) -> None:
    """The answer of the first round of seeds, while the others are to come."""
    from bench.analysis.summary import read_tables  # pandas loads while nothing is being measured
    from bench.analysis.verdict import decide

    try:
        for verdict in decide(read_tables(folder)):
            _say(console, f"so far: {verdict.headline}")
    except Exception as error:  # noqa: BLE001 - a line on the way mustn't cost the run; the report will meet it again
        _warn(console, f"no answer so far ({type(error).__name__}: {error})")


def _left_out(plan: Plan, outcome: Outcome, finished: set[str]) -> str | None:
    """Which part of the plan has no results, in one sentence; None if all have."""
    missing = [trial for trial in plan.trials if trial.trial_id not in finished]
    if not missing:
        return None
    why = "interrupted" if outcome.interrupted else "the budget was spent"
    rounds = len({t.seed for t in plan.trials} - {t.seed for t in missing})
    return f"{why}: {len(missing)} of {len(plan.trials)} trials not run; {rounds} whole rounds of seeds are there"


def _summarise_and_report(folder: Path, plan: Plan, data_dir: Path | None, console: Console) -> list[Verdict]:
    """Images for the gallery, predictions of unlabelled images, and the report, from what is on disk.

    Raises: StoreError: the report can't be written; the tables are whole all the same.
    """
    from bench.inference.gallery import collect, write_submissions
    from bench.report.build import write_report  # pandas and matplotlib load while nothing is being measured

    trial_ids = {trial.trial_id for trial in plan.trials}
    unlabelled = getattr(plan.spec, "unlabelled_path", None)
    try:
        try:
            collect(folder, data_dir, trial_ids)
        except (OSError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - pictures of what the models learned; a model may do anything
            _warn(console, f"what the models learned can't be shown ({type(error).__name__}: {error})")
        if unlabelled is not None:
            try:
                for path in write_submissions(folder, Path(unlabelled), trial_ids):
                    _say(console, f"submission: {path}")
            except UserError as error:  # what was measured is still reported
                _say(console, f"warning: no submission: {error}")
        verdicts = write_report(folder)
        keep_verdicts(folder, verdicts)
        return verdicts
    except OSError as error:
        raise StoreError(
            f"{folder}: the report can't be written ({error.strerror or error}), every finished trial is kept; "
            f"when that is mended, run_bench.py report {folder}"
        ) from None


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


def _warn(console: Console, text: str) -> None:
    _say(console, f"warning: {redacted(text)}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
