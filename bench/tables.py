"""Tables of a report: columns, cells, and the two that have a row a configuration."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.labels import records
from bench.summary import Tables, targets_of
from bench.units import three_digits


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a figure, its interval below it, and what it is sorted by."""

    text: str
    interval: str = ""
    sort: float | str = ""
    best: bool = False


@dataclass(frozen=True)
class Column:
    title: str
    key: str
    show: Callable[[float], str]
    better: str = ""  # higher, lower
    note: Callable[[dict[str, Any]], str] = lambda row: ""


@dataclass(frozen=True)
class Grid:
    """A row a configuration: its name and n, then a cell a column."""

    columns: list[Column]
    rows: list[tuple[Cell, list[Cell]]]


@dataclass(frozen=True)
class Sheet:
    """A small table in words, with sentences above it; what stands beside a row's name may have its interval below."""

    title: str
    said: list[str]
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)


def results_grid(tables: Tables) -> Grid:
    """What each configuration reached."""
    times = [
        Column(f"to {100 * target:g}%, s", f"seconds_to_{target:g}", three_digits, "lower", _reached(target))
        for target in targets_of(tables.run)
    ]
    columns = [
        Column("test accuracy, %", "test_accuracy", _percent, "higher", _interval("test_accuracy", 100)),
        Column("validation, %", "val_accuracy", _percent, "higher"),
        Column("images/s", "images_per_second", three_digits, "higher", _interval("images_per_second")),
        *times,
        Column("memory, MiB", "peak_memory_bytes", _mebibytes, "lower"),
        Column("training, s", "train_seconds", three_digits),
        Column("parameters", "num_params", lambda x: f"{x:,.0f}"),
        Column("MFLOP per image", "num_flops", lambda x: three_digits(x / 1e6)),
    ]
    return _grid(tables, columns, always=times)


def costs_grid(tables: Tables) -> Grid:
    """Where time and memory go: all that instruments found besides the results."""
    inference = "inference_images_per_second"
    target = tables.run.get("target_accuracy")
    goal = f"{100 * target:g}%" if isinstance(target, (int, float)) else "target"
    columns = [
        Column("inference, images/s", inference, three_digits, "higher", _interval(inference)),
        *(
            Column(f"latency p{p}, ms", f"latency_p{p}_seconds", _milliseconds, "lower" if p == 50 else "")
            for p in (50, 95, 99)
        ),
        Column("step, ms", "step_seconds", _milliseconds),
        Column("data, ms", "data_seconds", _milliseconds),
        Column("forward, ms", "forward_seconds", _milliseconds),
        Column("backward, ms", "backward_seconds", _milliseconds),
        Column("optimiser, ms", "optimizer_seconds", _milliseconds),
        Column("compile, s", "compile_seconds", three_digits),
        Column("first step, s", "first_step_seconds", three_digits),
        Column("warm-up, s", "warm_up_seconds", three_digits),
        Column("parameters, MiB", "param_bytes", _mebibytes),
        Column("gradients, MiB", "gradient_bytes", _mebibytes),
        Column("optimiser, MiB", "optimizer_bytes", _mebibytes),
        Column("activations, MiB", "activation_bytes", _mebibytes),
        Column("GFLOP/s", "flops_per_second", lambda x: three_digits(x / 1e9), "higher"),
        Column("of matrix-product peak, %", "flops_share", lambda x: f"{100 * x:.1f}", "higher"),
        Column("J per epoch", "joules_per_epoch", three_digits, "lower"),
        Column(f"J to {goal}", "joules_to_accuracy", three_digits, "lower"),
    ]
    return _grid(tables, columns)


def _grid(tables: Tables, columns: list[Column], always: list[Column] | None = None) -> Grid:
    """All rows of the summary; a column that nothing was measured for is left out, the best on a device is marked."""
    columns = [column for column in columns if column in (always or []) or tables.summary[column.key].notna().any()]
    by_device = tables.summary.groupby("device_name")[[column.key for column in columns]]
    ends = {"higher": by_device.max(), "lower": by_device.min()}
    rows = []
    for row in records(tables.summary):
        cells = []
        for column in columns:
            value, note = row[column.key], column.note(row)
            if math.isnan(value):
                cells.append(Cell("–", note))
                continue
            best = column.better != "" and value == ends[column.better].loc[row["device_name"], column.key]
            cells.append(Cell(column.show(value), note, value, best))
        rows.append((Cell(row["label"], _counts(row), row["label"]), cells))
    return Grid(columns, rows)


def _counts(row: dict[str, Any]) -> str:
    """ "n = 8; 3 timed; 1 failed": the seeds behind accuracies, those behind speeds where they are fewer, the rest."""
    timed = f"{row['n_timed']} timed" if row["n_timed"] != row["n"] else ""
    return "; ".join(part for part in (f"n = {row['n']}", timed, row["not_ok"]) if part)


def _percent(x: float) -> str:
    return f"{100 * x:.2f}"


def _mebibytes(x: float) -> str:
    return three_digits(x / 2**20)


def _milliseconds(x: float) -> str:
    return three_digits(x * 1e3)


def _interval(key: str, factor: float = 1) -> Callable[[dict[str, Any]], str]:
    def note(row: dict[str, Any]) -> str:
        low, high = row[f"{key}_low"] * factor, row[f"{key}_high"] * factor
        show = three_digits if factor == 1 else lambda x: f"{x:.2f}"
        return "" if math.isnan(low) else f"{show(low)} to {show(high)}"

    return note


def _reached(target: float) -> Callable[[dict[str, Any]], str]:
    def note(row: dict[str, Any]) -> str:
        reached, of = row[f"reached_{target:g}"], row["n_raced"]
        return "" if reached == of else f"{reached} of {of}"

    return note
