"""Tiny models as a trial leaves them on disk: trained on digits for a moment, or not at all."""

from pathlib import Path
from typing import Any

import torch

from bench.config.recipes import RECIPES
from bench.data.dataset import load_dataset
from bench.system.precision import DTYPES
from bench.training.checkpoint import INPUTS, Inputs, save_trial
from bench.training.run import run_trial
from bench.trial import Trial
from models import MODELS, build_model

SETTINGS: dict[str, dict[str, Any]] = {
    "vit": {"patch_size": 4, "depth": 2, "embed_dim": 16, "num_heads": 2},
    "cnn": {"depth": 1, "width": 4},
}


def tiny_trial(family: str = "vit", dtype: str = "fp32", **settings: Any) -> Trial:
    own = MODELS[family][0](**{**SETTINGS[family], **settings}).model_dump()
    training = RECIPES[family].model_copy(update={"epochs": 1, "batch_size": 50, "evaluations_per_epoch": 3})
    return Trial(
        suite="x", dataset="digits", model=family, settings=own, recipe=family, training=training, dtype=dtype,
        device="cpu", instrument_seconds=0.0,
    )  # fmt: skip


def train_trial(folder: Path, family: str = "vit", dtype: str = "fp32") -> Path:
    """A trial's folder after one epoch; that takes a second."""
    result = run_trial(tiny_trial(family, dtype), folder)
    assert result.status == "ok", result.error
    (folder / INPUTS).write_text(Inputs.of(load_dataset("digits")).model_dump_json(), encoding="utf-8")
    return folder


def untrained_trial(folder: Path, family: str = "vit", dtype: str = "fp32", **settings: Any) -> Path:
    """The same with weights as they start, and without predictions; at once."""
    trial = tiny_trial(family, dtype, **settings)
    torch.manual_seed(0)
    model = build_model(family, trial.settings, 8, 1, 10).to(DTYPES[dtype].weights)
    state = model.state_dict()
    save_trial(folder, trial.model_dump(), state, state, {}, Inputs.of(load_dataset("digits")))
    return folder
