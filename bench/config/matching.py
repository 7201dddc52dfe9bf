"""Matched pairs: a model of a family with dials, made as large as another one in parameters, FLOPs or step time.

`match: params` in a suite replaces each configuration of such a family: for each configuration of the families without
dials (a reference), its dials (models.SIZE_SETTINGS; the CNN's width and growth) are solved for.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from bench.config.solver import COUNTS, solve, solve_time, time_pair
from bench.config.suite_file import most_trials, too_many
from bench.config.suite_keys import Axes
from bench.errors import SuiteError
from bench.trial import Match, MatchedBy, Trial
from models import SIZE_SETTINGS


# Pairing: which configuration to be sized is matched to which other one, or what keeps them apart.
@dataclass(frozen=True)
class Entry:
    """The configurations (seed 0) of one entry of `models`.

    Attributes:
        swept: keys with more than one value, the entry's or the suite's.
        written: keys that stand in either.
    """

    trials: list[Trial]
    swept: set[str]
    written: set[str]


class Alone(NamedTuple):
    """A configuration without a partner, the one that comes closest, and the keys in which they differ."""

    trial: Trial
    closest: Trial
    differences: list[str]


def agreeing(
    owns: Sequence[Entry], references: Sequence[Entry], by: MatchedBy, every_one: bool
) -> Iterator[tuple[Trial, Trial]]:
    """Every two, one to be sized and a reference, that agree in all they must; looked up, not tried each with each.

    Args:
        every_one: of those to be sized; else the first that agrees with a reference is enough.
    """
    seen = set()
    for reference_entry in references:
        tables = [_by_values(own, _must_agree(own, reference_entry, by)) for own in owns]
        for reference in reference_entry.trials:
            for keys, table in tables:
                for own in table.get(_values(reference, keys), ()):
                    if every_one or reference.config_id not in seen:
                        yield own, reference
                    seen.add(reference.config_id)


def first_alone(
    owns: Sequence[Entry],
    references: Sequence[Entry],
    by: MatchedBy,
    every_one: bool,
    pairs: Sequence[tuple[Trial, Trial]],
) -> Alone | None:
    """The first that `pairs` leave over: a reference, or with `every_one` one to be sized; None if there is none."""
    paired = {trial.config_id for pair in pairs for trial in pair}
    for these, others in [(references, owns), (owns, references)] if every_one else [(references, owns)]:
        for entry in these:
            for trial in entry.trials:
                if trial.config_id not in paired:
                    found = (
                        Alone(trial, other, _differences(trial, other, _must_agree(entry, other_entry, by)))
                        for other_entry in others
                        for other in other_entry.trials
                    )
                    return min(found, key=lambda alone: len(alone.differences))
    return None


def value_of(trial: Trial, key: str) -> Any:
    """A setting of the model, an axis or a setting of training."""
    if key in trial.settings:
        return trial.settings[key]
    return getattr(trial if key in Axes.model_fields else trial.training, key, None)


def _by_values(entry: Entry, keys: Sequence[str]) -> tuple[Sequence[str], dict[tuple[Hashable, ...], list[Trial]]]:
    table: dict[tuple[Hashable, ...], list[Trial]] = {}
    for trial in entry.trials:
        table.setdefault(_values(trial, keys), []).append(trial)
    return keys, table


def _values(trial: Trial, keys: Sequence[str]) -> tuple[Hashable, ...]:
    values = [value_of(trial, key) for key in keys]
    return tuple(value if isinstance(value, Hashable) else repr(value) for value in values)


def _differences(a: Trial, b: Trial, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if value_of(a, key) != value_of(b, key)]


def _must_agree(a: Entry, b: Entry, by: MatchedBy) -> list[str]:
    """All axes, whatever both sweep, and the batch size where a person has chosen it or steps are timed.

    The layout changes no size, and what is quick for one family isn't for the other: each keeps its own.
    """
    shared = a.swept & b.swept
    keys = [key for key in Axes.model_fields if key != "channels_last" or key in shared]
    keys += sorted(shared - Axes.model_fields.keys())
    chosen = "batch_size" in a.written | b.written or by == "step_time"
    return [*keys, "batch_size"] if chosen and "batch_size" not in keys else keys


TOLERANCE: dict[MatchedBy, float] = {"params": 0.02, "flops": 0.05, "step_time": 0.10}

TimePair = Callable[[Trial, Trial], tuple[float, float]]  # a step's ratio of times, and the seconds of the second's


@dataclass
class Matcher:
    """Solves pairs, and keeps the solutions.

    Attributes:
        where: whom a complaint names.
        lacks: why this machine can't run a trial; None if it can.
        matches: pair -> {"settings", "target"}; what is in it is taken over and not solved again, since step times
            come out a little different every time, and a resumed run must not change its models.
        rounds: seeds of each configuration.
        yes: a person's, to very many trials.
        here: trials run on this machine, so that a step can be timed.
    """

    where: str
    lacks: Callable[[Trial], str | None]
    matches: dict[str, Any] = field(default_factory=dict)
    time_pair: TimePair = time_pair
    rounds: int = 1
    yes: bool = False
    here: bool = True

    def pair_up(self, entries: Sequence[Entry], kinds: Sequence[MatchedBy], every_one: bool = True) -> list[Trial]:
        """The references, then for each of `kinds` the configuration that equals each of them.

        Args:
            every_one: of those to be sized, too, has to find a partner; else the first that agrees is enough.

        Raises:
            SuiteError: no reference, no family with dials, one without a partner, too many pairs, no size that fits, or
                step times of other machines.
        """
        references = [entry for entry in entries if entry.trials[0].model not in SIZE_SETTINGS]
        owns = [_without_doubles(entry) for entry in entries if entry.trials[0].model in SIZE_SETTINGS]
        if not owns:
            raise SuiteError(
                f"{self.where}: match needs a model that can be sized; add one of: {', '.join(SIZE_SETTINGS)}"
            )
        if not references:
            raise SuiteError(f"{self.where}: match needs a model to match, such as vit; here is none but those sized")
        trials = [trial for entry in references for trial in entry.trials]
        most = most_trials(self.yes) // self.rounds
        for by in kinds:
            pairs = list(islice(agreeing(owns, references, by, every_one), max(0, most - len(trials)) + 1))
            if (count := len(trials) + len(pairs)) > most:
                raise SuiteError(
                    f"{self.where}: match: {count * self.rounds:,} trials or more, since what one side sweeps alone is "
                    f"paired with each of the other's; {too_many(count * self.rounds)}"
                )
            if alone := first_alone(owns, references, by, every_one, pairs):
                raise self._without_partner(*alone)
            trials += [self._matched(own, reference, by) for own, reference in pairs]
        return trials

    def _without_partner(self, trial: Trial, closest: Trial, differences: list[str]) -> SuiteError:
        found = ", ".join(f"{key} ({value_of(trial, key)!r}, not {value_of(closest, key)!r})" for key in differences)
        return SuiteError(
            f"{self.where}: match: '{trial.label}' has no partner; the closest, '{closest.label}', differs in {found}: "
            f"give both the same"
        )

    def _matched(self, own: Trial, reference: Trial, by: MatchedBy) -> Trial:
        if by == "step_time" and (self.lacks(own) or self.lacks(reference)):
            return own  # it can't be timed, and won't run
        key = f"{by}: {own.config_id} to {reference.config_id}"
        if key not in self.matches:
            self.matches[key] = (
                self._solve_time(own, reference) if by == "step_time" else self._solve(own, reference, by)
            )
        solved = self.matches[key]
        return own.model_copy(
            update={
                "settings": own.settings | solved["settings"],
                "match": Match(by=by, to=reference.config_id, target=solved["target"]),
            }
        )

    def _solve(self, own: Trial, reference: Trial, by: MatchedBy) -> dict[str, Any]:
        count, unit = COUNTS[by]
        target = count(reference)
        best, fits = solve(lambda *sizes: count(_sized(own, *sizes)), target, TOLERANCE[by])
        width, growth, found = best
        if not fits:
            raise self._unmatched(
                own, reference, (width, growth), f"{found:,} {unit}", f"{target:,}", found / target, by
            )
        return {"settings": dict(zip(SIZE_SETTINGS[own.model], (width, growth), strict=True)), "target": target}

    def _solve_time(self, own: Trial, reference: Trial) -> dict[str, Any]:
        whole, fine = SIZE_SETTINGS[own.model]
        if not self.here:
            raise SuiteError(
                f"{self.where}: match: step_time times both models on this machine, and the trials run on others; "
                "match params or flops, or use --executor subprocess"
            )
        growth = own.settings[fine]
        targets: dict[int, float] = {}

        def ratio(width: int) -> float:
            found, targets[width] = self.time_pair(_sized(own, width, growth), reference)
            return found

        width, found = solve_time(ratio, own.settings[whole], TOLERANCE["step_time"])
        target = targets[width]
        if abs(found - 1) > TOLERANCE["step_time"]:
            words = f"{1e3 * found * target:.3g} ms a step", f"{1e3 * target:.3g} ms"
            raise self._unmatched(own, reference, (width, growth), *words, found, "step_time")
        return {"settings": {whole: width, fine: growth}, "target": target}

    def _unmatched(
        self,
        own: Trial,
        reference: Trial,
        sizes: tuple[int, float],
        found: str,
        wanted: str,
        ratio: float,
        by: MatchedBy,
    ) -> SuiteError:
        dials = ", ".join(f"{key} {size:g}" for key, size in zip(SIZE_SETTINGS[own.model], sizes, strict=True))
        return SuiteError(
            f"{self.where}: match: no {own.model} like '{own.label}' equals '{reference.label}' in {by} within "
            f"{TOLERANCE[by]:.0%}; the nearest has {found} ({dials}) against {wanted}, {ratio - 1:+.1%}; "
            f"another depth of either may fit"
        )


def _without_doubles(entry: Entry) -> Entry:
    """Configurations that differ in nothing but their dials are one."""
    dials = dict.fromkeys(SIZE_SETTINGS[entry.trials[0].model])
    first: dict[str, Trial] = {}
    for trial in entry.trials:
        first.setdefault(trial.model_copy(update={"settings": trial.settings | dials}).config_id, trial)
    return Entry([*first.values()], entry.swept - dials.keys(), entry.written)


def _sized(trial: Trial, width: int, growth: float) -> Trial:
    dials = dict(zip(SIZE_SETTINGS[trial.model], (width, growth), strict=True))
    return trial.model_copy(update={"settings": trial.settings | dials})
