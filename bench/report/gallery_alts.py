"""What is read out to those who can't see the gallery's pictures: plain words with the numbers in them."""

import numpy as np

from bench.analysis.formatting import listed
from bench.inference.error_analysis import confused_pairs
from bench.inference.gallery_file import Array, Gallery
from bench.report.plots.lettering import shortened

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
