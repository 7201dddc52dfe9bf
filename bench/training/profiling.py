"""Instruments for what training doesn't show: inference, latency, where a step's time goes.

Each is a pass of its own after training, so that looking costs the timed loop nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.dataset import evaluation_batches
from bench.measure.flops import count_flops, matmul_peak
from bench.measure.stats import block_interval
from bench.measure.stopwatch import BLOCK_SECONDS, Block
from bench.result import Result
from bench.system.device import CPU
from bench.training.compilation import compiled, no_recompilation
from bench.training.loop import Learner
from bench.training.trial_setup import TrialSetup
from bench.trial import Trial

FEWEST_CALLS = 10
MOST_CALLS = 2_000
CALLS_FOR_P99 = 100  # of fewer calls the 99th percentile is just the slowest
TYPICAL_STEPS = 200  # more say nothing new about a median

Predict = Callable[[Tensor], Tensor]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Seconds from one image to its logits: percentiles over single calls; None where too few calls tell."""

    p50: float
    p95: float
    p99: float | None


@dataclass(frozen=True)
class StepSplit:
    """Seconds of one training step by part, each the median over steps that wait for the device after every part."""

    data: float
    forward: float
    backward: float
    optimizer: float


def inference_blocks(
    predict: Predict, images: Tensor, rounds: int, device: CPU, now: Clock, seconds: float = BLOCK_SECONDS
) -> list[Block]:
    """Timed blocks of `predict(images)`, at least `seconds` each, after a block that warms up and isn't kept.

    Shape: images (B, C, H, W), in the format that the model takes; they stay the same, since no model's speed here
    depends on what they show.
    """
    calls = _calls_in(predict, images, device, now, seconds)
    blocks = []
    for _ in range(rounds):
        block = Block(calls, calls * len(images), _seconds(predict, images, calls, device, now))
        blocks.append(block)
        calls = max(1, math.ceil(1.1 * calls * seconds / max(block.seconds, 1e-9)))
    return blocks


def latency(predict: Predict, image: Tensor, device: CPU, now: Clock, seconds: float) -> Latency:
    """Latency of a batch of one, (1, C, H, W), from single calls over about `seconds`."""
    calls = _calls_in(predict, image, device, now, min(seconds, BLOCK_SECONDS) / 2)
    count = min(MOST_CALLS, max(FEWEST_CALLS, math.ceil(calls * 2 * seconds / min(seconds, BLOCK_SECONDS))))
    times = [_seconds(predict, image, 1, device, now) for _ in range(count)]
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.50, 0.95, 0.99]))
    return Latency(p50, p95, p99 if count >= CALLS_FOR_P99 else None)


def split_step(
    learner: Learner, source: Iterator[tuple[Tensor, Tensor]], device: CPU, now: Clock, seconds: float
) -> StepSplit:
    """Where a training step's time goes, over steps of about `seconds`; the weights go on changing."""
    steps: list[Sequence[float]] = []
    start = now()
    while len(steps) < 3 or (now() - start < seconds and len(steps) < TYPICAL_STEPS):
        edges = [_edge(device, now)]
        images, labels = next(source)
        edges.append(_edge(device, now))
        loss = learner.forward(images, labels)
        edges.append(_edge(device, now))
        learner.backward(loss)
        edges.append(_edge(device, now))
        learner.update()
        edges.append(_edge(device, now))
        steps.append([after - before for before, after in pairwise(edges)])
    return StepSplit(*(median(part) for part in zip(*steps, strict=True)))


def _edge(device: CPU, now: Clock) -> float:
    device.synchronize()
    return now()


def _calls_in(predict: Predict, images: Tensor, device: CPU, now: Clock, seconds: float) -> int:
    """How many calls take about `seconds`; finding out warms up, and is worth as many calls again."""
    calls, spent = 1, _seconds(predict, images, 1, device, now)  # the first, with what it compiles and allocates
    spent = _seconds(predict, images, 1, device, now)
    while spent < seconds / 2 and calls < 2**20:
        calls = max(calls + 1, math.ceil(min(8.0, seconds / 2 / max(spent, 1e-9)) * calls))
        spent = _seconds(predict, images, calls, device, now)
    return max(1, math.ceil(1.1 * calls * seconds / max(spent, 1e-9)))


