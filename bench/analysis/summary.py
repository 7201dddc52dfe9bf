"""The summary: trials reduced over seeds, one row for each configuration and device. Averages are taken only here.

Which rows are compared: those that saw most of the training images, and that trained with as many processes. Where
processes vary, that is the smallest number that all families of a device have; where they share none, each family has
its own smallest, and a report says so.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.formatting import clean_record, clean_table
from bench.analysis.labels import labelled
from bench.measure.stats import (
    binomial_half_width,
    log_median_interval,
    median_interval,
    median_time_to_target,
    pareto_front,
)
from bench.result import AXES, STATUSES, TEXT_COLUMNS
from bench.store.tables import guarded, read_frames, read_run
from bench.system.files import write_atomically

_FIRST = (  # the columns that a summary begins with, in their order
    *("config_id", "label", "model", "patch_size", "depth", "embed_dim", "num_heads", "width", "attention", "source"),
    *("num_params", "num_flops", "num_train_flops", "match", "matched_to", "mismatch", "dtype", "compile"),
    *("channels_last", "device", "device_name", "num_threads", "train_fraction", "num_train_images", "recipe"),
    *("epochs", "batch_size", "world_size", "global_batch", "settings", "training"),
)
IDENTITY = tuple(dict.fromkeys((*_FIRST, *AXES)))
ACCURACIES = ("test_accuracy", "val_accuracy")
POSITIVE = ("images_per_second", "inference_images_per_second", "peak_memory_bytes", "train_seconds")  # with intervals
RATES = ("images_per_second", "inference_images_per_second")  # which have an interval over blocks, too
MEDIANS = (
    *("latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "step_seconds", "data_seconds"),
    *("forward_seconds", "backward_seconds", "optimizer_seconds", "first_step_seconds", "compile_seconds"),
    *("warm_up_seconds", "param_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "flops_per_second"),
    "data_wait_seconds",
    *("matmul_flops_per_second", "flops_share", "train_joules", "joules_per_epoch", "joules_to_accuracy"),
)
GRID = "evaluation_interval_seconds"  # what times to a target can't tell apart
UNTIMED = ("throughput_spread", GRID, *POSITIVE, *MEDIANS)  # empty of trials side by side
TRAINED = ("ok", "diverged", "timeout")  # statuses of trials that had their chance at a target

Columns = dict[str, NDArray[Any]]  # of some trials; plain arrays, since pandas takes a millisecond a configuration


@dataclass(frozen=True)
class Tables:
    """All that a report is made of: one run's record, its tables, and their summary."""

    folder: Path
    run: dict[str, Any]
    trials: pd.DataFrame
    evaluations: pd.DataFrame
    summary: pd.DataFrame
    inference: pd.DataFrame

    @cached_property
    def like_for_like(self) -> pd.DataFrame:
        """The summary's rows that are compared: most of the training images, and as many processes."""
        return like_for_like(self.summary)

    @cached_property
    def goal(self) -> str:
        """The summary's column of time to the run's headline target; "" where it has none."""
        target = self.run.get("target_accuracy")
        column = f"seconds_to_{target:g}" if isinstance(target, (int, float)) else ""
        return column if column in self.summary else ""

    @cached_property
    def compared(self) -> dict[tuple[str, ...], Any]:
        """What bench.analysis.comparison found so far, since several parts of a report ask for the same pair."""
        return {}

    @cached_property
    def _places(self) -> dict[Any, NDArray[Any]]:
        """Where the trials that ended `ok` stand, by configuration and device."""
        ok = np.flatnonzero(self.trials["status"] == "ok")
        keys = self.trials.iloc[ok].groupby(["config_id", "device_name"])
        return {key: ok[own] for key, own in keys.indices.items()}

    def samples(self, row: dict[str, Any], metric: str) -> dict[float, float]:
        """A metric of the trials behind a row of the summary that ended `ok`, by seed; no NaN."""
        own: Any = self._places.get((row["config_id"], row["device_name"]), [])
        seeds, values = (self.trials[key].to_numpy(float)[own].tolist() for key in ("seed", metric))
        return {seed: value for seed, value in zip(seeds, values, strict=True) if not math.isnan(value)}


