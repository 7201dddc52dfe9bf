"""Summary: trials reduced over seeds, one row a configuration and device; the only place where averages are taken."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.labels import labelled
from bench.results import INFERENCE_COLUMNS, STATUSES, TEXT_COLUMNS, read_run, read_table
from bench.stats import Interval, binomial_half_width, log_median_interval, median_interval, median_time_to_target
from bench.store import write_atomically

IDENTITY = (
    *("config_id", "label", "model", "patch_size", "depth", "embed_dim", "num_heads", "width", "attention", "source"),
    *("num_params", "num_flops", "num_train_flops", "match", "matched_to", "mismatch", "dtype", "compile"),
    *("channels_last", "device", "device_name", "num_threads", "train_fraction", "num_train_images", "recipe"),
    *("epochs", "batch_size", "settings", "training"),
)
ACCURACIES = ("test_accuracy", "val_accuracy")
POSITIVE = ("images_per_second", "inference_images_per_second", "peak_memory_bytes", "train_seconds")  # with intervals
RATES = ("images_per_second", "inference_images_per_second")  # which have an interval over blocks, too
MEDIANS = (
    *("latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "step_seconds", "data_seconds"),
    *("forward_seconds", "backward_seconds", "optimizer_seconds", "first_step_seconds", "compile_seconds"),
    *("warm_up_seconds", "param_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "flops_per_second"),
    *("matmul_flops_per_second", "flops_share", "train_joules", "joules_per_epoch", "joules_to_accuracy"),
)
GRID = "evaluation_interval_seconds"  # what times to a target can't tell apart
UNTIMED = ("throughput_spread", GRID, *POSITIVE, *MEDIANS)  # empty of trials side by side
TRAINED = ("ok", "diverged", "timeout")  # statuses of trials that had their chance at a target


@dataclass(frozen=True)
class Tables:
    """All that a report is made of: one run's record, its tables, and their summary."""

    folder: Path
    run: dict[str, Any]
    trials: pd.DataFrame
    evaluations: pd.DataFrame
    summary: pd.DataFrame
    inference: pd.DataFrame

    @property
    def with_all_data(self) -> pd.DataFrame:
        """The summary's rows that trained on the largest share of the images that the run has."""
        return _with_most_data(self.summary)


def read_tables(folder: Path) -> Tables:
    """A run from disk. `trials` gains `label` and a `seconds_to_<target>` column a target.

    Raises:
        StoreError: the folder isn't a run.
    """
    run, evaluations = read_run(folder), read_table(folder, "evaluations.csv")
    known = (folder / "inference.csv").exists()
    inference = read_table(folder, "inference.csv") if known else pd.DataFrame(columns=list(INFERENCE_COLUMNS))
    trials = without_shared_clocks(labelled(read_table(folder, "trials.csv")))
    trials = with_times_to_targets(trials, evaluations, targets_of(run))
    return Tables(folder, run, trials, evaluations, summarise(trials, evaluations, run), inference)


def write_summary(folder: Path) -> Tables:
    """Write `summary.csv` beside the run's tables, and return it with them."""
    tables = read_tables(folder)
    write_atomically(folder / "summary.csv", tables.summary.to_csv(index=False, lineterminator="\n"))
    return tables


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
    trials = with_times_to_targets(trials, evaluations, targets_of(run))
    groups = trials.groupby(["config_id", "device_name"], sort=False)
    rows = [_summary_row(group, run) for _, group in groups]
    summary = pd.DataFrame(rows, columns=_columns(targets_of(run)))
    numbers = [key for key in IDENTITY if key != "label" and key not in TEXT_COLUMNS]
    summary[numbers] = summary[numbers].apply(pd.to_numeric)  # what nobody knows is NaN there, and None in text
    summary["best_of_family"] = summary.index.isin(_champions(summary))
    summary["pareto"] = [_is_pareto(summary, index) for index in range(len(summary))]
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


