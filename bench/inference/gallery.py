"""The gallery: predictions, attention and filters of a run's best models on test images, for the report's pictures.

Which models: each family's best on validation, on the run's first device; of its seeds the one of median validation
accuracy. Where there are more than two families, the best one with attention and the best of the others.
"""

from collections.abc import Container
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables, read_tables
from bench.data.catalog import DATASETS
from bench.data.dataset import load_dataset
from bench.errors import DataError, UserError
from bench.inference.error_analysis import (
    Outcomes,
    agreement,
    confusion,
    disagreements,
    one_each,
    read_outcomes,
    worst_mistakes,
)
from bench.inference.gallery_file import Array, Gallery, Insides, Shown, read_gallery, write_gallery
from bench.inference.predict import as_kaggle, find_images, probabilities, write_predictions
from bench.inference.saved_model import load_trial
from bench.training.checkpoint import PREDICTIONS, TRIAL
from bench.trial import Trial
from models import introspection

SAMPLES, MISTAKES, LOOKED = 20, 10, 10  # images: drawn at random, of each kind of mistake, looked into
LARGEST = 64  # pixels a side; larger images are made smaller, so that a gallery stays some hundred kB
FILTERS, POSITIONS = 32, 7  # most filters of a model; most positions a side


def collect(folder: Path, data_dir: Path | None = None, trust: bool | Container[str] = False) -> bool:
    """Write the gallery of a run's folder; False, and an older one is left alone, where nothing can be shown.

    Confusions and accuracies need only predictions. Where the data or weights aren't there, the gallery has
    these and what else it can; such a one never takes the place of an older one.

    Args:
        trust: as load_trial's: whether models that are somebody's code may be imported, or whose.

    Raises:
        StoreError: the folder isn't a run.
    """
    tables = read_tables(folder)
    chosen = choose(tables)
    try:
        paths = [folder / "trials" / model.trial_id for model in chosen]
        trials = [Trial.model_validate_json((path / TRIAL).read_bytes()) for path in paths]
        if not trials:
            return False
        spec = trials[0].data or DATASETS[trials[0].dataset]
        outcomes = read_outcomes([path / PREDICTIONS for path in paths], spec.class_names)
    except (DataError, OSError, KeyError, ValidationError):
        return False
    gallery, whole = _from_predictions(tables, chosen, spec, outcomes), False
    with suppress(UserError, OSError):  # the predictions alone say enough for some pictures
        gallery, whole = _with_images(gallery, folder, trials[0], data_dir, trust)
    if not whole and read_gallery(folder) is not None:
        return False
    write_gallery(folder, gallery)
    return True


def choose(tables: Tables) -> list[Shown]:
    """The models to show, one or two; one with attention first. Only trials whose predictions are there count."""
    best = tables.summary[tables.summary["best_of_family"]]
    best = best[best["device_name"] == best["device_name"].iloc[0]] if len(best) else best
    rows = records(best.sort_values("val_accuracy", ascending=False, kind="stable"))
    looking, others = list[Shown](), list[Shown]()
    for row in rows:
        if model := _middle_seed(tables, row):
            (looking if isinstance(row["attention"], str) and row["attention"] else others).append(model)
    return [looking[0], others[0]] if looking and others else (looking or others)[:2]