def read_tables(folder: Path) -> Tables:
    """A run from disk. `trials` gains `label` and a `seconds_to_<target>` column a target.

    Raises:
        StoreError: the folder isn't a run.
    """
    run = clean_record(read_run(folder))
    frames = read_frames(folder, ["trials.csv", "evaluations.csv", "inference.csv"])
    evaluations, inference = clean_table(frames["evaluations.csv"]), clean_table(frames["inference.csv"])
    inference = inference.loc[inference["trial_id"] != "", ["trial_id", "batch_size", "images", "seconds"]]
    trials = labelled(clean_table(frames["trials.csv"]))
    trials.loc[trials["timed"] == "false", list(UNTIMED)] = math.nan  # each that ran beside others slowed them
    trials = with_times_to_targets(trials, evaluations, targets_of(run))
    return Tables(folder, run, trials, evaluations, summarise(trials, evaluations, run), inference)


def write_summary(folder: Path) -> Tables:
    """Write `summary.csv` beside the run's tables, and return it with them."""
    tables = read_tables(folder)
    write_atomically(folder / "summary.csv", summary_csv(tables.summary))
    return tables


def summary_csv(summary: pd.DataFrame) -> str:
    """The summary as text of a CSV file, in which no name is a spreadsheet's formula."""
    safe = summary.copy()
    for key in (key for key in summary if not pd.api.types.is_numeric_dtype(summary[key])):
        safe[key] = summary[key].map(lambda text: guarded(text) if isinstance(text, str) else text)
    return safe.to_csv(index=False, lineterminator="\n")


