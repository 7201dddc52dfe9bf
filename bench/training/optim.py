"""Optimisers and learning-rate schedules: OPTIMIZERS and SCHEDULES name those that a suite may ask for."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn, optim

from bench.trial import Training

ONE_CYCLE_START = 1 / 25  # of the peak, as in torch's OneCycleLR
# Adam's floor under the square root. In float16 the mean square of a small gradient (below 0.008 in the first step) is
# rounded to zero and the usual 1e-8 is then all that the step is divided by: weights are NaN within 150 steps.
EPS = {torch.float16: 1e-4}
Groups = list[dict[str, Any]]  # parameter groups, as torch's optimisers take them

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of Muon's iteration: steepest at zero, so that five turns are enough
NEWTON_SCHULZ_TURNS = 5
MATCH_ADAM = 0.2  # root mean square of AdamW's updates in units of the learning rate (Liu et al. 2025, section 2.2)


def build_optimizer(model: nn.Module, training: Training) -> optim.Optimizer:
    """The recipe's optimiser, fused; weight decay reaches matrices and kernels, not biases, norms or tokens."""
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if _is_matrix(p)], "weight_decay": training.weight_decay},
        {"params": [p for p in params if not _is_matrix(p)], "weight_decay": 0.0},
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

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float], decoupled: bool) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self._update = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self._any_complex = any(p.is_complex() for group in self.param_groups for p in group["params"])
        moments = ([_reals(p) for p in group["params"]] for group in self.param_groups)
        self._moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in own] for own in moments]
        self._steps = [torch.zeros((), device=g["params"][0].device) for g in self.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        found_inf = getattr(self, "found_inf", None)
        for group, moments, step in zip(self.param_groups, self._moments, self._steps, strict=True):
            learning = [(p, p.grad, *m) for p, m in zip(group["params"], moments, strict=True) if p.grad is not None]
            if self._any_complex:
                learning = [(_reals(p), _reals(gradient), mean, square) for p, gradient, mean, square in learning]
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
                eps=EPS.get(params[0].dtype, 1e-8),
                amsgrad=False,
                maximize=False,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=found_inf,
            )
            if found_inf is not None:
                step -= found_inf  # a step that was left out doesn't count


