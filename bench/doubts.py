"""Doubts: what a reader should know before trusting a run's numbers, as sentences in plain text."""

import math
from typing import Any

import pandas as pd

from bench.stats import ratio_interval
from bench.summary import Tables, family_title, records, split_size, targets_of
from bench.units import listed, ratio

WIDE_SPREAD = 0.10  # interquartile range over median of a trial's timed blocks
SLOWER = 0.95  # share of fp32's images/s below which a numeric mode is worth a line
LISTED = 12  # more failures than this are counted, not told one by one


def doubts(tables: Tables, device_name: str) -> list[str]:
    """Warnings on one device's part of a run: what is missing, what failed, what is noisy, what is oddly slow."""
    rows = tables.summary[tables.summary["device_name"] == device_name]
    trials = tables.trials[tables.trials["device_name"] == device_name]
    found = [unfinished(tables), *_not_ok(trials), *_noisy(rows), *_slow_modes(rows, trials)]
    if rows["n"].any():
        found += [*_missed_targets(tables, rows), *_few_seeds(rows), *_no_floor(tables)]
    return [doubt for doubt in found if doubt]


def unfinished(tables: Tables) -> str:
    """What the run didn't get round to, or ""."""
    plan = set(tables.run.get("plan") or [])
    done = plan & set(tables.trials["trial_id"])
    left_out = str(tables.run.get("left_out") or "").rstrip(".")
    if not left_out and len(done) >= len(plan):
        return ""
    why = left_out or ("the run was interrupted" if tables.run.get("interrupted") else "the run hasn't ended")
    counts = f"{len(done)} of {len(plan)} planned trials are in" if plan else "not all trials are in"
    return f"Unfinished: {counts} ({why}); `--resume` adds the rest."


def _not_ok(trials: pd.DataFrame) -> list[str]:
    bad = trials[trials["status"] != "ok"]
    lines = []
    for (label, status), group in bad.groupby(["label", "status"], sort=False):
        of = int((trials["label"] == label).sum())
        said = [f"seed {seed:g}" for seed in group["seed"].dropna()]
        reasons = listed(list(dict.fromkeys(text for text in group["error"] if text))[:2])
        why = ": ".join(part for part in (listed(said), reasons) if part)
        lines.append(f"{label}: {len(group)} of {of} trials {status}" + (f" ({why})" if why else "") + ".")
    more = len(lines) - LISTED
    return lines if more <= 0 else [*lines[:LISTED], f"{more} more configurations have trials that didn't end well."]


def _noisy(rows: pd.DataFrame) -> list[str]:
    wide = rows[rows["throughput_spread"] > WIDE_SPREAD].sort_values("throughput_spread", ascending=False)
    if wide.empty:
        return []
    named = [f"{row.label} ({row.throughput_spread:.0%})" for row in wide.head(3).itertuples()]
    more = [f"{len(wide) - 3} more"] if len(wide) > 3 else []
    return [
        f"Throughput swung by more than {WIDE_SPREAD:.0%} between timed blocks: {listed([*named, *more])}. "
        "Close other programs, and run again."
    ]


def _slow_modes(rows: pd.DataFrame, trials: pd.DataFrame) -> list[str]:
    """Numeric modes that train slower than fp32 does, with everything else alike."""
    alike = ["model", "settings", "training", "recipe"]
    measured = rows[rows["n"] > 0].fillna({"settings": "", "training": "", "recipe": ""})
    plain = {tuple(row[key] for key in alike): row for row in records(measured[measured["dtype"] == "fp32"])}
    ratios: dict[str, list[float]] = {}
    for row in records(measured[measured["dtype"] != "fp32"]):
        other = plain.get(tuple(row[key] for key in alike))
        if other is None:
            continue
        found = ratio_interval(_speeds(trials, row), _speeds(trials, other))
        slower = found.median < SLOWER and not found.high >= 1
        ratios.setdefault(row["dtype"], []).append(found.median if slower else math.nan)
    lines = []
    for dtype, factors in ratios.items():
        slow = sorted(factor for factor in factors if not math.isnan(factor))
        if slow:
            span = ratio(slow[0]) if len(slow) == 1 else f"{ratio(slow[0])} to {ratio(slow[-1])}"
            count = f"{len(slow)} of {len(factors)} configurations"
            lines.append(f"{dtype} is slower than fp32 here: {span} times its images/s in {count}.")
    return lines


def _missed_targets(tables: Tables, rows: pd.DataFrame) -> list[str]:
    missed = [f"{100 * target:g}%" for target in targets_of(tables.run) if not rows[f"reached_{target:g}"].any()]
    return [f"{listed(missed)} on validation was reached by no trial."] if missed else []


def _few_seeds(rows: pd.DataFrame) -> list[str]:
    most = rows[rows["n"] > 0].groupby("model", sort=False)["n"].max()
    families = [family_title(str(model)) for model in most[most == 1].index]
    return [f"{listed(families)}: one seed each, so no interval over seeds."] if families else []


def _no_floor(tables: Tables) -> list[str]:
    if split_size(tables.run, "test") > 0:
        return []
    return ["The run doesn't say how many test images it has, so accuracy's intervals have no binomial floor."]


def _speeds(trials: pd.DataFrame, row: dict[str, Any]) -> "pd.Series[float]":
    return trials.loc[(trials["config_id"] == row["config_id"]) & (trials["status"] == "ok"), "images_per_second"]
