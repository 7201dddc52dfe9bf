"""Matched pairs: a model whose size can be chosen, made as large as another one in parameters or FLOPs.

`match: params` in a suite keeps the configurations of families without size settings as they are (the references),
and sizes one of a family with such settings (models.SIZE_SETTINGS: the CNN's width and growth) to equal each of them.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bench.config.solver import COUNTS, solve
from bench.config.suite_file import most_trials, too_many
from bench.config.suite_keys import Axes
from bench.errors import SuiteError
from bench.trial import Match, MatchedBy, Trial
from models import SIZE_SETTINGS

TOLERANCE: dict[MatchedBy, float] = {"params": 0.02, "flops": 0.05}  # share of the reference's


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


def pair_up(
    entries: Sequence[Entry], kinds: Sequence[MatchedBy], where: str, rounds: int, yes: bool, every_one: bool = True
) -> list[Trial]:
    """The references, then for each of `kinds` the configuration that equals each of them.

    Args:
        where: the place in the suite that messages name.
        rounds: seeds of each configuration.
        yes: more than MOST_TRIALS trials are allowed.
        every_one: each configuration to be sized has to find a reference; else the first that agrees with a reference
            is enough.

    Raises:
        SuiteError: no reference, no family that can be sized, one without a partner, too many pairs, no size that fits.
    """
    references = [entry for entry in entries if entry.trials[0].model not in SIZE_SETTINGS]
    sizable = [_without_doubles(entry) for entry in entries if entry.trials[0].model in SIZE_SETTINGS]
    if not sizable:
        raise SuiteError(f"{where}: match needs a model that can be sized; add one of: {', '.join(SIZE_SETTINGS)}")
    if not references:
        raise SuiteError(f"{where}: match needs a model to match, such as vit; here is none but those sized")
    trials = [trial for entry in references for trial in entry.trials]
    most = most_trials(yes) // rounds
    pairs = list(islice(_pairs(sizable, references, every_one), max(0, most - len(trials)) // len(kinds) + 1))
    if (count := len(trials) + len(pairs) * len(kinds)) > most:
        raise SuiteError(
            f"{where}: match: {count * rounds:,} trials or more, since what one side sweeps alone is "
            f"paired with each of the other's; {too_many(count * rounds)}"
        )
    paired = {trial.config_id for pair in pairs for trial in pair}
    _check_partners(references, sizable, paired, where)
    if every_one:
        _check_partners(sizable, references, paired, where)
    return trials + [_matched(trial, reference, by, where) for by in kinds for trial, reference in pairs]


def _pairs(sizable: Sequence[Entry], references: Sequence[Entry], every_one: bool) -> Iterator[tuple[Trial, Trial]]:
    """Every configuration to be sized and reference that agree; looked up in a table, not tried each with each."""
    seen = set()
    for entry in references:
        tables = []
        for other in sizable:
            keys, table = _must_agree(other, entry), dict[tuple[Hashable, ...], list[Trial]]()
            for trial in other.trials:
                table.setdefault(_values(trial, keys), []).append(trial)
            tables.append((keys, table))
        for reference in entry.trials:
            for keys, table in tables:
                for trial in table.get(_values(reference, keys), ()):
                    if every_one or reference.config_id not in seen:
                        yield trial, reference
                    seen.add(reference.config_id)


def _must_agree(a: Entry, b: Entry) -> list[str]:
    """The keys in which the two of a pair are equal: all axes, whatever both sweep, the batch size where it is written.

    The layout changes no size, and what is quick for one family isn't for the other: each keeps its own.
    """
    shared = a.swept & b.swept
    keys = [key for key in Axes.model_fields if key != "channels_last" or key in shared]
    keys += sorted(shared - Axes.model_fields.keys())
    return [*keys, "batch_size"] if "batch_size" in (a.written | b.written) - {*keys} else keys


def _value(trial: Trial, key: str) -> Any:
    """A setting of the model, an axis or a setting of training."""
    if key in trial.settings:
        return trial.settings[key]
    return getattr(trial if key in Axes.model_fields else trial.training, key, None)


def _values(trial: Trial, keys: Sequence[str]) -> tuple[Hashable, ...]:
    values = [_value(trial, key) for key in keys]
    return tuple(value if isinstance(value, Hashable) else repr(value) for value in values)


def _check_partners(entries: Sequence[Entry], others: Sequence[Entry], paired: set[str], where: str) -> None:
    """Raises: SuiteError: a configuration without a partner, with the one that comes closest."""
    for entry in entries:
        for trial in entry.trials:
            if trial.config_id in paired:
                continue
            found = [
                ([key for key in _must_agree(entry, other) if _value(trial, key) != _value(candidate, key)], candidate)
                for other in others
                for candidate in other.trials
            ]
            keys, closest = min(found, key=lambda each: len(each[0]))
            differences = ", ".join(f"{key} ({_value(trial, key)!r}, not {_value(closest, key)!r})" for key in keys)
            raise SuiteError(
                f"{where}: match: '{trial.label}' has no partner; the closest, '{closest.label}', differs in "
                f"{differences}: give both the same"
            )


def _matched(trial: Trial, reference: Trial, by: MatchedBy, where: str) -> Trial:
    """`trial` as large as `reference`. Raises: SuiteError: no size fits."""
    count, unit = COUNTS[by]
    target = count(reference)
    (width, growth, found), fits = solve(lambda *sizes: count(_sized(trial, *sizes)), target, TOLERANCE[by])
    sized = _sized(trial, width, growth)
    if not fits:
        dials = ", ".join(f"{key} {sized.settings[key]:g}" for key in SIZE_SETTINGS[trial.model])
        raise SuiteError(
            f"{where}: match: no {trial.model} like '{trial.label}' equals '{reference.label}' in {by} within "
            f"{TOLERANCE[by]:.0%}; the nearest has {found:,} {unit} ({dials}) against {target:,}, "
            f"{found / target - 1:+.1%}; another depth of either may fit"
        )
    return sized.model_copy(update={"match": Match(by=by, to=reference.config_id, target=target)})


def _sized(trial: Trial, width: int, growth: float) -> Trial:
    dials = dict(zip(SIZE_SETTINGS[trial.model], (width, growth), strict=True))
    return trial.model_copy(update={"settings": trial.settings | dials})


def _without_doubles(entry: Entry) -> Entry:
    """Configurations that differ in nothing but their size are one."""
    dials = dict.fromkeys(SIZE_SETTINGS[entry.trials[0].model])
    first: dict[str, Trial] = {}
    for trial in entry.trials:
        first.setdefault(trial.model_copy(update={"settings": trial.settings | dials}).config_id, trial)
    return Entry([*first.values()], entry.swept - dials.keys(), entry.written)
