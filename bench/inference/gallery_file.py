"""The gallery's file: the arrays that pictures of trained models are drawn from, without torch or the dataset.

`gallery/gallery.npz` holds arrays (no pickles), `gallery/gallery.json` names and what captions say. Arrays have their
shapes beside them. Capital letters are sizes that must agree: S images that are shown, L of them looked into, M models
(one or two), K classes, T the three parts of the data, F first filters, P positions. Small ones are any size: s patches
a side, n heads, blocks or filters, c channels, h and w pixels.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.system.files import write_atomically

VERSION = 1
CASES = ("both_right", "only_first", "only_second", "both_wrong_alike", "both_wrong_apart")  # of agreement
Array: TypeAlias = NDArray[Any]


def of_shape(letters: str) -> dict[str, str]:
    return {"shape": letters}


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
    """A model's learned filters and attention, for the images `looked`; None for what its family has none of.

    Attributes:
        attention_heads: of the last block's heads; attention_depths: of every block, the mean over its heads.
        first_filters: the strongest first; first_responses: of the first of these images.
        similarity: cosine of every position with the positions `similar_to`.
    """

    attention_heads: Array | None = field(default=None, metadata=of_shape("Lnss"))
    attention_depths: Array | None = field(default=None, metadata=of_shape("Lnss"))
    rollout: Array | None = field(default=None, metadata=of_shape("Lss"))
    first_filters: Array | None = field(default=None, metadata=of_shape("Fchw"))
    first_responses: Array | None = field(default=None, metadata=of_shape("Fhw"))
    similarity: Array | None = field(default=None, metadata=of_shape("Pss"))
    similar_to: Array | None = field(default=None, metadata=of_shape("P"))


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
        agreement: counts by name (bench.inference.error_analysis.agreement); {} for one model.
        confusion: images by truth and prediction.
        indices: of the shown images in the test set.
        samples, looked: places among the shown images; `mistakes`: one such list a model; `only`: images that only
            the first and only the second model got right.
        images: uint8, large ones made smaller; None where the data weren't there.
        label_counts: training, validation and test images; None where the data weren't there.
    """

    dataset: str
    class_names: list[str]
    families: list[str]
    device_name: str
    models: list[Shown]
    agreement: dict[str, int]
    confusion: Array = field(metadata=of_shape("MKK"))
    indices: Array = field(metadata=of_shape("S"))
    labels: Array = field(metadata=of_shape("S"))
    predictions: Array = field(metadata=of_shape("MS"))
    confidences: Array = field(metadata=of_shape("MS"))
    samples: Array = field(metadata=of_shape("n"))
    looked: Array = field(metadata=of_shape("L"))
    mistakes: list[Array]
    only: list[Array]
    insides: list[Insides]
    images: Array | None = field(default=None, metadata=of_shape("Schw"))
    label_counts: Array | None = field(default=None, metadata=of_shape("TK"))


TEXTS = ("dataset", "class_names", "families", "device_name", "models", "agreement")
SHAPES, SHAPES_OF_MODELS = (
    {each.name: each.metadata["shape"] for each in fields(kind) if each.metadata} for kind in (Gallery, Insides)
)


def write_gallery(folder: Path, gallery: Gallery) -> None:
    """Write folder/gallery/; a reader finds the old one or the new one, or, for an instant, two that don't fit."""
    arrays = {name: getattr(gallery, name) for name in SHAPES}
    for name in ("mistakes", "only"):
        arrays |= {f"{name}_{i}": array for i, array in enumerate(getattr(gallery, name))}
    for i, inside in enumerate(gallery.insides):
        arrays |= {f"{name}_{i}": getattr(inside, name) for name in SHAPES_OF_MODELS}
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
        models = range(len(facts["models"]))
        facts |= {name: arrays[name] for name in SHAPES if name in arrays}
        facts |= {name: [arrays[f"{name}_{i}"] for i in models] for name in ("mistakes", "only")}
        insides = [Insides(**{name: arrays.get(f"{name}_{i}") for name in SHAPES_OF_MODELS}) for i in models]
        gallery = Gallery(**facts, insides=insides)
        return gallery if _fits(gallery) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _fits(gallery: Gallery) -> bool:
    """Whether the parts fit each other: one half may be of another run, or none of ours.

    Raises:
        TypeError, KeyError, AttributeError: a part is of another kind.
    """
    models, classes, shown = len(gallery.models), len(gallery.class_names), len(gallery.labels)
    sizes = {"M": models, "K": classes, "S": shown, "T": 3}
    places = [gallery.samples, gallery.looked, *gallery.mistakes, *gallery.only]
    texts = [gallery.dataset, *gallery.class_names, *gallery.families, *(model.name for model in gallery.models)]
    named = [*gallery.predictions.tolist(), gallery.labels.tolist()]  # classes that need a name
    return (
        1 <= models <= 2
        and all(isinstance(text, str) for text in texts)
        and all(_has_shape(getattr(gallery, name), shape, sizes) for name, shape in SHAPES.items())
        and all(_has_shape(each, "n", sizes) for each in places)
        and all(_inside_fits(inside, dict(sizes)) for inside in gallery.insides)
        and all(0 <= place < shown for each in places for place in each)
        and all(0 <= label < classes for labels in named for label in labels)
        and (models == 1 or {type(gallery.agreement[name]) for name in CASES} == {int})
    )


def _inside_fits(inside: Insides, sizes: dict[str, int]) -> bool:
    return all(_has_shape(getattr(inside, name), shape, sizes) for name, shape in SHAPES_OF_MODELS.items())


def _has_shape(array: Array | None, shape: str, sizes: dict[str, int]) -> bool:
    """Whether an array is missing, or holds finite numbers in this shape; `sizes` learns those that it doesn't know."""
    if array is None:
        return True
    if array.ndim != len(shape) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return False
    known = zip(shape, array.shape, strict=True)
    return all(letter.islower() or sizes.setdefault(letter, size) == size for letter, size in known)
