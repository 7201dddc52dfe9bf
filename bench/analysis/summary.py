"""The summary: trials and launches reduced, one row for each configuration and device. Averages are taken only here.

Where launches timed a configuration, its speeds are theirs, and its training seconds are its trials' images times
their seconds an image. Else speeds and seconds are those of trials that had the machine to themselves.

Which rows are compared: those that saw most of the training images, and that trained with as many processes. Where
processes vary, that is the smallest number that all families of a device have; where they share none, each family has
its own smallest, and a report says so.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.formatting import clean_record, clean_table
from bench.analysis.labels import labelled
from bench.analysis.speeds import DeviceSpeeds, device_speeds, precision_of
from bench.measure.speed_stats import Speeds
from bench.measure.stats import (
    Interval,
    binomial_half_width,
    log_mean_interval,
    log_median_interval,
    mean_interval,
    median_time_to_target,
    pareto_front,
    times,
)
from bench.result import AXES, STATUSES, TEXT_COLUMNS
from bench.store.tables import read_correct, read_frames, read_launches, read_run
from bench.system.csv_cells import guarded
from bench.system.files import write_atomically

_FIRST = (  # the columns that a summary begins with, in their order
    *("config_id", "label", "model", "patch_size", "depth", "embed_dim", "num_heads", "width", "attention", "source"),
    *("num_params", "num_flops", "num_train_flops", "match", "matched_to", "mismatch", "dtype", "compile"),
    *("channels_last", "device", "device_name", "num_threads", "train_fraction", "num_train_images", "recipe"),
    *("epochs", "batch_size", "world_size", "global_batch", "settings", "training"),
)
IDENTITY = tuple(dict.fromkeys((*_FIRST, *AXES)))
ACCURACIES = ("test_accuracy", "val_accuracy")
SURENESS = ("test_loss", "calibration_error", "accuracy_at_90_coverage")
RATES = ("images_per_second", "inference_images_per_second")  # which have an interval over blocks, too
TIMED = (*RATES, "latency_p50_seconds", "train_seconds")  # with intervals; what a clock says is positive
AVERAGED = (
    *("latency_p95_seconds", "latency_p99_seconds", "step_seconds", "data_seconds", "forward_seconds"),
    *("backward_seconds", "optimizer_seconds", "first_step_seconds", "compile_seconds", "warm_up_seconds"),
    *("data_wait_seconds", "flops_per_second", "matmul_flops_per_second", "flops_share", "train_joules"),
    *("joules_per_epoch", "joules_to_accuracy"),
)
MEMORY, PARTS_OF_MEMORY = "peak_memory_bytes", ("param_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
OF_LAUNCHES = (  # empty where there are none
    *("n_launches", "speed_threads", "stall_share", "stall_share_low", "stall_share_high"),
    *(f"{metric}_one_thread" for metric in (*RATES, "latency_p50_seconds")),
)
GRID = "evaluation_interval_seconds"  # what times to a target can't tell apart
UNTIMED = ("throughput_spread", GRID, *TIMED, *AVERAGED)  # empty of trials side by side
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
    devices: dict[str, DeviceSpeeds] = field(default_factory=dict)  # those that launches measured, by name
    correct: dict[str, NDArray[np.bool_]] = field(default_factory=dict)  # trial -> which test images it got right

    @property
    def speeds(self) -> dict[str, Speeds]:
        """What launches say, by name of the device."""
        return {name: device.speeds for name, device in self.devices.items()}

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

    def trials_of(self, row: Mapping[str, Any]) -> list[str]:
        """Ids of the trials behind a row of the summary that ended `ok`."""
        own: Any = self._places.get((row["config_id"], row["device_name"]), [])
        return [str(trial_id) for trial_id in self.trials["trial_id"].to_numpy()[own]]

    def samples(self, row: Mapping[str, Any], metric: str) -> dict[float, float]:
        """A metric of the trials behind a row of the summary that ended `ok`, by seed; no NaN."""
        own: Any = self._places.get((row["config_id"], row["device_name"]), [])
        seeds, values = (self.trials[key].to_numpy(float)[own].tolist() for key in ("seed", metric))
        return {seed: value for seed, value in zip(seeds, values, strict=True) if not math.isnan(value)}


def read_tables(folder: Path) -> Tables:
    """A run from disk. `trials` and `evaluations` gain what `with_times` adds, `trials` a `label`.

    Raises:
        StoreError: the folder isn't a run.
    """
    run = clean_record(read_run(folder))
    frames = read_frames(folder, ["trials.csv", "evaluations.csv", "inference.csv"])
    evaluations, inference = clean_table(frames["evaluations.csv"]), clean_table(frames["inference.csv"])
    inference = inference.loc[inference["trial_id"] != "", ["trial_id", "batch_size", "images", "seconds"]]
    trials = labelled(clean_table(frames["trials.csv"]))
    beside = trials["timed"] == "false"
    if beside.any():
        trials.loc[beside, list(UNTIMED)] = math.nan  # each that ran beside others slowed them
    devices = device_speeds(read_launches(folder), precision_of(run))
    trials, evaluations = with_times(trials, evaluations, targets_of(run), devices)
    summary = summarise(trials, run, devices)
    return Tables(folder, run, trials, evaluations, summary, inference, devices, read_correct(folder))


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


def summarise(trials: pd.DataFrame, run: dict[str, Any], devices: Mapping[str, DeviceSpeeds]) -> pd.DataFrame:
    """One row a (config_id, device_name), in the order of the suite, from trials that `with_times` made.

    Averages and intervals are over the trials that ended `ok` (`n` of them), geometric for speeds, seconds and bytes;
    `n_seen` counts the others too, and `not_ok` says what became of them. Speeds and seconds are of `n_launches`
    launches with `speed_threads` threads, or else of the `n_timed` trials that ran alone. `images_to_<target>` and
    `seconds_to_<target>` are medians in which a miss counts as infinity (an empty cell); `reached_<target>` of
    `n_raced` trials got there, `first_<target>` of them by their first evaluation. `best_of_family` marks each family's
    best on validation, `pareto` what nothing beats on both test accuracy and images per second.
    """
    targets = targets_of(run)
    columns = {str(key): trials[key].to_numpy() for key in trials}
    groups = trials.groupby(["config_id", "device_name"]).indices.values()
    none, *rows = [  # a row of no trials has the columns, too
        _summary_row({key: values[own] for key, values in columns.items()}, run, targets, devices)
        for own in (np.arange(0), *sorted(groups, key=lambda own: own[0]))
    ]
    summary = pd.DataFrame(rows, columns=list(none))
    numbers = [key for key in IDENTITY if key != "label" and key not in TEXT_COLUMNS]
    summary[numbers] = summary[numbers].astype(float)  # what nobody knows is NaN there, and None in text
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


def with_times(
    trials: pd.DataFrame, evaluations: pd.DataFrame, targets: list[float], devices: Mapping[str, DeviceSpeeds]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`trials` and `evaluations` with images trained, and training seconds where a clock tells them.

    Where launches timed a configuration, seconds are images times their seconds an image. `clocked` says whether a
    trial has times; for each target there are `images_to_<target>`, `seconds_to_<target>` (NaN: never) and
    `first_<target>`: the trial was there at its first evaluation.
    """
    trials, evaluations = trials.copy(), evaluations.copy()
    keys = zip(trials["config_id"], trials["device_name"], trials["batch_size"], strict=True)
    paces: dict[tuple[Any, ...], float] = {}  # training images/s
    for config, device, size in keys:
        if device in devices and (config, device, size) not in paces:
            paces[config, device, size] = devices[device].clock_of(config, size)
    keys = zip(trials["config_id"], trials["device_name"], trials["batch_size"], strict=True)
    trials["pace"] = pd.Series([paces.get(key, math.nan) for key in keys], index=trials.index, dtype=float)
    trials["clocked"] = (trials["pace"] > 0) | (trials["timed"] != "false")
    own = trials[["trial_id", "batch_size", "pace", "clocked"]].drop_duplicates("trial_id").set_index("trial_id")
    own = own.reindex(evaluations["trial_id"])
    evaluations["images"] = evaluations["step"] * own["batch_size"].to_numpy()
    product = evaluations["images"] / own["pace"].to_numpy()
    measured = evaluations["train_seconds"].where(own["clocked"].eq(True).to_numpy())  # side by side tells nothing
    evaluations["train_seconds"] = product.where(product > 0, measured)
    codes, ids = pd.factorize(evaluations["trial_id"])
    where = pd.Index(ids).get_indexer(trials["trial_id"])  # -1, the last place, where a trial has no evaluation
    images, seconds, step, reached = (
        evaluations[key].to_numpy(float) for key in ("images", "train_seconds", "step", "val_accuracy")
    )

    def least(values: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
        """Of each trial's evaluations `own`; NaN of none. Plain arrays: pandas takes a millisecond for each."""
        found = np.full(len(ids) + 1, math.inf)
        np.fmin.at(found, codes[own], values[own])
        found[np.isinf(found)] = math.nan
        return found[where]

    every = np.full(len(codes), True)
    first, last = least(step, every), -least(-images, every)
    apart = trials["trial_id"].map(
        evaluations["images"].groupby(codes).diff().groupby(evaluations["trial_id"]).median()
    )
    launched = trials["pace"] > 0
    trials["train_seconds"] = (last / trials["pace"]).where(launched, trials["train_seconds"])
    trials[GRID] = (apart.fillna(pd.Series(last, index=trials.index)) / trials["pace"]).where(launched, trials[GRID])
    for target in targets:
        there = reached >= target
        trials[f"images_to_{target:g}"] = least(images, there)
        trials[f"seconds_to_{target:g}"] = least(seconds, there)
        trials[f"first_{target:g}"] = least(step, there) <= first
    return trials, evaluations


def like_for_like(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows with the largest share of the images on their device, and with as many processes as can be compared."""
    shares = summary["train_fraction"]
    rows = summary[shares.isna() | (shares >= shares.groupby(summary["device_name"]).transform("max"))]
    if rows["world_size"].nunique() < 2:
        return rows
    kept = [_of_equal_processes(here) for _, here in rows.groupby("device_name", sort=False)]
    return pd.concat(kept).sort_index()


def champions(summary: pd.DataFrame) -> pd.Index:
    """Where each family's best on each device stands: highest mean validation accuracy; of equals, the faster.

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


def _summary_row(
    group: Columns, run: dict[str, Any], targets: list[float], devices: Mapping[str, DeviceSpeeds]
) -> dict[str, Any]:
    """What trials of one configuration come to, by column, in the order of the columns."""
    ok, trained = group["status"] == "ok", np.isin(group["status"].astype(str), TRAINED)
    alone, raced = ok & (group["timed"] != "false"), trained & group["clocked"].astype(bool)
    row: dict[str, Any] = {key: _first_known(group[key]) for key in IDENTITY}
    for key, mask in {"n": ok, "n_timed": alone, "n_trained": trained, "n_raced": raced}.items():
        row[key] = int(mask.sum())
    row |= {"n_seen": len(ok), "not_ok": _count_not_ok(group["status"])}
    for metric, part in zip(ACCURACIES, ("test", "val"), strict=True):
        values = group[metric][ok].tolist()
        low, middle, high, _ = mean_interval(values, accuracy_floor(run, part, _reduced(values)))
        row |= {metric: middle, f"{metric}_low": max(low, 0.0), f"{metric}_high": min(high, 1.0)}
    for metric in (*SURENESS, "test_balanced_accuracy", "commonest_share"):
        row[metric] = _reduced(group[metric][ok].tolist())
    row["commonest_class"] = _first_known(group["commonest_class"][ok])
    for metric in (*TIMED, MEMORY):
        mask = ok if metric == MEMORY else ok & group["clocked"].astype(bool) if metric == "train_seconds" else alone
        low, middle, high, _ = log_mean_interval(group[metric][mask].tolist())
        row |= {metric: middle, f"{metric}_low": low, f"{metric}_high": high}
        if metric in RATES:
            row[f"{metric}_interval"] = "seeds" if row["n_timed"] > 1 else ""
            ends = {f"{metric}_{end}": group[f"{metric}_{end}"][alone].tolist() for end in ("low", "high")}
            if row["n_timed"] == 1 and not any(math.isnan(end) for (end,) in ends.values()):
                row |= {key: end for key, (end,) in ends.items()}
                row[f"{metric}_interval"] = "blocks of one trial"
    row["throughput_spread"] = _reduced(group["throughput_spread"][alone].tolist(), max)
    row[GRID] = _reduced(group[GRID][raced].tolist())
    row |= {metric: _reduced(group[metric][alone].tolist()) for metric in AVERAGED}
    row |= {metric: _reduced(group[metric][ok].tolist()) for metric in PARTS_OF_MEMORY}
    row |= dict.fromkeys(OF_LAUNCHES, math.nan)
    device = devices.get(row["device_name"])
    of_launches = device.columns(row) if device else {}
    row |= of_launches | _stalls(group["pause_share"][ok].tolist(), of_launches)
    low, middle, high = (row[f"images_per_second{end}"] for end in ("_low", "", "_high"))
    pace = Interval(low, middle, high, row["n"])
    if of_launches:  # all seeds train on as many images, so the seconds are as sure as the speed
        row["train_seconds_low"], row["train_seconds_high"] = (
            row["train_seconds"] * middle / end for end in (high, low)
        )
    for target in targets:
        column, every = f"seconds_to_{target:g}", group[f"images_to_{target:g}"]
        images, _, _ = median_time_to_target(every[trained].tolist())
        seconds, reached, n = median_time_to_target(group[column][raced].tolist())
        sure = log_median_interval(group[column][raced].tolist())
        if of_launches and reached == n > 0:
            sure = times(log_median_interval(every[raced].tolist()), pace, -1)
        sure = sure if reached == n else Interval(math.nan, math.nan, math.nan, n)
        row |= {f"images_to_{target:g}": _or_nan(images), column: _or_nan(seconds), f"reached_{target:g}": reached}
        row |= {f"{column}_low": sure.low, f"{column}_high": sure.high}
        row[f"first_{target:g}"] = int(group[f"first_{target:g}"][raced].sum())
    return row


def _stalls(pauses: list[float], of_launches: Mapping[str, Any]) -> dict[str, float]:
    """The share of stalls: trials count pauses, launches estimate all that a loop loses. {} where neither tells.

    What trials count is exact, so it is taken unless launches see more: they have waits for data, too, and their short
    stretches may miss what is rare. Its ends are those of the seeds.
    """
    known = [value for value in pauses if not math.isnan(value)]
    if not known or (middle := statistics.fmean(known)) < of_launches.get("stall_share_low", math.nan):
        return {}
    return {"stall_share": middle, "stall_share_low": min(known), "stall_share_high": max(known)}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _reduced(values: list[float], how: Callable[[list[float]], float] = statistics.fmean) -> float:
    """The mean (or another reduction) of what was measured; NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return how(known) if known else math.nan


def _first_known(values: NDArray[Any]) -> Any:
    return next((value for value in values.tolist() if value == value and value != ""), None)


def _count_not_ok(statuses: NDArray[Any]) -> str:
    counts = Counter(statuses.tolist())
    known = [status for status in STATUSES if status != "ok" and status in counts]
    return ", ".join(f"{counts[status]} {status}" for status in known)
