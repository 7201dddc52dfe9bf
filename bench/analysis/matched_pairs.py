"""Matched pairs: a configuration, and one of another family that was given as many parameters or FLOPs."""

import math
from dataclasses import dataclass

from bench.analysis.comparison import (
    Cell,
    Comparison,
    Row,
    Sheet,
    compare_measured,
    comparison_cell,
    time_text,
)
from bench.analysis.formatting import listed, percent, ratio, span
from bench.analysis.labels import family_title, grouped, records
from bench.analysis.summary import Tables

EQUAL = {"params": "parameters", "flops": "FLOPs"}
ALLOWED = {"params": 0.02, "flops": 0.05}  # mismatch, as a share
SAID = ("test_accuracy", "images_per_second", "peak_memory_bytes")  # what a sentence is about; tables hold all
METRICS = {  # metric -> (what the winner does, in what, which way is better)
    "test_accuracy": ("is more accurate", "accuracy", 1),
    "images_per_second": ("trains faster", "training speed", 1),
    "inference_images_per_second": ("infers batches faster", "inference in batches", 1),
    "peak_memory_bytes": ("needs less memory", "memory", -1),
}
TIME = ("gets to the target sooner", "time to target", -1)


@dataclass(frozen=True)
class Pair:
    """`made` was made equal to `base` in `by`; `found` compares made with base, metric by metric."""

    by: str
    base: Row
    made: Row
    found: dict[str, Comparison]

    @property
    def names(self) -> tuple[str, str]:
        """What to call base and made."""
        titles = family_title(self.base["model"]), family_title(self.made["model"])
        return titles if titles[0] != titles[1] else (self.base["label"], self.made["label"])

    def winner(self, metric: str) -> str:
        """Name of the one that is shown to be better; "" where no difference is shown."""
        found = self.found.get(metric)
        better = found.side * (METRICS.get(metric, TIME)[2]) if found else 0
        return {0: "", 1: self.names[1], -1: self.names[0]}[better]


def find_pairs(tables: Tables, device_name: str = "") -> list[Pair]:
    """All pairs of a run, or of one device, of which both have a finished trial, in the order of the summary."""
    rows = {(row["config_id"], row["device_name"]): row for row in records(tables.summary) if row["n"] > 0}
    reached = tables.goal.replace("seconds_to", "reached")
    pairs = []
    for row in rows.values():
        base = rows.get((row["matched_to"], row["device_name"]))
        if not row["match"] or base is None or row["world_size"] != base["world_size"]:
            continue
        if device_name not in ("", row["device_name"]):
            continue
        timed = reached and all(each[reached] == each["n_raced"] > 0 for each in (base, row))
        metrics = [*METRICS, tables.goal] if timed else METRICS
        found = {key: compare_measured(tables, row, base, key) for key in metrics}
        pairs.append(Pair(row["match"], base, row, {key: each for key, each in found.items() if each}))
    return pairs


def pair_sentences(pairs: list[Pair]) -> list[str]:
    """For each kind of match one sentence on who wins in how many pairs, and by how much."""
    lines = []
    for by, own in grouped((pair.by, pair) for pair in pairs).items():
        parts = [tally(own, metric) for metric in SAID]
        lines.append(f"At equal {EQUAL.get(by, by)}: {'; '.join(part for part in parts if part)}.")
    return lines


def pair_sheets(tables: Tables) -> list[Sheet]:
    """For each kind of match a table with a row a pair."""
    sheets, goal = [], tables.goal
    for by, own in grouped((pair.by, pair) for pair in find_pairs(tables)).items():
        head = ["pair", "who is better in what", "test accuracy", "difference"]
        head += ["training speed, ratio", "inference in batches, ratio", "memory, ratio"]
        head += [f"ratio of times to {100 * tables.run['target_accuracy']:g}%"] if goal else []
        base, made = own[0].names
        ways = f"the {made} over the {base}" if len({pair.names for pair in own}) == 1 else "the made over the given"
        said = [f"Differences and ratios are those of {ways}, with 95% intervals.", *mismatches(own)]
        sheets.append(Sheet(f"Equal {EQUAL.get(by, by)}", said, head, [_row(pair, goal) for pair in own]))
    return sheets


