"""What a person sees while a sweep runs: a progress bar on a terminal, plain lines in a log.

It is drawn when something happens and never by a thread of its own: the machine is being measured.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from bench.result import Result
from bench.trial import Trial


class Progress:
    """Is told what happens in a sweep; this one says nothing."""

    def begin(self, trial: Trial, position: int, count: int) -> None:
        """A trial begins, at this position (from 0) among `count`."""

    def evaluated(self, message: dict[str, Any]) -> None:
        """What the trial that runs alone has reached: an evaluation's row, and images per second."""

    def end(self, trial: Trial, result: Result) -> None:
        """Its result is on disk."""

    def close(self) -> None:
        """The sweep has ended."""


class Display(Progress):
    """A line for each finished trial; on a terminal also a bar for the one that runs.

    Args:
        estimates: trial_id -> seconds that it is expected to take; corrected by what finished trials took.
    """

    def __init__(
        self, console: Console, estimates: dict[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console
        self.estimates = dict(estimates)
        self.now = now
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=1.0, figures="")
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(self._bar, console=console, auto_refresh=False, transient=True)
            self._live.start()
        self._expected = self._spent = 0.0  # seconds of the finished trials
        self._ahead = sum(self.estimates.values())  # of the others; kept, since each sum costs time with every trial
        self._finished = 0
        self._mark: float | None = None  # when the last trial ended

    def begin(self, trial: Trial, position: int, count: int) -> None:
        self._trial, self._position, self._count = trial, position, count
        self._mark = self.now() if self._mark is None else self._mark
        self._draw(0.0, f"starting  {self._left()}")

    def evaluated(self, message: dict[str, Any]) -> None:
        epochs = self._trial.training.epochs
        figures = [
            f"epoch {message['epoch']:.1f} of {epochs}",
            f"loss {message['train_loss']:.3f}",
            f"accuracy {100 * message['val_accuracy']:.2f}%",
            f"{message['images_per_second']:,.0f} images/s",
            self._left(),
        ]
        self._draw(message["epoch"] / epochs, "  ".join(figures))

    def end(self, trial: Trial, result: Result) -> None:
        now = self.now()
        self._spent += now - (self._mark or now)
        self._mark = now
        estimate = self.estimates.pop(trial.trial_id, 0.0)
        self._expected += estimate
        self._ahead = self._ahead - estimate if self.estimates else 0.0
        self._finished += 1
        line = f"[{self._finished}/{self._count}] {trial.label} seed {trial.seed}: {describe(result)}"
        with self._reader_may_be_gone():
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        with self._reader_may_be_gone():
            if self._live:
                self._live.stop()

    @contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        """A terminal that was closed, or a pipe that nobody reads, ends the display and not the sweep."""
        try:
            yield
        except (OSError, SystemExit):  # rich turns a broken pipe into the latter
            self.console.quiet, self._live = True, None

    def _draw(self, share: float, figures: str) -> None:
        if self._live:
            name = f"{self._position + 1}/{self._count} {self._trial.label} seed {self._trial.seed}"
            self._bar.update(self._task, description=name, completed=share, figures=figures)
            with self._reader_may_be_gone():
                self._live.refresh()

    def _left(self) -> str:
        pace, now = self._spent / self._expected if self._expected else 1.0, self.now()
        running = now - (self._mark or now)
        return f"about {duration(max(0.0, pace * self._ahead - running))} left"


def describe(result: Result) -> str:
    """A finished trial in one line."""
    if result.status != "ok":
        return f"{result.status}: {result.error}"
    if result.timed is False:
        return f"test {100 * (result.test_accuracy or 0):.2f}%  side by side, so not timed"
    return (
        f"test {100 * (result.test_accuracy or 0):.2f}%  {result.images_per_second or 0:,.0f} images/s  "
        f"trained {result.train_seconds or 0:.1f} s of {result.wall_seconds or 0:.1f} s"
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
