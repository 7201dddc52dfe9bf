"""Model families: plain numbers in, logits out. They know no device, dtype, optimiser or clock."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models import external
from models.cnn import CNN, CNNConfig
from models.vit import ViT, ViTConfig

# name -> settings, and what builds a model from (settings, image_size, in_channels, num_classes)
MODELS: dict[str, tuple[type[BaseModel], Callable[..., nn.Module]]] = {
    "vit": (ViTConfig, ViT),
    "cnn": (CNNConfig, CNN),
}

# name -> the settings (a whole number, then a finer one) that change a model's size and neither its depth nor its kind
SIZE_SETTINGS: dict[str, tuple[str, str]] = {"cnn": ("width", "growth")}


def find_model(name: str) -> tuple[type[BaseModel], Callable[..., nn.Module]]:
    """The settings class and the builder of any model: one of MODELS, or other people's (models.external.FORMS).

    Raises:
        KeyError: no such family.
        ValueError: other people's that isn't there.
    """
    if name not in MODELS and ":" in name:
        return external.Keywords, external.find_builder(name)
    return MODELS[name]


def source_of(name: str) -> str | None:
    """Which version of other people's model this is; None for ours.

    Raises:
        ValueError: it isn't there.
    """
    return None if name in MODELS else external.source_of(name)


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


def build_meta_model(
    name: str, settings: dict[str, Any], image_size: int, in_channels: int, num_classes: int
) -> nn.Module:
    """A model to count, not to train: on the meta device, where it takes no memory and hardly any time.

    Other people's is also run once, and lies on the CPU if it can't be built or run on the meta device.

    Raises:
        ValueError: as build_model; too large for any machine; logits of another shape.
    """

    def build() -> nn.Module:
        return build_model(name, settings, image_size, in_channels, num_classes)

    if name not in MODELS:
        return external.build_to_count(name, build, (in_channels, image_size, image_size), num_classes)
    try:
        with torch.device("meta"), _WithoutInit():
            return build()
    except (RuntimeError, TypeError, OverflowError):  # what torch makes of sizes beyond 64 bits
        raise ValueError("the model is too large for any machine") from None


def starts_alike(name: str, settings: dict[str, Any], image_size: int, in_channels: int, num_classes: int) -> bool:
    """Whether a user's own model starts from equal weights whatever the seed; False for all others.

    It is built twice on the CPU, with its numbers.

    Raises:
        ValueError: as build_model; its models share memory that training writes to.
    """

    def build() -> nn.Module:
        return build_model(name, settings, image_size, in_channels, num_classes)

    return name not in MODELS and external.starts_alike(name, build, (in_channels, image_size, image_size))


class _WithoutInit(TorchFunctionMode):
    """Leaves tensors as they are made: on the meta device, which holds no numbers, drawing them is half of the time."""

    FILLS = (
        *(nn.init.kaiming_uniform_, nn.init.xavier_uniform_),
        *(Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_),
    )

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
