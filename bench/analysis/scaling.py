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
    compare_measured,
    compare_rows,
    comparison_cell,
    row_ends,
    sentence,
    sheets_by_device,
    time_text,
)
from bench.analysis.formatting import listed, percent, points, span, three_digits, whole
from bench.analysis.labels import family_title, grouped, processes_title, records, without_device
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
    but = ("world_size", "global_batch")
    groups = grouped((twin_key(row, *but, "num_threads"), row) for row in rows)  # a process may have fewer threads each
    if any(len({(row["world_size"], str(row["global_batch"])) for row in own}) < len(own) for own in groups.values()):
        groups = grouped((twin_key(row, *but), row) for row in rows)
    found = []
    for own in groups.values():
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
    """Images/s a process over those of the ladder's first row, with the interval of the speed-up; None if too noisy."""
    found = speed_up(tables, ladder, row)
    if found is None or found.noisy:
        return None
    share, (low, middle, high, n) = ladder.base["world_size"] / row["world_size"], found.interval
    return Interval(share * low, share * middle, share * high, n)


def scaling_sheets(tables: Tables) -> list[Sheet]:
    """For each device where processes vary: the ladders, rung by rung."""
    return sheets_by_device(tables, _sheet)


def scaling_sentence(tables: Tables, device_name: str) -> str:
    """With how many processes families are compared, and what the most bring their best; "" where they don't vary."""
    own, said = ladders(tables, device_name), dict[str, str]()
    if not own:
        return ""
    here = tables.summary[(tables.summary["device_name"] == device_name) & tables.summary["best_of_family"]]
    if len(here) > 1 and here["world_size"].nunique() == 1:
        said[""] = f"families are compared with {count_processes(here['world_size'].iloc[0])} each"
    several = len({ladder.global_batch for ladder in own}) > 1
    for ladder in own:
        base, top = ladder.base, ladder.more[-1]
        found, share = speed_up(tables, ladder, top), efficiency(tables, ladder, top)
        if not base["best_of_family"] or not found or not share or base["model"] in said:
            continue
        most = f"{count_processes(top['world_size'])}{f' ({ladder.batch})' if several else ''}"
        family, fewest = family_title(base["model"]), count_processes(base["world_size"])
        times = f"{found.text} times{f' ({found.ends})' if found.ends else ''}"
        said[base["model"]] = (
            f"with {most} the best {family} trains {times} as fast as with {fewest}, an efficiency of "
            f"{share.amount:.0%}"
            if found.shown
            else f"no difference in speed is shown between {most} and {fewest} of the best {family}, {times}"
        )
    text = "; ".join(said.values())
    return sentence(text) if text else ""


def by_configuration(own: list[Ladder]) -> list[list[Ladder]]:
    """Ladders that begin at one row together: those of the families' best first, then the most accurate ones."""
    groups = grouped((ladder.base["config_id"], ladder) for ladder in own).values()
    return sorted(groups, key=lambda own: (not own[0].base["best_of_family"], -own[0].base["val_accuracy"]))


def _sheet(tables: Tables, device_name: str, where: str) -> Sheet | None:
    own = ladders(tables, device_name)
    if not own:
        return None
    timed = any(speed_up(tables, ladder, row) for ladder in own for row in ladder.more)
    goal = tables.goal if timed else ""
    head = ["configuration", "processes", *(["images/s", "speed-up", "efficiency"] if timed else [])]
    head += [f"to {100 * tables.run['target_accuracy']:g}%"] if goal else []
    head += ["test accuracy", "difference"]
    groups = by_configuration(own)
    leading = sum(bool(each[0].base["best_of_family"]) for each in groups) or 1
    others, left = groups[leading : leading + MOST], len(groups) - leading - MOST
    rows, more = (
        [
            _line(tables, ladder, row, timed, goal)
            for each in part  # where its ladders begin, then their rungs
            for ladder, row in [(each[0], each[0].base), *((ladder, row) for ladder in each for row in ladder.more)]
        ]
        for part in (groups[:leading], others)
    )
    said = [f"{left} more are among all configurations."] if left > 0 else []
    name = f"{len(others)} more configuration{'s' * (len(others) > 1)}{where}"
    rest = Sheet(name, said, head, more, figures=True) if more else None
    return Sheet(f"More processes{where}", _said(tables, own, timed), head, rows, figures=True, rest=rest)


def _said(tables: Tables, own: list[Ladder], timed: bool) -> list[str]:
    said = [
        "Each configuration against itself with the fewest processes, all else alike; 95% intervals. The batch of all "
        "processes is fixed (each has a part of it), or that of each is (all together take larger steps).",
    ]
    if not timed:
        return said
    said.append("Efficiency is images/s with N processes over N times images/s with one.")
    for batch, of_batch in grouped((ladder.global_batch, ladder) for ladder in own).items():
        shares = [(ladder.more[-1]["world_size"], efficiency(tables, ladder, ladder.more[-1])) for ladder in of_batch]
        told = [
            f"{span(known, lambda x: f'{x:.0%}')} with {size:g} processes ({len(known)} "
            f"configuration{'s' * (len(known) > 1)})"
            for size, known in sorted(grouped((size, share.amount) for size, share in shares if share).items())
        ]
        said += [f"With the batch {BATCHES.get(batch, batch)}, efficiency is {listed(told)}."] if told else []
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
        ends = [f"{100 * end:.0f}" if end <= 10 else "over 1,000" for end in (share.low, share.high)] if share else []
        known = share is not None and not math.isnan(share.low)
        cells.append(Cell(f"{share.amount:.0%}" if share else "–", " to ".join(ends) if known else ""))
    if goal:
        reached = goal.replace("seconds_to", "reached")
        some = "" if row[reached] == row["n_raced"] else f"{row[reached]} of {row['n_raced']}"
        cells.append(Cell(time_text(row, goal), some))
    cells.append(Cell(percent(row[ACCURACY]), row_ends(row, ACCURACY)))
    if row is ladder.base or math.isnan(row[ACCURACY] + ladder.base[ACCURACY]):
        return [*cells, Cell("–")]
    gap = compare_rows(tables, row, ladder.base, ACCURACY)
    return [*cells, Cell(points(gap.amount) if gap.shown else "none shown", gap.ends)]


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
    best, said = best_at_each_size(rows), list[tuple[str, str]]()
    sizes = sorted(best["num_train_images"].unique())
    if len(sizes) > MOST_SIZES:
        sizes = [sizes[round(i * (len(sizes) - 1) / (MOST_SIZES - 1))] for i in range(MOST_SIZES)]
    for size in sizes:
        here = records(
            best[best["num_train_images"] == size].sort_values("test_accuracy", ascending=False, kind="stable")
        )
        if len(here) > 1:
            found = compare_rows(tables, here[0], here[1], "test_accuracy")
            who = f"the {family_title(here[0]['model'])} is ahead" if found.shown else "no difference is shown"
            much = f" by {found.text.removesuffix(' points')}" if found.shown else ""
            said.append((who, f"with {whole(size)}{much}"))
    told = [f"{who} {listed(sizes)}{' points' * (' by ' in sizes[-1])}" for who, sizes in grouped(said).items()]
    return [sentence("; ".join(told))] if told else []
