"""The gallery's file: the arrays that pictures of trained models are drawn from, without torch or the dataset.

`gallery/gallery.npz` holds arrays (no pickles), `gallery/gallery.json` names and what captions say. Shape letters:
S images that are shown, M models (one or two), K classes, s patches a side.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.system.files import write_atomically

VERSION = 1
CASES = ("both_right", "only_first", "only_second", "both_wrong_alike", "both_wrong_apart")  # of agreement
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Shown:
    """One of the models in the gallery.

    Attributes:
        name: its family, for people.
        label: its configuration, as in the report's tables.
        seed, num_seeds: the trial that is shown, and of how many it has the median validation accuracy.
        accuracy: of the weights that are shown, on the test images.
    """

    model: str
    name: str
    label: str
    trial_id: str
    seed: int
    num_seeds: int
    accuracy: float


@dataclass(frozen=True)
class Insides:
    """A model's learned filters, attention and saliency, for the images `looked`; None for what its family has none of.

    Attributes:
        attention_heads: of the last block (images, heads, s, s).
        attention_depths: of every block, the mean over its heads (images, depth, s, s).
        rollout: (images, s, s).
        saliency: (images, H, W).
        patch_filters, first_filters: (filters, C, side, side), the strongest first.
        first_responses: of the first of these images to the first filters (filters, H', W').
        similarity: cosine with the positions `similar_to` (positions, s, s).
    """

    attention_heads: Array | None = None
    attention_depths: Array | None = None
    rollout: Array | None = None
    saliency: Array | None = None
    patch_filters: Array | None = None
    first_filters: Array | None = None
    first_responses: Array | None = None
    similarity: Array | None = None
    similar_to: Array | None = None


@dataclass(frozen=True)
class ImageView:
    """One image and what a trained model makes of it, to be drawn; None for what its family has none of.

    Attributes:
        image: (H, W) or (H, W, 3), uint8.
        truth: index of its class; None where nobody knows.
        probabilities: (K,).
        saliency: (H, W), of the predicted class.
        attention: (depth, heads, side, side), the share that each patch gets; rollout: (side, side).
        kernels: (filters, k, k), and what they make of the image, responses: (filters, H', W').
    """

    title: str
    said: str
    image: Array
    truth: int | None
    probabilities: Array
    class_names: Sequence[str]
    saliency: Array
    attention: Array | None = None
    rollout: Array | None = None
    kernels: Array | None = None
    responses: Array | None = None


@dataclass(frozen=True)
class Gallery:
    """A gallery in memory.

    Attributes:
        dataset: its title.
        families: all of the run, so that colours are the run's.
        confusion: images by truth and prediction (M, K, K).
        agreement: counts by name (bench.inference.error_analysis.agreement); {} for one model.
        label_counts: training, validation and test images (3, K); None where the data weren't there.
        indices, labels: of the shown images in the test set (S,); `predictions`, `confidences` (M, S).
        images: uint8 (S, C, H, W), large ones made smaller; None where the data weren't there.
        samples, looked: places among the shown images; `mistakes`: one such list a model; `only`: images that only
            the first and only the second model got right.
    """

    dataset: str
    class_names: list[str]
    families: list[str]
    device_name: str
    models: list[Shown]
    agreement: dict[str, int]
    confusion: Array
    label_counts: Array | None
    indices: Array
    labels: Array
    predictions: Array
    confidences: Array
    images: Array | None
    samples: Array
    looked: Array
    mistakes: list[Array]
    only: list[Array]
    insides: list[Insides]

    @property
    def whole(self) -> bool:
        """Nothing was missing when it was made."""
        return self.images is not None and all(inside.saliency is not None for inside in self.insides)


TEXTS = ("dataset", "class_names", "families", "device_name", "models", "agreement")
# Shapes of the arrays: capital letters are sizes that must agree (S, M and K as above, L images that are `looked` at,
# F first filters, P positions, T the three parts of the data), small ones are any size.
ARRAYS = {
    "confusion": "MKK",
    "label_counts": "TK",
    "indices": "S",
    "labels": "S",
    "predictions": "MS",
    "confidences": "MS",
    "images": "Schw",
    "samples": "n",
    "looked": "L",
}
ARRAYS_OF_MODELS = {
    "attention_heads": "Lnss",
    "attention_depths": "Lnss",
    "rollout": "Lss",
    "saliency": "Lhw",
    "patch_filters": "nchw",
    "first_filters": "Fchw",
    "first_responses": "Fhw",
    "similarity": "Pss",
    "similar_to": "P",
}


def write_gallery(folder: Path, gallery: Gallery) -> None:
    """Write folder/gallery/; a reader finds the old one or the new one, or, for an instant, two that don't fit."""
    arrays = {name: getattr(gallery, name) for name in ARRAYS}
    for name in ("mistakes", "only"):
        arrays |= {f"{name}_{i}": array for i, array in enumerate(getattr(gallery, name))}
    for i, inside in enumerate(gallery.insides):
        arrays |= {f"{name}_{i}": getattr(inside, name) for name in ARRAYS_OF_MODELS}
    data = io.BytesIO()
    np.savez_compressed(data, **{name: array for name, array in arrays.items() if array is not None})
    target = folder / "gallery"
    target.mkdir(exist_ok=True)
    write_atomically(target / "gallery.npz", data.getvalue())
    facts = {"version": VERSION} | {name: getattr(gallery, name) for name in TEXTS}
    facts["models"] = [asdict(model) for model in gallery.models]
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(target / "gallery.json", text + "\n")


