"""The speed rounds of a run: launches go to disk one by one, between the rounds of seeds and at the end."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.execution.progress import Progress
from bench.result import Launch
from bench.speed.rounds import Entry, Setting, is_enough, measure, one_of_each
from bench.store.run_folder import RunFolder
from bench.store.tables import read_launches
from bench.system import process
from bench.system.device import open_device
from bench.system.redaction import redacted
from bench.trial import Trial

TRAINED = ("ok", "diverged")  # statuses of trials that took all their steps, or could have
BUDGET_SHARE = 0.25  # of a run's budget of time
FIRST_SPEEDS = 0.35  # of the rounds' time, after the first of several rounds of seeds


@dataclass
class SpeedRounds:
    """What a run still wants to know of speeds, of configurations that have a trial which trained to its end.

    Args:
        trials: those of the plan.
        precision: half-width of the ratios' intervals to reach, as a share.
        seconds: that may be spent on all launches of the run, those of earlier sittings among them; 0: none is wanted.
        budget: seconds of this sitting, of which launches get BUDGET_SHARE at the most.
    """

    trials: Sequence[Trial]
    store: RunFolder
    precision: float
    seconds: float
    data_dir: Path | None = None
    listeners: Sequence[Progress] = ()
    budget: float = math.inf
    now: Callable[[], float] = time.monotonic
    launches: list[Launch] = field(init=False)

    def __post_init__(self) -> None:
        self.launches = read_launches(self.store.folder)
        self.seconds = min(self.seconds, self.spent + BUDGET_SHARE * self.budget)

    @property
    def spent(self) -> float:
        """Seconds that launches took so far."""
        return sum(launch.wall_seconds for launch in self.launches)

    def wanted(self, share: float) -> float:
        """Seconds that they may still take, up to this share of their time."""
        return 0.0 if self.launches and self.is_done else max(0.0, share * self.seconds - self.spent)

    @property
    def devices(self) -> dict[str, list[Trial]]:
        """Device -> a trial of each configuration to be timed; one that failed or hung would do so here, too."""
        ended = self.store.statuses()
        trained = [trial for trial in self.trials if ended.get(trial.trial_id) in TRAINED]
        return one_of_each(trained) if self.seconds else {}

    def run(self, share: float = 1.0, deadline: float = math.inf) -> bool:
        """Launches, until ratios are known as well as was asked or this share of the time is spent.

        Args:
            deadline: no launch begins later.

        Returns:
            Whether it was interrupted; the launch that ran is lost then, and no other.

        Raises: StoreError: the run folder can't be written to.
        """
        with process.listening():
            try:
                devices = self.devices
                for device, trials in devices.items():
                    self._run_device(device, trials, share / len(devices), deadline)
            except KeyboardInterrupt:
                process.taken()
                return True
        return False

    def _run_device(self, device: str, trials: Sequence[Trial], share: float, deadline: float) -> None:
        own = [launch for launch in self.launches if launch.device == device]
        spent = sum(launch.wall_seconds for launch in own)
        left = min(share * self.seconds - spent, deadline - self.now())
        entries = [Entry(trial.config_id, trial) for trial in trials]
        timed = (
            {piece["config_id"] for launch in own for piece in launch.slices} | own[-1].missing.keys() if own else set()
        )
        if self.now() < deadline and not {entry.name for entry in entries} <= timed:
            left = max(left, 0.0)  # a single launch, whatever was spent: one has come since
        # One more launch wouldn't end in time, or nothing could be timed in the last one, which says why.
        elif left <= 0 or (own and (left < own[-1].wall_seconds or not own[-1].slices)):
            return
        setting = Setting(entries, open_device(device).name, self.data_dir, self.precision)
        self._tell(own)
        for launch in measure(setting, own, self.store.launches, left, self.now):
            launch.missing = {name: redacted(reason) for name, reason in launch.missing.items()}
            with process.held():
                self.store.append_launch(launch)
                self.launches.append(launch)
            own = [*own, launch]
            self._tell(own)
            process.check()

    def _tell(self, own: Sequence[Launch]) -> None:
        left = self.wanted(1.0)
        for listener in self.listeners:
            listener.measuring(own, self.precision, left)

    @property
    def is_done(self) -> bool:
        """Whether no device needs another launch."""
        return all(
            is_enough(
                [each for each in self.launches if each.device == device],
                [trial.config_id for trial in trials],
                self.precision,
            )
            for device, trials in self.devices.items()
        )
