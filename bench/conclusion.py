"""Conclusion: what is written when a sweep has ended, and what the person is told."""

from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.analysis.answer import Answer, keep_verdicts, kept_verdicts
from bench.config.plan import Plan
from bench.errors import StoreError, UserError
from bench.execution.sweep import Outcome
from bench.store.run_folder import Store
from bench.store.tables import read_rows

if TYPE_CHECKING:
    from bench.analysis.answer import Verdict

RESULTS = Path("results")  # where runs usually are, from where the program is started
FAILURES = ("failed", "diverged", "oom", "timeout")
OK, SOME_FAILED, INTERRUPTED = 0, 1, 130


def conclude(
    store: Store, plan: Plan, outcome: Outcome, record: dict[str, Any], data_dir: Path | None, console: Console
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
    statuses = Counter(row["status"] for row in read_rows(store.folder / "trials.csv"))
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
    from bench.inference.submissions import write_submissions

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
