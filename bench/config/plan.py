"""A plan: the trials that a suite file means on this machine, with every check that needs no training.

A list in a suite means "sweep this". Seeds vary slowest, so that stopping at any time leaves whole rounds of the
grid, and slow drift of the machine hits all configurations alike.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from bench.config.inventory import HERE, Inventory
from bench.config.matching import Entry, pair_up
from bench.config.recipes import DEFAULT_RECIPE, RECIPES
from bench.config.solver import count_flops, count_params, ignores_seeds
from bench.config.suite_file import NOT_SWEPT, Origin, Place, SuiteText, Swept, check_size, combinations, swept_by
from bench.config.suite_keys import Axes, SuiteFile
from bench.config.validation import DeviceName, blamed, check_keys, check_name, checked, find_data, validated
from bench.data.spec import DatasetSpec, UserData
from bench.errors import SuiteError
from bench.trial import MatchedBy, Training, Trial
from models import MODELS, SIZE_SETTINGS, find_model, source_of
from models.external import FORMS

KNOWN_KEYS = (*Axes.model_fields, *Training.model_fields)  # never passed on to a model


@dataclass(frozen=True)
class Plan:
    """What a suite means on this machine.

    Attributes:
        trials: in the order in which they run.
        skipped: trial_id -> why this machine can't run it.
        num_params: config_id -> parameters of its model.
        notes: what a person should know before it runs, a line each.
    """

    name: str
    suite: SuiteFile
    spec: DatasetSpec | UserData
    content: dict[str, Any]
    trials: tuple[Trial, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    num_params: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_plan(text: SuiteText, inventory: Inventory = HERE, yes: bool = False) -> Plan:
    """Check a suite and expand it.

    Args:
        inventory: of the devices that trials may run on.
        yes: more than MOST_TRIALS trials are allowed.

    Raises:
        SuiteError: anything in it that can't be run, with its place.
        DeviceError: a device that isn't there.
    """
    _check_top_keys(text)
    own = {key: value for key, value in text.content.items() if key in SuiteFile.model_fields}
    suite = validated(SuiteFile, own, Origin(text))
    shared = {key: value for key, value in text.content.items() if key not in SuiteFile.model_fields}
    swept = [swept_by(index, entry, shared) for index, entry in enumerate(suite.models)]
    seeds = range(suite.seeds) if isinstance(suite.seeds, int) else suite.seeds
    check_size(text, swept, len(seeds), yes)
    spec = find_data(suite.dataset, text)
    device_name = cache(inventory.device_name)  # asked of every configuration, and few devices are named
    _check_shared(text, shared, spec, device_name)
    entries = [_expand_entry(text, suite, spec, index, keys, device_name) for index, keys in enumerate(swept)]
    where = text.where(("match",))
    kinds: Iterable[MatchedBy] = [suite.match] if isinstance(suite.match, str) else dict.fromkeys(suite.match or ())
    grid = [trial for entry in entries for trial in entry.trials]
    if kinds:
        grid = pair_up([*_without_repeats(entries)], [*kinds], where, len(seeds), yes)
    for index, entry in enumerate(entries):
        if (wanted := _matches_of(text, suite, index)) and not kinds:  # the suite's, if any, is said of all
            sized = [other for other in entries if other.trials[0].model in SIZE_SETTINGS]
            grid += pair_up([entry, *sized], wanted, where, len(seeds), yes, every_one=False)
    devices = [*dict.fromkeys(trial.device for trial in grid)]
    grid.sort(key=lambda trial: devices.index(trial.device))
    seeded = (trial.model_copy(update={"seed": seed}) for seed in seeds for trial in grid)
    trials = {trial.trial_id: trial for trial in seeded}
    num_params = {trial.config_id: count_params(trial) for trial in grid}
    lacking = {trial.config_id: inventory.lacks(trial) for trial in grid}
    skipped = {trial_id: reason for trial_id, trial in trials.items() if (reason := lacking[trial.config_id])}
    alike = dict.fromkeys(trial.model for trial in grid if ignores_seeds(trial))
    note = "seeds don't change its start, so they tell only of the order of images and of dropout"
    notes = tuple(f"{name}: {note}" for name in alike)
    return Plan(text.name, suite, spec, text.content, tuple(trials.values()), skipped, num_params, notes)


def _matches_of(text: SuiteText, suite: SuiteFile, index: int) -> list[MatchedBy]:
    """What an entry asks to be matched in, for itself alone."""
    asked = suite.models[index].get("match")
    place: Place = ("models", index, "match")
    if asked is None:
        return []
    if suite.models[index]["model"] in SIZE_SETTINGS:
        raise SuiteError(f"{text.where(place)}: match: a {suite.models[index]['model']} is sized to match others")
    kinds = asked if isinstance(asked, list) else [asked]
    for kind in kinds:
        check_name(kind, get_args(MatchedBy), "match", text.where(place))
    return kinds


def _without_repeats(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Without entries whose configurations all stood in earlier ones; such an entry is listed only for its `match`."""
    seen: set[str] = set()
    for entry in entries:
        ids = {trial.config_id for trial in entry.trials}
        if not ids <= seen:
            yield entry
        seen |= ids


