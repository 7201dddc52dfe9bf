"""timm's and torchvision's models, from their names and keyword arguments; never with weights that they learnt."""

import importlib
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from torch import Tensor, nn

from models.building import Factory, built, nearest, refuse


class RepeatedChannels(nn.Module):
    """Grey images for a model that is made for colour: the one channel three times.

    Shape: (B, 1, H, W) -> what `model` makes of (B, 3, H, W).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.expand(-1, 3, -1, -1))


def _timm(own_name: str) -> Factory:
    """timm.create_model; `img_size` is told to those that take it."""
    timm = imported_library("timm")
    name = f"timm:{own_name}"
    if not timm.is_model(own_name):  # a name such as hf-hub:… would be fetched
        near = nearest(own_name, timm.list_models())
        raise ValueError(f"timm {timm.__version__} has no model '{own_name}'; {near or 'see timm.list_models()'}")

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        given = settings.model_dump()
        refuse(name, given, ("num_classes", "in_chans", "img_size"), "is the dataset's")
        refuse(name, given, ("pretrained", "checkpoint_path", "pretrained_cfg"), "is not for here: models start anew")
        known = {"num_classes": num_classes, "in_chans": in_channels}
        sizes = [{"img_size": image_size}, {}]
        model = built(name, lambda **told: timm.create_model(own_name, **told), sizes, known | given, {*given})
        embedding = getattr(model, "patch_embed", None)
        patch = getattr(embedding, "patch_size", None)
        if patch and image_size % patch[0] and not getattr(embedding, "dynamic_img_pad", False):
            # timm would leave out the pixels at the edge without a word
            raise ValueError(f"patch_size {patch[0]} of {name} does not divide image_size {image_size}")
        return model

    return build


def _torchvision(own_name: str) -> Factory:
    """torchvision's classifiers; `image_size` is told to those that take it, grey images become three channels."""
    zoo = imported_library("torchvision").models
    name = f"torchvision:{own_name}"
    names = zoo.list_models(module=zoo)
    if own_name not in names:
        near = nearest(own_name, names)
        raise ValueError(
            f"torchvision has no classifier '{own_name}'; {near or 'see torchvision.models.list_models()'}"
        )

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        given = settings.model_dump()
        refuse(name, given, ("num_classes", "image_size", "input_size"), "is the dataset's")
        refuse(name, given, ("weights", "pretrained", "weights_backbone"), "is not for here: models start anew")
        if in_channels not in (1, 3):
            raise ValueError(f"{name} takes images of 3 channels, or of 1 repeated; these have {in_channels}")
        sizes: list[dict[str, Any]] = [{"image_size": image_size}, {"input_size": (image_size, image_size)}, {}]
        known = {"weights": None, "num_classes": num_classes}
        model = built(name, lambda **told: zoo.get_model(own_name, **told), sizes, known | given, {*given})
        return RepeatedChannels(model) if in_channels == 1 else model

    return build


def imported_library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{name}'s models need {name}, which isn't installed: pip install {INSTALL[name]}") from None


# prefix of a name -> what finds the builder of the rest of it
LIBRARIES: dict[str, Callable[[str], Factory]] = {"timm": _timm, "torchvision": _torchvision}
INSTALL = {"timm": '"timm>=1.0.9"', "torchvision": '"torchvision>=0.24"'}
