"""The keys of a suite that belong neither to a model nor to training."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.data.spec import UserDataOptions
from bench.system.device import DEVICES
from bench.system.precision import DTYPES
from bench.trial import Compile, GlobalBatch, MatchedBy

MOST_SEEDS = 1_000
MOST_SETTINGS = 1_000  # of a family's recipe
LARGEST_SEED = 2**32 - 1  # NumPy's limit

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class Keys(BaseModel):
    """A mapping in a suite: these keys, no others, and of these types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Point(Keys):
    """What somebody else reports after so many epochs; losses are means a training step."""

    epoch: Annotated[float, Field(gt=0)]
    train_loss: float | None = None
    val_accuracy: Fraction | None = None
    test_accuracy: Fraction | None = None


class Published(Keys):
    """Somebody else's figures for what the suite's first configuration replays."""

    title: str
    source: Annotated[str, Field(description="where it stands, and what was done there")]
    points: Annotated[list[Point], Field(min_length=1)]


class SuiteFile(Keys):
    """The keys of a suite that aren't swept; the swept ones are settings of models and of training, and Axes."""

    description: Annotated[str, Field(description="one line, for `list`")] = ""
    dataset: str | UserDataOptions = Field(
        description="name of a dataset (see `list datasets`), path of images of your own, or what to make of them"
    )
    models: list[dict[str, Any]] = Field(min_length=1, description="one entry a family or shape")
    recipe: Annotated[str | None, Field(description="forces one recipe on all models")] = None
    match: MatchedBy | Annotated[list[MatchedBy], Field(min_length=1)] | None = Field(
        None, description="size models that can be sized (cnn) to equal each of the others in this; a list: in each"
    )
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        1, description="how many (counted from 0), or which"
    )
    tune: int = Field(
        0, ge=0, le=MOST_SETTINGS,
        description="try so many settings of each family's recipe on validation images first, and compare at the best",
    )  # fmt: skip
    split_seed: Annotated[Seed, Field(description="of the training/validation split")] = 0
    targets: Annotated[list[Fraction], Field(description="validation accuracies to time; the middle is headline")] = []
    timing: Literal["rounds", "whole"] = Field(
        "rounds",
        description="speeds from rounds of short slices, trials on a CPU side by side; or from trials run alone",
    )
    speed_precision: Fraction = Field(
        0.03, description="speed rounds end when the headline ratios' 95% half-widths are no more than this share"
    )
    speed_seconds: float = Field(240.0, ge=0, le=86_400, description="most seconds of speed rounds; 0 leaves them out")
    equivalent_speed: Share = Field(0.03, description="speeds that differ by no more than this share are equivalent")
    equivalent_accuracy: Share = Field(0.001, description="accuracies that differ by no more than this are equivalent")
    instrument_seconds: float = Field(
        2.5, ge=0, le=600,
        description="after a timed trial: inference, latency, where a step's time goes; 0 leaves them out",
    )  # fmt: skip
    published: list[Published] = Field(
        [], description="figures of others, to stand in the report beside the first configuration"
    )
    trial_timeout_seconds: float = Field(3600.0, gt=0, description="a trial that takes longer is ended")

    @property
    def rounds_seconds(self) -> float:
        """Most seconds of speed rounds; none where each trial is timed as a whole."""
        return self.speed_seconds if self.timing == "rounds" else 0.0


class Axes(Keys):
    """What determines a trial besides model, training and seed."""

    dtype: str = Field("fp32", description="numeric mode: " + ", ".join(DTYPES))
    device: str = Field("auto", description="auto, " + ", ".join(sorted(DEVICES)))
    num_threads: int | None = Field(None, ge=1, description="CPU threads; null leaves torch's choice")
    compile: Compile = Field(False, description="mode of torch.compile, or false")
    channels_last: bool = Field(False, description="channels innermost in memory, which suits many convolutions")
    train_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images; an epoch keeps its number of steps"
    )
    world_size: int = Field(
        1, ge=1, le=1024, description="processes that train one model together (data parallel), a device each"
    )
    global_batch: GlobalBatch = Field(
        "fixed", description="with several processes: batch_size is shared out (fixed), or that of each (scaled)"
    )
