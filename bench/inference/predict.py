"""Predictions of a saved model: for images that a user gives, or for the test set of its own dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.data.dataset import ImageFormat, load_dataset
from bench.data.spec import AS_IT_IS
from bench.data.splits import Split, StreamedSplit
from bench.data.user_files import read_images
from bench.errors import DataError, UserError
from bench.inference.gallery_file import Array, ImageView
from bench.inference.saved_model import Saved
from bench.system.csv_cells import guarded
from bench.system.device import open_device
from bench.system.files import write_atomically
from bench.system.precision import DTYPES, in_dtype, set_exact_arithmetic
from models import introspection

WHITE, CLEARLY = 255, 25  # levels; how far from the middle a mean must be to tell light from dark
MOST_LOOKED_AT = 1_000  # images
SCALE = "heat from black (nothing) to yellow (most), each map in its own scale"


@dataclass(frozen=True)
class Images:
    """What is to be predicted.

    Attributes:
        split: images of the model's size and channels; its labels mean something only if `labelled`.
        names: of the images: files, or numbers; those of a test set are from 0, as in its predictions.csv, others from
            1, as Kaggle's.
        labels_from: the column, array or folders that the labels of somebody's own images came from; or why none is
            known.
    """

    split: Split | StreamedSplit
    names: Sequence[str]
    labelled: bool = True
    labels_from: str = ""


def find_images(
    saved: Saved, given: Path | None, data_dir: Path | None = None, label_column: str | None = None
) -> Images:
    """The images in `given`, or the test set of the model's dataset.

    Args:
        label_column: of a CSV: its name, `first`, `last` or `none`; None takes that of the data that was learned from,
            else finds it out.

    Raises:
        DataError: there is nothing to predict, or the files aren't what they should be.
    """
    if given is None:
        trial = saved.trial
        normalization = trial.training.normalization
        test = load_dataset(trial.dataset, data_dir, trial.split_seed, trial.data, normalization).test
        return Images(test, [str(index) for index in range(len(test))])
    expected = saved.inputs
    data = saved.trial.data
    how = data.reading if data else AS_IT_IS
    learned = [name for name in (data.label_column, how.label_column) if name] if data else []
    pixels, names, labels, origin = read_images(
        given,
        expected.image_size,
        expected.in_channels,
        expected.class_names,
        how,
        [label_column] if label_column else [*dict.fromkeys(learned), None],
    )
    if not len(pixels):
        raise DataError(f"{given}: holds no images")
    known = torch.zeros(len(pixels)) if labels is None else torch.as_tensor(labels)
    return Images(
        Split(torch.as_tensor(pixels), known.long()), [str(name) for name in names], labels is not None, origin
    )


def looks_inverted(saved: Saved, split: Split | StreamedSplit) -> str:
    """A sentence, where images are as light as those that the model learned from were dark, or the reverse; else ""."""
    learned = float(saved.mean.mean())
    some = split.pick(torch.arange(0, len(split), max(1, len(split) // MOST_LOOKED_AT)))
    level = float(some.float().mean())
    if abs(learned - WHITE / 2) < CLEARLY or abs(level - (WHITE - learned)) > abs(level - learned) / 2:
        return ""
    return (
        f"the images' mean level is {level:.0f} of 255, that of those which the model learned from {learned:.0f}: they "
        "look inverted; if so, swap black and white"
    )


def predictor(saved: Saved, device_name: str = "cpu") -> Callable[[Tensor], Tensor]:
    """What tells how sure the model is of each class, in the numeric mode of its training.

    On a device without that mode it is float32: finer, never coarser.

    Shape: B images of (C, H, W) in grey levels -> (B, K), float32, on the CPU; rows sum to one.

    Raises:
        DeviceError: no such device here.
    """
    device = open_device(device_name)
    precision = DTYPES["fp32" if device.lacks(saved.trial.dtype) else saved.trial.dtype]
    set_exact_arithmetic(precision)
    layout = torch.channels_last if saved.trial.channels_last else torch.contiguous_format
    form = ImageFormat(precision.image_dtype, layout)
    model = in_dtype(saved.model.to(device.torch_device), precision.image_dtype).to(memory_format=layout)

    @torch.inference_mode()
    def ask(images: Tensor) -> Tensor:
        with precision.context(device):
            logits = model(form.of(saved.normalized(images.to(device.torch_device))))
        return logits.float().softmax(dim=1).cpu()

    return ask


def probabilities(
    saved: Saved, split: Split | StreamedSplit, device_name: str = "cpu", batch_size: int = 512
) -> Tensor:
    """The predictor's answers for all images of a split, (N, K). Raises: DeviceError: no such device here."""
    ask = predictor(saved, device_name)
    return torch.cat([ask(images) for images, _ in split.in_order(batch_size)])


