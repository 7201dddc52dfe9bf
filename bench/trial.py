"""Trial: one training run to be done, immutable, with its ids and its row of trials.csv. Nothing here imports torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bench.data.spec import UserData


class Training(BaseModel):
    """What determines training besides the model, the data and the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1, description="passes over the training set")] = 3
    batch_size: Annotated[int, Field(ge=1, description="images a step")] = 128
    optimizer: Annotated[str, Field(description="adam, adamw, muon or sgd")] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, description="peak of the schedule")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="on matrices and kernels; not on biases, norms")] = 0.05
    beta1: Annotated[float, Field(ge=0, lt=1, description="of Adam; the momentum of Muon and SGD")] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1, description="of Adam")] = 0.999
    schedule: Annotated[str, Field(description="constant, cosine or one-cycle")] = "one-cycle"
    lr_warmup_fraction: Annotated[float, Field(ge=0, lt=1, description="share of the steps in which it rises")] = 0.3
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float | None, Field(gt=0, description="largest norm of the gradient; null for none")] = None
    augment: Annotated[
        dict[str, float],
        Field(description="augmentation: strength, such as {translation: 2, rotation: 15}"),
        AfterValidator(lambda strengths: dict(sorted(strengths.items()))),  # equal settings are equal training
    ] = {}
    normalization: Annotated[
        Literal["standard", "symmetric", "unit"],
        Field(
            description="standard: mean 0, deviation 1 of the training pixels; symmetric: black -1, white 1; unit: 0, 1"
        ),
    ] = "standard"
    evaluations_per_epoch: Annotated[int, Field(ge=1, description="evaluations on the validation split")] = 4
    steps_fraction: Annotated[
        float, Field(gt=0, le=1, description="share of the epochs' steps that is taken, under a schedule as short")
    ] = 1.0

    def num_steps(self, steps_per_epoch: int) -> int:
        """Updates of the whole training, at least one."""
        return max(1, round(self.steps_fraction * self.epochs * steps_per_epoch))


NO_AXES = {
    "suite",
    "recipe",
    "targets",
    "seed",
    "instrument_seconds",
    "timed",
    "tested",
}  # fields that no config_id holds
Compile = Literal[False, "default", "reduce-overhead", "max-autotune"]  # modes of torch.compile; False: none
MatchedBy = Literal["params", "flops"]
GlobalBatch = Literal["fixed", "scaled"]


