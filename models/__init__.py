"""Model families: plain numbers in, logits out. They know no device, dtype, optimiser or clock."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from torch import nn

from models.cnn import CNN, CNNConfig
from models.vit import ViT, ViTConfig

# name -> settings, and what builds a model from (settings, image_size, in_channels, num_classes)
MODELS: dict[str, tuple[type[BaseModel], Callable[..., nn.Module]]] = {
    "vit": (ViTConfig, ViT),
    "cnn": (CNNConfig, CNN),
}


def build_model(name: str, settings: dict[str, Any], image_size: int, in_channels: int, num_classes: int) -> nn.Module:
    """The model `name` with `settings`, on the current default device.

    Args:
        name: a key of MODELS.
        settings: keyword arguments of the family's config class.
        image_size: side of the square image, pixels.

    Raises:
        KeyError: no such family.
        ValueError: settings that don't fit each other or the image (pydantic's ValidationError is one).
    """
    config_class, model_class = MODELS[name]
    return model_class(config_class(**settings), image_size, in_channels, num_classes)