def mismatches(pairs: list[Pair]) -> list[str]:
    """A sentence for each kind of match that some pair misses by more than is allowed."""
    lines = []
    for by, own in grouped((pair.by, pair) for pair in pairs).items():
        far = [pair for pair in own if abs(pair.made["mismatch"]) > ALLOWED.get(by, math.inf)]
        if far:
            named = listed([f"{pair.made['label']} ({_signed(pair.made['mismatch'])})" for pair in far[:3]])
            more = f" and {len(far) - 3} more" if len(far) > 3 else ""
            lines.append(f"Not equal {EQUAL[by]} within {ALLOWED[by]:.0%}: {named}{more}.")
    return lines


def _row(pair: Pair, goal: str) -> list[Cell]:
    sides = list(zip(pair.names, (pair.base, pair.made), strict=True))
    wins = grouped((pair.winner(metric), METRICS.get(metric, TIME)[1]) for metric in pair.found if pair.winner(metric))
    better = "; ".join(f"{name} in {listed(what)}" for name, what in wins.items()) or "no difference shown"
    equal = f"{_signed(pair.made['mismatch'])} {EQUAL.get(pair.by, pair.by)}"
    cells = [Cell(pair.base["label"], f"and {shape(pair)}, {equal}"), Cell(better)]
    cells.append(Cell(", ".join(f"{name} {percent(row['test_accuracy'])}" for name, row in sides)))
    cells += [comparison_cell(pair.found.get(metric)) for metric in METRICS]
    if found := pair.found.get(goal):
        times = ", ".join(f"{name} {time_text(row, goal)}" for name, row in sides)
        ratio_and_ends = comparison_cell(found)
        cells.append(Cell(ratio_and_ends.text, "; ".join(filter(None, (ratio_and_ends.interval, times)))))
    elif goal:
        reached = goal.replace("seconds_to", "reached")
        counts = ", ".join(f"{name} {row[reached]} of {row['n_raced']}" for name, row in sides)
        cells.append(Cell("–", f"reached by {counts}"))
    return cells


def tally(pairs: list[Pair], metric: str) -> str:
    """ "the CNN is more accurate in 6 of 6 pairs, by 0.90 to 2.10 points"."""
    (does, of_it, _), asked = METRICS[metric], [pair for pair in pairs if metric in pair.found]
    amounts = ((pair.winner(metric), pair.found[metric].amount) for pair in asked if pair.winner(metric))
    wins = sorted(grouped(amounts).items(), key=lambda item: -len(item[1]))
    noisy = sum(pair.found[metric].noisy for pair in asked)
    if asked and not wins:
        count = f"{len(asked)} pair{'s' * (len(asked) > 1)}"
        too = f"{of_it} is too noisy to call in {noisy if noisy < len(asked) else count}" if noisy else ""
        none = f"no difference in {of_it} is shown in {count}" if noisy < len(asked) else ""
        return ", and ".join(filter(None, (none, too)))
    parts: list[str] = []
    for name, found in wins:
        if metric == "test_accuracy":
            much = f"by {span([abs(x) for x in found], lambda x: f'{100 * x:.2f}')} points"
        else:
            much = f"by a factor of {span([max(x, 1 / x) for x in found], ratio)}"
        parts.append(f"the {name}{'' if parts else f' {does}'} in {len(found)} of {len(asked)} pairs, {much}")
    return ", ".join([*parts, *([f"{noisy} too noisy to call"] if noisy else [])])


def shape(pair: Pair) -> str:
    """The made one's family, depth and the width that was solved for."""
    made = pair.made
    parts = [f"{letter}{made[key]:g}" for key, letter in (("depth", "d"), ("width", "w")) if made[key] == made[key]]
    return " ".join([family_title(made["model"]), *parts])


def _signed(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:+.1f}%"