class Match(BaseModel):
    """A configuration was sized to equal another one.

    Attributes:
        by: params, or flops (of one image's forward pass).
        to: config_id of the other one.
        target: how many the other one has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: MatchedBy
    to: str
    target: float


class Trial(BaseModel):
    """Everything that determines one result, and the name of the suite that asked for it.

    `config_id` is a hash of what determines the result except the seed; `trial_id` adds the seed and reads well.
    The suite's name, its targets, how long instruments look and where files lie determine nothing, and are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    dataset: str
    data: UserData | None = None  # where `dataset` isn't one of DATASETS
    model: str
    settings: dict[str, Any]  # every setting of the model, defaults included
    recipe: str
    training: Training
    dtype: str
    device: str
    num_threads: int | None = None  # CPU threads; None leaves torch's choice
    compile: Compile = False
    channels_last: bool = False
    train_fraction: float = 1.0  # of the training images; an epoch has as many steps as with all of them
    world_size: int = 1  # processes that train one model together, each on its share of every batch
    global_batch: GlobalBatch = "fixed"  # scaled: batch_size is that of each process, not of all together
    match: Match | None = None
    source: str | None = None  # of a model that isn't ours: its library's version, or its file's checksum
    seed: int = 0
    split_seed: int = 0
    targets: tuple[float, ...] = ()
    instrument_seconds: float = 2.5  # for the passes after training that measure what training doesn't show
    timed: bool = True  # False: beside others, on one thread; its speed is measured elsewhere
    tested: bool = True  # False: it sees no test images, and leaves no weights

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy has ids of its own: pydantic takes over what the original has worked out."""
        copied = super().model_copy(update=update, deep=deep)
        for worked_out in ("config_id", "trial_id", "label"):
            vars(copied).pop(worked_out, None)
        return copied

    @cached_property
    def config_id(self) -> str:
        # What was found out about the files follows from their checksum.
        found = {
            "path",
            "test_path",
            "unlabelled_path",
            "reading",
            "labels_from",
            "split_from",
            "class_counts",
            "notes",
        }
        named = self.model_dump(exclude={**dict.fromkeys(NO_AXES, True), "match": {"target"}, "data": found})
        # Settings that came later say nothing while they have their default, so that older runs keep their ids.
        if named["data"] is None:
            del named["data"]
        for key, default in (("normalization", "standard"), ("steps_fraction", 1.0)):
            if named["training"][key] == default:
                del named["training"][key]
        if self.world_size == 1:  # alone, there is no batch to be shared out
            del named["world_size"], named["global_batch"]
        if self.source is None and named["settings"].get("init") == "xavier":
            del named["settings"]["init"]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]

    @cached_property
    def trial_id(self) -> str:
        return f"{slug(self.label)}-{slug(self.device)}-s{self.seed}-{self.config_id}"

    @cached_property
    def label(self) -> str:
        """Short name for a person: family, patch, depth, width, numeric mode, compilation, share of the data."""
        own = (self.source or "").startswith("sha256:")  # a function of the user's: its module says little
        parts = [self.model.rpartition(":")[2] if own else self.model]
        for letter, key in (("p", "patch_size"), ("d", "depth"), ("e", "embed_dim"), ("w", "width")):
            if _is_count(self.settings.get(key)):
                parts.append(f"{letter}{self.settings[key]}")
        parts += [self.dtype, *(["compiled"] if self.compile else [])]
        parts += [f"{100 * self.train_fraction:.3g}% data"] if self.train_fraction < 1 else []
        if self.world_size > 1:
            parts.append(f"x{self.world_size} processes{' (scaled batch)' if self.global_batch == 'scaled' else ''}")
        return " ".join(parts)

    def row(self) -> dict[str, Any]:
        """The identity as columns of trials.csv."""
        shape = ("patch_size", "depth", "embed_dim", "num_heads", "width")
        columns = {key: self.settings[key] if _is_count(self.settings.get(key)) else None for key in shape}
        training = self.training
        return columns | {
            "trial_id": self.trial_id,
            "config_id": self.config_id,
            "suite": self.suite,
            "dataset": self.dataset,
            "model": self.model,
            "attention": self.settings.get("attention") if isinstance(self.settings.get("attention"), str) else None,
            "settings": json.dumps(self.settings, sort_keys=True),
            "recipe": self.recipe,
            "training": training.model_dump_json(exclude={"steps_fraction"} if training.steps_fraction == 1 else None),
            "dtype": self.dtype,
            "device": self.device,
            "compile": self.compile or "false",
            "channels_last": self.channels_last,
            "train_fraction": self.train_fraction,
            "source": self.source,
            "match": self.match.by if self.match else None,
            "matched_to": self.match.to if self.match else None,
            "seed": self.seed,
            "timed": self.timed,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "global_batch": self.global_batch if self.world_size > 1 else None,
            "optimizer": training.optimizer,
            "learning_rate": training.learning_rate,
            "epochs": training.epochs,
            "target_accuracy": self.target_accuracy,
        }

    @property
    def batch_size(self) -> int:
        """Images of one update, over all processes."""
        return self.training.batch_size * (self.world_size if self.global_batch == "scaled" else 1)

    @property
    def target_accuracy(self) -> float | None:
        """The headline target: the middle one of the suite's."""
        return self.targets[len(self.targets) // 2] if self.targets else None


def _is_count(value: object) -> bool:
    """Other people's models may call anything by a name that is a column here."""
    return isinstance(value, int) and not isinstance(value, bool)


def slug(text: str) -> str:
    """Letters, digits and dashes: fit for a file name everywhere."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "x"