@torch.inference_mode()
def _seconds(predict: Predict, images: Tensor, calls: int, device: CPU, now: Clock) -> float:
    start = _edge(device, now)
    for _ in range(calls):
        predict(images)
    return _edge(device, now) - start


def record_step_split(result: Result, split: StepSplit) -> None:
    result.data_seconds, result.forward_seconds = split.data, split.forward
    result.backward_seconds, result.optimizer_seconds = split.backward, split.optimizer


def record_latency(result: Result, found: Latency) -> None:
    result.latency_p50_seconds, result.latency_p95_seconds = found.p50, found.p95
    result.latency_p99_seconds = found.p99


def record_inference(result: Result, batch_size: int, blocks: Sequence[Block]) -> None:
    """Blocks of one batch size; those of the trial's own fill its columns."""
    result.inference_blocks += [
        {"batch_size": batch_size, "block": index, "images": block.images, "seconds": block.seconds}
        for index, block in enumerate(blocks)
    ]
    if batch_size == result.batch_size and blocks:
        interval = block_interval([block.images for block in blocks], [block.seconds for block in blocks])
        result.inference_images_per_second = interval.median
        result.inference_images_per_second_low = interval.low
        result.inference_images_per_second_high = interval.high


def record_flops(result: Result, forward: int, training: int) -> None:
    result.num_flops, result.num_train_flops = forward, training


def record_efficiency(result: Result, matmul_peak: float | None) -> None:
    """Achieved FLOP/s in training, and its share of the best matrix product's."""
    if result.images_per_second is not None and result.num_train_flops is not None:
        result.flops_per_second = result.images_per_second * result.num_train_flops
    result.matmul_flops_per_second = matmul_peak
    if result.flops_per_second is not None and matmul_peak:
        result.flops_share = result.flops_per_second / matmul_peak


def record_mismatch(result: Result, trial: Trial) -> None:
    """What is left of the difference between the two of a matched pair, in what they were matched by."""
    if trial.match is None:
        return
    own = {"params": result.num_params, "flops": result.num_flops, "step_time": result.step_seconds}[trial.match.by]
    result.mismatch = None if own is None else own / trial.match.target - 1


# Inspection: a trained model under the instruments that training must not wait for.
INFERENCE_BATCHES = (8, 512)  # images, besides one and the trial's own


def inspect(setup: TrialSetup, learner: Learner, result: Result) -> None:
    """The passes, each with its share of `instrument_seconds`; what they do to the weights no longer matters.

    Of several processes that trained together there is none: what they would measure is one of them.
    """
    trial, device, now, seconds = setup.trial, setup.device, setup.watch.now, setup.trial.instrument_seconds
    example = setup.form.of(torch.zeros(2, *setup.data.image_shape, device=device.torch_device))
    record_flops(result, *count_flops(learner.model, example))
    record_mismatch(result, trial)
    if not (seconds and trial.timed):
        return
    if trial.world_size > 1:
        record_efficiency(result, None)
        return
    start = now()
    learner.learning_rate = lambda step: 0.0
    with no_recompilation(trial.compile):
        split = split_step(learner, iter(setup.batches), device, now, 0.15 * seconds)
    record_step_split(result, split)
    _measure_inference(setup, learner, result, seconds)
    record_efficiency(result, matmul_peak(device, setup.precision, 0.12 * seconds))
    result.instrument_seconds = now() - start


def _measure_inference(setup: TrialSetup, learner: Learner, result: Result, seconds: float) -> None:
    trial, device, now, own = setup.trial, setup.device, setup.watch.now, setup.trial.training.batch_size
    learner.model.eval()
    forward = compiled(_forward, trial.compile)

    def predict(images: Tensor) -> Tensor:
        with learner.context:
            return forward(learner.model, images)

    others = () if trial.compile else INFERENCE_BATCHES  # each size would compile anew
    sizes = sorted({own, *others})
    images, _ = next(evaluation_batches(setup.data, setup.data.test, max(sizes), setup.form))
    record_latency(result, latency(predict, images[:1], device, now, 0.15 * seconds))
    for size in (size for size in sizes if size <= len(images)):
        rounds = 4 if size == own else 1
        blocks = inference_blocks(predict, images[:size], rounds, device, now, 0.1 * seconds)
        record_inference(result, size, blocks)


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)
