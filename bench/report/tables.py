"""Tables of a report: cells, and those that have a row a configuration."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.comparison import Cell
from bench.analysis.formatting import three_digits
from bench.analysis.labels import records
from bench.analysis.summary import Tables, targets_of

# Columns of the table of configurations: what each shows, in which unit, and what of it a CSV gets.
MIB, MILLI, PERCENT = 1 / 2**20, 1e3, 100.0


@dataclass(frozen=True)
class Column:
    """A column over rows of the summary.

    Attributes:
        key: of the summary's column.
        show: turns a value in the title's unit into text.
        factor: from base units (seconds, bytes, fractions) to the title's unit.
        better: which way is better, "higher" or "lower"; "" where neither is.
        note: what stands below a row's value.
        beside: further columns of the summary that say how sure this one is; a CSV gets them too.
        always: kept where nothing was measured: a target that nobody reached is a finding.
    """

    title: str
    key: str
    show: Callable[[float], str] = three_digits
    factor: float = 1.0
    better: str = ""
    note: Callable[[dict[str, Any]], str] = lambda row: ""
    beside: tuple[str, ...] = ()
    always: bool = False


Groups = dict[str, list[Column]]


def result_columns(run: dict[str, Any]) -> list[Column]:
    """What each configuration reached."""
    return [
        _with_interval("test accuracy, %", "test_accuracy", _percent, PERCENT, "higher"),
        Column("validation, %", "val_accuracy", _percent, PERCENT, "higher", beside=_ends("val_accuracy")),
        _with_interval("images/s", "images_per_second", three_digits, 1.0, "higher"),
        *(_time_to(target) for target in targets_of(run)),
        Column("memory, MiB", "peak_memory_bytes", three_digits, MIB, "lower", beside=_ends("peak_memory_bytes")),
        Column("training, s", "train_seconds", beside=_ends("train_seconds")),
        Column("parameters", "num_params", _whole),
        Column("MFLOP per image", "num_flops", factor=1e-6),
    ]


def cost_columns(run: dict[str, Any]) -> Groups:
    """Where time, memory and energy go, by what they are about: all that instruments found besides the results."""
    target = run.get("target_accuracy")
    goal = f"{100 * target:g}%" if isinstance(target, (int, float)) else "target"
    return {
        "Inference": [
            _with_interval("inference, images/s", "inference_images_per_second", three_digits, 1.0, "higher"),
            *(
                Column(f"latency p{p}, ms", f"latency_p{p}_seconds", factor=MILLI, better="lower" if p == 50 else "")
                for p in (50, 95, 99)
            ),
        ],
        "Time of a step": [
            Column("step, ms", "step_seconds", factor=MILLI),
            Column("data, ms", "data_seconds", factor=MILLI),
            Column("forward, ms", "forward_seconds", factor=MILLI),
            Column("backward, ms", "backward_seconds", factor=MILLI),
            Column("optimiser, ms", "optimizer_seconds", factor=MILLI),
            Column("waiting for data, s", "data_wait_seconds"),
            Column("compile, s", "compile_seconds"),
            Column("first step, s", "first_step_seconds"),
            Column("warm-up, s", "warm_up_seconds"),
        ],
        "Memory": [
            Column("parameters, MiB", "param_bytes", factor=MIB),
            Column("gradients, MiB", "gradient_bytes", factor=MIB),
            Column("optimiser, MiB", "optimizer_bytes", factor=MIB),
            Column("activations, MiB", "activation_bytes", factor=MIB),
        ],
        "Work and energy": [
            Column("GFLOP/s", "flops_per_second", factor=1e-9, better="higher"),
            Column("of matrix-product peak, %", "flops_share", lambda x: f"{x:.1f}", PERCENT, "higher"),
            Column("J per epoch", "joules_per_epoch", better="lower"),
            Column(f"J to {goal}", "joules_to_accuracy", better="lower"),
        ],
    }


def setting_columns(summary: pd.DataFrame) -> list[Column]:
    """Settings that are numbers, where they differ between configurations."""
    columns = [
        *(Column(title, key, _whole) for title, key in SETTINGS.items()),
        Column("share of the data, %", "train_fraction", lambda x: f"{x:.3g}", PERCENT),
        Column("mismatch of the pair, %", "mismatch", lambda x: f"{x:+.2f}", PERCENT),
    ]
    return [column for column in columns if summary[column.key].nunique(dropna=False) > 1]


SETTINGS = {
    "patch size": "patch_size",
    "depth": "depth",
    "embedding": "embed_dim",
    "heads": "num_heads",
    "width": "width",
    "batch size": "batch_size",
    "processes": "world_size",
    "epochs": "epochs",
    "threads": "num_threads",
}


def _with_interval(title: str, key: str, show: Callable[[float], str], factor: float, better: str) -> Column:
    def note(row: dict[str, Any]) -> str:
        low, high = (row[end] for end in _ends(key))
        return "" if math.isnan(low) else f"{show(low * factor)} to {show(high * factor)}"

    return Column(title, key, show, factor, better, note, _ends(key))


def _time_to(target: float) -> Column:
    reached = f"reached_{target:g}"

    def note(row: dict[str, Any]) -> str:
        return "" if row[reached] == row["n_raced"] else f"{row[reached]} of {row['n_raced']}"

    title, key = f"to {100 * target:g}%, s", f"seconds_to_{target:g}"
    return Column(title, key, better="lower", note=note, beside=(reached, "n_raced"), always=True)


def _ends(key: str) -> tuple[str, str]:
    return f"{key}_low", f"{key}_high"


def _percent(x: float) -> str:
    return f"{x:.2f}"


def _whole(x: float) -> str:
    return f"{x:,.0f}"


RESULTS = "Results"


@dataclass(frozen=True)
class Grid:
    """A row a configuration: its name and n, then a cell a column. `left_out` rows are in summary.csv alone."""

    columns: list[Column]
    rows: list[tuple[Cell, list[Cell]]]
    left_out: int = 0


def results_grid(tables: Tables, most: int | None = None) -> Grid:
    """What each configuration reached; of more than `most`, the best."""
    return grid(tables, result_columns(tables.run), most)


def costs_grid(tables: Tables, most: int | None = None) -> Grid:
    """Where time and memory go; of more than `most` configurations, the best."""
    return grid(tables, [column for group in cost_columns(tables.run).values() for column in group], most)


def column_groups(tables: Tables) -> Groups:
    """All columns that hold something, by what they are about; results come first."""
    settings = {"Settings": setting_columns(tables.summary)}
    groups = {RESULTS: result_columns(tables.run)} | cost_columns(tables.run) | settings
    held = {title: _measured(tables, columns) for title, columns in groups.items()}
    return {title: columns for title, columns in held.items() if columns}


def grid(tables: Tables, columns: list[Column], most: int | None = None) -> Grid:
    """Rows of the summary; a column that nothing was measured for is left out, the best on a device is marked."""
    columns = _measured(tables, columns)
    keys = [column.key for column in columns]
    by_device = tables.summary.groupby("device_name")[keys]
    ends = {"higher": by_device.max().to_dict("index"), "lower": by_device.min().to_dict("index")}
    shown = tables.summary if most is None or len(tables.summary) <= most else _best(tables.summary).head(most)
    rows = []
    for row in records(shown):
        cells = [_cell(row, column, ends) for column in columns]
        rows.append((Cell(row["label"], _counts(row)), cells))
    return Grid(columns, rows, len(tables.summary) - len(shown))


def _cell(row: dict[str, Any], column: Column, ends: dict[str, dict[Any, dict[Any, float]]]) -> Cell:
    value, note = row[column.key], column.note(row)
    if math.isnan(value):
        return Cell("–", note)
    best = column.better != "" and value == ends[column.better][row["device_name"]][column.key]
    return Cell(column.show(value * column.factor), note, best)


def _measured(tables: Tables, columns: list[Column]) -> list[Column]:
    known = [column for column in columns if column.key in tables.summary]
    raced = bool(tables.summary["n_raced"].any())
    return [column for column in known if (column.always and raced) or tables.summary[column.key].notna().any()]


def _best(summary: pd.DataFrame) -> pd.DataFrame:
    """Each family's best and the Pareto front, then the others by validation accuracy; test never chooses."""
    stands_out = summary["best_of_family"] | summary["pareto"]
    order = summary.assign(stands_out=stands_out).sort_values(["stands_out", "val_accuracy"], ascending=False)
    return order.drop(columns="stands_out")


def _counts(row: dict[str, Any]) -> str:
    """ "n = 8; 3 timed; 1 failed": the seeds behind accuracies, those behind speeds where they are fewer, the rest."""
    timed = f"{row['n_timed']} timed" if row["n_timed"] != row["n"] else ""
    return "; ".join(part for part in (f"n = {row['n']}", timed, row["not_ok"]) if part)
