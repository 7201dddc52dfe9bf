"""Cells of the smallest models, opened as the gate opens them."""

from typing import Any, cast

import torch
from torch import Tensor

from bench.config.recipes import RECIPES
from bench.data.dataset import evaluation_batches
from bench.measure.stopwatch import Stopwatch
from bench.speed.cells import Cell, Work
from bench.training.trial_setup import new_learner, set_up
from bench.trial import Trial
from models import MODELS

SMALL: dict[str, dict[str, Any]] = {
    "vit": {"patch_size": 4, "depth": 1, "embed_dim": 16, "num_heads": 2},
    "cnn": {"depth": 1, "width": 4},
}


CELLS = [(family, work) for family in SMALL for work in ("train", "infer")]


def opened(family: str, work: str, optimizer: str = "adamw", **axes: Any) -> Cell:
    """A freshly opened cell on digits, as the gate makes them."""
    settings = MODELS[family][0](**{**SMALL[family], **axes.pop("settings", {})}).model_dump()
    recipe = RECIPES[family].model_copy(update={"epochs": 2, "batch_size": 50, "optimizer": optimizer})
    trial = Trial(
        suite="x", dataset="digits", model=family, settings=settings, recipe=family, training=recipe,
        device="cpu", num_threads=1, **{"dtype": "fp32", **axes},
    )  # fmt: skip
    setup = set_up(trial, None, Stopwatch())
    learner = new_learner(setup)
    batches = iter(setup.batches)
    images, _ = next(evaluation_batches(setup.data, setup.data.test, 50, setup.form))

    def infer() -> Tensor:
        with torch.inference_mode(), learner.context:
            return learner.model(images)

    learner.model.train(work == "train")
    step = infer if work == "infer" else lambda: learner.step(*next(batches))
    return Cell(cast(Work, work), 50, step, setup=setup, learner=learner)