def read_gallery(folder: Path) -> Gallery | None:
    """The gallery of a run's folder; None where there is none, or it is damaged, foreign or of another version."""
    try:
        facts = json.loads((folder / "gallery" / "gallery.json").read_text(encoding="utf-8"))
        if facts.pop("version") != VERSION:
            return None
        with open(folder / "gallery" / "gallery.npz", "rb") as data, np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts["models"] = [Shown(**model) for model in facts["models"]]
        return _checked(_gallery(facts, arrays))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _gallery(facts: dict[str, Any], arrays: dict[str, Array]) -> Gallery:
    models = range(len(facts["models"]))
    read: dict[str, Any] = {name: arrays.get(name) for name in ARRAYS}
    read |= {name: [arrays[f"{name}_{i}"] for i in models] for name in ("mistakes", "only")}
    insides = [Insides(**{name: arrays.get(f"{name}_{i}") for name in ARRAYS_OF_MODELS}) for i in models]
    return Gallery(**facts, **read, insides=insides)


def _checked(gallery: Gallery) -> Gallery:
    """The gallery, its parts fitting each other.

    Raises:
        ValueError: they don't: one half is of another run, or it isn't one of ours.
        TypeError, KeyError, AttributeError: a part is missing or of another kind.
    """
    models, classes, shown = len(gallery.models), len(gallery.class_names), len(gallery.labels)
    sizes = {"M": models, "K": classes, "S": shown, "L": len(gallery.looked), "T": 3}
    places = [gallery.samples, gallery.looked, *gallery.mistakes, *gallery.only]
    fits = all(_fits(getattr(gallery, name), shape, sizes) for name, shape in ARRAYS.items())
    fits = fits and all(_fits(each, "n", sizes) for each in places)
    for inside in gallery.insides:
        of_model = sizes | {"F": _length(inside.first_filters), "P": _length(inside.similar_to)}
        fits = fits and all(_fits(getattr(inside, name), shape, of_model) for name, shape in ARRAYS_OF_MODELS.items())
    texts = [gallery.dataset, *gallery.class_names, *gallery.families, *(model.name for model in gallery.models)]
    if not (fits and 1 <= models <= 2 and all(isinstance(text, str) for text in texts)):
        raise ValueError("a gallery whose parts don't fit")
    if any(len(each) and not 0 <= each.min() <= each.max() < shown for each in places):
        raise ValueError("a gallery that points at images it hasn't got")
    if models == 2 and {type(gallery.agreement[name]) for name in CASES} != {int}:
        raise ValueError("a gallery without counts")
    if shown and not 0 <= gallery.predictions.min() <= max(gallery.predictions.max(), gallery.labels.max()) < classes:
        raise ValueError("a gallery of classes that have no names")
    return gallery


def _length(array: Array | None) -> int:
    return 0 if array is None else len(array)


def _fits(array: Array | None, shape: str, sizes: dict[str, int]) -> bool:
    """Whether an array is missing, or holds finite numbers in this shape."""
    if array is None:
        return True
    agree = all(sizes.get(letter, size) == size for letter, size in zip(shape, array.shape, strict=False))
    return array.ndim == len(shape) and agree and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
