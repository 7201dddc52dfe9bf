"""Tables with a row a configuration: the grid of report.md, and the page's, which sorts, filters and downloads."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.comparison import Cell
from bench.analysis.formatting import three_digits, whole
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables, targets_of

MIB, MILLI, PERCENT = 1 / 2**20, 1e3, 100.0  # factors from bytes, seconds and fractions
RESULTS = "Results"  # the group of columns that comes first, and that the page shows before more are chosen
ALWAYS = ("label", "config_id", "model", "dtype", "device_name", "n", "n_timed", "not_ok")  # of a downloaded CSV
CHOICES = {"model": "Family", "dtype": "Numeric mode", "device_name": "Device", "world_size": "Processes"}
LONG = 40  # rows; a longer table scrolls in a frame of its own, below its head


def two_decimals(x: float) -> str:
    return f"{x:.2f}"


@dataclass(frozen=True)
class Column:
    """A column over rows of the summary.

    Attributes:
        key: of the summary's column.
        show: turns a value in the title's unit into text.
        factor: from base units (seconds, bytes, fractions) to the title's unit.
        better: which way is better, "higher" or "lower"; "" where neither is.
        beside: further columns of the summary that say how sure this one is; a CSV gets them too.
        noted: they stand below the value, too: the ends of an interval, or how many seeds reached a target.
        always: kept where nothing was measured: a target that nobody reached is a finding.
    """

    title: str
    key: str
    show: Callable[[float], str] = three_digits
    factor: float = 1.0
    better: str = ""
    beside: tuple[str, ...] = ()
    noted: bool = False
    always: bool = False

    def cell(self, row: dict[str, Any], best: dict[Any, dict[Any, float]]) -> Cell:
        """The value of a row of the summary, marked where it is its device's best."""
        value, note = row[self.key], self._note(row)
        if math.isnan(value):
            return Cell("–", note)
        is_best = self.better != "" and value == best[row["device_name"]][self.key]
        return Cell(self.show(value * self.factor), note, is_best)

    def _note(self, row: dict[str, Any]) -> str:
        if not self.noted or math.isnan(row[self.beside[0]]):
            return ""
        first, last = (row[key] for key in self.beside)
        if self.key.startswith("seconds_to_"):
            return "" if first == last else f"{first} of {last}"
        return f"{self.show(first * self.factor)} to {self.show(last * self.factor)}"


Groups = dict[str, list[Column]]


@dataclass(frozen=True)
class Grid:
    """A row a configuration: its name and n, then a cell a column. `left_out` rows are in summary.csv alone."""

    columns: list[Column]
    rows: list[tuple[Cell, list[Cell]]]
    left_out: int = 0


@dataclass(frozen=True)
class Choice:
    """A box to choose one value of a column by: (value, title) each."""

    key: str
    title: str
    options: list[tuple[str, str]]


@dataclass(frozen=True)
class PageTable:
    """What the page's template and script need.

    Attributes:
        groups: titles of the columns' groups, each with its columns' numbers; the configuration's name is column 0.
        data: for the script: columns in order, and `values`, a list a column of the summary, in base units and full;
            None is not measured.
    """

    grid: Grid
    groups: dict[str, list[int]]
    choices: list[Choice]
    data: dict[str, Any]

    @property
    def is_long(self) -> bool:
        return len(self.grid.rows) > LONG


def results_grid(tables: Tables, most: int | None = None) -> Grid:
    """What each configuration reached; of more than `most`, the best."""
    return _grid(tables, _result_columns(tables.run), most)


def costs_grid(tables: Tables, most: int | None = None) -> Grid:
    """Where time and memory go; of more than `most` configurations, the best."""
    return _grid(tables, [column for group in _cost_columns(tables.run).values() for column in group], most)


def page_table(tables: Tables) -> PageTable:
    """One table with everything: results first, then costs and settings."""
    groups, columns = dict[str, list[int]](), list[Column]()
    for title, group in column_groups(tables).items():
        groups[title] = list(range(len(columns) + 1, len(columns) + 1 + len(group)))
        columns += group
    described = [
        {"key": column.key, "title": column.title, "factor": column.factor, "better": column.better}
        | {"beside": column.beside, "first": number in groups[RESULTS]}
        for number, column in enumerate(columns, 1)
    ]
    keys = dict.fromkeys([*ALWAYS, *(key for column in columns for key in (column.key, *column.beside))])
    values = {key: [_plain(value) for value in tables.summary[key].tolist()] for key in keys}
    choices = [
        Choice(key, title, [(value, family_title(value) if key == "model" else value) for value in known])
        for key, title in CHOICES.items()
        if len(known := [str(_plain(value)) for value in dict.fromkeys(tables.summary[key])]) > 1
    ]
    data = {"always": ALWAYS, "columns": described, "values": values}
    return PageTable(_grid(tables, columns), groups, choices, data)


def column_groups(tables: Tables) -> Groups:
    """All columns that hold something, by what they are about; results come first."""
    settings = {"Settings": _setting_columns(tables.summary)}
    groups = {RESULTS: _result_columns(tables.run)} | _cost_columns(tables.run) | settings
    measured = {title: _measured(tables, columns) for title, columns in groups.items()}
    return {title: columns for title, columns in measured.items() if columns}