def hits(found: Tensor, labels: Tensor) -> int:
    """How many images the model is right about."""
    return int((found.argmax(dim=1) == labels.cpu()).sum())


def as_csv(images: Images, found: Tensor, class_names: Sequence[str]) -> str:
    """A row an image: its name, its label where there is one, prediction, confidence, a column for each class.

    Names come from files that somebody else may have made, and a spreadsheet takes a cell that begins with = + - @ for
    a formula; such a cell gets an apostrophe in front. Numbers, -1 too, stay numbers.
    """
    classes = np.array([guarded(name) for name in class_names], dtype=object)
    confidences, predictions = found.max(dim=1)
    table = pd.DataFrame({"name": [guarded(name) for name in images.names]}, dtype=object)
    if images.labelled:
        table["label"] = classes[images.split.labels.numpy()]
    table["prediction"] = classes[predictions.numpy()]
    table["confidence"] = [f"{confidence:.4f}" for confidence in confidences.tolist()]
    shares = pd.DataFrame(found.numpy(), columns=[f"p_{name}" for name in class_names]).map("{:.6f}".format)
    return pd.concat([table, shares], axis=1).to_csv(index=False, lineterminator="\n")


def as_kaggle(found: Tensor, class_names: Sequence[str]) -> str:
    """A submission: `ImageId,Label`, numbered from 1 in the order of the images. Labels are as in the training data."""
    labels = np.array(class_names, dtype=object)[found.argmax(dim=1).numpy()]
    numbers = range(1, len(labels) + 1)
    return pd.DataFrame({"ImageId": numbers, "Label": labels}).to_csv(index=False, lineterminator="\n")


def write_predictions(path: Path, text: str) -> None:
    """Whole or not at all. Raises: UserError where it can't be written."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file") from None


def view_image(saved: Saved, images: Images, index: int) -> ImageView:
    """Probabilities in the model's own numeric mode; attention and saliency in float32.

    Raises:
        UserError: there is no image `index`.
    """
    count = len(images.split)
    if not 0 <= index < count:
        raise UserError(f"--image {index}: there are {count:,} images, 0 to {count - 1:,}")
    pixels = images.split.pick(torch.tensor([index]))
    label = images.split.labels[index : index + 1]
    shares = probabilities(saved, Split(pixels, label))[0]
    prediction = int(shares.argmax())
    names = saved.inputs.class_names
    truth = int(label) if images.labelled else None
    model = saved.model.float()
    x = saved.normalized(pixels)
    maps = introspection.attention_maps(model, x)
    kernels, responses = introspection.first_filters(model), introspection.first_responses(model, x)
    verdict = "" if truth is None else ", rightly" if truth == prediction else f"; it is {names[truth]}"
    name = images.names[index]
    file = "" if name.isdecimal() else f" ({name})"
    said = f"{names[prediction]} ({float(shares[prediction]):.1%}){verdict}"
    return ImageView(
        title=f"Image {index}{file}: the model says {said}",
        said=f"{saved.inputs.title} · {saved.trial.label}, seed {saved.trial.seed} · {SCALE}",
        image=as_picture(pixels[0]),
        truth=truth,
        probabilities=shares.numpy(),
        class_names=names,
        saliency=introspection.saliency(model, x, shares.argmax()[None])[0].numpy(),
        attention=None if maps is None else introspection.token_grid(model, maps[0]).numpy(),
        rollout=None
        if maps is None
        else introspection.token_grid(model, introspection.attention_rollout(maps)[0]).numpy(),
        kernels=None if kernels is None else kernels.mean(dim=1).numpy(),
        responses=None if responses is None else responses[0].numpy(),
    )


def as_picture(pixels: Tensor) -> Array:
    """(C, H, W) as matplotlib draws it: RGB where there are three channels, else their mean."""
    array = pixels.cpu().numpy()
    return np.moveaxis(array, 0, 2) if len(array) == 3 else array.mean(axis=0).astype(np.uint8)
