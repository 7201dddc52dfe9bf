"""Look: what one saved model makes of one image, gathered for its picture."""

import numpy as np
import torch
from torch import Tensor

from bench.data.splits_types import Split
from bench.errors import UserError
from bench.inference.gallery_file import Look
from bench.inference.predict import Images, probabilities
from bench.inference.saved_model import Saved
from bench.report.plots.one_image import Array
from models import insides

SCALE = "heat from black (nothing) to yellow (most), each map in its own scale"


def look_at(saved: Saved, images: Images, index: int) -> Look:
    """Probabilities in the model's own numeric mode; where it looks is worked out in float32.

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
    maps = insides.attention_maps(model, x)
    kernels, responses = insides.first_filters(model), insides.first_responses(model, x)
    verdict = "" if truth is None else ", rightly" if truth == prediction else f"; it is {names[truth]}"
    name = images.names[index]
    file = "" if name.isdecimal() else f" ({name})"
    said = f"{names[prediction]} ({float(shares[prediction]):.1%}){verdict}"
    return Look(
        title=f"Image {index}{file}: the model says {said}",
        said=f"{saved.inputs.title} · {saved.trial.label}, seed {saved.trial.seed} · {SCALE}",
        image=as_picture(pixels[0]),
        truth=truth,
        probabilities=shares.numpy(),
        class_names=names,
        saliency=insides.saliency(model, x, shares.argmax()[None])[0].numpy(),
        attention=None if maps is None else insides.token_grid(model, maps[0]).numpy(),
        rollout=None if maps is None else insides.token_grid(model, insides.attention_rollout(maps)[0]).numpy(),
        kernels=None if kernels is None else kernels.mean(dim=1).numpy(),
        responses=None if responses is None else responses[0].numpy(),
    )


def as_picture(pixels: Tensor) -> Array:
    """(C, H, W) as matplotlib draws it: RGB where there are three channels, else their mean."""
    array = pixels.cpu().numpy()
    return np.moveaxis(array, 0, 2) if len(array) == 3 else array.mean(axis=0).astype(np.uint8)
