"""Pairing: which configuration to be sized is matched to which other one, or what keeps them apart."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.config.suite_keys import Axes
from bench.trial import MatchedBy, Trial


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
