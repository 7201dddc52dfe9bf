"""Attention maps, filters and saliency of a trained model, worked out beside the model's own code.

Shape letters: B batch, C channels, H W image, N tokens (a class token is the first), h heads, K filters.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.vit import Attention, ViT


@torch.no_grad()
def attention_maps(model: nn.Module, images: Tensor) -> Tensor | None:
    """How much each token takes from each other one: softmax(Q K^T / sqrt(d)) of every head of every block.

    The queries and keys are those of the model's own forward pass, in its own numeric mode; only the softmax is taken
    here, in float32 or better. All tokens ask, in the last block too, where a model with a class token works out that
    token's answer alone.

    Shape: (B, C, H, W) -> (B, depth, h, N, N); a row is who asks, and sums to one. None without our attention.
    """
    if not isinstance(model, ViT):
        return None
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    maps = []
    outputs = _outputs(model, images, [attention.qkv for attention in attentions])
    for attention, qkv in zip(attentions, outputs, strict=True):
        B, N, _ = qkv.shape
        q, k, _ = qkv.view(B, N, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, h, N, d)
        exact = torch.promote_types(qkv.dtype, torch.float32)
        with torch.autocast(qkv.device.type, enabled=False):
            scores = q.to(exact) @ k.to(exact).transpose(2, 3) * attention.scale
        maps.append(scores.softmax(dim=-1))  # (B, h, N, N)
    return torch.stack(maps, dim=1)


def attention_rollout(maps: Tensor) -> Tensor:
    """How much of each input token reaches each output token through all blocks.

    "Quantifying Attention Flow in Transformers" (Abnar & Zuidema 2020, section 3): heads are averaged, the shortcut
    around attention counts for half, blocks are multiplied.

    Shape: (B, depth, h, N, N) -> (B, N, N); rows sum to one.
    """
    shortcut = torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device)
    first, *later = ((block.mean(dim=1) + shortcut) / 2 for block in maps.unbind(1))
    for block in later:
        first = block @ first
    return first


def token_grid(model: nn.Module, rows: Tensor) -> Tensor:
    """Attention laid over the image's patches: what the class token takes, or all tokens on average without one.

    That is what reaches the head. What a class token takes from itself is left out, so that such a grid sums to less
    than one.

    Shape: (..., N, N) -> (..., side, side).
    """
    vit = cast(ViT, model)
    side = _side(vit)
    taken = rows.mean(dim=-2) if vit.cls_token is None else rows[..., 0, 1:]
    return taken.unflatten(-1, (side, side))


@torch.no_grad()
def first_filters(model: nn.Module) -> Tensor | None:
    """Kernels of the first convolution. Shape: (K, C, k, k). None where a model has none."""
    convolution = _first_convolution(model)
    return None if convolution is None else convolution.weight.detach().clone()


@torch.no_grad()
def first_responses(model: nn.Module, images: Tensor) -> Tensor | None:
    """What the first convolution makes of images. Shape: (B, C, H, W) -> (B, K, H', W'). None without one."""
    convolution = _first_convolution(model)
    if convolution is None:
        return None
    # One that the forward pass doesn't use answers nothing.
    return next(iter(_outputs(model, images, [convolution])), None)


@torch.no_grad()
def position_similarity(model: nn.Module) -> Tensor | None:
    """Cosine between the position of each patch and those of all (Dosovitskiy et al. 2021, figure 7, middle).

    Shape: (side * side, side, side), float32 or better. None without our positions.
    """
    if not isinstance(model, ViT):
        return None
    side = _side(model)
    positions = model.pos_embed[0, -(side**2) :]
    positions = F.normalize(positions.to(torch.promote_types(positions.dtype, torch.float32)), dim=-1)
    return (positions @ positions.T).view(-1, side, side)


def saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How much the label's logit moves with each pixel: the gradient's magnitude, largest over channels.

    "Deep Inside Convolutional Networks" (Simonyan et al. 2014, section 3.1). The model's own gradients stay untouched.

    Shape: (B, C, H, W), (B,) -> (B, H, W).
    """
    with _evaluating(model), torch.inference_mode(False), torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        logits = model(pixels).gather(1, labels.clone()[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), pixels)
    return gradient.abs().amax(dim=1)


def _side(model: ViT) -> int:
    return model.image_size // model.config.patch_size


def _first_convolution(model: nn.Module) -> nn.Conv2d | None:
    return next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and afterwards in the mode from before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _outputs(model: nn.Module, images: Tensor, modules: list[Any]) -> list[Tensor]:
    """What each of `modules` gives in a forward pass in evaluation mode, in the order of their calls."""
    outputs: list[Tensor] = []
    with _evaluating(model), ExitStack() as hooks:
        for module in modules:
            hook = module.register_forward_hook(
                lambda _module, _inputs, output: outputs.append(output.detach().clone())
            )
            hooks.callback(hook.remove)
        model(images)
    return outputs