def _expand_entry(
    text: SuiteText, suite: SuiteFile, spec: DatasetSpec | UserData, index: int, swept: Swept, device_name: DeviceName
) -> Entry:
    """The trials of one entry of `models`, seed 0: the product of all its lists and the suite's."""
    place: Place = ("models", index)
    entry = suite.models[index]
    if "model" not in entry:
        raise SuiteError(f"{text.where(place)}: 'model' is missing; known: {', '.join([*MODELS, *FORMS])}")
    name = entry["model"]
    config_class, source = _model(name, text.where((*place, "model")))
    own_keys = [key for key in entry if key not in (*KNOWN_KEYS, *NOT_SWEPT)] if source else config_class.model_fields
    check_keys(text, place, [*NOT_SWEPT, *own_keys, *KNOWN_KEYS])
    recipe = _recipe(text, suite, place)
    origin = Origin(text, place, {key: where for key, (_, where) in swept.items()})
    trials = []
    for combination in combinations(text, swept):
        own = {key: value for key, value in combination.items() if key in own_keys}
        settings = validated(config_class, own, origin)
        axes, training = checked(combination, RECIPES[recipe], spec, origin, device_name)
        trial = Trial(
            suite=text.name,
            dataset=spec.name,
            data=spec if isinstance(spec, UserData) else None,
            model=name,
            settings=settings.model_dump(),
            recipe=recipe,
            training=training,
            **axes.model_dump(),
            source=source,
            split_seed=suite.split_seed,
            targets=tuple(sorted(suite.targets)),
            instrument_seconds=suite.instrument_seconds,
            # What has its device to itself is timed at no cost, and no speed round measures several processes.
            timed=suite.timing == "whole" or axes.device != "cpu" or axes.world_size > 1,
        )
        try:
            count_flops(trial)  # builds and runs a sketch of it; the model alone knows what fits
            ignores_seeds(trial)  # builds a user's own with its numbers
        except ValueError as error:
            resize = isinstance(spec, UserData) and "image_size" in str(error)
            advice = "; --set dataset.image_size=N resizes the images" if resize else ""
            raise SuiteError(f"{blamed(str(error), origin)}: {error} ({spec.title}){advice}") from None
        trials.append(trial)
    sweeps = {key for key, (value, _) in swept.items() if isinstance(value, list) and len(value) > 1}
    return Entry(trials, sweeps, set(swept))


def _model(name: object, where: str) -> tuple[type[BaseModel], str | None]:
    """The settings class of a model, and the source of one that isn't ours."""
    if not isinstance(name, str) or ":" not in name:
        check_name(name, [*MODELS, *FORMS], "model", where)
    try:
        return find_model(str(name))[0], source_of(str(name))
    except ValueError as error:
        raise SuiteError(f"{where}: {error}") from None


def _check_top_keys(text: SuiteText) -> None:
    known = {*SuiteFile.model_fields, *KNOWN_KEYS}
    for name, (config_class, _) in MODELS.items():
        for key in text.content:
            if key in config_class.model_fields and key not in known:
                raise SuiteError(
                    f"{text.where((key,))}: '{key}' is a model's setting; did you mean 'models.{name}.{key}'?"
                )
    check_keys(text, (), known)


def _check_shared(
    text: SuiteText, shared: Mapping[str, Any], spec: DatasetSpec | UserData, device_name: DeviceName
) -> None:
    """A setting for all models has to be right even where every entry has its own."""
    alone = {"global_batch": "scaled"}  # a batch of one, which any data can fill and any number of processes
    for key, value in shared.items():
        for combination in combinations(text, {key: (value, (key,))}):
            checked(alone | combination, Training(batch_size=1), spec, Origin(text), device_name)


def _recipe(text: SuiteText, suite: SuiteFile, place: Place) -> str:
    """The suite's recipe, or the entry's, or the family's."""
    entry = text.at(place)
    if suite.recipe is not None:
        recipe, place = suite.recipe, ("recipe",)
    elif entry.get("recipe") is not None:
        recipe, place = entry["recipe"], (*place, "recipe")
    else:
        return entry["model"] if entry["model"] in RECIPES else DEFAULT_RECIPE
    check_name(recipe, RECIPES, "recipe", text.where(place))
    return recipe
