"""The training loop: one for every family, device and numeric mode; what differs arrives as an object."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.measure.stopwatch import Stopwatch
from bench.system.device import CPU
from bench.system.precision import Precision

Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


class DivergedError(Exception):
    """The training loss is no longer a number, or far worse than guessing."""


@dataclass(frozen=True)
class Score:
    """What a model achieves on a split. Shape of `predictions` and `confidences`: (images,)."""

    loss: float
    accuracy: float
    predictions: Tensor
    confidences: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The validation split's score after `step` updates and `train_seconds` of training; a row of evaluations.csv."""

    epoch: float
    step: int
    train_seconds: float
    train_joules: float | None
    train_loss: float
    val_loss: float
    val_accuracy: float


def train(
    learner: "Learner",
    batches: Iterable[tuple[Tensor, Tensor]],
    evaluate: Callable[[], Score],
    stops: Sequence[int],
    steps_per_epoch: int,
    block_steps: int,
    loss_limit: float,
    watch: Stopwatch,
    mean: Callable[[Tensor], float] = float,
) -> Iterator[Evaluation]:
    """Learn from `batches`, which never end; after each of the step counts in `stops`, evaluate and yield.

    The clock runs in blocks of at most `block_steps` and waits for the device at their edges, never between.
    Evaluation, and whatever the caller does between two yields, is off the training clock.

    Args:
        mean: of a loss, over the processes that train together.

    Raises:
        DivergedError: at the first stop where the mean training loss since the last is NaN or above `loss_limit`.
    """
    source = iter(batches)
    for start, stop in pairwise([0, *stops]):
        loss = torch.zeros(())  # the sum over steps; it stays on the device, so that no step waits for it
        for step in range(start, stop, block_steps):
            with watch.block(steps=min(block_steps, stop - step)) as block:
                for images, labels in islice(source, block.steps):
                    loss = loss + learner.step(images, labels)
                    block.images += len(labels)
        train_loss = mean(loss) / (stop - start)
        with watch.phase("eval"):
            score = evaluate()
        spent = watch.seconds["train"], watch.joules
        yield Evaluation(stop / steps_per_epoch, stop, *spent, train_loss, score.loss, score.accuracy)
        if not train_loss <= loss_limit:  # NaN is not <= anything
            raise DivergedError(f"training loss {train_loss:.3g} at step {stop}, limit {loss_limit:.3g}")


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The training loss, in full precision whatever the model computes in."""
    return F.cross_entropy(model(images).float(), labels, label_smoothing=label_smoothing)


@dataclass(eq=False)
class Learner:
    """A model with what updates its weights. A step is forward, backward, update.

    Attributes:
        learning_rate: of the update with this number, counted from 0.
        clip_norm: the gradient's largest norm, applied after unscaling; None for no limit.
        loss: `cross_entropy`, or the same compiled.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int], float]
    precision: Precision
    device: CPU
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        self.context = self.precision.context(self.device)
        self.scaler = self.precision.scaler(self.device)
        self.steps = 0
        self._skipped: Tensor | int = 0
        if self.precision.scale_gradients:
            self.optimizer.register_step_pre_hook(self._count_skipped)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Learn from one batch, (B, C, H, W) and (B,); the loss is a scalar on the device."""
        loss = self.forward(images, labels)
        self.backward(loss)
        self.update()
        return loss.detach()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with self.context:
            return self.loss(self.model, images, labels, self.label_smoothing)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        rate = self.learning_rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.steps += 1

    @property
    def skipped_steps(self) -> int:
        """Updates that the gradient scaler left out because a gradient had overflowed."""
        return int(self._skipped)

    def _count_skipped(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        # A fused optimiser is told of an overflow instead of being skipped, so that nobody has to wait for the flag.
        self._skipped = self._skipped + getattr(optimizer, "found_inf", 0)


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], context: AbstractContextManager[object]
) -> Score:
    """Loss and accuracy over `batches` in evaluation mode, under a numeric mode's `context`; one wait at the end."""
    was_training = model.training
    model.eval()
    losses, hits, predictions, confidences = [], [], [], []
    for images, labels in batches:
        with context:
            logits = model(images)
        logits = logits.float()
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        confidence, prediction = logits.softmax(dim=1).max(dim=1)
        hits.append((prediction == labels).sum())
        predictions.append(prediction)
        confidences.append(confidence)
    model.train(was_training)
    num_images = sum(len(p) for p in predictions)
    return Score(
        loss=float(torch.stack(losses).sum()) / num_images,
        accuracy=int(torch.stack(hits).sum()) / num_images,
        predictions=torch.cat(predictions),
        confidences=torch.cat(confidences),
    )
