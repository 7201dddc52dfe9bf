"""Grids: what the entries of a suite sweep, the product of it, and how many trials that makes."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.config.suite_file import Place, SuiteText
from bench.errors import SuiteError

NOT_SWEPT = ("model", "recipe", "match")  # of an entry
MOST_TRIALS = 1_000  # of a plan without a person's yes, since a slip of the keyboard multiplies, too
MOST_TRIALS_EVER = 100_000  # with it: some 10 KB each while they are planned

Swept = Mapping[str, tuple[Any, Place]]  # key -> a value, or a list of values, and where it stands


def swept_by(index: int, entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Swept:
    """What the entry at `index` of `models` sweeps: its own keys, and the suite's where it has none of that name."""
    own = {key: (value, ("models", index, key)) for key, value in entry.items() if key not in NOT_SWEPT}
    return {key: (value, (key,)) for key, value in shared.items()} | own


def combinations(text: SuiteText, swept: Swept) -> Iterator[dict[str, Any]]:
    """Every choice of one value per key; devices vary slowest, numeric modes fastest."""
    keys = sorted(swept, key=lambda key: (key == "dtype") - (key == "device"))
    for key in keys:
        value, place = swept[key]
        if value == []:
            raise SuiteError(f"{text.where(place)}: {key}: the sweep is empty; give at least one value")
    for combination in itertools.product(*(_values(swept[key][0]) for key in keys)):
        yield dict(zip(keys, combination, strict=True))


def check_size(text: SuiteText, entries: Sequence[Swept], rounds: int, yes: bool) -> None:
    """Counted before anything is expanded, so that an absurd product is refused at once.

    Args:
        rounds: seeds of each configuration, those for accuracy alone among them.
        yes: a person's, to more than MOST_TRIALS.

    Raises:
        SuiteError: more trials than that, with what multiplies to them; it blames the longest list.
    """
    counts = [rounds * math.prod(len(_values(value)) for value, _ in swept.values()) for swept in entries]
    count, largest = sum(counts), max(counts)
    if count <= most_trials(yes):
        return
    swept = entries[counts.index(largest)]
    factors = [(len(value), f"{key} {len(value):,}", place) for key, (value, place) in swept.items() if _many(value)]
    factors += [(rounds, f"{rounds:,} seeds", ("seeds",))] if rounds > 1 else []
    unswept = largest == rounds  # by any entry: there are that many entries, or seeds
    factors += [(len(entries), f"{len(entries):,} entries", ("models",))] if unswept else []
    of_them = "" if unswept or count == largest else f"{largest:,} of them are "
    product = " x ".join(words for _, words, _ in factors)
    place = max(factors, key=lambda factor: factor[0])[2]
    raise SuiteError(f"{text.where(place)}: {count:,} trials: {of_them}{product}; {too_many(count)}")


def most_trials(yes: bool) -> int:
    return MOST_TRIALS_EVER if yes else MOST_TRIALS


def too_many(count: int) -> str:
    """What would do."""
    if count > MOST_TRIALS_EVER:
        return f"a plan has at most {MOST_TRIALS_EVER:,}; sweep fewer values"
    return f"more than {MOST_TRIALS:,} need --yes, or sweep fewer values"


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _many(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1
