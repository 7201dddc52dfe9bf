"""Cells: what is timed in slices. A cell is a training step, or an inference, of one configuration.

The first half is what a source tree must have to be compared by the gate: bench/speed/worker.py of the program that
compares asks the tree for PROTOCOL, for `open_cell` and, of the cell, for what the class below has. The second half
opens the cells of a trial, for the speed rounds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.config.plan import load_plan
from bench.config.suite_file import SuiteText
from bench.data.dataset import Dataset, TrainingBatches, evaluation_batches, load_dataset
from bench.data.splits import Split, StreamedSplit
from bench.errors import DeviceError
from bench.measure.stopwatch import Stopwatch
from bench.system.device import open_device
from bench.system.precision import set_exact_arithmetic
from bench.training.compilation import compiled
from bench.training.loop import Learner
from bench.training.trial_setup import TrialSetup, new_learner, set_up
from bench.trial import Trial

PROTOCOL = 1
Work = Literal["train", "infer"]
SAMPLE = 256  # of streamed images, whose steps are timed without the disk; they come again and again
BATCHES = 4  # of them


@dataclass
class PlainCell:
    """Any code to be timed.

    Attributes:
        images: of a step.
        step: does one; nothing waits for the device.
        synchronize: waits until the device has done all it was asked to.
        loop: of training, a step with its batch from where the training loop has it; None: `step` does that.
    """

    work: Work
    images: int
    step: Callable[[], Any]
    synchronize: Callable[[], None] = field(default=lambda: None)
    loop: Callable[[], Any] | None = None

    def enter(self, num_threads: int | None = None) -> None:
        """What other cells of the process may have set otherwise: arithmetic, threads."""
        set_exact_arithmetic()
        if num_threads:
            torch.set_num_threads(num_threads)


@dataclass(kw_only=True)
class Cell(PlainCell):
    """A training step, or an inference, of a trial's model."""

    setup: TrialSetup
    learner: Learner

    @property
    def at_once(self) -> bool:
        """Whether a step has ended when its call returns."""
        return self.setup.device.torch_device.type == "cpu"

    def enter(self, num_threads: int | None = None) -> None:
        """The numeric mode of the trial, and whether its model trains, too."""
        super().enter(num_threads)
        set_exact_arithmetic(self.setup.precision)
        self.learner.model.train(self.work == "train")


def open_cell(content: dict[str, Any], work: Work, num_threads: int, data_dir: Path | None = None) -> Cell:
    """The cell for a suite's content that means a single configuration, with this tree's models, loop and defaults.

    Raises: UserError: this tree doesn't know the configuration, or this machine can't run it.
    """
    models = [{**entry, "num_threads": num_threads} for entry in content["models"]]
    plan = load_plan(SuiteText("cell", "gate", {**content, "models": models}, {}))
    trial = plan.trials[0].model_copy(update={"timed": True})  # else it would have one thread, whatever was asked
    for reason in plan.skipped.values():
        raise DeviceError(reason)
    setup = set_up(trial, data_dir, Stopwatch())
    learner = new_learner(setup)
    _repeat_first_epoch(setup, learner)
    size = trial.training.batch_size
    if work == "train":
        step = _training(setup.batches, learner)
    else:
        learner.model.eval()
        step = _inference(setup, learner, size)
    return Cell(work, size, step, setup.device.synchronize, setup=setup, learner=learner)


def open_data(trial: Trial, data_dir: Path | None) -> tuple[Dataset, Dataset | None]:
    """A trial's images on its device; of streamed ones a sample in memory, and then the stream.

    Raises: DataError: they aren't here.
    """
    own, normalization = trial.data, trial.training.normalization
    device = open_device(trial.device).torch_device
    data = load_dataset(trial.dataset, data_dir, trial.split_seed, own, normalization).to(device)
    if not isinstance(data.train, StreamedSplit):
        return data, None
    test = _sample(data.test)
    return replace(data, train=_sample(data.train), val=test, test=test), data


def open_trial(
    trial: Trial, data_dir: Path | None, data: tuple[Dataset, Dataset | None], sizes: Sequence[int]
) -> list[Cell]:
    """Training, and inference at each of these batch sizes, of a trial's model; they share its weights.

    Args:
        data: of `open_data`, since trials of one dataset share it.
        sizes: images; those that the test images can't fill are left out.

    Raises: UserError: this machine can't run it.
    """
    sample, stream = data
    if stream:
        train, test = (_filled(split, trial, sizes) for split in (sample.train, sample.test))
        sample = replace(sample, train=train, test=test)
    setup = set_up(trial, data_dir, Stopwatch(), data=sample)
    learner = new_learner(setup)
    _repeat_first_epoch(setup, learner)
    loop = None
    if stream:
        loop = _training(set_up(trial, data_dir, Stopwatch(), data=stream).batches, learner)
    wait, size = setup.device.synchronize, setup.batches.batch_size
    of_trial: dict[str, Any] = {"setup": setup, "learner": learner}
    fitting = sorted({images for images in sizes if images <= len(sample.test)})
    return [
        Cell("train", size, _training(setup.batches, learner), wait, loop, **of_trial),
        *(Cell("infer", images, _inference(setup, learner, images), wait, **of_trial) for images in fitting),
    ]


def _sample(split: Split | StreamedSplit) -> Split | StreamedSplit:
    """So many images of a streamed split, in memory."""
    if not isinstance(split, StreamedSplit):
        return split
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:SAMPLE].sort().values
    return Split(split.pick(chosen), split.labels[chosen.to(split.labels.device)])


def _filled(split: Split | StreamedSplit, trial: Trial, sizes: Sequence[int]) -> Split | StreamedSplit:
    """A sample's images over and over, until they fill the largest batches."""
    count = max(BATCHES * trial.training.batch_size, *sizes)
    return split.subset(torch.arange(count) % len(split))


def _repeat_first_epoch(setup: TrialSetup, learner: Learner) -> None:
    """Its learning rates come again and again, for the steps never end."""
    rate = learner.learning_rate
    learner.learning_rate = lambda step: rate(step % max(1, setup.batches.steps_per_epoch))


def _training(batches: TrainingBatches, learner: Learner) -> Callable[[], Any]:
    """Steps of the trial's own recipe."""
    source: Iterator[tuple[Tensor, Tensor]] | None = None

    def step() -> Tensor:
        nonlocal source
        source = source or iter(batches)  # of streamed images, that starts the processes which read them
        images, labels = next(source)
        return learner.step(images, labels)

    return step


def _inference(setup: TrialSetup, learner: Learner, size: int) -> Callable[[], Any]:
    images, _ = next(evaluation_batches(setup.data, setup.data.test, size, setup.form))
    forward = compiled(_forward, setup.trial.compile)

    def step() -> Tensor:
        with torch.inference_mode(), learner.context:
            return forward(learner.model, images)

    return step


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)
