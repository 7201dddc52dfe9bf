"""Inspection: a trained model under the instruments that training must not wait for."""

import torch
from torch import Tensor, nn

from bench.data.dataset import evaluation_batches
from bench.measure.flops import count_flops
from bench.measure.peak import matmul_peak
from bench.result import Result
from bench.training import profiling
from bench.training.compilation import compiled, no_recompilation
from bench.training.loop import Learner
from bench.training.profiling import inference_blocks, latency, split_step
from bench.training.trial_setup import Bench

INFERENCE_BATCHES = (8, 512)  # images, besides one and the trial's own


def inspect(bench: Bench, learner: Learner, result: Result) -> None:
    """The passes, each with its share of `instrument_seconds`; what they do to the weights no longer matters.

    Of several processes that trained together there is none: what they would measure is one of them.
    """
    trial, device, now, seconds = bench.trial, bench.device, bench.watch.now, bench.trial.instrument_seconds
    example = bench.form.of(torch.zeros(2, *bench.data.image_shape, device=device.torch_device))
    profiling.record_flops(result, *count_flops(learner.model, example))
    profiling.record_mismatch(result, trial)
    if not (seconds and trial.timed):
        return
    if trial.world_size > 1:
        profiling.record_efficiency(result, None)
        return
    start = now()
    learner.learning_rate = lambda step: 0.0
    with no_recompilation(trial.compile):
        split = split_step(learner, iter(bench.batches), device, now, 0.15 * seconds)
    profiling.record_step_split(result, split)
    _measure_inference(bench, learner, result, seconds)
    profiling.record_efficiency(result, matmul_peak(device, bench.precision, 0.12 * seconds))
    result.instrument_seconds = now() - start


def _measure_inference(bench: Bench, learner: Learner, result: Result, seconds: float) -> None:
    trial, device, now, own = bench.trial, bench.device, bench.watch.now, bench.trial.training.batch_size
    learner.model.eval()
    forward = compiled(_forward, trial.compile)

    def predict(images: Tensor) -> Tensor:
        with learner.context:
            return forward(learner.model, images)

    others = () if trial.compile else INFERENCE_BATCHES  # each size would compile anew
    sizes = sorted({own, *others})
    images, _ = next(evaluation_batches(bench.data, bench.data.test, max(sizes), bench.form))
    profiling.record_latency(result, latency(predict, images[:1], device, now, 0.15 * seconds))
    for size in (size for size in sizes if size <= len(images)):
        rounds = 4 if size == own else 1
        blocks = inference_blocks(predict, images[:size], rounds, device, now, 0.1 * seconds)
        profiling.record_inference(result, size, blocks)


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)