def _reals(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor as pairs of real numbers, which are updated each for itself, as torch's optimisers do."""
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor


class Muon(optim.Optimizer):
    """Momentum made orthogonal for the hidden matrices, AdamW for the rest (Jordan et al. 2024, "Muon").

    All singular values of a matrix's update are brought near 1, so that directions which gradients seldom point to are
    learnt as fast as the others. The update is scaled to the size of AdamW's ("Muon is Scalable for LLM Training", Liu
    et al. 2025), so that one learning rate and one weight decay serve both parts. Matrices of one shape go through the
    iteration together: a small model would spend more on calls than on arithmetic. Momentum is kept in the parameters'
    type; the iteration runs in float32, where five turns of it lose nothing.

    Args:
        hidden: parameter group of matrices, or of kernels seen as (outputs, the rest).
        groups: parameter groups of the rest.
        betas: the first is also the momentum of the hidden matrices.
    """

    _step_supports_amp_scaling = True  # as FusedAdam

    def __init__(self, hidden: dict[str, Any], groups: Groups, lr: float, betas: tuple[float, float]) -> None:
        adam = FusedAdam(groups, lr, betas, decoupled=True)
        super().__init__([hidden, *adam.param_groups], {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self.param_groups[1:] = adam.param_groups  # the very same, so that a new learning rate reaches both
        self._adam = adam
        same_shape: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        for p in self.param_groups[0]["params"]:
            same_shape.setdefault((_wide(p).shape, p.dtype, p.device), []).append(p)
        self._same_shape = [
            (params, torch.zeros(len(params), *shape, dtype=dtype, device=device))
            for (shape, dtype, device), params in same_shape.items()
        ]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        self._adam.grad_scale, self._adam.found_inf = scale, found_inf  # type: ignore[attr-defined]
        self._adam.step()
        group = self.param_groups[0]
        momentum = group["betas"][0]
        done = 1.0 if found_inf is None else 1 - found_inf  # 0: this step is left out
        for same_shape, means in self._same_shape:
            learning = [(index, p, p.grad) for index, p in enumerate(same_shape) if p.grad is not None]
            if not learning:
                continue
            indices, params, found = map(list, zip(*learning, strict=True))
            mean = (means if len(params) == len(same_shape) else means[indices]).float()
            gradients = torch.stack([_wide(gradient) for gradient in found]).float()
            if scale is not None:
                gradients /= scale
            if found_inf is not None:
                gradients.nan_to_num_(0, 0, 0)
            mean.lerp_(gradients, (1 - momentum) * done)
            if mean is not means:
                means[indices] = mean.to(means.dtype)
            updates = orthogonalized(gradients.lerp_(mean, momentum))  # Nesterov's look ahead
            updates *= -group["lr"] * MATCH_ADAM * mean.shape[2] ** 0.5 * done
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"] * done)
            turned = [u if p.shape[0] == len(u) else u.T for p, u in zip(params, updates, strict=True)]
            torch._foreach_add_(params, [u.reshape(p.shape).to(p.dtype) for p, u in zip(params, turned, strict=True)])


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with the same singular vectors, and singular values between about 0.7 and 1.2 unless they were tiny.

    Shape: (matrices, rows, columns), rows <= columns, kept.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(NEWTON_SCHULZ_TURNS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _wide(matrix: torch.Tensor) -> torch.Tensor:
    matrix = matrix.flatten(1)
    return matrix if len(matrix) <= matrix.shape[1] else matrix.T


def _adam(groups: Groups, training: Training, decoupled: bool = False) -> optim.Optimizer:
    return FusedAdam(groups, training.learning_rate, (training.beta1, training.beta2), decoupled)


def _muon(groups: Groups, training: Training) -> optim.Optimizer:
    hidden = [p for group in groups for p in group["params"] if _is_matrix(p)][:-1]
    chosen = {id(p) for p in hidden}  # not the last matrix, the head, whose rows are classes and not directions
    rest = [group | {"params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    own = {"params": hidden, "weight_decay": training.weight_decay}
    others = [group for group in rest if group["params"]]
    return Muon(own, others, training.learning_rate, (training.beta1, training.beta2))


def _sgd(groups: Groups, training: Training) -> optim.Optimizer:
    momentum = training.beta1
    return optim.SGD(groups, lr=training.learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def _is_matrix(p: torch.Tensor) -> bool:
    """Whether a parameter is a matrix or a kernel, (outputs, the rest): several outputs of several weights each.

    Kernels of one input channel or one pixel are. Class tokens (1, 1, D) and positions (1, N, D) aren't, nor is a
    factor for each channel (C, 1, 1).
    """
    return p.ndim >= 2 and 1 < len(p) < p.numel()


def _cosine(progress: float, warmup: float) -> float:
    """Linear from zero, then half a cosine to zero ("SGDR", Loshchilov and Hutter 2017, without restarts)."""
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def _one_cycle(progress: float, warmup: float) -> float:
    """Half a cosine up from a 25th, half a cosine down to zero ("Super-Convergence", Smith and Topin 2018)."""
    if progress < warmup:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * progress / warmup)) / 2
    return _cosine(progress, warmup)


# name -> what makes it of parameter groups and settings
OPTIMIZERS: dict[str, Callable[[Groups, Training], optim.Optimizer]] = {
    "adam": _adam,
    "adamw": partial(_adam, decoupled=True),
    "muon": _muon,
    "sgd": _sgd,
}

# share of training done (0 to 1), share of it spent rising -> share of the peak
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda progress, warmup: 1.0,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
}
