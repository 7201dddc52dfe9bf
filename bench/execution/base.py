"""What an executor is: it takes trials and gives their results; a failure is a result, too."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.result import Result
from bench.trial import Trial

if TYPE_CHECKING:
    from bench.training.run import Report


FolderOf = Callable[[Trial], Path | None]


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


class Executor(Protocol):
    """Runs a trial with the machine to itself; or several side by side, which nobody may time.

    Attributes:
        exclusive: `run_together` gives each trial a machine or cards of its own, so that timed trials may run at once.
    """

    exclusive: bool

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        """The trial's result, whatever became of it."""
        ...

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        """Results as they come, one trial on each core; the next is taken from `trials` when a core is free."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...
