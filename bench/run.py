"""run_trial: one trial from seed to result, read down the page."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.artefacts import save_trial
from bench.data import Dataset, TrainingBatches, evaluation_batches, load_dataset
from bench.device import CPU, DTYPES, open_device, set_exact_arithmetic
from bench.measure import Block, Stopwatch, WarmUp, warm_up, whole_blocks
from bench.optim import build_optimizer, learning_rate
from bench.results import Result
from bench.stats import block_interval
from bench.train import DivergedError, Evaluation, Learner, Score, evaluate, train
from bench.trial import Trial
from models import build_model

EVALUATION_BATCH = 250  # images; the fastest on two cores: larger ones leave the cache, smaller ones pay per call
EXPLODED = 10  # times the loss of a guess among all classes

Report = Callable[[dict[str, Any]], None]


def run_trial(
    trial: Trial,
    folder: Path | None = None,
    data_dir: Path | None = None,
    report: Report = lambda message: None,
    now: Callable[[], float] = time.perf_counter,
) -> Result:
    """Train and measure; whatever goes wrong becomes the result's status and error, and what was measured is kept.

    Args:
        folder: gets weights and predictions; None keeps neither.
        report: is told of each evaluation, off the training clock.
        now: a monotonic clock, seconds.
    """
    result = Result(**trial.row())
    result.started_at = datetime.now(UTC).isoformat(timespec="seconds")
    result.torch_version = torch.__version__
    watch = Stopwatch(now=now)
    start = now()
    try:
        _train_and_measure(trial, folder, data_dir, report, watch, result)
        result.status = "ok"
    except DivergedError as error:
        result.status, result.error = "diverged", str(error)
    except Exception as error:  # noqa: BLE001 - the one place where a failure becomes a row
        result.status = "oom" if _is_out_of_memory(error) else "failed"
        result.error = f"{type(error).__name__}: {error}"
    result.wall_seconds = now() - start
    result.train_seconds, result.eval_seconds, result.setup_seconds = (
        watch.seconds.get(phase) for phase in ("train", "eval", "setup")
    )
    _fill_throughput(result, watch.blocks)
    return result


def _train_and_measure(
    trial: Trial, folder: Path | None, data_dir: Path | None, report: Report, watch: Stopwatch, result: Result
) -> None:
    with watch.phase("setup"):
        set_exact_arithmetic()
        if trial.num_threads:
            torch.set_num_threads(trial.num_threads)
        device = open_device(trial.device)
        watch.synchronize = device.synchronize
        data = load_dataset(trial.dataset, data_dir, trial.split_seed).to(device.torch_device)
        batches = TrainingBatches(data, trial.training.batch_size, trial.seed, trial.training.augment)
        warm = _warm_up_and_measure_memory(trial, data, batches, device, watch, result)
        learner = _learner(trial, data, batches.steps_per_epoch, device)  # a fresh one: as if nothing had run before
        _fill_conditions(result, learner, data, device, warm)
    best = Best()
    validate = _evaluator(learner, data, device, "val")
    limit = EXPLODED * math.log(max(2, data.spec.num_classes))
    stops = evaluation_stops(trial, batches.steps_per_epoch)
    for evaluation in train(learner, batches, validate, stops, batches.steps_per_epoch, warm.block_steps, limit, watch):
        with watch.phase("eval"):
            result.evaluations.append(asdict(evaluation))
            best.look(evaluation, learner)
            report(_message(evaluation, watch.blocks[-1]))
    _fill_accuracy(result, trial, best)
    with watch.phase("eval"):
        last = {key: value.clone() for key, value in learner.model.state_dict().items()}
        test = _evaluator(learner, data, device, "test")()
        learner.model.load_state_dict(best.state)
        test_best = test if best.step == evaluation.step else _evaluator(learner, data, device, "test")()
        result.test_accuracy, result.test_accuracy_best = test.accuracy, test_best.accuracy
        result.skipped_steps = learner.skipped_steps if DTYPES[trial.dtype].scale_gradients else None
    with watch.phase("setup"):
        if folder is not None:
            columns = _prediction_columns(data, test, test_best)
            save_trial(folder, trial.model_dump(), last, best.state, columns)


def _learner(trial: Trial, data: Dataset, steps_per_epoch: int, device: CPU) -> Learner:
    """Model and optimiser as the seed has them; drawn on the CPU, so that every device starts from equal weights."""
    torch.manual_seed(trial.seed)
    spec, training = data.spec, trial.training
    model = build_model(trial.model, trial.settings, spec.image_size, spec.in_channels, spec.num_classes)
    model.to(device.torch_device)
    num_steps = training.epochs * steps_per_epoch
    return Learner(
        model,
        build_optimizer(model, training),
        lambda step: learning_rate(training, step, num_steps),
        DTYPES[trial.dtype],
        device,
        training.label_smoothing,
        training.clip_norm,
    )


def _warm_up_and_measure_memory(
    trial: Trial, data: Dataset, batches: TrainingBatches, device: CPU, watch: Stopwatch, result: Result
) -> WarmUp:
    """Steps of a throw-away learner; its peak is training's, since no evaluation has run yet in this process."""
    device.reset_peak_memory()
    learner = _learner(trial, data, batches.steps_per_epoch, device)
    source = iter(batches)
    warm = warm_up(lambda: learner.step(*next(source)), device.synchronize, watch.now)
    result.peak_memory_bytes = device.peak_memory_bytes()
    result.peak_memory_reserved_bytes = device.peak_memory_reserved_bytes()
    return warm