def _result_columns(run: dict[str, Any]) -> list[Column]:
    """What each configuration reached."""
    times = []
    for target in targets_of(run):
        seeds = (f"reached_{target:g}", "n_raced")
        title = f"to {100 * target:g}%, s"
        times.append(Column(title, f"seconds_to_{target:g}", better="lower", beside=seeds, noted=True, always=True))
    return [
        _with_ends("test accuracy, %", "test_accuracy", show=two_decimals, factor=PERCENT, better="higher", noted=True),
        _with_ends("validation, %", "val_accuracy", show=two_decimals, factor=PERCENT, better="higher"),
        _with_ends("images/s", "images_per_second", better="higher", noted=True),
        *times,
        _with_ends("memory, MiB", "peak_memory_bytes", factor=MIB, better="lower"),
        _with_ends("training, s", "train_seconds"),
        Column("parameters", "num_params", whole),
        Column("MFLOP per image", "num_flops", factor=1e-6),
    ]


def _cost_columns(run: dict[str, Any]) -> Groups:
    """Where time, memory and energy go, by what they are about: all that was measured besides the results."""
    target = run.get("target_accuracy")
    goal = f"{100 * target:g}%" if isinstance(target, (int, float)) else "target"
    milliseconds = {"step": "step", "data": "data", "forward": "forward", "backward": "backward"}
    milliseconds |= {"optimiser": "optimizer"}
    seconds = {"waiting for data": "data_wait", "compile": "compile", "first step": "first_step", "warm-up": "warm_up"}
    memory = {"parameters": "param", "gradients": "gradient", "optimiser": "optimizer", "activations": "activation"}
    return {
        "Inference": [
            _with_ends("inference, images/s", "inference_images_per_second", better="higher", noted=True),
            Column("latency p50, ms", "latency_p50_seconds", factor=MILLI, better="lower"),
            *(Column(f"latency p{p}, ms", f"latency_p{p}_seconds", factor=MILLI) for p in (95, 99)),
        ],
        "Time of a step": [
            *(Column(f"{title}, ms", f"{key}_seconds", factor=MILLI) for title, key in milliseconds.items()),
            *(Column(f"{title}, s", f"{key}_seconds") for title, key in seconds.items()),
        ],
        "Memory": [Column(f"{title}, MiB", f"{key}_bytes", factor=MIB) for title, key in memory.items()],
        "Work and energy": [
            Column("GFLOP/s", "flops_per_second", factor=1e-9, better="higher"),
            Column("of matrix-product peak, %", "flops_share", lambda x: f"{x:.1f}", PERCENT, "higher"),
            Column("J per epoch", "joules_per_epoch", better="lower"),
            Column(f"J to {goal}", "joules_to_accuracy", better="lower"),
        ],
    }


def _setting_columns(summary: pd.DataFrame) -> list[Column]:
    """Settings that are numbers, where they differ between configurations."""
    settings = {"patch size": "patch_size", "depth": "depth", "embedding": "embed_dim", "heads": "num_heads"}
    settings |= {"width": "width", "batch size": "batch_size", "processes": "world_size", "epochs": "epochs"}
    settings |= {"threads": "num_threads"}
    columns = [
        *(Column(title, key, whole) for title, key in settings.items()),
        Column("share of the data, %", "train_fraction", lambda x: f"{x:.3g}", PERCENT),
        Column("mismatch of the pair, %", "mismatch", lambda x: f"{x:+.2f}", PERCENT),
    ]
    return [column for column in columns if summary[column.key].nunique(dropna=False) > 1]


def _with_ends(title: str, key: str, **more: Any) -> Column:
    """A column whose values have intervals."""
    return Column(title, key, beside=(f"{key}_low", f"{key}_high"), **more)


def _grid(tables: Tables, columns: list[Column], most: int | None = None) -> Grid:
    """Rows of the summary, of more than `most` the best; columns without a single value are left out."""
    columns = _measured(tables, columns)
    by_device = tables.summary.groupby("device_name")[[column.key for column in columns]]
    best = {"": {}, "higher": by_device.max().to_dict("index"), "lower": by_device.min().to_dict("index")}
    shown = tables.summary if most is None or len(tables.summary) <= most else _leading(tables.summary).head(most)
    rows = [
        (Cell(row["label"], _counts(row)), [column.cell(row, best[column.better]) for column in columns])
        for row in records(shown)
    ]
    return Grid(columns, rows, len(tables.summary) - len(shown))


def _measured(tables: Tables, columns: list[Column]) -> list[Column]:
    known = [column for column in columns if column.key in tables.summary]
    raced = bool(tables.summary["n_raced"].any())
    return [column for column in known if (column.always and raced) or tables.summary[column.key].notna().any()]


def _leading(summary: pd.DataFrame) -> pd.DataFrame:
    """Each family's best and the Pareto front, then the others by validation accuracy; test never chooses."""
    stands_out = summary["best_of_family"] | summary["pareto"]
    order = summary.assign(stands_out=stands_out).sort_values(["stands_out", "val_accuracy"], ascending=False)
    return order.drop(columns="stands_out")


def _counts(row: dict[str, Any]) -> str:
    """ "n = 8; 3 timed; 1 failed": the seeds behind accuracies, those behind speeds where they are fewer, the rest."""
    timed = f"{row['n_timed']} timed" if row["n_timed"] != row["n"] else ""
    return "; ".join(part for part in (f"n = {row['n']}", timed, row["not_ok"]) if part)


def _plain(value: Any) -> Any:
    """A value as JSON has it: whole numbers without a point, None for what isn't known."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
