"""Suites: from a YAML file to the trials that it means, with every check that needs no training.

A list in a suite means "sweep this". Seeds vary slowest, so that stopping at any time leaves whole rounds of the
grid, and slow drift of the machine hits all configurations alike.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel

from bench.complaints import blamed, check_keys, check_name, validated
from bench.data import AUGMENTATIONS
from bench.datasets import DATASETS, DatasetSpec
from bench.device import DTYPES, best_device, open_device
from bench.errors import DeviceError, SuiteError
from bench.optim import OPTIMIZERS, SCHEDULES
from bench.recipes import DEFAULT_RECIPE, RECIPES, Training
from bench.suite_file import Place, SuiteText
from bench.suite_keys import Axes, SuiteFile
from bench.trial import Trial
from models import MODELS, build_model

MOST_CONFIGURATIONS = 10_000  # of one entry; more is a slip of the keyboard, and takes minutes only to list


@dataclass(frozen=True)
class Plan:
    """What a suite means on this machine.

    Attributes:
        trials: in the order in which they run.
        skipped: trial_id -> why this machine can't run it.
        num_params: config_id -> parameters of its model.
    """

    name: str
    suite: SuiteFile
    content: dict[str, Any]
    trials: tuple[Trial, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    num_params: dict[str, int] = field(default_factory=dict)


def load_plan(text: SuiteText) -> Plan:
    """Check a suite and expand it.

    Raises:
        SuiteError: anything in it that can't be run, with its place.
        DeviceError: a device that isn't here.
    """
    _check_top_keys(text)
    own = {key: value for key, value in text.content.items() if key in SuiteFile.model_fields}
    suite = validated(SuiteFile, own, text, (), {})
    check_name(suite.dataset, DATASETS, "dataset", text, ("dataset",))
    shared = {key: value for key, value in text.content.items() if key not in SuiteFile.model_fields}
    _check_shared(text, shared, DATASETS[suite.dataset])
    counted: dict[str, int] = {}
    grid = [trial for index in range(len(suite.models)) for trial in _expand_entry(text, suite, shared, index, counted)]
    devices = list(dict.fromkeys(trial.device for trial in grid))
    grid.sort(key=lambda trial: devices.index(trial.device))
    seeds = range(suite.seeds) if isinstance(suite.seeds, int) else suite.seeds
    rounds = (trial.model_copy(update={"seed": seed}) for seed in seeds for trial in grid)
    trials = {trial.trial_id: trial for trial in rounds}
    num_params = {trial.config_id: counted[_shape(trial)] for trial in grid}
    skipped = {trial_id: reason for trial_id, trial in trials.items() if (reason := _lacks(trial))}
    return Plan(text.name, suite, text.content, tuple(trials.values()), skipped, num_params)


def _expand_entry(
    text: SuiteText, suite: SuiteFile, shared: Mapping[str, Any], index: int, counted: dict[str, int]
) -> Iterator[Trial]:
    """The trials of one entry of `models`, seed 0: the product of all its lists and the suite's.

    Every shape of model is built once, on the meta device, and its parameters go into `counted`.
    """
    place: Place = ("models", index)
    entry = suite.models[index]
    if "model" not in entry:
        raise SuiteError(f"{text.where(place)}: 'model' is missing; known: {', '.join(MODELS)}")
    name = entry["model"]
    check_name(name, MODELS, "model", text, (*place, "model"))
    config_class = MODELS[name][0]
    check_keys(text, place, ["model", "recipe", *config_class.model_fields, *Axes.model_fields, *Training.model_fields])
    recipe = _recipe(text, suite, place)
    spec = DATASETS[suite.dataset]
    swept: dict[str, tuple[Any, Place]] = {key: (value, (key,)) for key, value in shared.items()}
    swept |= {key: (value, (*place, key)) for key, value in entry.items() if key not in ("model", "recipe")}
    places = {key: where for key, (_, where) in swept.items()}
    for combination in _combinations(text, swept):
        settings = validated(config_class, _part(config_class, combination), text, place, places)
        axes, training = _checked(combination, RECIPES[recipe], spec, text, place, places)
        trial = Trial(
            suite=text.name,
            dataset=suite.dataset,
            model=name,
            settings=settings.model_dump(),
            recipe=recipe,
            training=training,
            dtype=axes.dtype,
            device=_device_name(axes),
            num_threads=axes.num_threads,
            compile=axes.compile,
            channels_last=axes.channels_last,
            train_fraction=axes.train_fraction,
            split_seed=suite.split_seed,
            targets=tuple(sorted(suite.targets)),
            instrument_seconds=suite.instrument_seconds,
        )
        if _shape(trial) not in counted:
            try:
                counted[_shape(trial)] = _count_params(trial, spec)
            except ValueError as error:
                raise SuiteError(f"{blamed(str(error), text, place, places)}: {error} ({spec.title})") from None
        yield trial


def _shape(trial: Trial) -> str:
    return f"{trial.model} {trial.settings}"


def _count_params(trial: Trial, spec: DatasetSpec) -> int:
    """Build a trial's model on the meta device, where that costs nothing.

    Raises:
        ValueError: the settings don't fit each other or the image; the model alone knows what fits.
    """
    try:
        with torch.device("meta"):
            model = build_model(trial.model, trial.settings, spec.image_size, spec.in_channels, spec.num_classes)
    except (RuntimeError, TypeError):  # what torch makes of sizes beyond 64 bits
        raise ValueError("the model is too large for any machine") from None
    return sum(p.numel() for p in model.parameters())


def _combinations(text: SuiteText, swept: Mapping[str, tuple[Any, Place]]) -> Iterator[dict[str, Any]]:
    """Every choice of one value per key; devices vary slowest, numeric modes fastest."""
    keys = sorted(swept, key=lambda key: (key == "dtype") - (key == "device"))
    choices = []
    for key in keys:
        value, place = swept[key]
        if value == []:
            raise SuiteError(f"{text.where(place)}: {key}: the sweep is empty; give at least one value")
        choices.append(value if isinstance(value, list) else [value])
    count = math.prod(len(values) for values in choices)
    if count > MOST_CONFIGURATIONS:
        raise SuiteError(
            f"{text.source}: {count:,} configurations of one model; at most {MOST_CONFIGURATIONS:,} are meant"
        )
    for combination in itertools.product(*choices):
        yield dict(zip(keys, combination, strict=True))


def _check_top_keys(text: SuiteText) -> None:
    known = {*SuiteFile.model_fields, *Axes.model_fields, *Training.model_fields}
    for name, (config_class, _) in MODELS.items():
        for key in text.content:
            if key in config_class.model_fields and key not in known:
                raise SuiteError(
                    f"{text.where((key,))}: '{key}' is a model's setting; did you mean 'models.{name}.{key}'?"
                )
    check_keys(text, (), known)


def _check_shared(text: SuiteText, shared: Mapping[str, Any], spec: DatasetSpec) -> None:
    """A setting for all models has to be right even where every entry has its own."""
    for key, value in shared.items():
        for combination in _combinations(text, {key: (value, (key,))}):
            _checked(combination, Training(), spec, text, (), {})


def _recipe(text: SuiteText, suite: SuiteFile, place: Place) -> str:
    """The suite's recipe, or the entry's, or the family's."""
    entry = text.at(place)
    if suite.recipe is not None:
        recipe, place = suite.recipe, ("recipe",)
    elif entry.get("recipe") is not None:
        recipe, place = entry["recipe"], (*place, "recipe")
    else:
        return entry["model"] if entry["model"] in RECIPES else DEFAULT_RECIPE
    check_name(recipe, RECIPES, "recipe", text, place)
    return recipe


