"""Alt texts: what a picture of a run shows, said for those who don't see it, with the figures that lead."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench.analysis.comparison import Row, compare_rows
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
from bench.analysis.scaling import best_at_each_size, efficiency, ladders, speed_up
from bench.analysis.summary import Tables, targets_of
from bench.inference.error_analysis import confused_pairs
from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.style import shortened


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


# What is read out to those who can't see the gallery's pictures: plain words with the numbers in them.
READ_OUT = 5  # examples of each kind


def label_distribution(gallery: Gallery) -> str:
    counts = gallery.label_counts
    assert counts is not None
    least, most = int(counts[0].argmin()), int(counts[0].argmax())
    return (
        f"Bars: training images of each of {counts.shape[1]} classes, from {counts[0, least]:,} "
        f"({_name(gallery, least)}) to {counts[0, most]:,} ({_name(gallery, most)}). "
        "Points: shares in validation and test."
    )


def confusion(gallery: Gallery) -> str:
    parts = []
    for model, matrix in zip(gallery.models, gallery.confusion, strict=True):
        pairs = [
            f"{_name(gallery, truth)} taken for {_name(gallery, said)} ({count})"
            for truth, said, count in confused_pairs(matrix)[:3]
        ]
        most = f", most often {listed(pairs)}" if pairs else ""
        parts.append(f"{model.name}: {int(matrix.sum() - np.trace(matrix)):,} of {int(matrix.sum()):,} wrong{most}.")
    return " ".join(parts)


def class_accuracy(gallery: Gallery) -> str:
    parts = []
    for model, matrix in zip(gallery.models, gallery.confusion, strict=True):
        present = np.flatnonzero(matrix.sum(axis=1))
        shares = np.diag(matrix)[present] / matrix.sum(axis=1)[present]
        low, high = int(shares.argmin()), int(shares.argmax())
        parts.append(
            f"{model.name}: from {100 * shares[low]:.1f}% ({_name(gallery, present[low])}) to "
            f"{100 * shares[high]:.1f}% ({_name(gallery, present[high])}), {100 * model.accuracy:.2f}% over all."
        )
    return " ".join(parts)


def samples(gallery: Gallery) -> str:
    right = (gallery.predictions == gallery.labels)[:, gallery.samples].sum(axis=1)
    counts = [f"{model.name} {int(n)}" for model, n in zip(gallery.models, right, strict=True)]
    return f"{len(gallery.samples)} test images drawn at random. Right of them: {listed(counts)}."


def worst_mistakes(gallery: Gallery) -> str:
    parts = []
    for index, (model, places) in enumerate(zip(gallery.models, gallery.mistakes, strict=True)):
        said = [
            f"{_name(gallery, gallery.labels[place])} taken for {_name(gallery, gallery.predictions[index, place])} "
            f"({100 * gallery.confidences[index, place]:.1f}%)"
            for place in places[:READ_OUT]
        ]
        if said:
            parts.append(f"{model.name}'s most confident mistakes: {listed(said)}.")
    return " ".join(parts)


def disagreements(gallery: Gallery) -> str:
    parts = []
    for right, places in enumerate(gallery.only):
        wrong = 1 - right
        said = [
            f"{_name(gallery, gallery.labels[place])} taken for {_name(gallery, gallery.predictions[wrong, place])}"
            for place in places[:READ_OUT]
        ]
        if said:
            parts.append(f"Only the {gallery.models[right].name} is right on {listed(said)}, and more.")
    return f"{agreement_words(gallery)} {' '.join(parts)}"


def attention_heads(gallery: Gallery) -> str:
    heads, depths = _of(gallery, "attention_heads"), _of(gallery, "attention_depths")
    (s, _), equal = heads.shape[-2:], heads.shape[-1] * heads.shape[-2]
    return (
        f"Heat maps over {s} by {s} patches: {heads.shape[1]} heads of the last block and {depths.shape[1]} blocks. "
        f"The strongest head gives one patch {float(heads.max()) * equal:.1f} times an equal share, "
        f"the first block's mean {float(depths[:, 0].max()) * equal:.1f} times."
    )


def attention_rollout(gallery: Gallery) -> str:
    maps = _of(gallery, "rollout")
    equal = maps.shape[-1] * maps.shape[-2]
    names = listed([_name(gallery, k) for k in gallery.labels[gallery.looked]])
    low, high = float(maps.min()) * equal, float(maps.max()) * equal
    return f"Heat maps over test images of {names}: patches get from {low:.2f} to {high:.2f} times an equal share."


def saliency(gallery: Gallery) -> str:
    parts = []
    for model, inside in zip(gallery.models, gallery.insides, strict=True):
        if inside.saliency is not None:
            maps = np.sort(inside.saliency.astype(np.float64).reshape(len(inside.saliency), -1), axis=1)
            top = maps[:, -max(1, maps.shape[1] // 10) :].sum() / max(maps.sum(), 1e-30)
            parts.append(f"{100 * top:.0f}% of the {model.name}'s gradient")
    return f"Maps of {len(gallery.looked)} test images. The strongest tenth of the pixels holds {listed(parts)}."


def patch_filters(gallery: Gallery) -> str:
    return _filter_words(_of(gallery, "patch_filters"))


def first_filters(gallery: Gallery) -> str:
    return _filter_words(_of(gallery, "first_filters"))


def position_similarity(gallery: Gallery) -> str:
    values, places = _of(gallery, "similarity").astype(np.float64), _of(gallery, "similar_to")
    side = values.shape[-1]
    rows, columns = np.indices((side, side))
    apart = np.hypot(rows[None] - (places // side)[:, None, None], columns[None] - (places % side)[:, None, None])
    near, far = apart == 1, apart > side / 2
    said = [
        f"{values[chosen].mean():.2f} {where}"
        for chosen, where in ((near, "between neighbours"), (far, "between places further apart than half the image"))
        if chosen.any()
    ]
    return f"Cosines of {side * side} position embeddings; on average {listed(said)}."


def _filter_words(filters: Array) -> str:
    most = float(np.abs(filters.astype(np.float64)).max())
    return f"{len(filters)} filters of {filters.shape[-1]} by {filters.shape[-1]} pixels, weights up to {most:.2f}."


def agreement_words(gallery: Gallery) -> str:
    counts = {name: f"{count:,}" for name, count in gallery.agreement.items()}
    first, second = (model.name for model in gallery.models)
    return (
        f"Both right: {counts['both_right']} images; only the {first}: {counts['only_first']}; only the {second}: "
        f"{counts['only_second']}; both wrong: {counts['both_wrong_alike']} with the same answer, "
        f"{counts['both_wrong_apart']} with different ones."
    )


def _of(gallery: Gallery, name: str) -> Array:
    return next(found for inside in gallery.insides if (found := getattr(inside, name)) is not None)


def _name(gallery: Gallery, index: int) -> str:
    return shortened(gallery.class_names[int(index)], 30) or f"class {index}"
