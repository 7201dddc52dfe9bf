"""Record: what was measured, put into the columns of a Result. The arithmetic is here, the measuring elsewhere."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from statistics import median
from typing import Any

from torch import Tensor

from bench.data.dataset import Dataset, TrainingBatches
from bench.measure.memory import MemorySplit
from bench.measure.stats import block_interval
from bench.measure.stopwatch import Block, WarmUp, whole_blocks
from bench.result import COLUMNS, Result
from bench.system.device import CPU
from bench.training.loop import Score

TIMED_UNITS = ("s", "images/s", "FLOP/s", "J", "B")


def record_conditions(
    result: Result, num_params: int, num_threads: int, data: Dataset, batches: TrainingBatches, device: CPU
) -> None:
    result.num_params = num_params
    result.num_threads = num_threads
    result.dataset_checksum = data.checksum
    result.num_train_images = len(batches.chosen)
    result.device_name = device.name
    result.eval_dtype = result.dtype  # what is trained in a mode is used in it


def record_warm_up(result: Result, warm: WarmUp) -> None:
    result.first_step_seconds = warm.first_step_seconds
    result.warm_up_seconds = warm.seconds
    result.untimed_steps = warm.steps
    if result.compile != "false":
        result.compile_seconds = max(0.0, warm.first_step_seconds - warm.step_seconds)


def record_accuracy(result: Result, target: float | None, val_accuracy_best: float) -> None:
    rows = result.evaluations
    result.train_loss, result.val_accuracy = rows[-1]["train_loss"], rows[-1]["val_accuracy"]
    result.val_accuracy_best = val_accuracy_best
    seconds = [0.0, *(row["train_seconds"] for row in rows)]
    result.evaluation_interval_seconds = median(b - a for a, b in pairwise(seconds))
    reached = next((row for row in rows if target is not None and row["val_accuracy"] >= target), None)
    if reached:
        result.time_to_accuracy_seconds = reached["train_seconds"]
        result.joules_to_accuracy = reached["train_joules"]


def record_data_wait(result: Result, before: float | None, after: float | None) -> None:
    """What training waited for images from disk; of images in memory, it isn't known apart from their batch."""
    result.data_wait_seconds = None if before is None or after is None else after - before


def record_energy(result: Result, joules: float | None, epochs: float) -> None:
    result.train_joules = joules
    result.joules_per_epoch = None if joules is None or not epochs else joules / epochs


def record_throughput(result: Result, timed: list[Block]) -> None:
    blocks = whole_blocks(timed)
    result.blocks = [{"block": index, **asdict(block)} for index, block in enumerate(blocks)]
    if blocks:
        interval = block_interval([block.images for block in blocks], [block.seconds for block in blocks])
        result.images_per_second = interval.median
        result.images_per_second_low, result.images_per_second_high = interval.low, interval.high
        result.throughput_spread = interval.spread
        result.step_seconds = (result.batch_size or 0) / interval.median


def record_memory(result: Result, peak: int | None, reserved: int | None, split: MemorySplit) -> None:
    result.peak_memory_bytes, result.peak_memory_reserved_bytes = peak, reserved
    result.param_bytes, result.gradient_bytes = split.param_bytes, split.gradient_bytes
    result.optimizer_bytes, result.activation_bytes = split.optimizer_bytes, split.activation_bytes


def forget_times(result: Result) -> None:
    """Empty all that a trial can't tell that didn't have the machine to itself: seconds, speeds, energy, memory."""
    for name, about in COLUMNS.items():
        if about["unit"] in TIMED_UNITS:
            setattr(result, name, None)
    result.throughput_spread = result.flops_share = None
    if result.match == "step_time":
        result.mismatch = None
    result.evaluations = [row | {"train_seconds": None, "train_joules": None} for row in result.evaluations]
    result.blocks, result.inference_blocks = [], []


def prediction_columns(data: Dataset, last: Score, best: Score) -> dict[str, Tensor]:
    return {
        "label": data.test.labels,
        "prediction": last.predictions,
        "confidence": last.confidences,
        "prediction_best": best.predictions,
        "confidence_best": best.confidences,
    }


def progress_message(evaluation: Any, blocks: Iterable[Block]) -> dict[str, Any]:
    """What the one who waits is told: the evaluation, and the pace of the last block."""
    *_, block = blocks
    return asdict(evaluation) | {"images_per_second": block.images / block.seconds}
