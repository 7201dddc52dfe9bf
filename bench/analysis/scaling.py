"""Scaling: speed and accuracy with more processes, and accuracy with fewer training images.

Scaling efficiency is images/s with N processes over N times images/s with one: 100% where each process is worth as
much as the first. With the batch of all processes fixed, each has a smaller share of it (strong scaling); with the
batch of each process fixed, all together take larger steps (weak scaling), which may change the accuracy.
"""

import math
from dataclasses import dataclass

import pandas as pd

from bench.analysis.comparison import (
    Cell,
    Comparison,
    Row,
    Sheet,
    apart,
    compare_measured,
    compare_rows,
    comparison_cell,
    row_ends,
    sheets_by_device,
)
from bench.analysis.formatting import listed, percent, points, seconds, span, three_digits, whole
from bench.analysis.labels import family_title, processes_title, records, without_device
from bench.analysis.modes import twin_key
from bench.analysis.summary import Tables
from bench.measure.stats import Interval

BATCHES = {"fixed": "of all processes fixed", "scaled": "of each process fixed"}
SHORT = {"fixed": "of all fixed", "scaled": "of each fixed"}
MOST = 12  # configurations in a sheet, besides the families' best
MOST_SIZES = 5  # numbers of training images told in a sentence; of more, the ends and what lies evenly between
SPEED, ACCURACY = "images_per_second", "test_accuracy"


@dataclass(frozen=True)
class Ladder:
    """A configuration with several numbers of processes, all else alike: the row with fewest, then the others."""

    base: Row
    more: list[Row]
    global_batch: str

    @property
    def rows(self) -> list[Row]:
        return [self.base, *self.more]

    @property
    def name(self) -> str:
        """What to call it, without device, processes or batch."""
        return without_device(self.base | {"label": self.base["label"].replace(processes_title(self.base), "")})

    @property
    def batch(self) -> str:
        """ "batch of each process fixed"."""
        return f"batch {BATCHES.get(self.global_batch, self.global_batch)}"


def ladders(tables: Tables, device_name: str = "") -> list[Ladder]:
    """All of a run, or of one device, in the order of the summary."""
    rows = [row for row in records(tables.summary) if row["n"] > 0 and device_name in ("", row["device_name"])]
    groups = _alike(rows, "num_threads")  # processes that share a machine may have fewer threads each
    if any(len({(row["world_size"], str(row["global_batch"])) for row in own}) < len(own) for own in groups):
        groups = _alike(rows)
    found = []
    for own in groups:
        alone = [row for row in own if row["world_size"] == 1][:1]
        for batch in BATCHES:
            by_size = {row["world_size"]: row for row in reversed(own) if row["global_batch"] == batch}
            rungs = [*alone, *(by_size[size] for size in sorted(by_size))]
            if len(rungs) > 1:
                found.append(Ladder(rungs[0], rungs[1:], batch))
    return found


def speed_up(tables: Tables, ladder: Ladder, row: Row) -> Comparison | None:
    """Images/s over those of the ladder's first row; None where one wasn't measured."""
    return compare_measured(tables, row, ladder.base, SPEED) if row is not ladder.base else None


def efficiency(tables: Tables, ladder: Ladder, row: Row) -> Interval | None:
    """Images/s a process over those of the ladder's first row, with the interval of the speed-up."""
    found = speed_up(tables, ladder, row)
    if found is None:
        return None
    share = ladder.base["world_size"] / row["world_size"]
    low, middle, high, n = found.interval
    return Interval(share * low, share * middle, share * high, n)


def scaling_sheets(tables: Tables) -> list[Sheet]:
    """For each device where processes vary: the ladders, rung by rung."""
    return sheets_by_device(tables, _sheet)


