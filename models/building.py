"""Building what isn't ours: whatever goes wrong in other people's code becomes one line that says what would do."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

_UNEXPECTED = re.compile(r"unexpected keyword argument '(.+?)'")

Factory = Callable[..., nn.Module]

_FILLS = {
    *(nn.init.kaiming_uniform_, nn.init.xavier_uniform_),
    *(Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_),
}


class NoNumbers(TorchFunctionMode):
    """Leaves tensors as they are made. On the meta device, which holds no numbers, to draw them is half of the work."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def built(
    name: str,
    factory: Factory,
    sizes: list[dict[str, Any]],
    keywords: Mapping[str, Any],
    given: set[str],
    taken: Iterable[str] = (),
) -> nn.Module:
    """What `factory` makes of `keywords` and the first of `sizes` whose names it takes.

    Args:
        given: the keywords that a person wrote.
        taken: names that the factory takes, for a hint.

    Raises:
        ValueError: it raises, or makes something that can't be trained.
    """
    for size in sizes:
        try:
            model = factory(**size, **keywords)
        except Exception as error:  # noqa: BLE001 - whatever a person's function does with what a person wrote
            unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
            if unexpected and unexpected[1] in size:
                continue
            if unexpected and unexpected[1] in given:
                near = nearest(unexpected[1], taken)
                raise ValueError(f"{name} takes no '{unexpected[1]}'{f'; {near}' if near else ''}") from None
            raise ValueError(f"{name} can't be built: {said(error)}") from None
        break
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} gives an object of type {type(model).__name__}; expected a torch.nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError(f"{name} leaves sizes open (a lazy module); give it all of them")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{name} has no parameters to train")
    return model.train()


def sketch(name: str, build: Callable[[], nn.Module], image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A model to be looked at, not trained: on the meta device, or on the CPU where it can't be built or run there.

    Args:
        image_shape: (C, H, W) of the images that it must take.

    Raises:
        ValueError: it can't be built, can't take such images, or doesn't give logits (B, num_classes).
    """
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                model = build()
                _check_logits(name, model, image_shape, num_classes)
            return model
        except ValueError:  # a factory may look at a number, which a meta tensor doesn't hold
            if device == "cpu":
                raise
    raise AssertionError("unreachable")


@torch.no_grad()
def _check_logits(name: str, model: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    for training in (False, True):
        model.train(training)
        try:
            logits = model(torch.zeros(2, *image_shape))
        except Exception as error:  # noqa: BLE001 - whatever a person's model does with an image
            size = "x".join(str(side) for side in image_shape)
            raise ValueError(f"{name} can't take images of {size}: {said(error)}") from None
        found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"{type(logits).__name__}"
        if found != f"a tensor of shape (2, {num_classes})":
            when = "training" if training else "evaluation"
            raise ValueError(f"{name} gives {found} for 2 images in {when}; expected logits (2, {num_classes})")


def refuse(name: str, given: Mapping[str, Any], keys: Iterable[str], why: str) -> None:
    for key in keys:
        if key in given:
            raise ValueError(f"{key} of {name} {why}; leave it out")


def nearest(found: str, known: Iterable[str]) -> str:
    close = get_close_matches(found, list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""


def said(error: BaseException) -> str:
    """An exception in one line, and not a long one."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else f"{text[:197]}..."