def _middle_seed(tables: Tables, row: dict[str, Any]) -> Shown | None:
    """Of a configuration's trials the one of median validation accuracy, the lower of two, the first seed of equals."""
    trials = tables.trials
    same = (trials["config_id"] == row["config_id"]) & (trials["device_name"] == row["device_name"])
    own = records(trials[same & (trials["status"] == "ok")].sort_values(["val_accuracy", "seed"]))
    own = [one for one in own if (tables.folder / "trials" / one["trial_id"] / PREDICTIONS).is_file()]
    if not own:
        return None
    one = own[(len(own) - 1) // 2]
    family = row["model"], family_title(row["model"])
    return Shown(*family, row["label"], one["trial_id"], int(one["seed"]), len(own), accuracy=0.0)


def _from_predictions(tables: Tables, chosen: list[Shown], spec: Any, outcomes: Outcomes) -> Gallery:
    """All but images and insides."""
    accuracies = outcomes.right.mean(axis=1)
    models = [replace(model, accuracy=float(a)) for model, a in zip(chosen, accuracies, strict=True)]
    count = len(models)
    samples = np.random.default_rng(0).permutation(len(outcomes.labels))[:SAMPLES]
    mistakes = [worst_mistakes(outcomes, model, MISTAKES) for model in range(count)]
    only = [disagreements(outcomes, right, 1 - right, MISTAKES) for right in (0, 1)] if count == 2 else [samples[:0]]
    right = np.flatnonzero(outcomes.right.all(axis=0))
    looked = one_each(outcomes.labels, right if len(right) else np.arange(len(outcomes.labels)), LOOKED)
    indices = np.unique(np.concatenate([samples, looked, *mistakes, *only]))
    return Gallery(
        dataset=spec.title,
        class_names=list(spec.class_names),
        families=[str(model) for model in dict.fromkeys(tables.summary["model"])],
        device_name=str(tables.summary.loc[tables.summary["best_of_family"], "device_name"].iloc[0]),
        models=models,
        agreement=agreement(outcomes) if count == 2 else {},
        confusion=np.stack([confusion(outcomes.labels, said, spec.num_classes) for said in outcomes.predictions]),
        indices=indices,
        labels=outcomes.labels[indices],
        predictions=outcomes.predictions[:, indices],
        confidences=outcomes.confidences[:, indices],
        samples=np.searchsorted(indices, samples),
        looked=np.searchsorted(indices, looked),
        mistakes=[np.searchsorted(indices, some) for some in mistakes],
        only=[np.searchsorted(indices, some) for some in only],
        insides=[Insides()] * count,
    )


def _with_images(
    gallery: Gallery, folder: Path, trial: Trial, data_dir: Path | None, trust: bool | Container[str]
) -> tuple[Gallery, bool]:
    """The gallery with its images and what the models' weights show, and whether the weights of all were there.

    Raises:
        UserError: the data aren't there, or aren't those of the run.
    """
    # What would be done to the pixels isn't asked here, and the training images' statistics are slow to take.
    data = load_dataset(trial.dataset, data_dir, trial.split_seed, user_data=trial.data, normalization="symmetric")
    indices = torch.from_numpy(gallery.indices)
    if len(data.test) != gallery.confusion[0].sum() or data.test.labels[indices].tolist() != gallery.labels.tolist():
        raise DataError(f"{trial.dataset}: its test images aren't those that the run's predictions are about")
    images = data.test.pick(indices)
    looked = torch.from_numpy(gallery.looked)
    insides, whole = [], True
    for shown in gallery.models:
        try:
            inside = _look_inside(folder / "trials" / shown.trial_id, images[looked], trust)
        except (UserError, OSError, RuntimeError, TypeError, ValueError):  # other people's code is run here, too
            inside, whole = Insides(), False
        insides.append(inside)
    parts = [part.labels.numpy() for part in (data.train, data.val, data.test)]
    counts = np.stack([np.bincount(part, minlength=len(gallery.class_names)) for part in parts])
    return replace(gallery, images=smaller(images.numpy()), insides=insides, label_counts=counts), whole


def _look_inside(trial_dir: Path, images: Tensor, trust: bool | Container[str]) -> Insides:
    """What one model learned and makes of images (B, C, H, W), uint8. Raises: UserError without its weights."""
    saved = load_trial(trial_dir, trust)
    model = saved.model.float()  # of a mode in half precision too: pictures needn't be as quick as training
    inputs = saved.normalized(images)
    found, attention = dict[str, Array](), []
    for one in inputs.split(1):  # maps of many tokens and blocks are large
        if (maps := introspection.attention_maps(model, one)) is not None:
            shares = maps[:, -1], maps.mean(dim=2), introspection.attention_rollout(maps)
            attention.append([introspection.token_grid(model, share) for share in shares])
    if attention:
        names = "attention_heads", "attention_depths", "rollout"
        found |= {name: torch.cat(grids).numpy() for name, *grids in zip(names, *attention, strict=True)}
    if (filters := introspection.first_filters(model)) is not None:
        found["first_filters"] = filters[order := _strongest(filters)].numpy()
        if (responses := introspection.first_responses(model, inputs[:1])) is not None:
            found["first_responses"] = smaller(responses[0, order].numpy())
    places = None
    if (similarity := introspection.position_similarity(model)) is not None:
        side = similarity.shape[-1]
        line = np.unique(np.linspace(0, side - 1, min(side, POSITIONS)).round().astype(np.int64))
        places = (line[:, None] * side + line).ravel()  # evenly spread over the image, row by row
        found["similarity"] = similarity[places].numpy()
    # Half precision: three digits are plenty for a colour. What is too large for it stays finite.
    halves = {name: array.astype(np.float32).clip(-6e4, 6e4).astype(np.float16) for name, array in found.items()}
    return Insides(**halves, similar_to=places)


def _strongest(filters: Tensor) -> Tensor:
    """Indices of the filters with the largest norms, the largest first. (K, C, k, k) -> (K or less,)"""
    return filters.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:FILTERS]


def smaller(images: Array) -> Array:
    """Images (..., H, W) of more than LARGEST pixels a side as means over squares; others as they are."""
    steps = [-(-side // LARGEST) for side in images.shape[-2:]]
    if max(steps) == 1:
        return images
    means = F.avg_pool2d(torch.from_numpy(images.astype(np.float32)), steps, ceil_mode=True).numpy()
    return (means.round() if images.dtype == np.uint8 else means).astype(images.dtype)


def write_submissions(folder: Path, unlabelled: Path, trust: bool | Container[str] = False) -> list[Path]:
    """Predict unlabelled images with the models that a run's gallery shows, in Kaggle's format.

    Returns the files written: `submissions/<trial_id>.csv` in the run's folder.

    Args:
        trust: as load_trial's: whether models that are somebody's code may be imported, or whose.

    Raises:
        StoreError: the folder isn't a run, or a trial's weights are damaged.
        DataError: the images can't be read.
    """
    written = []
    for model in choose(read_tables(folder)):
        saved = load_trial(folder / "trials" / model.trial_id, trust)
        images = find_images(saved, unlabelled)
        path = folder / "submissions" / f"{model.trial_id}.csv"
        path.parent.mkdir(exist_ok=True)
        write_predictions(path, as_kaggle(probabilities(saved, images.split), saved.inputs.class_names))
        written.append(path)
    return written
