"""Alt texts: what a picture of a run shows, said for those who don't see it, with the figures that lead."""

from collections.abc import Callable

import pandas as pd

from bench.analysis.comparison import Row, compare_rows
from bench.analysis.efficiency import best_at_each_size
from bench.analysis.formatting import (
    listed,
    mebibytes,
    milliseconds,
    percent,
    rate,
    ratio,
    seconds,
    span,
    three_digits,
    whole,
)
from bench.analysis.labels import family_title, records
from bench.analysis.matched_pairs import find_pairs, pair_sentences
from bench.analysis.modes import Twin, twins
from bench.analysis.scaling import efficiency, ladders, speed_up
from bench.analysis.summary import Tables, targets_of


def alt_text(name: str, title: str, tables: Tables) -> str:
    """Title, what is seen device by device, and where the numbers stand."""
    devices = list(dict.fromkeys(tables.summary["device_name"]))
    seen = []
    for device in devices:
        rows = tables.like_for_like[(tables.like_for_like["device_name"] == device) & (tables.like_for_like["n"] > 0)]
        said = SEEN[name](tables, device, rows) if name in SEEN and len(rows) else ""
        seen.append(f"{device}: {said}" if said and len(devices) > 1 else said)
    return " ".join(part for part in (f"{title}.", *seen, "The table of configurations holds the numbers.") if part)


def _ends(rows: pd.DataFrame, metric: str, show: Callable[[float], str], less_is_better: bool = False) -> str:
    """ "from 2,430 images/s (ViT p4 d4) to 24,000 images/s (ViT p14 d2)", the worse end first."""
    known = rows.dropna(subset=[metric]).sort_values(metric, ascending=not less_is_better)
    if known.empty:
        return ""
    worst, best = records(known.iloc[[0, -1]])
    if len(known) == 1:
        return f"{show(best[metric])} ({best['label']})"
    return f"from {show(worst[metric])} ({worst['label']}) to {show(best[metric])} ({best['label']})"


def _accuracies(rows: pd.DataFrame) -> str:
    return f"Test accuracy goes {_ends(rows, 'test_accuracy', percent)}."


