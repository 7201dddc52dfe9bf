"""Checks of one combination of a suite's settings: against the tables, this machine and the dataset."""

from collections.abc import Callable, Iterable, Mapping
from os.path import exists
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.config.suite_file import Origin, Place, SuiteText, shown
from bench.config.suite_keys import Axes
from bench.data.augment import AUGMENTATIONS, check_strength
from bench.data.catalog import DATASETS
from bench.data.spec import DatasetSpec, UserData, UserDataOptions
from bench.data.user_data import describe
from bench.errors import DataError, DeviceError, SuiteError, nearest
from bench.system.precision import DTYPES
from bench.training.optim import OPTIMIZERS, SCHEDULES
from bench.trial import Training

Settings = TypeVar("Settings", bound=BaseModel)

# pydantic's kind of error -> what would do
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def check_keys(text: SuiteText, place: Place, known: Iterable[str]) -> None:
    """Every key of the mapping at `place` has to be a known one. Raises: SuiteError."""
    names = set(known)
    for key in text.at(place):
        if key not in names:
            raise SuiteError(f"{text.where((*place, key))}: unknown key {shown(key)}; {nearest(key, names)}")


def check_name(name: object, known: Iterable[str], what: str, where: str) -> None:
    """A name has to stand in its table. Raises: SuiteError."""
    names = set(known)
    if not isinstance(name, str) or name not in names:
        raise SuiteError(f"{where}: unknown {what} {shown(name)}; {nearest(name, names)}")


def validated(model: type[Settings], values: Mapping[str, Any], origin: Origin) -> Settings:
    """`values` as a `model`. Raises: SuiteError: the first complaint of pydantic's."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SuiteError(_one_line(error, values, origin)) from None


def blamed(message: str, origin: Origin) -> str:
    """Where the first setting stands that a model's own message names and a person has written."""
    words = message.replace("'", " ").split()
    return origin.where(*[word for word in words if word in origin.places][:1])


def _one_line(error: ValidationError, values: Mapping[str, Any], origin: Origin) -> str:
    first = _closest(error.errors(include_url=False))
    context = first.get("ctx", {})
    if first["type"] == "missing":
        return f"{origin.where()}: '{first['loc'][-1]}' is missing"
    if first["type"] == "value_error":
        message = str(context["error"])
        return f"{blamed(message, origin)}: {message}"
    keys = _keys(first["loc"], values)
    where = origin.where(*keys)
    expected = EXPECTED[first["type"]].format(**context) if first["type"] in EXPECTED else first["msg"]
    return f"{where}: {'.'.join(str(key) for key in keys)}: found {shown(first['input'])}, expected {expected}"


def _closest(errors: list[ErrorDetails]) -> ErrorDetails:
    """Of the alternatives that a value could have been, the one that it resembles: right type, deepest place."""
    same = [error for error in errors if error["loc"][:1] == errors[0]["loc"][:1]]
    return min(same, key=lambda error: (error["type"].endswith("_type"), -len(error["loc"])))


def _keys(loc: tuple[str | int, ...], values: Any) -> Place:
    """pydantic's location without the parts that name an alternative or a type and lead nowhere in the input."""
    keys = []
    for part in loc:
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            keys.append(part)
            values = values[part]  # type: ignore[index]
    return tuple(keys)


DeviceName = Callable[[str], str]  # Inventory.device_name


def find_data(asked: str | UserDataOptions, text: SuiteText) -> DatasetSpec | UserData:
    """A known dataset by its name, or what lies at a path; relative ones start where the program was started."""
    is_path = isinstance(asked, str) and (any(sign in asked for sign in "/\\.") or exists(asked))
    if isinstance(asked, str) and (asked in DATASETS or not is_path):
        check_name(asked, DATASETS, "dataset", text.where(("dataset",)))
        return DATASETS[asked]
    try:
        return describe(UserDataOptions(path=asked) if isinstance(asked, str) else asked, Path.cwd())
    except DataError as error:
        raise DataError(f"{text.where(('dataset',))}: {error}") from None


def checked(
    combination: Mapping[str, Any],
    recipe: Training,
    spec: DatasetSpec | UserData,
    origin: Origin,
    device_name: DeviceName,
) -> tuple[Axes, Training]:
    """The axes and training settings of one combination, checked: names known, device here, batch fits and is shared.

    The device has the one name that the machine knows it by.
    """
    axes = validated(Axes, _part_of(Axes, combination), origin)
    training = validated(Training, recipe.model_dump() | _part_of(Training, combination), origin)
    check_name(axes.dtype, DTYPES, "dtype", origin.where("dtype"))
    check_name(training.optimizer, OPTIMIZERS, "optimizer", origin.where("optimizer"))
    check_name(training.schedule, SCHEDULES, "schedule", origin.where("schedule"))
    for name, strength in training.augment.items():
        check_name(name, AUGMENTATIONS, "augmentation", origin.where("augment", name))
        if complaint := check_strength(name, strength):
            raise SuiteError(f"{origin.where('augment', name)}: augment: {complaint}")
    try:
        axes = axes.model_copy(update={"device": device_name(axes.device)})
    except DeviceError as error:
        raise DeviceError(f"{origin.where('device')}: {error}") from None
    num_images = spec.num_train - spec.num_val
    batch_size = training.batch_size * (axes.world_size if axes.global_batch == "scaled" else 1)
    count = round(axes.train_fraction * num_images)
    if batch_size > num_images:
        of_all = f" x {axes.world_size} processes" if batch_size != training.batch_size else ""
        raise SuiteError(
            f"{origin.where('batch_size')}: batch_size {training.batch_size}{of_all} is larger than the "
            f"{num_images} training images ({spec.title})"
        )
    if batch_size % axes.world_size:
        raise SuiteError(
            f"{origin.where('world_size')}: world_size {axes.world_size} can't share a batch_size of {batch_size} "
            "evenly; choose a multiple, or global_batch: scaled"
        )
    if count < spec.num_classes:
        raise SuiteError(
            f"{origin.where('train_fraction')}: train_fraction {axes.train_fraction:g} leaves {count} training "
            f"images for {spec.num_classes} classes ({spec.title}); at least {spec.num_classes / num_images:.2g}"
        )
    return axes, training


def _part_of(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that one class of settings knows."""
    return {key: value for key, value in values.items() if key in model.model_fields}
