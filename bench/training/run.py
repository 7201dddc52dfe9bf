"""run_trial: one trial from seed to result, read down the page."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import StoreError
from bench.measure.memory import split_memory
from bench.measure.stopwatch import Stopwatch, WarmUp, warm_up
from bench.result import Result
from bench.training import metrics
from bench.training.checkpoint import Inputs, save_trial
from bench.training.compilation import cold_cache, no_recompilation
from bench.training.data_parallel import ALONE, Replicas
from bench.training.launcher import run_together
from bench.training.loop import DivergedError, Evaluation, Learner, train
from bench.training.profiling import inspect
from bench.training.trial_setup import TrialSetup, evaluator, new_learner, set_up
from bench.trial import Trial

EXPLODED = 10  # times the loss of a guess among all classes

Report = Callable[[dict[str, Any]], None]


def run_trial(
    trial: Trial,
    folder: Path | None = None,
    data_dir: Path | None = None,
    report: Report = lambda message: None,
    now: Callable[[], float] = time.perf_counter,
    replicas: Replicas = ALONE,
) -> Result:
    """Train and measure; whatever goes wrong becomes the result's status and error, and what was measured is kept.

    Args:
        folder: gets weights and predictions; None keeps neither.
        report: is told of each evaluation, off the training clock.
        now: a monotonic clock, seconds; several processes have one of their own.
        replicas: which of the trial's processes this is; where it is alone and shouldn't be, it starts them.
    """
    if trial.world_size != replicas.size:
        return run_together(run_trial, trial, folder, data_dir, report)
    result = Result(**trial.row())
    result.started_at = datetime.now(UTC).isoformat(timespec="seconds")
    result.torch_version = torch.__version__
    watch = Stopwatch(now=replicas.clock(now))
    start = now()
    try:
        with cold_cache(trial.compile):
            _train_and_measure(trial, folder, data_dir, report, watch, result, replicas)
        result.status = "ok"
    except DivergedError as error:
        result.status, result.error = "diverged", str(error)
    except Exception as error:  # noqa: BLE001 - the one place where a failure becomes a row
        result.status = "oom" if _is_out_of_memory(error) else "failed"
        result.error, result.trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        result.unsaved = isinstance(error, StoreError)
    result.wall_seconds = now() - start
    result.train_seconds, result.eval_seconds, result.setup_seconds = (
        watch.seconds.get(phase) for phase in ("train", "eval", "setup")
    )
    if result.images_per_second is None:
        metrics.record_throughput(result, watch.blocks)
    if not trial.timed:
        metrics.forget_times(result)
    return result


def _train_and_measure(
    trial: Trial,
    folder: Path | None,
    data_dir: Path | None,
    report: Report,
    watch: Stopwatch,
    result: Result,
    replicas: Replicas,
) -> None:
    with watch.phase("setup"):
        setup = set_up(trial, data_dir, watch, replicas)
        warm = _warm_up_and_measure_memory(setup, result)
        learner = new_learner(setup)  # a fresh one: as if nothing had run before
        num_params = sum(p.numel() for p in learner.model.parameters())
        metrics.record_conditions(result, num_params, torch.get_num_threads(), setup.data, setup.batches, setup.device)
        metrics.record_warm_up(result, warm)
    best = Best()
    steps_per_epoch = setup.batches.steps_per_epoch
    limit = EXPLODED * math.log(max(2, setup.data.spec.num_classes))
    stops = evaluation_stops(trial, steps_per_epoch)
    validate = evaluator(setup, learner, "val")
    waited = setup.batches.waited_seconds
    with no_recompilation(trial.compile):
        for evaluation in train(
            learner, setup.batches, validate, stops, steps_per_epoch, warm.block_steps, limit, watch, replicas.mean
        ):
            with watch.phase("eval"):
                result.evaluations.append(asdict(evaluation))
                best.look(evaluation, learner)
                report(metrics.progress_message(evaluation, watch.blocks))
    metrics.record_accuracy(result, trial.target_accuracy, best.accuracy)
    metrics.record_energy(result, watch.joules, evaluation.epoch)
    metrics.record_data_wait(result, waited, setup.batches.waited_seconds)
    metrics.record_throughput(result, watch.blocks)
    with watch.phase("eval"):
        last = {key: value.clone() for key, value in learner.model.state_dict().items()}
        test = evaluator(setup, learner, "test")()
        learner.model.load_state_dict(best.state)
        test_best = test if best.step == evaluation.step else evaluator(setup, learner, "test")()
        result.test_accuracy, result.test_accuracy_best = test.accuracy, test_best.accuracy
        result.skipped_steps = learner.skipped_steps if setup.precision.scale_gradients else None
    with watch.phase("setup"):
        if folder is not None:
            columns = metrics.prediction_columns(setup.data, test, test_best)
            save_trial(folder, trial.model_dump(), last, best.state, columns, Inputs.of(setup.data))
        inspect(setup, learner, result)


def _warm_up_and_measure_memory(setup: TrialSetup, result: Result) -> WarmUp:
    """Steps of a throw-away learner; its peak is training's, since no evaluation has run yet in this process."""
    device = setup.device
    device.reset_peak_memory()
    learner = new_learner(setup)
    source = iter(setup.batches)

    def step() -> None:
        loss = learner.forward(*next(source))
        device.sample_memory()  # activations are all alive here; for devices that keep no peak
        learner.backward(loss)
        learner.update()

    try:
        return warm_up(step, device.synchronize, setup.watch.now)
    finally:  # one that ran out of memory has a peak, too
        peak = device.peak_memory_bytes()
        split = split_memory(learner.model, learner.optimizer, peak)
        metrics.record_memory(result, peak, device.peak_memory_reserved_bytes(), split)


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


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA has a type for it; the CPU's allocator raises a RuntimeError that only its text tells apart."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
