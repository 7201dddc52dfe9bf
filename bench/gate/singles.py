"""Singles: a suite's configurations, each as a suite of its own, as written and not as resolved.

What a suite leaves out stays left out, so that each of two revisions of the program fills in its own defaults.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.config.suite_file import SuiteText
from bench.errors import SuiteError

# Keys that say how often, with what aim and for how long a suite runs; a single step has no use for them.
OF_A_RUN = (
    *("description", "seeds", "accuracy_seeds", "targets", "instrument_seconds", "trial_timeout_seconds"),
    *("published", "match"),  # `match` of an entry; a suite's own is refused
    "num_threads",  # the gate's own
    *("world_size", "global_batch"),  # a step is one process's
)
KEPT = ("dataset", "split_seed", "recipe")  # never swept


@dataclass(frozen=True)
class Single:
    """One configuration: the content of a suite that has no other, and a name that no other has."""

    name: str
    content: dict[str, Any]


def singles(text: SuiteText) -> list[Single]:
    """The configurations that a suite means, in its order.

    Raises:
        SuiteError: a suite without models or dataset, one that matches pairs, or an empty sweep.
    """
    if text.content.get("match") is not None:
        raise SuiteError(f"{text.where(('match',))}: 'match' means nothing to a single step; leave it out")
    if not isinstance(text.content.get("dataset"), str):
        raise SuiteError(f"{text.where(('dataset',))}: 'dataset' should be the name of one")
    entries = text.content.get("models")
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(entry, dict) and "model" in entry for entry in entries)
    ):
        raise SuiteError(f"{text.where(('models',))}: 'models' should be a list of entries, each with its 'model'")
    kept = {key: text.content[key] for key in KEPT if key in text.content}
    shared = {key: value for key, value in text.content.items() if key not in (*KEPT, *OF_A_RUN, "models")}
    found: dict[str, Single] = {}
    for entry in entries:
        for combination, many in _choices(text, shared, entry):
            own = {key: entry[key] for key in ("model", "recipe") if key in entry}
            content = {**kept, "models": [{**own, **combination}]}
            if any(single.content == content for single in found.values()):
                continue  # an entry that stands there for its match
            name = _name(entry, combination, many)
            while name in found:  # entries of one model that no sweep tells apart
                name += "'"
            found[name] = Single(name, content)
    return list(found.values())


def _choices(
    text: SuiteText, shared: dict[str, Any], entry: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Every choice of one value per key, and the keys that have more than one."""
    own = {key: value for key, value in entry.items() if key not in ("model", "recipe", *OF_A_RUN)}
    swept = shared | own
    for key, value in swept.items():
        if value == []:
            raise SuiteError(f"{text.where((key,))}: {key}: the sweep is empty; give at least one value")
    lists = [value if isinstance(value, list) else [value] for value in swept.values()]
    many = {key for key, value in swept.items() if isinstance(value, list) and len(value) > 1}
    for values in itertools.product(*lists):
        yield dict(zip(swept, values, strict=True)), many


def _name(entry: dict[str, Any], combination: dict[str, Any], swept: set[str]) -> str:
    """The model, and what tells its configurations apart."""
    return " ".join([str(entry["model"]), *(f"{key}={combination[key]}" for key in combination if key in swept)])
