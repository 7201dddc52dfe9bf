"""Fills the columns of a Result: rates, shares and peaks worked out from what the loop and the profiling measured."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from bench.measure.calibration import accuracy_at_coverage, expected_calibration_error
from bench.measure.memory import split_memory
from bench.measure.stats import BlockInterval, block_interval
from bench.measure.stopwatch import Block, Stopwatch, WarmUp, whole_blocks
from bench.result import COLUMNS, Result
from bench.system.contention import Pauses
from bench.training.loop import Learner, Score
from bench.training.trial_setup import TrialSetup

# What can't be trusted of a trial that shared the machine. `wall_seconds` stays: it is what one waited, and no speed.
TIMED_COLUMNS = [
    *(name for name, about in COLUMNS.items() if about["unit"] in ("s", "images/s", "FLOP/s", "J")),
    *("throughput_spread", "flops_share"),
]
TIMED_COLUMNS.remove("wall_seconds")


def record(result: Result, columns: Mapping[str, float | None]) -> None:
    """Fill columns by their names. Raises: KeyError: no such column."""
    for name, value in columns.items():
        COLUMNS[name]
        setattr(result, name, value)


def record_setup(result: Result, setup: TrialSetup, model: nn.Module, warm: WarmUp) -> None:
    """What the trial ran on, and its untimed first steps."""
    result.num_params = sum(p.numel() for p in model.parameters())
    result.num_threads = torch.get_num_threads()
    result.dataset_checksum = setup.data.spec.checksum
    result.num_train_images = len(setup.batches.chosen)
    result.device_name = setup.device.name
    result.eval_dtype = result.dtype  # what is trained in a mode is used in it
    result.first_step_seconds = warm.first_step_seconds
    result.warm_up_seconds = warm.seconds
    result.untimed_steps = warm.steps
    if result.compile != "false":
        result.compile_seconds = max(0.0, warm.first_step_seconds - warm.step_seconds)


def record_memory(result: Result, setup: TrialSetup, learner: Learner) -> None:
    """The device's peak so far, and its parts."""
    result.peak_memory_bytes = setup.device.peak_memory_bytes()
    result.peak_memory_reserved_bytes = setup.device.peak_memory_reserved_bytes()
    record(result, asdict(split_memory(learner.model, learner.optimizer, result.peak_memory_bytes)))


def record_training(result: Result, watch: Stopwatch, val_accuracy_best: float) -> None:
    """Accuracies, times and energy of a training whose evaluations the result has already."""
    rows = result.evaluations
    result.train_loss, result.val_accuracy = rows[-1]["train_loss"], rows[-1]["val_accuracy"]
    result.val_accuracy_best = val_accuracy_best
    seconds = [0.0, *(row["train_seconds"] for row in rows)]
    result.evaluation_interval_seconds = median(b - a for a, b in pairwise(seconds))
    target = result.target_accuracy
    reached = next((row for row in rows if target is not None and row["val_accuracy"] >= target), None)
    if reached:
        result.images_to_accuracy = reached["step"] * (result.batch_size or 0)
        result.time_to_accuracy_seconds = reached["train_seconds"]
        result.joules_to_accuracy = reached["train_joules"]
    result.train_joules = watch.joules
    result.joules_per_epoch = None if watch.joules is None else watch.joules / rows[-1]["epoch"]
    if isinstance(watch.pauses, Pauses):
        result.pause_share = watch.pauses.share
    if result.timed:
        record_throughput(result, watch.blocks)


def record_test(result: Result, labels: Tensor, last: Score, best: Score, class_names: Sequence[str]) -> None:
    """Accuracy of the final weights, and of those that validation chose; and how right and how sure the final ones are.

    Shape: labels (images,).
    """
    result.test_accuracy, result.test_accuracy_best = last.accuracy, best.accuracy
    right, classes = (last.predictions == labels).cpu().numpy(), labels.cpu().numpy()
    counts = np.bincount(classes, minlength=len(class_names))
    hits = np.bincount(classes, right, minlength=len(class_names))
    result.test_balanced_accuracy = float((hits[counts > 0] / counts[counts > 0]).mean())
    confidences = last.confidences.cpu().numpy()
    result.test_loss = last.loss
    result.calibration_error = expected_calibration_error(confidences, right)
    result.accuracy_at_90_coverage = accuracy_at_coverage(confidences, right)
    commonest = int(counts.argmax())
    result.commonest_class, result.commonest_share = class_names[commonest], float(counts[commonest] / counts.sum())
    bits = np.packbits(right)
    result.correct = base64.b64encode(zlib.compress(bits.tobytes())).decode("ascii")


def record_throughput(result: Result, timed: list[Block]) -> None:
    """Images per second over the blocks timed so far, which may be those of a training that failed."""
    blocks = whole_blocks(timed)
    result.blocks = [{"block": index, **asdict(block)} for index, block in enumerate(blocks)]
    if blocks:
        interval = _record_rate(result, "", blocks)
        result.throughput_spread = interval.spread
        result.step_seconds = (result.batch_size or 0) / interval.median


def record_inference(result: Result, batch_size: int, blocks: list[Block]) -> None:
    """Blocks of one batch size; those of the trial's own fill its columns."""
    result.inference_blocks += [
        {"batch_size": batch_size, "block": index, "images": block.images, "seconds": block.seconds}
        for index, block in enumerate(blocks)
    ]
    if batch_size == result.batch_size:
        _record_rate(result, "inference_", blocks)


def _record_rate(result: Result, kind: str, blocks: list[Block]) -> BlockInterval:
    interval = block_interval([block.images for block in blocks], [block.seconds for block in blocks])
    ends = {"": interval.median, "_low": interval.low, "_high": interval.high}
    record(result, {f"{kind}images_per_second{end}": value for end, value in ends.items()})
    return interval


def record_efficiency(result: Result) -> None:
    """FLOP/s achieved in training, and their share of the fastest matrix product's."""
    if result.images_per_second is not None and result.num_train_flops is not None:
        result.flops_per_second = result.images_per_second * result.num_train_flops
        if result.matmul_flops_per_second:
            result.flops_share = result.flops_per_second / result.matmul_flops_per_second


def record_seconds(result: Result, watch: Stopwatch, wall_seconds: float) -> None:
    """Where the trial's time went, to its end or its failure; only its length if others ran beside it."""
    result.wall_seconds = wall_seconds
    train, evaluation = watch.seconds.get("train"), watch.seconds.get("eval")
    rest = wall_seconds - (train or 0.0) - (evaluation or 0.0)  # so that the three add up
    record(result, {"train_seconds": train, "eval_seconds": evaluation, "setup_seconds": rest})
    if not result.timed:
        record(result, dict.fromkeys(TIMED_COLUMNS))
        result.evaluations = [row | {"train_seconds": None, "train_joules": None} for row in result.evaluations]
    elif result.images_per_second is None:
        record_throughput(result, watch.blocks)
