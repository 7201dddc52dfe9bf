"""Model families: plain numbers in, logits out. They know no device, dtype, optimiser or clock."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from models import building, foreign
from models.cnn import CNN, CNNConfig
from models.vit import ViT, ViTConfig

# name -> settings, and what builds a model from (settings, image_size, in_channels, num_classes)
MODELS: dict[str, tuple[type[BaseModel], Callable[..., nn.Module]]] = {
    "vit": (ViTConfig, ViT),
    "cnn": (CNNConfig, CNN),
}

# name -> the settings (a whole number, then a finer one) that change a model's size and neither its depth nor its kind
DIALS: dict[str, tuple[str, str]] = {"cnn": ("width", "growth")}


def find_model(name: str) -> tuple[type[BaseModel], Callable[..., nn.Module]]:
    """The settings class and the builder of any model: one of MODELS, or other people's (models.foreign.FORMS).

    Raises:
        KeyError: no such family.
        ValueError: other people's that isn't there.
    """
    if name not in MODELS and ":" in name:
        return foreign.Keywords, foreign.find_builder(name)
    return MODELS[name]


def source_of(name: str) -> str | None:
    """Which version of other people's model this is; None for ours.

    Raises:
        ValueError: it isn't there.
    """
    return None if name in MODELS else foreign.source_of(name)


def build_model(name: str, settings: dict[str, Any], image_size: int, in_channels: int, num_classes: int) -> nn.Module:
    """The model `name` with `settings`, on the current default device.

    Args:
        name: a key of MODELS, or other people's.
        settings: keyword arguments of the family's config class, or of the other people's function.
        image_size: side of the square image, pixels.

    Raises:
        KeyError: no such family.
        ValueError: settings that don't fit each other or the image (pydantic's ValidationError is one).
    """
    config_class, builder = find_model(name)
    return builder(config_class(**settings), image_size, in_channels, num_classes)


def sketch_model(name: str, settings: dict[str, Any], image_size: int, in_channels: int, num_classes: int) -> nn.Module:
    """A model to count, not to train: on the meta device, where it costs nothing.

    Other people's is also run once, and lies on the CPU if it can't be built or run on the meta device.

    Raises:
        ValueError: as build_model; too large for any machine; logits of another shape.
    """

    def build() -> nn.Module:
        return build_model(name, settings, image_size, in_channels, num_classes)

    if name not in MODELS:
        return building.sketch(name, build, (in_channels, image_size, image_size), num_classes)
    try:
        with torch.device("meta"), building.NoNumbers():
            return build()
    except (RuntimeError, TypeError, OverflowError):  # what torch makes of sizes beyond 64 bits
        raise ValueError("the model is too large for any machine") from None
