"""Findings: which family of models is better in what, by how much, and whether that is shown; data without words.

The rules:
- A family's best configuration on *validation* stands for it, and only then is test accuracy compared; one that
  diverged with some seed doesn't, unless its family has no steadier one.
- What counts as a difference is settled in bench.analysis.comparison, for all of them alike.
- A family's fastest, or first to a target, is the best of several; how many is said with it.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.analysis.comparison import Comparison, Row, compare_rows
from bench.analysis.guessing import is_easy
from bench.analysis.labels import records, without_device
from bench.analysis.summary import Tables, targets_of

ACCURACY, SPEED, MEMORY = "test_accuracy", "images_per_second", "peak_memory_bytes"
INFERENCE, LATENCY = "inference_images_per_second", "latency_p50_seconds"


@dataclass(frozen=True)
class Lead:
    """Two configurations compared: `found` is of the one with the greater value against the one with the smaller."""

    more: Row
    less: Row
    found: Comparison

    @property
    def shown(self) -> bool:
        return self.found.shown


@dataclass(frozen=True)
class Finding:
    """How the families compare in one metric.

    Attributes:
        metric: a column of the summary.
        subject: what it says in words: "accuracy", "time to 97%".
        rows: one for each family, best first.
        leads: the first row compared with each of the others, in their order.
        of_many: family -> from how many of its configurations its row was taken by this metric; {} where validation
            chose it.
        alone: no other family reached the target, though all were timed.
        missed: of a time, the families that didn't reach the target with every seed, each with its configuration
            that reached it most often; None where the family wasn't timed.
        most_accurate: the same metric among the families' most accurate, where those aren't the `rows`.
    """

    metric: str
    subject: str
    rows: list[Row]
    leads: list[Lead]
    of_many: dict[str, int] = field(default_factory=dict)
    alone: bool = False
    missed: dict[str, Row | None] = field(default_factory=dict)
    most_accurate: "Finding | None" = None

    @property
    def noisy(self) -> bool:
        """Too noisy to say which of the first two is better."""
        return any(lead.found.noisy for lead in self.leads[:1])

    @property
    def shown(self) -> bool:
        """The first row is shown to be better than the second, or has no other to compare with."""
        return self.alone or any(lead.shown for lead in self.leads[:1])


def compared_rows(tables: Tables, device_name: str) -> pd.DataFrame:
    """A device's configurations that have a finished trial and are compared like for like."""
    here = tables.like_for_like
    here = here[(here["device_name"] == device_name) & (here["n"] > 0)]
    if tables.summary["device_name"].nunique() > 1:  # the answer stands under the device's name
        here = here.assign(label=[without_device(row) for row in records(here)])
    return here


def find(tables: Tables, compared: pd.DataFrame) -> list[Finding]:
    """Accuracy, training and inference speed, time to each target (lowest first) and memory, of one device's rows."""
    best, guess = compared[compared["best_of_family"]], compared["commonest_share"].max()
    return [
        _finding(tables, ACCURACY, "accuracy", best),
        _training_speed(tables, compared, best),
        _finding(tables, INFERENCE, "inference speed", best[best[INFERENCE] > 0]),
        _finding(tables, LATENCY, "latency", best[best[LATENCY] > 0]),
        # a target that guessing reaches says nothing
        *(_time_to(tables, compared, target) for target in targets_of(tables.run) if not is_easy(target, guess)),
        _finding(tables, MEMORY, "memory", best[best[MEMORY] > 0], smallest_first=True),
    ]


def _training_speed(tables: Tables, compared: pd.DataFrame, best: pd.DataFrame) -> Finding:
    """Each family's fastest; of those whose every seed trained to its end, unless the family has none."""
    timed, best = compared[compared[SPEED] > 0], best[best[SPEED] > 0]
    steady = timed["n"] == timed["n_trained"]
    candidates = timed[steady | ~steady.groupby(timed["model"]).transform("any").astype(bool)]
    fastest = candidates.sort_values(SPEED, ascending=False, kind="stable").drop_duplicates("model")
    others = len(best) == len(fastest) and set(best["config_id"]) != set(fastest["config_id"])
    most_accurate = _finding(tables, SPEED, "training speed", best) if others else None
    of_many = _counts(candidates)
    return _finding(tables, SPEED, "training speed", fastest, of_many=of_many, most_accurate=most_accurate)


def _time_to(tables: Tables, compared: pd.DataFrame, target: float) -> Finding:
    """Each family's first to reach a target, among its configurations that reached it with every seed."""
    column, reached = f"seconds_to_{target:g}", f"reached_{target:g}"
    there = compared[(compared[reached] == compared["n_raced"]) & (compared[column] >= 0)]
    first = there.sort_values(column, kind="stable").drop_duplicates("model")
    families, timed = compared["model"].unique(), set(compared.loc[compared["n_raced"] > 0, "model"])
    missed: dict[str, Row | None] = {}
    for family in families[~pd.Series(families).isin(first["model"])]:
        own = compared[compared["model"] == family]
        missed[family] = records(own.loc[[own[reached].idxmax()]])[0] if family in timed else None
    alone = len(first) == 1 < len(families) == len(timed)
    more: dict[str, Any] = {"of_many": _counts(there), "alone": alone, "missed": missed}
    return _finding(tables, column, f"time to {100 * target:g}%", first, smallest_first=True, **more)


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {str(model): int(count) for model, count in rows["model"].value_counts().items()}


def _finding(
    tables: Tables, metric: str, subject: str, rows: pd.DataFrame, smallest_first: bool = False, **more: Any
) -> Finding:
    """The finding of these rows: they are sorted, and the first is compared with each other one."""
    ordered = records(rows.sort_values(metric, ascending=smallest_first, kind="stable"))
    leads = []
    for other in ordered[1:]:
        pair = (other, ordered[0]) if other[metric] > ordered[0][metric] else (ordered[0], other)
        found = compare_rows(tables, *pair, metric)
        leads.append(Lead(*pair, found))
    return Finding(metric, subject, ordered, leads, **more)
