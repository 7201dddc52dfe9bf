"""Warnings: what a reader should know before trusting a run's numbers, as sentences in plain text."""

import math
from collections.abc import Iterator

import pandas as pd

from bench.analysis.comparison import Comparison, compare_rows, nothing
from bench.analysis.cross_device import node_warnings
from bench.analysis.formatting import clean_text, listed, ratio, span
from bench.analysis.guessing import guess_warnings
from bench.analysis.labels import family_title, grouped, records
from bench.analysis.matched_pairs import find_pairs, mismatches
from bench.analysis.modes import twins
from bench.analysis.speeds import DeviceSpeeds, count_threads, precision_of
from bench.analysis.summary import Tables, families_apart, split_size, targets_of
from bench.measure.speed_stats import Panel

DISTURBED = 0.10  # share of a launch's slices that is worth a line
SHARED = 1.10  # times the best time of the probes' loop, on average, that is worth a line
STALLED, STALLED_LOW = 0.10, 0.05  # share of training time beyond its steps, and the low end of its interval, likewise
WIDE_SPREAD = 0.10  # interquartile range over median of a trial's timed blocks
SLOWER = 0.95  # share of the usual choice's images/s below which another is worth a line
LARGER = 1.10  # times its memory, likewise
WORSE = {
    "images_per_second": ("is slower than", "{} times its images/s"),
    "test_accuracy": ("is less accurate than", "by {} points"),
    "peak_memory_bytes": ("takes more memory than", "{} times as much"),
}
LOST = {  # of a slice's seconds -> what happened in them
    "waited": "a thread was ready and had no core",
    "stolen": "the hypervisor had the core",
    "throttled": "the container's CPU quota was used up",
}
FEW = 0.1  # share of ratios that aren't known well that is worth a line; each says so itself
LISTED, NAMED = 12, 4  # reasons of failures that are told, and configurations of one reason; more are counted
LONGEST = 200  # characters of a reason


def find_warnings(tables: Tables, device_name: str) -> list[str]:
    """Warnings on one device's part of a run: what is missing, what failed, what is noisy, what is oddly slow."""
    rows = tables.summary[tables.summary["device_name"] == device_name]
    trials = tables.trials[tables.trials["device_name"] == device_name]
    bad = trials[trials["status"] != "ok"]
    skipped = bad["status"] == "skipped"
    found = [unfinished(tables), *_not_ok(trials, bad[~skipped]), *_noisy(rows), *_stalled(rows)]
    found += guess_warnings(tables, records(rows[rows["n"] > 0]))
    if device_name in tables.devices:
        found += _of_launches(tables, tables.devices[device_name], rows)
    if rows["n"].any():
        found += [*mismatches(find_pairs(tables, device_name)), *_missing(tables, rows)]
        sizes = [f"{family_title(model)} with {n}" for model, n in families_apart(tables.summary, device_name).items()]
        if sizes:  # speed was bought with hardware, too
            found.append(
                f"The families share no number of processes ({listed(sizes)}), so speed and memory aren't compared "
                "like for like."
            )
        found += node_warnings(tables, device_name)
    found += [*_worse_choices(tables, rows), *_not_ok(trials, bad[skipped])]
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
    timed = ok["clocked"].astype(bool).groupby(ok["device_name"], sort=False).any()
    shared = [str(name) for name in timed[~timed].index]
    if not shared:
        return []
    where = "in this run" if len(shared) == len(timed) else f"on {listed(shared)}"
    return [
        f"Accuracy alone: {where} the trials ran side by side and nothing else timed them, so no speed or time was "
        "measured. Which family is faster takes speed rounds (`--set speed_seconds=240`) or trials timed one at a time "
        "(`--set timing=whole`)."
    ]


def _not_ok(trials: pd.DataFrame, bad_ones: pd.DataFrame) -> list[str]:
    """A line for each reason of `bad_ones`, some of the trials."""
    whole, lines = trials["label"].value_counts(), []
    alike: list[tuple[tuple[str, str], tuple[str, list[float]]]] = []  # status and reasons, label and seeds
    for (label, status), group in bad_ones.groupby(["label", "status"], sort=False):
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
    worst = wide.iloc[0]
    return [
        f"This machine was busy: training speed varied by up to {worst['throughput_spread']:.0%} between timed blocks "
        f"({worst['label']}). Close other programs, and run again."
    ]


