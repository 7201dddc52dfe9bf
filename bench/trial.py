"""Trial: one immutable training run, its identity and its flat row. Nothing here imports torch."""

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.recipes import Training


class Trial(BaseModel):
    """Everything that determines one result, and the name of the suite that asked for it.

    `config_id` is a hash of what determines the result except the seed; `trial_id` adds the seed and reads well.
    The suite's name, its targets and where files lie determine nothing, and are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    dataset: str
    model: str
    settings: dict[str, Any]  # every setting of the model, defaults included
    recipe: str
    training: Training
    dtype: str
    device: str
    num_threads: int | None = None  # CPU threads; None leaves torch's choice
    seed: int = 0
    split_seed: int = 0
    targets: tuple[float, ...] = ()

    @property
    def config_id(self) -> str:
        named = self.model_dump(exclude={"suite", "recipe", "targets", "seed"})
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def trial_id(self) -> str:
        return f"{slug(self.label)}-{slug(self.device)}-s{self.seed}-{self.config_id}"

    @property
    def label(self) -> str:
        """Short name for a person: family, patch, depth, width, numeric mode."""
        parts = [self.model]
        for letter, key in (("p", "patch_size"), ("d", "depth"), ("e", "embed_dim"), ("w", "width")):
            if key in self.settings:
                parts.append(f"{letter}{self.settings[key]}")
        return " ".join([*parts, self.dtype])

    def row(self) -> dict[str, Any]:
        """The identity as columns of trials.csv."""
        columns = {key: self.settings.get(key) for key in ("patch_size", "depth", "embed_dim", "num_heads", "width")}
        training = self.training
        return columns | {
            "trial_id": self.trial_id,
            "config_id": self.config_id,
            "suite": self.suite,
            "dataset": self.dataset,
            "model": self.model,
            "settings": json.dumps(self.settings, sort_keys=True),
            "recipe": self.recipe,
            "training": training.model_dump_json(),
            "dtype": self.dtype,
            "device": self.device,
            "seed": self.seed,
            "batch_size": training.batch_size,
            "optimizer": training.optimizer,
            "learning_rate": training.learning_rate,
            "epochs": training.epochs,
            "target_accuracy": self.target_accuracy,
        }

    @property
    def target_accuracy(self) -> float | None:
        """The headline target: the middle one of the suite's."""
        return self.targets[len(self.targets) // 2] if self.targets else None


def slug(text: str) -> str:
    """Letters, digits and dashes: fit for a file name everywhere."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "x"
