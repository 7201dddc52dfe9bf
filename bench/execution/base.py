"""What an executor is: it takes trials and gives their results; a failure is a result, too."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.result import Result
from bench.trial import Trial

FolderOf = Callable[[Trial], Path | None]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Options:
    """What an executor is told.

    Attributes:
        data_dir: folder that holds the dataset's files; None: the cache, or wherever they may be had.
        timeout_seconds: a trial that takes longer is ended.
        jobs: trials side by side, where they may be; None: one a core.
        address: of a cluster, HOST:PORT; None: the one that is there, or one of this machine alone.
        budget_seconds: no trial begins later; for an executor that takes trials before it has a place for them.
    """

    data_dir: Path | None = None
    timeout_seconds: float | None = None
    jobs: int | None = None
    address: str | None = None
    budget_seconds: float | None = None


class Executor:
    """Runs a trial with the machine to itself; or several side by side, which nobody may time.

    Attributes:
        exclusive: `run_together` gives each trial a machine or cards of its own, so timed trials may run at once, and
            `run` isn't asked for.
    """

    exclusive = False

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()

    def run(self, trial: Trial, folder: Path | None, report: Report) -> Result:
        """The trial's result, whatever became of it."""
        raise NotImplementedError

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        """Results as they come, of as many trials at once as may be; the next is taken from `trials` when it fits."""
        for trial in trials:
            yield self.run(trial, folder_of(trial), ignore)

    def close(self) -> None:
        """Free what it holds."""


def ignore(message: dict[str, Any]) -> None:
    """What a trial beside others reports while it runs."""