def _throughput(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    front = rows[rows["pareto"]].sort_values("images_per_second")
    speeds = f"Training throughput goes {_ends(rows, 'images_per_second', rate)}."
    return f"{_accuracies(rows)} {speeds} On the Pareto front: {_few(list(front['label']))}."


def _latency(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    latency = _ends(rows, "latency_p50_seconds", milliseconds, less_is_better=True)
    batches = _ends(rows, "inference_images_per_second", rate)
    parts = [_accuracies(rows), f"One image takes {latency}." if latency else ""]
    return " ".join([*parts, f"In batches, images go through {batches}." if batches else ""]).strip()


def _times(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    said = []
    for target in targets_of(tables.run)[-5:]:
        column, goal = f"seconds_to_{target:g}", f"{100 * target:g}%"
        known = rows.dropna(subset=[column]).sort_values(column)
        missed = len(rows) - len(known)
        first = f"first {known.iloc[0]['label']} after {seconds(known.iloc[0][column])}" if len(known) else "by none"
        said.append(f"{goal}: {first}" + (f", not by {missed} of {len(rows)}" if missed and len(known) else ""))
    return f"Reached, in the median: {'; '.join(said)}."


def _curves(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    said = [
        f"{row['label']} ends at {percent(row['val_accuracy'])} on validation after {row['epochs']:g} epochs"
        + (f" and {seconds(row['train_seconds'])}" if row["train_seconds"] > 0 else "")
        for row in _champions(rows)
    ]
    return f"{'; '.join(said)}."


def _maps(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["patch_size", "depth"])
    said = []
    for metric, what, show in (
        ("test_accuracy", "test accuracy", percent),
        ("images_per_second", "images/s in training", three_digits),
        ("peak_memory_bytes", "peak memory", mebibytes),
    ):
        medians = known.dropna(subset=[metric]).groupby("patch_size")[metric].median()
        said += [f"{what} {_list(medians, show)}"] if len(medians) else []
    return f"Medians by patch size over depths and modes: {'; '.join(said)}." if said else ""


def _list(values: "pd.Series[float]", show: Callable[[float], str]) -> str:
    return listed([f"{show(value)} at {patch:g} px" for patch, value in values.items()])


def _modes(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    """ "amp-bf16 against fp32 in 8 configurations: training speed 0.75 to 1.49 times, memory 0.77 to 1.54 times"."""
    choices: dict[str, list[Twin]] = {}
    for twin in twins(records(rows)):
        choices.setdefault(f"{twin.title} against {twin.base_title}", []).append(twin)
    said = []
    for choice, own in choices.items():
        parts = []
        for metric, what, show, unit in (
            ("images_per_second", "training speed", ratio, "times"),
            ("peak_memory_bytes", "memory", ratio, "times"),
            ("test_accuracy", "test accuracy", lambda x: f"{100 * x:+.2f}", "points"),
        ):
            both = [twin for twin in own if twin.row[metric] > 0 and twin.plain[metric] > 0]
            changes = [compare_rows(tables, twin.row, twin.plain, metric).amount for twin in both]
            parts += [f"{what} {span(changes, show)} {unit}"] if changes else []
        said.append(f"{choice} in {len(own)} configurations: {', '.join(parts)}")
    return f"{'; '.join(said)}." if said else ""


def _sizes(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    here = tables.summary[(tables.summary["device_name"] == device) & (tables.summary["n"] > 0)]
    best = best_at_each_size(here.dropna(subset=["num_train_images", "test_accuracy"]))
    said = []
    for model, own in best.groupby("model", sort=False):
        own = own.sort_values("num_train_images").iloc[[0, -1]]
        ends = [f"{percent(row['test_accuracy'])} with {whole(row['num_train_images'])} images" for row in records(own)]
        said.append(f"the {family_title(str(model))} goes from {' to '.join(ends)}")
    return f"Test accuracy of {'; of '.join(said)}." if said else ""


def _pairs(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    return " ".join(pair_sentences([pair for pair in find_pairs(tables) if pair.made["device_name"] == device]))


def _steps(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    parts = ("data", "forward", "backward", "optimizer")
    said = []
    for row in _champions(rows):
        sizes = [row[f"{part}_seconds"] for part in parts]
        if sum(sizes) > 0:
            shares = [f"{part} {size / sum(sizes):.0%}" for part, size in zip(parts, sizes, strict=True)]
            said.append(f"a step of {row['label']} takes {milliseconds(sum(sizes))}, {listed(shares)}")
    return f"In medians {'; '.join(said)}." if said else ""


def _batches(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    said = [
        f"{row['label']} {rate(row['inference_images_per_second'])} in batches of {row['batch_size']:g}, "
        f"{milliseconds(row['latency_p50_seconds'])} for one image"
        for row in _champions(rows)
    ]
    return f"{'; '.join(said)}."


def _flops(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    share = _ends(rows, "flops_share", lambda x: f"{x:.1%}")
    work = _ends(rows, "flops_per_second", lambda x: f"{three_digits(x / 1e9)} GFLOP/s")
    peak = f" The share of the matrix-product peak goes {share}." if share else ""
    return f"Work in training goes {work}.{peak}" if work else ""


def _memory(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    return f"Peak training memory goes {_ends(rows, 'peak_memory_bytes', mebibytes, less_is_better=True)}."


def _scaling(tables: Tables, device: str, rows: pd.DataFrame) -> str:
    said = []
    for ladder in ladders(tables, device):
        found, share = speed_up(tables, ladder, ladder.more[-1]), efficiency(tables, ladder, ladder.more[-1])
        if found and share:
            size = f"{ladder.more[-1]['world_size']:g}"
            said.append(
                f"{ladder.name}, {ladder.batch}: {found.text} times with {size} processes, "
                f"efficiency {share.median:.0%}"
            )
    return f"{'; '.join(said[:6])}{f'; {len(said) - 6} more' if len(said) > 6 else ''}." if said else ""


def _champions(rows: pd.DataFrame) -> list[Row]:
    return records(rows[rows["best_of_family"]])


def _few(labels: list[str], most: int = 6) -> str:
    return listed(labels) if len(labels) <= most else f"{', '.join(labels[:most])} and {len(labels) - most} more"


SEEN: dict[str, Callable[[Tables, str, pd.DataFrame], str]] = {
    "accuracy_against_throughput": _throughput,
    "accuracy_against_latency": _latency,
    "time_to_accuracy": _times,
    "learning_curves": _curves,
    "patch_depth_heatmaps": _maps,
    "mode_ratios": _modes,
    "scaling": _scaling,
    "data_efficiency": _sizes,
    "matched_pairs": _pairs,
    "step_split": _steps,
    "inference_by_batch": _batches,
    "flops_share": _flops,
    "memory": _memory,
}
