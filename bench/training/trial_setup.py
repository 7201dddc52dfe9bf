"""Set-up of one trial: device, data, loss and learner, made from its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.dataset import Dataset, ImageFormat, TrainingBatches, evaluation_batches, load_dataset
from bench.measure.stopwatch import Stopwatch
from bench.system.contention import Pauses
from bench.system.device import CPU, open_device
from bench.system.environment import default_threads
from bench.system.precision import DTYPES, Precision, in_dtype, set_exact_arithmetic
from bench.training.compilation import compiled
from bench.training.data_parallel import ALONE, Replicas
from bench.training.loop import Learner, Loss, Score, cross_entropy, evaluate
from bench.training.optim import build_optimizer, learning_rate
from bench.trial import Trial
from models import build_model

EVALUATION_BATCH = 250  # images; the fastest on two cores: larger ones leave the cache, smaller ones pay per call


@dataclass(frozen=True)
class TrialSetup:
    """What a trial is measured on: its data, device and numeric mode, the loss as it is computed, the clock."""

    trial: Trial
    device: CPU
    precision: Precision
    data: Dataset
    form: ImageFormat
    batches: TrainingBatches
    loss: Loss
    watch: Stopwatch
    replicas: Replicas = ALONE


def set_up(
    trial: Trial, data_dir: Path | None, watch: Stopwatch, replicas: Replicas = ALONE, data: Dataset | None = None
) -> TrialSetup:
    """Open what a trial needs and tell the clock which device to wait for.

    Args:
        data: on the device already.

    Raises: DataError, DeviceError: what it needs isn't here.
    """
    precision = DTYPES[trial.dtype]
    set_exact_arithmetic(precision)
    threads = replicas.num_threads(trial.num_threads) if trial.timed else 1
    torch.set_num_threads(threads or default_threads(torch.get_num_threads()))
    device = open_device(replicas.device_name(trial.device))
    watch.synchronize, watch.energy, watch.processes = device.synchronize, replicas.meter(device), replicas.size
    if device.type == "cpu" and torch.get_num_threads() == replicas.size == 1:
        watch.pauses = Pauses()
    if data is None:
        own, normalization = trial.data, trial.training.normalization
        data = load_dataset(trial.dataset, data_dir, trial.split_seed, own, normalization).to(device.torch_device)
    layout = torch.channels_last if trial.channels_last else torch.contiguous_format
    form = ImageFormat(precision.image_dtype, layout)
    training = trial.training
    augment, fraction = training.augment, trial.train_fraction
    place = replicas.rank, replicas.size
    batches = TrainingBatches(data, trial.batch_size, trial.seed, augment, fraction, form, *place)
    return TrialSetup(
        trial, device, precision, data, form, batches, compiled(cross_entropy, trial.compile), watch, replicas
    )


def new_learner(setup: TrialSetup) -> Learner:
    """Model and optimiser as the seed has them; drawn on the CPU, so that every device starts from equal weights."""
    trial, spec, training = setup.trial, setup.data.spec, setup.trial.training
    torch.manual_seed(trial.seed)
    model = build_model(trial.model, trial.settings, spec.image_size, spec.in_channels, spec.num_classes)
    in_dtype(model.to(setup.device.torch_device), setup.precision.weights)
    if trial.channels_last:
        model.to(memory_format=torch.channels_last)
    loss = setup.replicas.shared(setup.loss, model)
    setup.replicas.draw_apart(trial.seed)
    num_steps = training.num_steps(setup.batches.steps_per_epoch)
    return Learner(
        model,
        build_optimizer(model, training),
        lambda step: learning_rate(training, step, num_steps),
        setup.precision,
        setup.device,
        training.label_smoothing,
        training.clip_norm,
        loss,
    )


def evaluator(setup: TrialSetup, learner: Learner, split: str) -> Callable[[], Score]:
    """What gives the model's score on "val" or "test"; with several processes, rank 0 evaluates."""
    data = setup.data
    images = {"val": data.val, "test": data.test}[split]

    def look() -> Score:
        return evaluate(learner.model, evaluation_batches(data, images, EVALUATION_BATCH, setup.form), learner.context)

    return lambda: setup.replicas.first(look)