def without_shared_clocks(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with every time, speed and memory emptied of those that ran side by side: each slowed the others."""
    trials = trials.copy()
    trials.loc[trials["timed"] == "false", list(UNTIMED)] = math.nan
    return trials


def _summary_row(group: pd.DataFrame, run: dict[str, Any]) -> dict[str, Any]:
    ok, trained = group[group["status"] == "ok"], group[group["status"].isin(TRAINED)]
    timed, raced = (rows[rows["timed"] != "false"] for rows in (ok, trained))
    row: dict[str, Any] = {key: _first_known(group[key]) for key in IDENTITY}
    row |= {"n": len(ok), "n_timed": len(timed), "n_trained": len(trained), "n_raced": len(raced)}
    row |= {"n_seen": len(group), "not_ok": _count_not_ok(group["status"])}
    for metric, part in zip(ACCURACIES, ("test", "val"), strict=True):
        middle = float(ok[metric].median()) if len(ok) else math.nan
        interval = median_interval(ok[metric], accuracy_floor(run, part, middle))
        row |= _cells(metric, interval._replace(low=max(interval.low, 0.0), high=min(interval.high, 1.0)))
    for metric in POSITIVE:
        row |= _cells(metric, log_median_interval(timed[metric]))
    for metric in RATES:
        row[f"{metric}_interval"] = "seeds" if len(timed) > 1 else ""
        ends = [f"{metric}_low", f"{metric}_high"]
        if len(timed) == 1 and timed[ends].notna().all(axis=None):
            row |= {key: float(timed[key].iloc[0]) for key in ends}
            row[f"{metric}_interval"] = "blocks of one trial"
    row |= {metric: float(timed[metric].median()) if len(timed) else math.nan for metric in (*MEDIANS, GRID)}
    row["throughput_spread"] = float(timed["throughput_spread"].max()) if len(timed) else math.nan
    for target in targets_of(run):
        seconds, reached, _ = median_time_to_target(raced[f"seconds_to_{target:g}"])
        row |= {f"seconds_to_{target:g}": math.nan if seconds is None else seconds, f"reached_{target:g}": reached}
    return row


def samples(trials: pd.DataFrame, row: dict[str, Any], metric: str) -> dict[float, float]:
    """A metric of the trials behind a row of the summary that ended `ok`, by seed; what wasn't measured is left out."""
    same = (trials["config_id"] == row["config_id"]) & (trials["device_name"] == row["device_name"])
    own = trials[same & (trials["status"] == "ok") & trials[metric].notna()]
    return dict(zip(own["seed"].astype(float), own[metric].astype(float), strict=True))


def _cells(metric: str, interval: Interval) -> dict[str, float]:
    return {metric: interval.median, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def _columns(targets: Iterable[float]) -> list[str]:
    metrics = [name for metric in (*ACCURACIES, *POSITIVE) for name in (metric, f"{metric}_low", f"{metric}_high")]
    for metric in RATES:
        metrics.insert(metrics.index(f"{metric}_high") + 1, f"{metric}_interval")
    times = [name for target in targets for name in (f"seconds_to_{target:g}", f"reached_{target:g}")]
    counts = ["n", "n_timed", "n_trained", "n_raced", "n_seen", "not_ok"]
    return [*IDENTITY, *counts, *metrics, "throughput_spread", GRID, *times, *MEDIANS]


def _first_known(values: pd.Series) -> Any:
    known = [value for value in values if value == value and value != ""]
    return known[0] if known else None


def _count_not_ok(statuses: pd.Series) -> str:
    counts = statuses.value_counts()
    known = [status for status in STATUSES if status != "ok" and status in counts]
    return ", ".join(f"{counts[status]} {status}" for status in known)


def _champions(summary: pd.DataFrame) -> pd.Index:
    """Where each family's best on each device stands: highest median validation accuracy; of equals, the faster.

    One that diverged with some seed doesn't stand for its family, unless that has no steadier one; nor does one that
    saw fewer images than others did.
    """
    rows = _with_most_data(summary)
    rows = rows[rows["n"] > 0].assign(unsteady=summary["n"] < summary["n_trained"])
    rows = rows.sort_values(["unsteady", "val_accuracy", "images_per_second"], ascending=[True, False, False])
    return rows.drop_duplicates(["model", "device_name"]).index


def _with_most_data(summary: pd.DataFrame) -> pd.DataFrame:
    shares = summary["train_fraction"]
    return summary[shares.isna() | (shares >= shares.max())]


def _is_pareto(summary: pd.DataFrame, index: int) -> bool:
    here = summary.iloc[index]
    if not (here["images_per_second"] > 0 and here["test_accuracy"] >= 0):
        return False
    rivals = summary[summary["device_name"] == here["device_name"]]
    faster, better = (rivals[key] - here[key] for key in ("images_per_second", "test_accuracy"))
    return not ((faster >= 0) & (better >= 0) & ((faster > 0) | (better > 0))).any()
