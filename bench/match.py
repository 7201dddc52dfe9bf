"""Matched pairs: a model of a family with dials, made as large as another one in parameters, FLOPs or step time.

`match: params` in a suite replaces each configuration of such a family: for each configuration of the families without
dials (a reference), its dials (models.DIALS; the CNN's width and growth) are solved for.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from bench.datasets import DATASETS
from bench.errors import SuiteError
from bench.flops import forward_flops
from bench.solver import solve, solve_time
from bench.step_time import time_pair
from bench.suite_keys import Axes
from bench.trial import Match, MatchedBy, Trial
from models import DIALS, sketch_model

TOLERANCE: dict[MatchedBy, float] = {"params": 0.02, "flops": 0.05, "step_time": 0.10}

TimePair = Callable[[Trial, Trial], tuple[float, float]]  # a step's ratio of times, and the seconds of the second's


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


class Pair(NamedTuple):
    """A configuration to be sized, one to match, and the keys that keep them from being a pair."""

    own: Trial
    reference: Trial
    differences: list[str]


@dataclass
class Matcher:
    """Solves pairs, and keeps the solutions.

    Attributes:
        where: whom a complaint names.
        lacks: why this machine can't run a trial; None if it can.
        matches: pair -> {"settings", "target"}; what is in it is taken over and not solved again, since step times
            come out a little different every time, and a resumed run must not change its models.
    """

    where: str
    lacks: Callable[[Trial], str | None]
    matches: dict[str, Any] = field(default_factory=dict)
    time_pair: TimePair = time_pair

    def pair_up(self, entries: Sequence[Entry], kinds: Sequence[MatchedBy], every_one: bool = True) -> list[Trial]:
        """The references, then for each of `kinds` the configuration that equals each of them.

        Args:
            every_one: of those to be sized, too, has to find a partner; else the first that agrees is enough.

        Raises:
            SuiteError: no reference, no family with dials, one without a partner, or no size that fits.
        """
        references = [entry for entry in entries if entry.trials[0].model not in DIALS]
        owns = [_without_doubles(entry) for entry in entries if entry.trials[0].model in DIALS]
        if not owns:
            raise SuiteError(f"{self.where}: match needs a model that can be sized; add one of: {', '.join(DIALS)}")
        if not references:
            raise SuiteError(f"{self.where}: match needs a model to match, such as vit; here is none but those sized")
        trials = [trial for entry in references for trial in entry.trials]
        for by in kinds:
            trials += [
                self._matched(own, reference, by) for own, reference in self._pairs(owns, references, by, every_one)
            ]
        return trials

    def _pairs(
        self, owns: list[Entry], references: list[Entry], by: MatchedBy, every_one: bool
    ) -> Iterator[tuple[Trial, Trial]]:
        """Every two that agree, one that is left over being a mistake; or for each reference the first that agrees."""
        every = [
            Pair(own, reference, _differences(own, reference, _must_agree(own_entry, reference_entry, by)))
            for reference_entry in references
            for reference in reference_entry.trials
            for own_entry in owns
            for own in own_entry.trials
        ]
        for this, other in (("reference", "own"), ("own", "reference")) if every_one else (("reference", "own"),):
            groups: dict[str, list[Pair]] = {}
            for pair in every:
                groups.setdefault(getattr(pair, this).config_id, []).append(pair)
            for pairs in groups.values():
                closest = min(pairs, key=lambda pair: len(pair.differences))
                if closest.differences:
                    raise self._alone(getattr(closest, this), getattr(closest, other), closest.differences)
        agreed = [pair for pair in every if not pair.differences]
        if not every_one:
            agreed = list({pair.reference.config_id: pair for pair in reversed(agreed)}.values())[::-1]
        return ((pair.own, pair.reference) for pair in agreed)

    def _alone(self, trial: Trial, closest: Trial, differences: list[str]) -> SuiteError:
        found = ", ".join(f"{key} ({_value(trial, key)!r}, not {_value(closest, key)!r})" for key in differences)
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
        return {"settings": dict(zip(DIALS[own.model], (width, growth), strict=True)), "target": target}

    def _solve_time(self, own: Trial, reference: Trial) -> dict[str, Any]:
        whole, fine = DIALS[own.model]
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
        dials = ", ".join(f"{key} {size:g}" for key, size in zip(DIALS[own.model], sizes, strict=True))
        return SuiteError(
            f"{self.where}: match: no {own.model} like '{own.label}' equals '{reference.label}' in {by} within "
            f"{TOLERANCE[by]:.0%}; the nearest has {found} ({dials}) against {wanted}, {ratio - 1:+.1%}; "
            f"another depth of either may fit"
        )


def _without_doubles(entry: Entry) -> Entry:
    """Configurations that differ in nothing but their dials are one."""
    dials = dict.fromkeys(DIALS[entry.trials[0].model])
    first: dict[str, Trial] = {}
    for trial in entry.trials:
        first.setdefault(trial.model_copy(update={"settings": trial.settings | dials}).config_id, trial)
    return Entry([*first.values()], entry.swept - dials.keys(), entry.written)


def _must_agree(own: Entry, reference: Entry, by: MatchedBy) -> list[str]:
    """All axes, whatever both sweep, and the batch size where a person has chosen it or steps are timed.

    The layout changes no size, and what is quick for one family isn't for the other: each keeps its own.
    """
    shared = own.swept & reference.swept
    keys = [key for key in Axes.model_fields if key != "channels_last" or key in shared]
    keys += sorted(shared - Axes.model_fields.keys())
    chosen = "batch_size" in own.written | reference.written or by == "step_time"
    return [*keys, "batch_size"] if chosen and "batch_size" not in keys else keys


def _differences(a: Trial, b: Trial, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if _value(a, key) != _value(b, key)]


def _value(trial: Trial, key: str) -> Any:
    if key in trial.settings:
        return trial.settings[key]
    return getattr(trial if key in Axes.model_fields else trial.training, key, None)


def _sized(trial: Trial, width: int, growth: float) -> Trial:
    dials = dict(zip(DIALS[trial.model], (width, growth), strict=True))
    return trial.model_copy(update={"settings": trial.settings | dials})


def count_params(trial: Trial) -> int:
    """Parameters of a trial's model. Raises: ValueError, as models.sketch_model."""
    return _counts_of(trial)[0]


def count_flops(trial: Trial) -> int:
    """FLOPs of one image's forward pass; a multiply-add is two."""
    return _counts_of(trial)[1]()


def _counts_of(trial: Trial) -> tuple[int, Callable[[], int]]:
    spec = trial.data or DATASETS[trial.dataset]
    return _counts(spec.image_size, spec.in_channels, spec.num_classes, trial.model, json.dumps(trial.settings))


@cache
def _counts(
    image_size: int, in_channels: int, num_classes: int, model_name: str, settings: str
) -> tuple[int, Callable[[], int]]:
    model = sketch_model(model_name, json.loads(settings), image_size, in_channels, num_classes)
    shape = (in_channels, image_size, image_size)
    closed_form = getattr(model, "num_flops", None)
    return sum(p.numel() for p in model.parameters()), cache(closed_form or (lambda: forward_flops(model, shape)))


# what is counted -> how, and what it is called
COUNTS: dict[MatchedBy, tuple[Callable[[Trial], int], str]] = {
    "params": (count_params, "parameters"),
    "flops": (count_flops, "FLOPs an image"),
}
