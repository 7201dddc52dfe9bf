"""Checks of one combination of a suite's settings: against the tables, this machine and the dataset."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.config.complaints import check_name, validated
from bench.config.suite_file import Place, SuiteText
from bench.config.suite_keys import Axes
from bench.data.augment import AUGMENTATIONS, check_strength
from bench.data.catalog import DATASETS
from bench.data.spec import DatasetSpec, OwnData, Wishes
from bench.data.user_data import describe
from bench.errors import DataError, DeviceError, SuiteError
from bench.system.precision import DTYPES
from bench.training.optim import OPTIMIZERS, SCHEDULES
from bench.trial import Training

DeviceName = Callable[[str], str]  # Inventory.device_name


def find_data(asked: str | Wishes, text: SuiteText) -> DatasetSpec | OwnData:
    """A known dataset by its name, or what lies at a path; relative ones start where the program was started."""
    if isinstance(asked, str) and not _is_path(asked):
        check_name(asked, DATASETS, "dataset", text, ("dataset",))
        return DATASETS[asked]
    try:
        return describe(Wishes(path=asked) if isinstance(asked, str) else asked, Path.cwd())
    except DataError as error:
        raise DataError(f"{text.where(('dataset',))}: {error}") from None


def _is_path(name: str) -> bool:
    if name in DATASETS:
        return False
    with suppress(OSError):  # a name that no file can have
        return "/" in name or "\\" in name or "." in name or Path(name).exists()
    return False


def checked(
    combination: Mapping[str, Any],
    recipe: Training,
    spec: DatasetSpec | OwnData,
    text: SuiteText,
    place: Place,
    places: Mapping[str, Place],
    device_name: DeviceName,
) -> tuple[Axes, Training]:
    """Names that must stand in a table, devices that must be here, a batch that the data must fill."""
    axes = validated(Axes, part_of(Axes, combination), text, place, places)
    training = validated(Training, recipe.model_dump() | part_of(Training, combination), text, place, places)

    def where(key: str) -> Place:
        return places.get(key, (*place, key))

    check_name(axes.dtype, DTYPES, "dtype", text, where("dtype"))
    check_name(training.optimizer, OPTIMIZERS, "optimizer", text, where("optimizer"))
    check_name(training.schedule, SCHEDULES, "schedule", text, where("schedule"))
    for name, strength in training.augment.items():
        check_name(name, AUGMENTATIONS, "augmentation", text, (*where("augment"), name))
        if complaint := check_strength(name, strength):
            raise SuiteError(f"{text.where((*where('augment'), name))}: augment: {complaint}")
    try:
        device_name(axes.device)
    except DeviceError as error:
        raise DeviceError(f"{text.where(where('device'))}: {error}") from None
    num_images = spec.num_train - spec.num_val
    _check_batch(axes, training, num_images, spec.title, text, where)
    count = round(axes.train_fraction * num_images)
    if count < spec.num_classes:
        raise SuiteError(
            f"{text.where(where('train_fraction'))}: train_fraction {axes.train_fraction:g} leaves {count} training "
            f"images for {spec.num_classes} classes ({spec.title}); at least {spec.num_classes / num_images:.2g}"
        )
    return axes, training


def _check_batch(
    axes: Axes, training: Training, num_images: int, title: str, text: SuiteText, where: Callable[[str], Place]
) -> None:
    """The data fill a batch, and the processes share it evenly."""
    scaled = axes.global_batch == "scaled"
    batch_size = training.batch_size * (axes.world_size if scaled else 1)
    if batch_size > num_images:
        of_all = f" x {axes.world_size} processes" if batch_size != training.batch_size else ""
        raise SuiteError(
            f"{text.where(where('batch_size'))}: batch_size {training.batch_size}{of_all} is larger than the "
            f"{num_images} training images ({title})"
        )
    if batch_size % axes.world_size:
        raise SuiteError(
            f"{text.where(where('world_size'))}: world_size {axes.world_size} can't share a batch_size of {batch_size} "
            "evenly; choose a multiple, or global_batch: scaled"
        )


def part_of(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that one class of settings knows."""
    return {key: value for key, value in values.items() if key in model.model_fields}