def _checked(
    combination: Mapping[str, Any],
    recipe: Training,
    spec: DatasetSpec,
    text: SuiteText,
    place: Place,
    places: Mapping[str, Place],
) -> tuple[Axes, Training]:
    """Names that must stand in a table, devices that must be here, a batch that the data must fill."""
    axes = validated(Axes, _part(Axes, combination), text, place, places)
    training = validated(Training, recipe.model_dump() | _part(Training, combination), text, place, places)

    def where(key: str) -> Place:
        return places.get(key, (*place, key))

    check_name(axes.dtype, DTYPES, "dtype", text, where("dtype"))
    check_name(training.optimizer, OPTIMIZERS, "optimizer", text, where("optimizer"))
    check_name(training.schedule, SCHEDULES, "schedule", text, where("schedule"))
    for name in training.augment:
        check_name(name, AUGMENTATIONS, "augmentation", text, (*where("augment"), name))
    try:
        _device_name(axes)
    except DeviceError as error:
        raise DeviceError(f"{text.where(where('device'))}: {error}") from None
    num_images = spec.num_train - spec.num_val
    if training.batch_size > num_images:
        raise SuiteError(
            f"{text.where(where('batch_size'))}: batch_size {training.batch_size} is larger than the {num_images} "
            f"training images ({spec.title})"
        )
    return axes, training


def _device_name(axes: Axes) -> str:
    """One name for one device: "cuda:0" is "cuda"."""
    if axes.device == "auto":
        return best_device()
    device = open_device(axes.device)
    return f"{device.type}:{device.index}" if device.index else device.type


def _lacks(trial: Trial) -> str | None:
    return open_device(trial.device).lacks(trial.dtype)


def _part(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that one class of settings knows."""
    return {key: value for key, value in values.items() if key in model.model_fields}
