"""One trial from seed to result, read down the page: data, model, optimiser, train, test, measure."""

import copy
import itertools
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import StoreError
from bench.measure.stopwatch import Stopwatch, WarmUp, warm_up
from bench.result import Result
from bench.training import metrics
from bench.training.checkpoint import Inputs, save_trial
from bench.training.compilation import cold_cache, no_recompilation
from bench.training.data_parallel import ALONE, Replicas
from bench.training.launcher import Report, train_together
from bench.training.loop import DivergedError, train
from bench.training.profiling import profile
from bench.training.trial_setup import TrialSetup, evaluator, new_learner, set_up
from bench.trial import Trial

DIVERGED = 10  # times the loss of a guess among all classes
FEWEST_STEPS = 2  # of a warm-up
MEMORY_STEPS = 8  # until the peak no longer grows: the allocator's pools fill over five


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
        return train_together(run_trial, trial, folder, data_dir, report)
    result = Result(**trial.row())
    result.started_at = datetime.now(UTC).isoformat(timespec="seconds")
    result.torch_version = torch.__version__
    watch = Stopwatch(now=replicas.clock(now))
    start = now()
    try:
        with cold_cache(trial.compile):
            _fill(result, trial, folder, data_dir, report, watch, replicas)
        result.status = "ok"
    except DivergedError as error:
        result.status, result.error = "diverged", str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one place where a failure becomes a row
        result.status = "oom" if _is_out_of_memory(error) else "failed"
        result.error, result.trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        result.unsaved = isinstance(error, StoreError)
    metrics.record_seconds(result, watch, now() - start)
    return result


def _fill(
    result: Result,
    trial: Trial,
    folder: Path | None,
    data_dir: Path | None,
    report: Report,
    watch: Stopwatch,
    replicas: Replicas,
) -> None:
    """Fill `result` as the trial goes on, so that a failure leaves what was measured before it."""
    setup = set_up(trial, data_dir, watch, replicas)
    warm = _warm_up(setup, result)
    setup.device.keep_freed_memory()  # its peak is known now
    learner = new_learner(setup)  # a fresh one: as if nothing had run before
    model, batches, data = learner.model, setup.batches, setup.data
    metrics.record_setup(result, setup, model, warm)

    best_accuracy, best_step, best_weights = -1.0, 0, dict[str, Tensor]()
    loss_limit = DIVERGED * math.log(max(2, data.spec.num_classes))
    stops, steps_per_epoch = evaluation_stops(trial, batches.steps_per_epoch), batches.steps_per_epoch
    validate, test = evaluator(setup, learner, "val"), evaluator(setup, learner, "test")
    waited = batches.waited_seconds
    with no_recompilation(trial.compile):
        for evaluation in train(
            learner, batches, validate, stops, steps_per_epoch, warm.block_steps, loss_limit, watch, replicas.mean
        ):
            with watch.phase("eval"):
                result.evaluations.append(asdict(evaluation))
                if evaluation.val_accuracy > best_accuracy:  # of equals, the earliest
                    best_accuracy, best_step = evaluation.val_accuracy, evaluation.step
                    best_weights = _copied_weights(model)
                block = watch.blocks[-1]
                report(asdict(evaluation) | {"images_per_second": block.images / block.seconds})
    metrics.record_training(result, watch, best_accuracy)
    if waited is not None and batches.waited_seconds is not None:
        result.data_wait_seconds = batches.waited_seconds - waited

    if not trial.tested:
        return
    with watch.phase("eval"):
        last_weights, last = _copied_weights(model), test()
        model.load_state_dict(best_weights)
        best = last if best_step == evaluation.step else test()
        if replicas.rank == 0:  # the others are told no predictions
            metrics.record_test(result, data.test.labels, last, best, data.spec.class_names)
        result.skipped_steps = learner.skipped_steps if setup.precision.scale_gradients else None

    if folder is not None:
        columns = {
            "label": data.test.labels,
            "prediction": last.predictions,
            "confidence": last.confidences,
            "prediction_best": best.predictions,
            "confidence_best": best.confidences,
        }
        save_trial(folder, trial.model_dump(), last_weights, best_weights, columns, Inputs.of(data))
    profile(setup, learner, result)


def _warm_up(setup: TrialSetup, result: Result) -> WarmUp:
    """Steps of throw-away learners; their peak memory is training's: no evaluation has run yet in this process.

    A CPU's memory is the process's, and the first steps touch pages of libraries, which are no part of training: there
    a second learner tells the peak. A trial that isn't timed needs no steady pace.
    """
    device = setup.device
    device.return_freed_memory()
    with _watched_steps(setup, result) as step:
        lengths = () if setup.trial.timed else (FEWEST_STEPS, 0)
        warm = warm_up(step, device.synchronize, setup.watch.now, *lengths)
    if device.type != "cpu":
        return warm
    del step  # and the first learner with it
    with _watched_steps(setup, result) as step:
        for _ in range(MEMORY_STEPS):
            step()
    return replace(warm, steps=warm.steps + MEMORY_STEPS)


@contextmanager
def _watched_steps(setup: TrialSetup, result: Result) -> Iterator[Callable[[], None]]:
    """A training step of a new learner, to be called; how much memory it took is recorded at the end."""
    setup.device.reset_peak_memory()
    learner = new_learner(setup)
    source = iter(setup.batches)

    def step() -> None:
        loss = learner.forward(*next(source))
        setup.device.sample_memory()  # activations are all alive here; for devices that keep no peak
        learner.backward(loss)
        learner.update()

    try:
        yield step
    finally:  # one that ran out of memory has a peak, too
        metrics.record_memory(result, setup, learner)


def evaluation_stops(trial: Trial, steps_per_epoch: int) -> list[int]:
    """Step counts of the evaluations: evenly over each epoch, at its end, and at the end of training."""
    per_epoch, last = (
        min(trial.training.evaluations_per_epoch, steps_per_epoch),
        trial.training.num_steps(steps_per_epoch),
    )
    stops = (round(index * steps_per_epoch / per_epoch) for index in range(1, trial.training.epochs * per_epoch + 1))
    return [*itertools.takewhile(lambda stop: stop < last, stops), last]


def _copied_weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        key: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)  # a module may keep anything besides
        for key, value in model.state_dict().items()
    }


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a type for it; the CPU's allocator raises a RuntimeError that only its text tells apart."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
