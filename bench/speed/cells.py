"""Cells: what the gate times. A cell is a training step, or an inference, of one configuration.

This module is what a source tree must have to be compared: bench/speed/worker.py of the program that compares asks
the tree for PROTOCOL, for `open_cell` and, of the cell, for what the class below has.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.config.plan import load_plan
from bench.config.suite_file import SuiteText
from bench.data.dataset import evaluation_batches
from bench.errors import DeviceError
from bench.measure.stopwatch import Stopwatch
from bench.training.compilation import compiled
from bench.training.loop import Learner
from bench.training.trial_setup import TrialSetup, new_learner, set_up

PROTOCOL = 1
Work = Literal["train", "infer"]


@dataclass
class Cell:
    """One thing to time.

    Attributes:
        images: of a step.
        step: does one; nothing waits for the device.
        synchronize: waits until the device has done all it was asked to.
    """

    setup: TrialSetup
    learner: Learner
    work: Work
    images: int
    step: Callable[[], Any]
    synchronize: Callable[[], None] = field(default=lambda: None)


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
    step = _training(setup, learner) if work == "train" else _inference(setup, learner)
    return Cell(setup, learner, work, trial.training.batch_size, step, setup.device.synchronize)


def _training(setup: TrialSetup, learner: Learner) -> Callable[[], Any]:
    """Steps of the trial's own recipe; its first epoch's learning rates come again and again, for it never ends."""
    source = iter(setup.batches)
    rate = learner.learning_rate
    learner.learning_rate = lambda step: rate(step % max(1, setup.batches.steps_per_epoch))

    def step() -> Tensor:
        images, labels = next(source)
        return learner.step(images, labels)

    return step


def _inference(setup: TrialSetup, learner: Learner) -> Callable[[], Any]:
    images, _ = next(evaluation_batches(setup.data, setup.data.test, setup.trial.training.batch_size, setup.form))
    learner.model.eval()
    forward = compiled(_forward, setup.trial.compile)

    def step() -> Tensor:
        with torch.inference_mode(), learner.context:
            return forward(learner.model, images)

    return step


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)
