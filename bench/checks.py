"""Checks of one combination of a suite's settings: against the tables, this machine and the dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.augment import AUGMENTATIONS, check_strength
from bench.compilation import lacks_compiler
from bench.complaints import check_name, validated
from bench.datasets import DATASETS, DatasetSpec
from bench.device import best_device, open_device
from bench.errors import DataError, DeviceError, SuiteError
from bench.optim import OPTIMIZERS, SCHEDULES
from bench.own_data import describe
from bench.own_description import OwnData, Wishes
from bench.precision import DTYPES
from bench.recipes import Training
from bench.suite_file import Place, SuiteText
from bench.suite_keys import Axes
from bench.trial import Trial


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
    return name not in DATASETS and ("/" in name or "\\" in name or "." in name or Path(name).exists())


def checked(
    combination: Mapping[str, Any],
    recipe: Training,
    spec: DatasetSpec | OwnData,
    text: SuiteText,
    place: Place,
    places: Mapping[str, Place],
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
        device_name(axes)
    except DeviceError as error:
        raise DeviceError(f"{text.where(where('device'))}: {error}") from None
    num_images = spec.num_train - spec.num_val
    if training.batch_size > num_images:
        raise SuiteError(
            f"{text.where(where('batch_size'))}: batch_size {training.batch_size} is larger than the {num_images} "
            f"training images ({spec.title})"
        )
    count = round(axes.train_fraction * num_images)
    if count < spec.num_classes:
        raise SuiteError(
            f"{text.where(where('train_fraction'))}: train_fraction {axes.train_fraction:g} leaves {count} training "
            f"images for {spec.num_classes} classes ({spec.title}); at least {spec.num_classes / num_images:.2g}"
        )
    return axes, training


def device_name(axes: Axes) -> str:
    """One name for one device: "cuda:0" is "cuda"."""
    if axes.device == "auto":
        return best_device()
    device = open_device(axes.device)
    return f"{device.type}:{device.index}" if device.index else device.type


def lacks(trial: Trial) -> str | None:
    device = open_device(trial.device)
    return device.lacks(trial.dtype) or (lacks_compiler(device) if trial.compile else None)


def part_of(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that one class of settings knows."""
    return {key: value for key, value in values.items() if key in model.model_fields}
