"""Made-up galleries: plausible arrays of any sizes, for the tests of everything that draws one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.inference.error_analysis import Outcomes, agreement, confusion, disagreements, one_each, worst_mistakes
from bench.inference.gallery_file import Gallery, Insides, Shown


def make_outcomes(num_classes: int, images: int, errors: Sequence[float], seed: int = 0) -> Outcomes:
    noise = np.random.default_rng(seed)
    labels = noise.integers(0, num_classes, images)
    slips = noise.random((len(errors), images)) < np.array(errors)[:, None]
    predictions = np.where(slips, (labels + noise.geometric(0.6, (len(errors), images))) % num_classes, labels)
    return Outcomes(labels, predictions, noise.uniform(0.4, 1, (len(errors), images)).round(4))


def make_gallery(
    class_names: Sequence[str],
    *,
    models: Sequence[str] = ("vit", "cnn"),
    channels: int = 1,
    side: int = 28,
    patches: int = 4,
    heads: int = 2,
    depth: int = 4,
    images: int = 4000,
) -> Gallery:
    """A gallery whose first model has attention and whose others are convolutional."""
    noise, count = np.random.default_rng(1), len(class_names)
    outcomes = make_outcomes(count, images, (0.06, 0.03)[: len(models)])
    samples, mistakes = noise.permutation(images)[:20], [worst_mistakes(outcomes, m, 10) for m in range(len(models))]
    only = [disagreements(outcomes, m, 1 - m, 10) for m in (0, 1)] if len(models) == 2 else [samples[:0]]
    looked = one_each(outcomes.labels, np.arange(images), 10)
    indices = np.unique(np.concatenate([samples, looked, *mistakes, *only]))
    rows, columns = np.indices((side, side))
    waves = [np.sin(noise.uniform(0.1, 0.6) * rows + noise.uniform(0.1, 0.6) * columns) for _ in indices]
    pictures = np.stack([np.stack([127 + 127 * wave * shade for shade in noise.random(channels)]) for wave in waves])

    def shares(*shape: int) -> Any:
        values = noise.lognormal(0, 1, (*shape, patches, patches))
        return (values / values.sum(axis=(-1, -2), keepdims=True)).astype(np.float16)

    vit = Insides(
        attention_heads=shares(len(looked), heads),
        attention_depths=shares(len(looked), depth),
        rollout=shares(len(looked)),
        similarity=noise.uniform(-0.3, 1, (patches**2, patches, patches)).astype(np.float16),
        similar_to=np.arange(patches**2),
    )
    cnn = Insides(
        first_filters=noise.normal(size=(24, channels, 5, 5)).astype(np.float16),
        first_responses=noise.normal(size=(24, side // 2, side // 2)).astype(np.float16),
    )
    shown = [
        Shown(model, {"vit": "ViT", "cnn": "CNN"}.get(model, model), f"{model} d2 fp32", f"{model}-s0", 0, 3, accuracy)
        for model, accuracy in zip(models, outcomes.right.mean(axis=1).tolist(), strict=True)
    ]
    return Gallery(
        dataset="Made up",
        class_names=list(class_names),
        families=list(models),
        device_name="AMD EPYC 7R13",
        models=shown,
        agreement=agreement(outcomes) if len(models) == 2 else {},
        confusion=np.stack([confusion(outcomes.labels, said, count) for said in outcomes.predictions]),
        label_counts=np.stack([np.bincount(outcomes.labels, minlength=count) * k for k in (10, 1, 2)]),
        indices=indices,
        labels=outcomes.labels[indices],
        predictions=outcomes.predictions[:, indices],
        confidences=outcomes.confidences[:, indices],
        images=pictures.clip(0, 255).astype(np.uint8),
        samples=np.searchsorted(indices, samples),
        looked=np.searchsorted(indices, looked),
        mistakes=[np.searchsorted(indices, some) for some in mistakes],
        only=[np.searchsorted(indices, some) for some in only],
        insides=[vit, cnn][: len(models)],
    )
