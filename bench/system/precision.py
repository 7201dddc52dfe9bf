"""Numeric modes: in which type weights are kept and matrix products run, and what that asks of torch.

fp32 is the only mode without a rounding of its own. tf32 keeps every number in fp32 and lets matrix products and
convolutions round their inputs to 10 bits. The amp modes keep weights in fp32 and let autocast pick the operations that
run in half precision. bf16 and fp16 keep weights, gradients, the optimiser's moments and activations in that type, with
no autocast and no loss scaling (what timm's benchmark calls pure).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


class Typed(Protocol):
    """What a mode has to know of a device: its type, as torch names it."""

    type: str


@dataclass(frozen=True)
class Precision:
    """A numeric mode.

    Attributes:
        autocast: the type that autocast computes in; None: no autocast.
        scale_gradients: whether the loss is scaled up before its gradients are taken, so that small ones aren't lost.
        weights: the type of weights, and so of gradients and the optimiser's state; None: float32.
        tf32: whether float32 matrix products and convolutions may round their inputs to TF32.
    """

    name: str
    autocast: torch.dtype | None = None
    scale_gradients: bool = False
    weights: torch.dtype | None = None
    tf32: bool = False

    @property
    def image_dtype(self) -> torch.dtype:
        """The type in which images enter the model; under autocast the model itself turns them into another."""
        return self.weights or torch.float32

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type of a matrix product's operands; for tf32 that is float32, rounded inside."""
        return self.autocast or self.weights or torch.float32

    def context(self, device: Typed) -> AbstractContextManager[object]:
        """What the forward pass and the loss run under."""
        return torch.autocast(device.type, dtype=self.autocast) if self.autocast else nullcontext()

    def scaler(self, device: Typed) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(device.type, enabled=self.scale_gradients)


DTYPES: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32"),
        Precision("tf32", tf32=True),
        Precision("amp-bf16", autocast=torch.bfloat16),
        Precision("amp-fp16", autocast=torch.float16, scale_gradients=True),
        Precision("bf16", weights=torch.bfloat16),
        Precision("fp16", weights=torch.float16),
    )
}


def set_exact_arithmetic(precision: Precision = DTYPES["fp32"]) -> None:
    """TF32 as the mode says, off for all but tf32; and the same kernels every time: a seed gives the same losses."""
    # torch keeps TF32's switches twice. `fp32_precision` is the one to use since 2.9 and reaches every backend, oneDNN
    # (Intel's GPUs) too; the older two are still what torch.compile asks for, and raise where they disagree with it.
    torch.set_float32_matmul_precision("high" if precision.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = precision.tf32
    torch.backends.fp32_precision = "tf32" if precision.tf32 else "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a debugging aid, timed


def in_dtype(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """The model with its real numbers of a kind, None leaves them; complex ones stay."""
    if dtype is None:
        return model
    return model._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
