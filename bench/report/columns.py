"""Columns of the table of configurations: what each shows, in which unit, and what of it a CSV gets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.formatting import three_digits
from bench.analysis.summary import targets_of

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