def scaling_sentence(tables: Tables, device_name: str) -> str:
    """With how many processes families are compared, and what the most bring their best; "" where they don't vary."""
    said: dict[str, str] = {}
    own = ladders(tables, device_name)
    kinds = {ladder.global_batch for ladder in own}
    for ladder in own:
        found = speed_up(tables, ladder, ladder.more[-1])
        if not ladder.base["best_of_family"] or not found or ladder.base["model"] in said:
            continue
        share, family = efficiency(tables, ladder, ladder.more[-1]), family_title(ladder.base["model"])
        which = f" ({ladder.batch})" if len(kinds) > 1 else ""
        most, fewest = (count_processes(row["world_size"]) for row in (ladder.more[-1], ladder.base))
        times = f"{found.text} times{f' ({found.ends})' if found.ends else ''}"
        said[ladder.base["model"]] = (
            f"with {most}{which} the best {family} trains {times} as fast as with {fewest}, an efficiency of "
            f"{_whole(share)}"
            if found.shown
            else f"no difference in speed is shown between {most}{which} and {fewest} of the best {family}, {times}"
        )
    text = "; ".join([*_compared_with(tables, device_name), *said.values()] if own else [])
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _compared_with(tables: Tables, device_name: str) -> list[str]:
    """How many processes the families' best have, where there are several families and it is one number."""
    here = tables.summary[tables.summary["device_name"] == device_name]
    best = here[here["best_of_family"]]
    if len(best) < 2 or best["world_size"].nunique() > 1:
        return []
    return [f"families are compared with {count_processes(best['world_size'].iloc[0])} each"]


def by_configuration(own: list[Ladder]) -> list[list[Ladder]]:
    """Ladders that begin at one row together: those of the families' best first, then the most accurate ones."""
    groups: dict[str, list[Ladder]] = {}
    for ladder in own:
        groups.setdefault(ladder.base["config_id"], []).append(ladder)
    return sorted(groups.values(), key=lambda own: (not own[0].base["best_of_family"], -own[0].base["val_accuracy"]))


def _sheet(tables: Tables, device_name: str, where: str) -> Sheet:
    own = ladders(tables, device_name)
    timed = any(speed_up(tables, ladder, row) for ladder in own for row in ladder.more)
    target = tables.run.get("target_accuracy")
    goal = f"seconds_to_{target:g}" if isinstance(target, (int, float)) and timed else ""
    goal = goal if goal in tables.summary else ""
    head = ["configuration", "processes", *(["images/s", "speed-up", "efficiency"] if timed else [])]
    head += [f"to {100 * (target or 0):g}%"] if goal else []
    head += ["test accuracy", "difference"]
    groups = by_configuration(own)
    leading = sum(bool(each[0].base["best_of_family"]) for each in groups) or 1
    rows = [row for each in groups[:leading] for row in _lines(tables, each, timed, goal)]
    others = groups[leading : leading + MOST]
    more = [row for each in others for row in _lines(tables, each, timed, goal)]
    left = len(groups) - leading - len(others)
    said = [f"{left} more are among all configurations."] if left > 0 else []
    name = f"{len(others)} more configuration{'s' * (len(others) > 1)}{where}"
    rest = Sheet(name, said, head, more, figures=True) if more else None
    told = _said(tables, own, timed) if own else []
    return Sheet(f"More processes{where}", told, head, rows, figures=True, rest=rest)


def _lines(tables: Tables, group: list[Ladder], timed: bool, goal: str) -> list[list[Cell]]:
    """A configuration: where its ladders begin, then their rungs."""
    rungs = [(ladder, row) for ladder in group for row in ladder.more]
    return [_line(tables, ladder, row, timed, goal) for ladder, row in [(group[0], group[0].base), *rungs]]


def _said(tables: Tables, own: list[Ladder], timed: bool) -> list[str]:
    said = [
        "Each configuration against itself with the fewest processes, all else alike; 95% intervals. The batch of all "
        "processes is fixed (each has a part of it), or that of each is (all together take larger steps).",
    ]
    if not timed:
        return said
    said.append("Efficiency is images/s with N processes over N times images/s with one.")
    for batch in dict.fromkeys(ladder.global_batch for ladder in own):
        words, most = BATCHES.get(batch, batch), dict[float, list[float]]()
        for ladder in (ladder for ladder in own if ladder.global_batch == batch):
            share = efficiency(tables, ladder, ladder.more[-1])
            if share:
                most.setdefault(ladder.more[-1]["world_size"], []).append(share.median)
        told = [
            f"{span(shares, lambda x: f'{x:.0%}')} with {size:g} processes ({len(shares)} "
            f"configuration{'s' * (len(shares) > 1)})"
            for size, shares in sorted(most.items())
        ]
        said += [f"With the batch {words}, efficiency is {listed(told)}."] if told else []
    if any(ladder.base["device"].startswith("cpu") for ladder in own):
        cores = (tables.run.get("environment") or {}).get("cores")
        of = f" ({cores:g} on this machine)" if isinstance(cores, (int, float)) else ""
        said.append(
            f"Processes on one CPU share its cores{of}: where one process keeps them all busy, more of them can't be "
            "faster, and 1/N is what efficiency comes to. It says nothing of several machines or GPUs."
        )
    return said