def _of_launches(tables: Tables, device: DeviceSpeeds, rows: pd.DataFrame) -> Iterator[str]:
    """Contention while configurations were timed, ratios that it leaves unknown, and what couldn't be timed."""
    speeds, leading, asked = device.speeds, device.leading, precision_of(tables.run)
    pieces = [piece for each in speeds.launches for piece in each.slices if piece["num_threads"] == leading.threads]
    lost = {
        words: sum(piece[f"{kind}_seconds"] or 0.0 for piece in pieces) / sum(piece["seconds"] for piece in pieces)
        for kind, words in LOST.items()
    }
    if 1 - speeds.clean_share(leading.threads) > DISTURBED:
        told = listed([f"{share:.1%} of their time {words}" for words, share in lost.items() if share >= 0.0005])
        yield (
            f"Other programs disturbed {1 - speeds.clean_share(leading.threads):.0%} of the speed measurements "
            f"({count_threads(leading.threads)}); those are left out{f' ({told})' if told else ''}."
        )
    if (slowdown := speeds.slowdown(leading.threads)) > SHARED:
        yield (
            "Speeds are corrected for something on the cores that the system doesn't show, such as another rented "
            f"machine (a fixed loop took {slowdown:.2f} times as long as at best)."
        )
    widths = speeds.half_widths(Panel("train", False, leading.threads))
    wide = sum(width > 2 * asked for width in widths)
    if wide or not leading.known:
        are = f"ratio{'s' * (len(widths) > 1)} of training speeds {'is' if wide == 1 else 'are'}"
        told = f"{wide} of {len(widths)} {are} known to no better than ±{200 * asked:g}%"
        told = told if widths else "no ratio of training speeds is known"
        if not leading.known or wide >= FEW * len(widths):
            yield f"Speeds are rough: {told}. Close other programs, or give a larger --budget or --set speed_seconds=N."
    reasons = [(reason, config) for each in speeds.launches for config, reason in each.missing.items()]
    labels = dict(zip(rows["config_id"], rows["label"], strict=True))
    for reason, configs in grouped(reasons).items():
        names = [str(labels.get(config, config)) for config in dict.fromkeys(configs)]
        named = listed(names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"])
        yield f"{named}: speed not measured ({clean_text(reason)[:LONGEST]})."


def _stalled(rows: pd.DataFrame) -> list[str]:
    """Configurations whose training loses more than its steps take, beyond doubt."""
    bad = rows[(rows["stall_share"] > STALLED) & (rows["stall_share_low"] > STALLED_LOW)]
    bad = bad.sort_values("stall_share", ascending=False)
    if bad.empty:
        return []
    named = [
        f"{row['label']} {row['stall_share']:.0%} ({100 * row['stall_share_low']:.0f} to "
        f"{100 * row['stall_share_high']:.0f}%)"
        for row in records(bad.head(3))
    ]
    more = [f"{len(bad) - 3} more"] if len(bad) > 3 else []
    return [
        f"Training stalls: of its time, {listed([*named, *more])} isn't explained by the pace of undisturbed steps "
        "(waits for data, garbage collection, pauses in the code)."
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
    if found.metric == "images_per_second":
        return found.side < 0 and found.amount < SLOWER
    if found.metric == "peak_memory_bytes":
        return found.side > 0 and found.amount > LARGER
    return found.side < 0


def _missing(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """What wasn't reached, or measured often enough, or of everyone."""
    if rows["n_raced"].any():  # side by side, nothing raced
        missed = [f"{100 * target:g}%" for target in targets_of(tables.run) if not rows[f"reached_{target:g}"].any()]
        if missed:
            yield f"{listed(missed)} on validation was reached by no trial."
    families = rows[rows["n"] > 0].groupby("model", sort=False)
    most, timed = families["n"].max(), families["images_per_second"].count()
    if (most == 1).any():
        yield f"{_families(most == 1)}: one seed each, so no interval over seeds."
    if (timed == 0).any() and timed.any():
        yield (
            f"{_families(timed == 0)}: all trials ran side by side and nothing else timed them, so speed and time are "
            "compared with none of them."
        )
    if not split_size(tables.run, "test") > 0:
        yield "The run doesn't say how many test images it has, so accuracy's intervals have no binomial floor."


def _families(chosen: pd.Series) -> str:
    return listed([family_title(str(model)) for model in chosen[chosen].index])
