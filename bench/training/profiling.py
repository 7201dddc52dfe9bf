"""What training doesn't show: inference, latency, where a step's time goes, the share of the device's peak.

Each is a pass of its own after training, so that measuring it costs the timed loop nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.dataset import evaluation_batches
from bench.measure.flops import count_flops, matmul_peak
from bench.measure.stopwatch import BLOCK_SECONDS, Block
from bench.result import Result
from bench.training import metrics
from bench.training.compilation import compiled, no_recompilation
from bench.training.loop import Learner
from bench.training.trial_setup import TrialSetup

FEWEST_CALLS = 10
MOST_CALLS = 2_000
CALLS_FOR_P99 = 100  # of fewer calls the 99th percentile is just the slowest
TYPICAL_STEPS = 200  # more say nothing new about a median
INFERENCE_BATCHES = (8, 512)  # images, besides the trial's own batch; one image is the latency's

Predict = Callable[[Tensor], Tensor]
Edge = Callable[[], float]  # waits until the device has done all that it was asked, and tells the time in seconds


def profile(setup: TrialSetup, learner: Learner, result: Result) -> None:
    """All passes, each with its share of `instrument_seconds`; what they do to the weights no longer matters.

    Left out where several processes train one model: it would measure only one of them.
    """
    trial, device, now, seconds = setup.trial, setup.device, setup.watch.now, setup.trial.instrument_seconds
    example = setup.form.of(torch.zeros(2, *setup.data.image_shape, device=device.torch_device))
    result.num_flops, result.num_train_flops = count_flops(learner.model, example)
    if trial.match:  # what is left of the difference between the two, in what they were matched by
        amount = {"params": result.num_params, "flops": result.num_flops}[trial.match.by]
        result.mismatch = None if amount is None else amount / trial.match.target - 1
    if not (seconds and trial.timed):
        return

    def edge() -> float:
        device.synchronize()
        return now()

    if trial.world_size == 1:
        start = now()
        learner.learning_rate = lambda step: 0.0
        with no_recompilation(trial.compile):
            metrics.record(result, split_step(learner, iter(setup.batches), edge, 0.15 * seconds))
        _measure_inference(setup, learner, result, edge, seconds)
        result.matmul_flops_per_second = matmul_peak(device, setup.precision, 0.12 * seconds)
        result.instrument_seconds = now() - start
    metrics.record_efficiency(result)


def _measure_inference(setup: TrialSetup, learner: Learner, result: Result, edge: Edge, seconds: float) -> None:
    trial, batch_size = setup.trial, setup.trial.training.batch_size
    learner.model.eval()
    forward = compiled(_forward, trial.compile)

    def predict(images: Tensor) -> Tensor:
        with learner.context:
            return forward(learner.model, images)

    others = () if trial.compile else INFERENCE_BATCHES  # each size would compile anew
    sizes = sorted({batch_size, *others})
    images, _ = next(evaluation_batches(setup.data, setup.data.test, max(sizes), setup.form))
    metrics.record(result, latency(predict, images[:1], edge, 0.15 * seconds))
    for size in (size for size in sizes if size <= len(images)):
        rounds = 4 if size == batch_size else 1
        metrics.record_inference(result, size, inference_blocks(predict, images[:size], rounds, edge, 0.1 * seconds))


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def inference_blocks(
    predict: Predict, images: Tensor, rounds: int, edge: Edge, seconds: float = BLOCK_SECONDS
) -> list[Block]:
    """Timed blocks of `predict(images)`, at least `seconds` each, after a block that warms up and isn't kept.

    Shape: images (B, C, H, W), in the format that the model takes; they stay the same, since no model's speed here
    depends on what they show.
    """
    calls = _calls_in(predict, images, edge, seconds)
    blocks = []
    for _ in range(rounds):
        block = Block(calls, calls * len(images), _seconds(predict, images, calls, edge))
        blocks.append(block)
        calls = max(1, math.ceil(1.1 * calls * seconds / max(block.seconds, 1e-9)))
    return blocks


def latency(predict: Predict, image: Tensor, edge: Edge, seconds: float) -> dict[str, float | None]:
    """Seconds from one image, (1, C, H, W), to its logits: column -> percentile of single calls over about `seconds`.

    None where too few calls tell.
    """
    calls = _calls_in(predict, image, edge, min(seconds, BLOCK_SECONDS) / 2)
    count = min(MOST_CALLS, max(FEWEST_CALLS, math.ceil(calls * 2 * seconds / min(seconds, BLOCK_SECONDS))))
    times = [_seconds(predict, image, 1, edge) for _ in range(count)]
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.50, 0.95, 0.99]))
    return {
        "latency_p50_seconds": p50,
        "latency_p95_seconds": p95,
        "latency_p99_seconds": p99 if count >= CALLS_FOR_P99 else None,
    }


def split_step(
    learner: Learner, source: Iterator[tuple[Tensor, Tensor]], edge: Edge, seconds: float
) -> dict[str, float | None]:
    """Where a training step's time goes: column -> seconds of that part, over steps of about `seconds`.

    Each is a median over steps that wait for the device after every part. The weights go on changing.
    """
    steps: list[Sequence[float]] = []
    edges = [edge()]
    start = edges[0]
    while len(steps) < 3 or (edges[-1] - start < seconds and len(steps) < TYPICAL_STEPS):
        edges = [edge()]
        images, labels = next(source)
        edges.append(edge())
        loss = learner.forward(images, labels)
        edges.append(edge())
        learner.backward(loss)
        edges.append(edge())
        learner.update()
        edges.append(edge())
        steps.append([after - before for before, after in pairwise(edges)])
    parts = ("data_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds")
    return dict(zip(parts, np.median(steps, axis=0).tolist(), strict=True))


def _calls_in(predict: Predict, images: Tensor, edge: Edge, seconds: float) -> int:
    """How many calls take about `seconds`; finding out warms up, and is worth as many calls again."""
    _seconds(predict, images, 1, edge)  # the first, with what it compiles and allocates
    calls, spent = 1, _seconds(predict, images, 1, edge)
    while spent < seconds / 2 and calls < 2**20:
        calls = max(calls + 1, math.ceil(min(8.0, seconds / 2 / max(spent, 1e-9)) * calls))
        spent = _seconds(predict, images, calls, edge)
    return max(1, math.ceil(1.1 * calls * seconds / max(spent, 1e-9)))


@torch.inference_mode()
def _seconds(predict: Predict, images: Tensor, calls: int, edge: Edge) -> float:
    start = edge()
    for _ in range(calls):
        predict(images)
    return edge() - start