class Best:
    """The weights that validation chose; of equals, the earliest."""

    def __init__(self) -> None:
        self.accuracy = -1.0
        self.step = 0
        self.state: dict[str, Tensor] = {}

    def look(self, evaluation: Evaluation, learner: Learner) -> None:
        if evaluation.val_accuracy > self.accuracy:
            self.accuracy, self.step = evaluation.val_accuracy, evaluation.step
            self.state = {key: value.clone() for key, value in learner.model.state_dict().items()}


def evaluation_stops(trial: Trial, steps_per_epoch: int) -> list[int]:
    """Step counts of the evaluations: evenly over each epoch, and at its end."""
    per_epoch = min(trial.training.evaluations_per_epoch, steps_per_epoch)
    count = trial.training.epochs * per_epoch
    return [round(index * steps_per_epoch / per_epoch) for index in range(1, count + 1)]


def _evaluator(learner: Learner, data: Dataset, device: CPU, split: str) -> Callable[[], Score]:
    images = {"val": data.val, "test": data.test}[split]
    return lambda: evaluate(learner.model, evaluation_batches(data, images, EVALUATION_BATCH), learner.context)


def _fill_conditions(result: Result, learner: Learner, data: Dataset, device: CPU, warm: WarmUp) -> None:
    result.num_params = sum(p.numel() for p in learner.model.parameters())
    result.dataset_checksum = data.checksum
    result.device_name = device.name
    result.num_threads = torch.get_num_threads()
    result.eval_dtype = result.dtype  # what is trained in a mode is used in it
    result.first_step_seconds = warm.first_step_seconds
    result.warm_up_seconds = warm.seconds
    result.untimed_steps = warm.steps


def _fill_accuracy(result: Result, trial: Trial, best: Best) -> None:
    result.train_loss = result.evaluations[-1]["train_loss"]
    result.val_accuracy = result.evaluations[-1]["val_accuracy"]
    result.val_accuracy_best = best.accuracy
    seconds = [0.0, *(row["train_seconds"] for row in result.evaluations)]
    result.evaluation_interval_seconds = median(b - a for a, b in pairwise(seconds))
    if trial.target_accuracy is not None:
        reached = (row for row in result.evaluations if row["val_accuracy"] >= trial.target_accuracy)
        result.time_to_accuracy_seconds = next((row["train_seconds"] for row in reached), None)


def _fill_throughput(result: Result, timed: list[Block]) -> None:
    blocks = whole_blocks(timed)
    result.blocks = [{"block": index, **asdict(block)} for index, block in enumerate(blocks)]
    if blocks:
        interval = block_interval([block.images for block in blocks], [block.seconds for block in blocks])
        result.images_per_second = interval.median
        result.images_per_second_low, result.images_per_second_high = interval.low, interval.high
        result.throughput_spread = interval.spread


def _prediction_columns(data: Dataset, last: Score, best: Score) -> dict[str, Tensor]:
    return {
        "label": data.test.labels,
        "prediction": last.predictions,
        "confidence": last.confidences,
        "prediction_best": best.predictions,
        "confidence_best": best.confidences,
    }


def _message(evaluation: Evaluation, block: Block) -> dict[str, Any]:
    return asdict(evaluation) | {"images_per_second": block.images / block.seconds}


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA has a type for it; the CPU's allocator raises a RuntimeError that only its text tells apart."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