def summarise(trials: pd.DataFrame, evaluations: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
    """One row a (config_id, device_name), in the order of the suite.

    Medians and intervals are over the trials that ended `ok` (`n` of them); `n_seen` counts the others too, and
    `not_ok` says what became of them. Trials that ran side by side count for accuracy alone: speeds are over the
    `n_timed` others. `seconds_to_<target>` is a median in which a miss counts as infinity (an empty cell),
    `reached_<target>` of `n_raced` trials got there. `best_of_family` marks each family's best on validation, `pareto`
    what nothing beats on both test accuracy and images per second.
    """
    if "label" not in trials:
        trials = labelled(trials)
    targets = targets_of(run)
    trials = with_times_to_targets(trials, evaluations, targets)
    columns = {str(key): trials[key].to_numpy() for key in trials}
    groups = trials.groupby(["config_id", "device_name"]).indices.values()
    none, *rows = [  # a row of no trials has the columns, too
        _summary_row({key: values[own] for key, values in columns.items()}, run, targets)
        for own in (np.arange(0), *sorted(groups, key=lambda own: own[0]))
    ]
    summary = pd.DataFrame(rows, columns=list(none))
    numbers = [key for key in IDENTITY if key != "label" and key not in TEXT_COLUMNS]
    summary[numbers] = summary[numbers].apply(pd.to_numeric)  # what nobody knows is NaN there, and None in text
    summary["best_of_family"] = summary.index.isin(champions(summary))
    summary["pareto"] = False
    # more processes than those that are compared would buy speed with hardware
    fewest = like_for_like(summary).groupby("device_name")["world_size"].max()
    for _, here in summary[summary["world_size"] <= summary["device_name"].map(fewest)].groupby("device_name"):
        summary.loc[here.index, "pareto"] = pareto_front(here["images_per_second"], here["test_accuracy"])
    return summary


def targets_of(run: dict[str, Any]) -> list[float]:
    """The run's targets on validation, lowest first."""
    return sorted({float(target) for target in run.get("targets") or []})


def split_size(run: dict[str, Any], part: str) -> float:
    """Images in a part of the split; NaN where the run doesn't say."""
    size = (run.get("split") or {}).get(part)
    return float(size) if isinstance(size, (int, float)) else math.nan


def accuracy_floor(run: dict[str, Any], part: str, accuracy: float) -> float:
    """Half-width below which `part` ("test", "val") can't tell accuracies apart; 0 where its size isn't known."""
    half = binomial_half_width(accuracy, split_size(run, part))
    return 0.0 if math.isnan(half) else half


def with_times_to_targets(trials: pd.DataFrame, evaluations: pd.DataFrame, targets: list[float]) -> pd.DataFrame:
    """`trials` with `seconds_to_<target>`: training seconds to each trial's first evaluation at the target, or NaN."""
    trials = trials.copy()
    for target in targets:
        reached = evaluations[evaluations["val_accuracy"] >= target]
        first = trials["trial_id"].map(reached.groupby("trial_id")["train_seconds"].min())
        trials[f"seconds_to_{target:g}"] = first.where(trials["timed"] != "false")
    return trials


def like_for_like(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows with the largest share of the images on their device, and with as many processes as can be compared."""
    shares = summary["train_fraction"]
    rows = summary[shares.isna() | (shares >= shares.groupby(summary["device_name"]).transform("max"))]
    if rows["world_size"].nunique() < 2:
        return rows
    kept = [_of_equal_processes(here) for _, here in rows.groupby("device_name", sort=False)]
    return pd.concat(kept).sort_index()


def champions(summary: pd.DataFrame) -> pd.Index:
    """Where each family's best on each device stands: highest median validation accuracy; of equals, the faster.

    One that diverged with some seed doesn't stand for its family, unless that has no steadier one; nor does one that
    saw fewer images than others did, or trained with more processes.
    """
    rows = like_for_like(summary)
    rows = rows[rows["n"] > 0].assign(unsteady=summary["n"] < summary["n_trained"])
    rows = rows.sort_values(["unsteady", "val_accuracy", "images_per_second"], ascending=[True, False, False])
    return rows.drop_duplicates(["model", "device_name"]).index


def families_apart(summary: pd.DataFrame, device_name: str) -> dict[str, int]:
    """Processes of each family on a device where the families share no number of them; {} where they share one."""
    rows = like_for_like(summary[(summary["device_name"] == device_name) & (summary["n"] > 0)])
    sizes = rows.groupby("model", sort=False)["world_size"].min()
    return {str(model): int(size) for model, size in sizes.items()} if sizes.nunique() > 1 else {}


def _of_equal_processes(here: pd.DataFrame) -> pd.DataFrame:
    """One device's rows: those of the smallest number of processes in common, else of each family's smallest."""
    measured = here[here["n"] > 0]
    sizes = [set(rows["world_size"]) for _, rows in (measured if len(measured) else here).groupby("model")]
    common = set.intersection(*sizes)
    if common:
        return here[here["world_size"] == min(common)]
    smallest = measured.groupby("model")["world_size"].min()
    return here[here["world_size"] == here["model"].map(smallest)]


def _summary_row(group: Columns, run: dict[str, Any], targets: list[float]) -> dict[str, Any]:
    """What trials of one configuration come to, by column, in the order of the columns."""
    timed = group["timed"] != "false"
    ok, trained = group["status"] == "ok", np.isin(group["status"].astype(str), TRAINED)
    alone, raced = ok & timed, trained & timed
    row: dict[str, Any] = {key: _first_known(group[key]) for key in IDENTITY}
    for key, mask in {"n": ok, "n_timed": alone, "n_trained": trained, "n_raced": raced}.items():
        row[key] = int(mask.sum())
    row |= {"n_seen": len(ok), "not_ok": _count_not_ok(group["status"])}
    for metric, part in zip(ACCURACIES, ("test", "val"), strict=True):
        values = group[metric][ok].tolist()
        low, middle, high, _ = median_interval(values, accuracy_floor(run, part, _reduced(values)))
        row |= {metric: middle, f"{metric}_low": max(low, 0.0), f"{metric}_high": min(high, 1.0)}
    for metric in POSITIVE:
        low, middle, high, _ = log_median_interval(group[metric][alone].tolist())
        row |= {metric: middle, f"{metric}_low": low, f"{metric}_high": high}
        if metric in RATES:
            row[f"{metric}_interval"] = "seeds" if row["n_timed"] > 1 else ""
            ends = {f"{metric}_{end}": group[f"{metric}_{end}"][alone].tolist() for end in ("low", "high")}
            if row["n_timed"] == 1 and not any(math.isnan(end) for (end,) in ends.values()):
                row |= {key: end for key, (end,) in ends.items()}
                row[f"{metric}_interval"] = "blocks of one trial"
    row["throughput_spread"] = _reduced(group["throughput_spread"][alone].tolist(), max)
    row[GRID] = _reduced(group[GRID][alone].tolist())
    for target in targets:
        seconds, reached, _ = median_time_to_target(group[f"seconds_to_{target:g}"][raced].tolist())
        row |= {f"seconds_to_{target:g}": math.nan if seconds is None else seconds, f"reached_{target:g}": reached}
    return row | {metric: _reduced(group[metric][alone].tolist()) for metric in MEDIANS}


def _reduced(values: list[float], how: Callable[[list[float]], float] = statistics.median) -> float:
    """The median (or another reduction) of what was measured; NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return how(known) if known else math.nan


def _first_known(values: NDArray[Any]) -> Any:
    return next((value for value in values.tolist() if value == value and value != ""), None)


def _count_not_ok(statuses: NDArray[Any]) -> str:
    counts = Counter(statuses.tolist())
    known = [status for status in STATUSES if status != "ok" and status in counts]
    return ", ".join(f"{counts[status]} {status}" for status in known)
