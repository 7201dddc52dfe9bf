"""Optimisers and learning-rate schedules: two plain tables."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim

from bench.recipes import Training

ONE_CYCLE_START = 1 / 25  # of the peak, as in torch's OneCycleLR


def build_optimizer(model: nn.Module, training: Training) -> optim.Optimizer:
    """The recipe's optimiser, fused; weight decay reaches matrices and kernels, not biases, norms or tokens."""
    decayed = [p for p in model.parameters() if p.ndim >= 2 and min(p.shape) > 1 and p.requires_grad]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return OPTIMIZERS[training.optimizer]([group for group in groups if group["params"]], training)


def learning_rate(training: Training, step: int, num_steps: int) -> float:
    """Learning rate of the update `step` (counted from 0) of `num_steps`."""
    return training.learning_rate * SCHEDULES[training.schedule](step / num_steps, training.lr_warmup_fraction)


class FusedAdam(optim.Optimizer):
    """Adam ("Adam: A Method for Stochastic Optimization", Kingma and Ba 2015), one fused kernel a group.

    The arithmetic is torch's own fused Adam or, with `decoupled`, AdamW (Loshchilov and Hutter 2019), bit for bit. What
    it leaves out is a step count for each parameter, whose upkeep took a twelfth of a small model's training step.
    """

    _step_supports_amp_scaling = True  # GradScaler then passes its scale and flag on, and nobody waits for the flag

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], decoupled: bool) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self._update = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self._moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in g["params"]] for g in self.param_groups]
        self._steps = [torch.zeros((), device=g["params"][0].device) for g in self.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        found_inf = getattr(self, "found_inf", None)
        for group, moments, step in zip(self.param_groups, self._moments, self._steps, strict=True):
            learning = [(p, p.grad, *m) for p, m in zip(group["params"], moments, strict=True) if p.grad is not None]
            if not learning:
                continue
            params, gradients, means, squares = map(list, zip(*learning, strict=True))
            step += 1
            self._update(
                params,
                gradients,
                means,
                squares,
                [],
                [step] * len(params),
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=1e-8,
                amsgrad=False,
                maximize=False,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=found_inf,
            )
            if found_inf is not None:
                step -= found_inf  # a step that was left out doesn't count


def _adam(groups: list[dict[str, Any]], training: Training) -> optim.Optimizer:
    return FusedAdam(groups, training.learning_rate, (training.beta1, training.beta2), decoupled=False)


def _adamw(groups: list[dict[str, Any]], training: Training) -> optim.Optimizer:
    return FusedAdam(groups, training.learning_rate, (training.beta1, training.beta2), decoupled=True)


def _sgd(groups: list[dict[str, Any]], training: Training) -> optim.Optimizer:
    momentum = training.beta1
    return optim.SGD(groups, lr=training.learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def _constant(progress: float, warmup: float) -> float:
    return 1.0


def _cosine(progress: float, warmup: float) -> float:
    """Linear from zero, then half a cosine to zero ("SGDR", Loshchilov and Hutter 2017, without restarts)."""
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def _one_cycle(progress: float, warmup: float) -> float:
    """Half a cosine up from a 25th, half a cosine down to zero ("Super-Convergence", Smith and Topin 2018)."""
    if progress < warmup:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * progress / warmup)) / 2
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Training], optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}

# share of training done (0 to 1), share of it spent rising -> share of the peak
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
}