def _line(tables: Tables, ladder: Ladder, row: Row, timed: bool, goal: str) -> list[Cell]:
    batch = f"batch {SHORT.get(row['global_batch'], row['global_batch'])}" if row["world_size"] > 1 else ""
    cells = [Cell(ladder.name, f"n = {row['n']}"), Cell(f"{row['world_size']:g}", batch)]
    if timed:
        found, share = speed_up(tables, ladder, row), efficiency(tables, ladder, row)
        speed = "–" if math.isnan(row[SPEED]) else three_digits(row[SPEED])
        cells += [Cell(speed, row_ends(row, SPEED, three_digits)), comparison_cell(found)]
        ends = "" if share is None or math.isnan(share.low) else f"{_end(share.low)} to {_end(share.high)}"
        cells.append(Cell(_whole(share), ends))
    if goal:
        reached = goal.replace("seconds_to", "reached")
        some = "" if row[reached] == row["n_raced"] else f"{row[reached]} of {row['n_raced']}"
        cells.append(Cell(seconds(row[goal]), some))
    cells.append(Cell(percent(row[ACCURACY]), row_ends(row, ACCURACY)))
    if row is ladder.base or math.isnan(row[ACCURACY] + ladder.base[ACCURACY]):
        return [*cells, Cell("–")]
    gap = compare_rows(tables, row, ladder.base, ACCURACY)
    return [*cells, Cell(points(gap.amount) if gap.shown else "none shown", gap.ends)]


def _alike(rows: list[Row], *but: str) -> list[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(twin_key(row, "world_size", "global_batch", *but), []).append(row)
    return [own for own in groups.values() if len(own) > 1]


def _end(share: float) -> str:
    return "over 1,000" if share > 10 else f"{100 * share:.0f}"


def _whole(share: Interval | None) -> str:
    return "–" if share is None else f"{share.median:.0%}"


def count_processes(size: float) -> str:
    return "one process" if size == 1 else f"{size:g} processes"


def best_at_each_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Each family's best on validation for every number of training images, on every device."""
    fewest = rows["world_size"] == rows.groupby("device_name")["world_size"].transform("min")
    ordered = rows[fewest].sort_values("val_accuracy", ascending=False)
    return ordered.drop_duplicates(["model", "device_name", "num_train_images"])


def data_sentences(tables: Tables, device_name: str) -> list[str]:
    """One sentence on who is ahead, and how far, with each number of training images; none where it doesn't vary."""
    rows = tables.summary[(tables.summary["device_name"] == device_name) & (tables.summary["n"] > 0)]
    rows = rows[rows["num_train_images"] > 0]
    if rows["train_fraction"].nunique() < 2 or rows["model"].nunique() < 2:
        return []
    best, said = best_at_each_size(rows), []
    for size in _some(sorted(best["num_train_images"].unique())):
        here = sorted(records(best[best["num_train_images"] == size]), key=lambda row: -row["test_accuracy"])
        if len(here) > 1:
            found = compare_rows(tables, here[0], here[1], "test_accuracy")
            first, second = (family_title(row["model"]) for row in here[:2])
            lead = f"the {first} is {found.text} above the {second}"
            shown = apart(here[0], here[1], found)
            said.append(f"with {whole(size)} {lead if shown else 'no difference is shown'}")
    return [f"Fewer training images: {listed(said)}."] if said else []


def _some(sizes: list[float]) -> list[float]:
    if len(sizes) <= MOST_SIZES:
        return sizes
    last = len(sizes) - 1
    return [sizes[round(i * last / (MOST_SIZES - 1))] for i in range(MOST_SIZES)]
