"""The keys of a suite that belong neither to a model nor to training."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bench.data.spec import UserDataOptions
from bench.system.device import DEVICES
from bench.system.precision import DTYPES
from bench.trial import Compile, GlobalBatch, MatchedBy

MOST_SEEDS = 1_000
LARGEST_SEED = 2**32 - 1  # NumPy's limit

Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class Point(BaseModel):
    """What somebody else reports after so many epochs; losses are means a training step."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    epoch: Annotated[float, Field(gt=0)]
    train_loss: float | None = None
    val_accuracy: Fraction | None = None
    test_accuracy: Fraction | None = None


class Published(BaseModel):
    """Somebody else's figures for what the suite's first configuration replays."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: str
    source: Annotated[str, Field(description="where it stands, and what was done there")]
    points: Annotated[list[Point], Field(min_length=1)]


class SuiteFile(BaseModel):
    """The keys of a suite that aren't swept; the swept ones are settings of models and of training, and Axes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: Annotated[str, Field(description="one line, for `list`")] = ""
    dataset: Annotated[
        str | UserDataOptions,
        Field(
            description="name of a dataset (see `list datasets`), path of images of your own, or what to make of them"
        ),
    ]
    models: Annotated[list[dict[str, Any]], Field(min_length=1, description="one entry a family or shape")]
    recipe: Annotated[str | None, Field(description="forces one recipe on all models")] = None
    match: Annotated[
        MatchedBy | Annotated[list[MatchedBy], Field(min_length=1)] | None,
        Field(description="size models that can be sized (cnn) to equal each of the others in this; a list: in each"),
    ] = None
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[list[Seed], Field(min_length=1)],
        Field(description="how many (counted from 0), or which"),
    ] = 1
    accuracy_seeds: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_SEEDS,
            description="more seeds for their accuracy alone; on a CPU side by side, one thread each, never timed",
        ),
    ] = 0
    split_seed: Annotated[Seed, Field(description="of the training/validation split")] = 0
    targets: Annotated[list[Fraction], Field(description="validation accuracies to time; the middle is headline")] = []
    instrument_seconds: Annotated[
        float,
        Field(
            ge=0, le=600, description="after training: inference, latency, where a step's time goes; 0 leaves them out"
        ),
    ] = 2.5
    published: Annotated[
        list[Published], Field(description="figures of others, to stand in the report beside the first configuration")
    ] = []
    trial_timeout_seconds: Annotated[float, Field(gt=0, description="a trial that takes longer is ended")] = 3600.0


class Axes(BaseModel):
    """What determines a trial besides model, training and seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dtype: Annotated[str, Field(description="numeric mode: " + ", ".join(DTYPES))] = "fp32"
    device: Annotated[str, Field(description="auto, " + ", ".join(sorted(DEVICES)))] = "auto"
    num_threads: Annotated[int | None, Field(ge=1, description="CPU threads; null leaves torch's choice")] = None
    compile: Annotated[Compile, Field(description="mode of torch.compile, or false")] = False
    channels_last: Annotated[bool, Field(description="channels innermost in memory, which suits many convolutions")] = (
        False
    )
    train_fraction: Annotated[
        float, Field(gt=0, le=1, description="share of the training images; an epoch keeps its number of steps")
    ] = 1.0
    world_size: Annotated[
        int, Field(ge=1, le=1024, description="processes that train one model together (data parallel), a device each")
    ] = 1
    global_batch: Annotated[
        GlobalBatch,
        Field(description="with several processes: batch_size is shared out (fixed), or that of each (scaled)"),
    ] = "fixed"
