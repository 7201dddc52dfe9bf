"""Result and Launch: what is measured, in which unit, which way is better; and the columns of a run's tables.

Nothing here imports torch or pandas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

STATUSES = ("ok", "failed", "diverged", "oom", "timeout", "skipped")


def column(unit: str = "", better: str = "", about: str = "") -> Any:
    """A column of trials.csv: its unit ("" for none), which way is better ("higher", "lower" or ""), its meaning."""
    return field(default=None, metadata={"unit": unit, "better": better, "about": about})


@dataclass
class Result:
    """One trial: a row of trials.csv, and the rows it adds to evaluations.csv, throughput.csv and inference.csv.

    None means "not measured" and becomes an empty cell; it is never 0.

    Attributes:
        correct: which test images the final weights got right: a bit an image in the order of the test split, as
            numpy.packbits, zlib and base64 leave them. In the journal alone, as it is no column.
    """

    trial_id: str | None = column(about="identity of the trial: settings and seed")
    config_id: str | None = column(about="identity of the settings, the same for all seeds")
    suite: str | None = column()
    dataset: str | None = column()
    dataset_checksum: str | None = column(about="of the verified files")
    model: str | None = column(about="family")
    patch_size: int | None = column("px")
    depth: int | None = column("blocks")
    embed_dim: int | None = column()
    num_heads: int | None = column()
    width: int | None = column("channels", about="of the CNN's first stage")
    attention: str | None = column(about="of a ViT: auto, explicit, fused")
    source: str | None = column(about="of a model that isn't ours: library version, or checksum of its file")
    settings: str | None = column(about="all settings of the model, JSON")
    num_params: int | None = column(better="lower")
    num_flops: int | None = column("FLOP", better="lower", about="forward pass of one image; a multiply-add is two")
    num_train_flops: int | None = column("FLOP", better="lower", about="forward and backward of one image")
    match: str | None = column(about="what it was made equal in: params, flops")
    matched_to: str | None = column(about="config_id of the one that it was made equal to")
    mismatch: float | None = column(about="what is left of the difference: own amount over the other's, less 1")
    dtype: str | None = column(about="numeric mode of training")
    eval_dtype: str | None = column(about="numeric mode of evaluation")
    device: str | None = column()
    device_name: str | None = column()
    num_threads: int | None = column("threads")
    compile: str | None = column(about="mode of torch.compile, or false")
    channels_last: bool | None = column(about="layout of images and kernels")
    train_fraction: float | None = column(about="share of the training images")
    num_train_images: int | None = column("images", about="different ones that training saw")
    recipe: str | None = column(about="named defaults that training started from")
    batch_size: int | None = column("images", about="of one update, over all processes")
    world_size: int | None = column("processes", about="that trained one model together")
    global_batch: str | None = column(about="with several processes: fixed, or scaled with their number")
    optimizer: str | None = column()
    learning_rate: float | None = column(about="peak of the schedule")
    training: str | None = column(about="all settings of training, JSON")
    epochs: int | None = column()
    seed: int | None = column()
    status: str | None = column(about=", ".join(STATUSES))
    error: str | None = column()
    node: str | None = column(about="machine of a cluster that ran it")
    node_cpu: str | None = column(about="its processor")
    node_cores: int | None = column("cores")
    load: float | None = column(
        about="processes that ran or waited on the machine just before, a core; 1-minute average"
    )
    timed: bool | None = column(about="ran alone; beside others speeds and times stay empty, but for wall_seconds")
    train_seconds: float | None = column("s", better="lower", about="timed training, evaluation left out")
    eval_seconds: float | None = column("s")
    setup_seconds: float | None = column("s", about="data, model, warm-up, saving: all but training and evaluation")
    wall_seconds: float | None = column("s", about="the trial from end to end, without starting its process")
    first_step_seconds: float | None = column("s", about="part of setup: the first training step")
    compile_seconds: float | None = column("s", better="lower", about="part of setup: first step less a usual one")
    warm_up_seconds: float | None = column("s", about="part of setup: the untimed steps")
    untimed_steps: int | None = column("steps", about="run before the clock, then undone")
    instrument_seconds: float | None = column("s", about="part of setup: the passes that fill the columns below")
    images_per_second: float | None = column("images/s", better="higher", about="training, median over timed blocks")
    images_per_second_low: float | None = column("images/s", about="95% interval, from the drift between its quarters")
    images_per_second_high: float | None = column("images/s")
    throughput_spread: float | None = column(better="lower", about="interquartile range over median of the blocks")
    step_seconds: float | None = column("s", better="lower", about="one training step: batch size over images/s")
    data_seconds: float | None = column("s", better="lower", about="of a step in a pass of its own: the batch")
    forward_seconds: float | None = column("s", better="lower", about="of that step: model and loss")
    backward_seconds: float | None = column("s", better="lower", about="of that step: gradients")
    optimizer_seconds: float | None = column("s", better="lower", about="of that step: update of the weights")
    inference_images_per_second: float | None = column("images/s", better="higher", about="at the trial's batch size")
    inference_images_per_second_low: float | None = column("images/s", about="95% interval over blocks")
    inference_images_per_second_high: float | None = column("images/s")
    latency_p50_seconds: float | None = column("s", better="lower", about="inference, batch of 1: median")
    latency_p95_seconds: float | None = column("s", better="lower", about="95th percentile")
    latency_p99_seconds: float | None = column("s", better="lower", about="99th percentile")
    flops_per_second: float | None = column("FLOP/s", better="higher", about="achieved in training")
    matmul_flops_per_second: float | None = column("FLOP/s", about="the device's best matrix product in this mode")
    flops_share: float | None = column(better="higher", about="achieved over that best")
    peak_memory_bytes: int | None = column(
        "B", better="lower", about="training's peak above the floor before; of rank 0"
    )
    peak_memory_reserved_bytes: int | None = column("B", better="lower", about="held by the device's allocator")
    param_bytes: int | None = column("B", better="lower", about="part of the peak: weights and buffers")
    gradient_bytes: int | None = column("B", better="lower", about="part of the peak: gradients")
    optimizer_bytes: int | None = column("B", better="lower", about="part of the peak: the optimiser's state")
    activation_bytes: int | None = column("B", better="lower", about="the rest of the peak: activations and workspace")
    skipped_steps: int | None = column("steps", about="left out by the gradient scaler")
    train_loss: float | None = column(about="mean over the steps between the last two evaluations")
    val_accuracy: float | None = column(better="higher", about="final weights")
    val_accuracy_best: float | None = column(better="higher", about="highest over all evaluations")
    test_accuracy: float | None = column(better="higher", about="final weights; read once")
    test_accuracy_best: float | None = column(better="higher", about="weights that validation chose; read once")
    test_balanced_accuracy: float | None = column(
        better="higher", about="final weights: of each class the share that is right, mean over the classes"
    )
    test_loss: float | None = column(
        better="lower", about="final weights: cross-entropy, the mean negative log likelihood of the right class"
    )
    calibration_error: float | None = column(
        better="lower", about="final weights on test: distance between confidence and accuracy (ECE, equal-mass sweep)"
    )
    accuracy_at_90_coverage: float | None = column(
        better="higher", about="final weights: on the 90% of the test images that the model is most sure of"
    )
    commonest_class: str | None = column(about="of the test images")
    commonest_share: float | None = column(about="of the test images: test_accuracy of always answering that class")
    target_accuracy: float | None = column(about="the suite's headline target, on validation")
    images_to_accuracy: int | None = column(
        "images", better="lower", about="that training saw up to the target; empty: never reached"
    )
    time_to_accuracy_seconds: float | None = column("s", better="lower", about="training seconds; empty: never reached")
    evaluation_interval_seconds: float | None = column("s", about="resolution of time to accuracy")
    data_wait_seconds: float | None = column("s", better="lower", about="of training: for images from disk; else empty")
    pause_share: float | None = column(
        better="lower", about="of training with one thread: asleep, waiting for data, or collecting garbage; else empty"
    )
    train_joules: float | None = column("J", better="lower", about="of the device while it trained; empty: no meter")
    joules_per_epoch: float | None = column("J", better="lower")
    joules_to_accuracy: float | None = column("J", better="lower", about="to the headline target")
    torch_version: str | None = column()
    git_commit: str | None = column()
    git_dirty: bool | None = column()
    started_at: str | None = column(about="UTC, ISO 8601")
    seal: str | None = column(about="digest of the trial's line in journal.jsonl, which covers its files, too")
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    inference_blocks: list[dict[str, Any]] = field(default_factory=list)
    correct: str | None = None
    unsaved: bool = False  # its files couldn't be written: the disk's fault, which each further trial would meet
    trace: str | None = None  # of a failure: where in the program; a file beside the tables, not a column

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COLUMNS}


SLICE_COLUMNS = (
    *("config_id", "num_threads", "work", "batch_size", "group", "round", "slot", "steps", "images", "seconds"),
    *("waited_seconds", "stolen_seconds", "throttled_seconds", "probe_seconds", "exchange_seconds"),
    *("p50_seconds", "p95_seconds", "p99_seconds"),
)
SPLIT_COLUMNS = ("config_id", "num_threads", "data_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds")


@dataclass
class Launch:
    """Fresh processes in which a device's configurations were open together and timed in short slices by turns.

    A slice's `work` is "train" (the pace of steps), "loop" (a longer stretch of the real training loop, with its data
    and garbage collection), "steps" (plain steps just before and after that, each for at most twice their median, so
    that pauses within steps show in the loop) or "infer", where a `batch_size` of 1 has the percentiles of single
    calls, too. `group` numbers the configurations that were open at once, where memory doesn't hold all.
    `waited_seconds`, `stolen_seconds` and `throttled_seconds` are those in which a thread was ready and had no core,
    the hypervisor had the core, and the container's quota was used up; None where the system doesn't tell.
    `probe_seconds` is the mean time of the probes' loop on the slice's cores meanwhile (bench.system.core_probe),
    None where there were none. `exchange_seconds` is what CPU threads need to pass data to each other, just before or
    after the slice, whichever took longer; None of one thread, and of "loop" and "steps".

    Attributes:
        launch: its number in the run, from 0.
        started_at: UTC, ISO 8601.
        machine: around the launch: load, megahertz, quota and the like.
        slices: rows of SLICE_COLUMNS, in the order in which they were timed.
        splits: rows of SPLIT_COLUMNS: seconds of the parts of a training step.
        peaks: dtype -> FLOP/s of the device's best matrix product.
        missing: config_id -> why it couldn't be measured.
    """

    launch: int
    device: str
    device_name: str
    started_at: str
    wall_seconds: float
    machine: dict[str, float | None]
    slices: list[dict[str, Any]]
    splits: list[dict[str, Any]]
    peaks: dict[str, float]
    missing: dict[str, str]


COLUMNS: dict[str, dict[str, str]] = {f.name: dict(f.metadata) for f in fields(Result) if f.metadata}
# Settings that set a run's configurations apart. Whatever asks "is this the same configuration?" goes by them; each
# field of bench.trial.Trial is one of them, or is named as none where the ids are made.
AXES = (
    *("model", "source", "settings", "training", "match", "dtype", "compile", "channels_last", "device"),
    *("num_threads", "train_fraction", "world_size", "global_batch"),
)
TEXT_COLUMNS = {f.name for f in fields(Result) if f.metadata and ("str" in str(f.type) or "bool" in str(f.type))}
TEXT_COLUMNS.add("work")  # of a slice; the tables of slices have no other text that isn't a trial's, too
EVALUATION_COLUMNS = (
    *("trial_id", "epoch", "step", "train_seconds", "train_joules"),
    *("train_loss", "val_loss", "val_accuracy"),
)
BLOCK_COLUMNS = ("trial_id", "block", "steps", "images", "seconds")  # as a trial's line in the journal has them
INFERENCE_COLUMNS = ("trial_id", "batch_size", "block", "images", "seconds")
_MEASURED = ("trial_id", "config_id", "device_name", "num_threads")  # a trial's blocks have no launch, slices no trial
_PACE = (
    *("steps", "images", "seconds"),
    *("waited_seconds", "stolen_seconds", "throttled_seconds", "probe_seconds", "exchange_seconds"),
)
TABLES: dict[str, Sequence[str]] = {
    "trials.csv": tuple(COLUMNS),
    "evaluations.csv": EVALUATION_COLUMNS,
    "throughput.csv": (*_MEASURED, "launch", "round", "slot", "work", *_PACE),
    "inference.csv": (
        *(*_MEASURED, "batch_size", "launch", "round", "slot", *_PACE),
        *("p50_seconds", "p95_seconds", "p99_seconds"),
    ),
}
