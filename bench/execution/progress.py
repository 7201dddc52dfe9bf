"""What a person sees while a sweep runs: a progress bar on a terminal, plain lines in a log.

It is drawn when something happens and never by a thread of its own: the machine is being measured.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from bench.result import Launch, Result
from bench.speed.rounds import reached
from bench.trial import Trial


class Progress:
    """Is told what happens in a sweep; this one says nothing."""

    def begin(self, trial: Trial, position: int, count: int) -> None:
        """A trial begins, at this position (from 0) among `count`."""

    def evaluated(self, message: dict[str, Any]) -> None:
        """What the trial that runs alone has reached: an evaluation's row, and images per second."""

    def end(self, trial: Trial, result: Result) -> None:
        """Its result is on disk."""

    def measuring(self, launches: Sequence[Launch], precision: float, seconds_left: float) -> None:
        """Speed rounds go on: a device's launches so far, what is aimed at, and how long they may still take."""

    def close(self) -> None:
        """The sweep has ended."""


class Display(Progress):
    """A line for each finished trial; on a terminal also a bar for the one that runs.

    Args:
        estimates: trial_id -> seconds that it is expected to take; corrected by what finished trials took.
        at_once: trials that run side by side, where they may.
        speed_seconds: that speed rounds may take besides.
    """

    def __init__(
        self,
        console: Console,
        estimates: dict[str, float],
        at_once: int = 1,
        speed_seconds: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.estimates = dict(estimates)
        self.at_once, self.now = at_once, now
        self._bar = Bar(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=34)),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
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
        self._rounds = speed_seconds
        self._finished, self._count = 0, len(self.estimates)
        self._mark: float | None = None  # when the last trial ended

    def begin(self, trial: Trial, position: int, count: int) -> None:
        self._trial, self._count = trial, max(self._count, count)
        self._mark = self.now() if self._mark is None else self._mark
        self._draw_trial(0.0, f"starting  {self._left()}")

    def evaluated(self, message: dict[str, Any]) -> None:
        share = message["epoch"] / self._trial.training.epochs
        self._draw_trial(share, f"{share:.0%}  val {100 * message['val_accuracy']:.1f}%  {self._left()}")

    def end(self, trial: Trial, result: Result) -> None:
        now = self.now()
        self._spent += now - (self._mark or now)
        self._mark = now
        estimate = self.estimates.pop(trial.trial_id, 0.0)
        self._expected += estimate
        self._ahead = self._ahead - estimate if self.estimates else 0.0
        self._finished += 1
        which = f"seed {trial.seed}" if trial.tested else f"at learning rate {trial.training.learning_rate:g}"
        self._say(f"[{self._finished}/{self._count}] {trial.label} {which}: {describe(result)}")

    def measuring(self, launches: Sequence[Launch], precision: float, seconds_left: float) -> None:
        self._rounds, self._mark = seconds_left, None
        known = known_to(launches)
        aim = f"aim ±{100 * precision:.3g}%"
        if launches:
            self._say(f"[speeds] launch {len(launches)}: {known or 'no ratio yet'}, {aim}")
        self._draw("[speeds]", 0.0, "  ".join(filter(None, (known, self._left()))))

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

    def _say(self, line: str) -> None:
        with self._reader_may_be_gone():
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _draw_trial(self, share: float, figures: str) -> None:
        """The bar is the trial's where it runs alone, else that of all trials."""
        name = f"[{self._finished + 1}/{self._count}] {self._trial.label}"
        if not self._trial.timed:
            share = self._expected / max(1e-9, self._expected + self._ahead)
            name, figures = f"[{self._finished}/{self._count}] trials", f"{share:.0%}  {self._left()}"
        self._draw(name, share, figures)

    def _draw(self, name: str, share: float, figures: str) -> None:
        if self._live:
            self._bar.update(self._task, description=name, completed=share, figures=figures)
            with self._reader_may_be_gone():
                self._live.refresh()

    def _left(self) -> str:
        pace, now = self._spent / self._expected if self._expected else 1 / self.at_once, self.now()
        running = now - (self._mark or now)
        return f"{duration(max(0.0, pace * self._ahead - running) + self._rounds)} left"


def describe(result: Result) -> str:
    """A finished trial in one line."""
    if result.status != "ok":
        return f"{result.status}: {result.error}"
    if result.test_accuracy is None:
        return f"validation {100 * (result.val_accuracy or 0):.2f}%"
    if result.timed is False:
        return f"test {100 * (result.test_accuracy or 0):.2f}%"
    return (
        f"test {100 * (result.test_accuracy or 0):.2f}%  {result.images_per_second or 0:,.0f} images/s  "
        f"trained {result.train_seconds or 0:.1f} s of {result.wall_seconds or 0:.1f} s"
    )


def known_to(launches: Sequence[Launch]) -> str:
    """How well launches of a device know the ratios between its configurations: "±2.6% (1 thread), ±4.0% (2 threads)".

    It is the median over pairs, of the work (training, inference, one image) that is known worst; "" where none is.
    """
    widths: dict[int, list[float]] = {}
    for panel, (middle, _) in reached(launches).items():
        widths.setdefault(panel.num_threads, []).append(middle)
    known = {threads: max(own) for threads, own in sorted(widths.items()) if math.isfinite(max(own))}
    return ", ".join(f"±{100 * x:.1f}% ({n} thread{'s' * (n > 1)})" for n, x in known.items())


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
