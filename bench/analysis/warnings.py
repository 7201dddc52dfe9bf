"""Warnings: what a reader should know before trusting a run's numbers, as sentences in plain text."""

import math
from collections.abc import Iterator

import pandas as pd

from bench.analysis.comparison import Comparison, compare_rows, grouped, nothing
from bench.analysis.cross_device import node_warnings
from bench.analysis.formatting import listed, ratio, span
from bench.analysis.labels import family_title, records
from bench.analysis.matched_pairs import find_pairs, mismatches
from bench.analysis.modes import twins
from bench.analysis.summary import Tables, families_apart, split_size, targets_of

WIDE_SPREAD = 0.10  # interquartile range over median of a trial's timed blocks
SLOWER = 0.95  # share of the usual choice's images/s below which another is worth a line
LARGER = 1.10  # times its memory, likewise
WORSE = {
    "images_per_second": ("is slower than", "{} times its images/s"),
    "test_accuracy": ("is less accurate than", "by {} points"),
    "peak_memory_bytes": ("takes more memory than", "{} times as much"),
}
LISTED, NAMED = 12, 4  # reasons of failures that are told, and configurations of one reason; more are counted
LONGEST = 200  # characters of a reason


def find_warnings(tables: Tables, device_name: str) -> list[str]:
    """Warnings on one device's part of a run: what is missing, what failed, what is noisy, what is oddly slow."""
    rows = tables.summary[tables.summary["device_name"] == device_name]
    trials = tables.trials[tables.trials["device_name"] == device_name]
    found = [unfinished(tables), *_not_ok(trials), *_noisy(rows), *_worse_choices(tables, rows)]
    if rows["n"].any():
        found += [*mismatches(find_pairs(tables, device_name)), *_missing(tables, rows)]
        sizes = [f"{family_title(model)} with {n}" for model, n in families_apart(tables.summary, device_name).items()]
        if sizes:  # speed was bought with hardware, too
            found.append(
                f"The families share no number of processes ({listed(sizes)}), so speed and memory aren't compared "
                "like for like."
            )
        found += node_warnings(tables, device_name)
    return [text for text in found if text]


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


def side_by_side(tables: Tables) -> list[str]:
    """What a run can't say whose trials shared the machine: a sentence for all devices, or one a device."""
    ok = tables.trials[tables.trials["status"] == "ok"]
    timed = (ok["timed"] != "false").groupby(ok["device_name"], sort=False).any()
    shared = [str(name) for name in timed[~timed].index]
    if not shared:
        return []
    where = "in this run" if len(shared) == len(timed) else f"on {listed(shared)}"
    return [
        f"Accuracy alone: {where} the trials ran side by side and shared the machine, so no speed, time or memory was "
        "measured. Which family is faster or leaner takes a run of one trial at a time, without `--jobs`."
    ]


def _not_ok(trials: pd.DataFrame) -> list[str]:
    whole, lines = trials["label"].value_counts(), []
    alike: list[tuple[tuple[str, str], tuple[str, list[float]]]] = []  # status and reasons, label and seeds
    for (label, status), group in trials[trials["status"] != "ok"].groupby(["label", "status"], sort=False):
        texts = [text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text in group["error"] if text]
        reasons = listed(list(dict.fromkeys(texts))[:2])
        alike.append(((str(status), reasons), (str(label), group["seed"].tolist())))
    for (status, reasons), bad in grouped(alike).items():
        names = [label for label, _ in bad]
        named = listed(names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"])
        seeds = [f"seed {seed:g}" for seed in bad[0][1] if seed == seed] if len(bad) == 1 else []
        why = ": ".join(filter(None, (listed(seeds), reasons)))
        counts = f"{sum(len(seeds) for _, seeds in bad)} of {whole[names].sum()} trials {status}"
        lines.append(f"{named}: {counts}" + (f" ({why})" if why else "") + ".")
    more = len(lines) - LISTED
    return lines if more <= 0 else [*lines[:LISTED], f"{more} more reasons stand among the failures."]


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


def _worse_choices(tables: Tables, rows: pd.DataFrame) -> list[str]:
    """Numeric modes, compilations, layouts and kinds of attention that cost more than they bring, all else alike.

    A choice is slower by 5%, less accurate, or in need of a tenth more memory, and shown to be.
    """
    lines, choices = [], grouped((twin[:2], twin[2:]) for twin in twins(records(rows[rows["n"] > 0])))
    for (name, base), pairs in choices.items():
        for metric, (does, what) in WORSE.items():
            known = [(row, plain) for row, plain in pairs if not math.isnan(row[metric] + plain[metric])]
            found = [compare_rows(tables, row, plain, metric) for row, plain in known]
            bad = sorted((each for each in found if _is_worse(each)), key=lambda each: each.amount)
            if bad:
                show = (lambda x: f"{100 * x:.2f}") if nothing(metric) == 0 else ratio
                much = what.format(span([abs(each.amount) for each in bad], show))
                sure = f" {bad[0].range}" if len(bad) == 1 and bad[0].range else ""
                lines.append(f"{name} {does} {base} here: {much}{sure} in {len(bad)} of {len(found)} configurations.")
    return lines


def _is_worse(found: Comparison) -> bool:
    low, amount, high, _ = found.interval
    if found.metric == "images_per_second":
        return amount < SLOWER and not high >= 1
    if found.metric == "peak_memory_bytes":
        return amount > LARGER and not low <= 1
    return high < 0


def _missing(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """What wasn't reached, or measured often enough, or of everyone."""
    if rows["n_raced"].any():  # side by side, nothing raced
        missed = [f"{100 * target:g}%" for target in targets_of(tables.run) if not rows[f"reached_{target:g}"].any()]
        if missed:
            yield f"{listed(missed)} on validation was reached by no trial."
    families = rows[rows["n"] > 0].groupby("model", sort=False)
    most, timed = families["n"].max(), families["n_timed"].sum()
    if (most == 1).any():
        yield f"{_families(most == 1)}: one seed each, so no interval over seeds."
    if (timed == 0).any() and timed.any():
        yield (
            f"{_families(timed == 0)}: all trials ran side by side, so speed, time and memory are compared with none "
            "of them."
        )
    if not split_size(tables.run, "test") > 0:
        yield "The run doesn't say how many test images it has, so accuracy's intervals have no binomial floor."


def _families(chosen: pd.Series) -> str:
    return listed([family_title(str(model)) for model in chosen[chosen].index])
