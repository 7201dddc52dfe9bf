"""The JSON Schema of a suite file, from the classes that check one; editors complete and underline with it.

    python -m bench.config.schema      writes bench/suites/schema.json again

A schema judges one key at a time. What takes two (a patch that divides the image, heads that divide the width) or
this machine (a device that is here) is the program's to say.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.config.recipes import DEFAULT_RECIPE, RECIPES
from bench.config.suite_file import SUITES_FOLDER
from bench.config.suite_keys import Axes, SuiteFile
from bench.data.augment import AUGMENTATIONS, Augmentation
from bench.data.catalog import DATASETS
from bench.system.device import DEVICES
from bench.system.precision import DTYPES
from bench.training.optim import OPTIMIZERS, SCHEDULES
from bench.trial import Training
from models import MODELS, SIZE_SETTINGS
from models.external import FORMS

SCHEMA_FILE = SUITES_FOLDER / "schema.json"
FOREIGN_NAME = r"^[^:]+:[^:]+$"

Schema = dict[str, Any]


def suite_schema() -> Schema:
    """The schema (draft 2020-12) of a suite file."""
    shared = {key: _swept(rule) for key, rule in (_rules(Axes) | _rules(Training)).items()}
    own = _rules(SuiteFile) | {"models": _entries()}
    families = {f"{name}_entry": _entry(name, shared) for name in (*MODELS, "foreign")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Suite of vit-cnn-bench",
        "description": "A list of settings where one is expected means: sweep these.",
        **_mapping(own | _references(shared), required=["dataset", "models"]),
        "$defs": shared | families | SuiteFile.model_json_schema()["$defs"],
    }


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Put the schema where suites name it (`# yaml-language-server: $schema=schema.json`)."""
    path.write_text(json.dumps(suite_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _entries() -> Schema:
    """The list of `models`; what an entry may hold depends on its `model`."""
    named = {
        "model": {
            "anyOf": [{"enum": [*MODELS]}, {"type": "string", "pattern": FOREIGN_NAME}],
            "description": f"family, or other people's: {', '.join(FORMS)}",
        }
    }
    rules = {name: {"const": name} for name in MODELS} | {"foreign": {"pattern": FOREIGN_NAME}}
    choices = [
        {"if": {"properties": {"model": rule}, "required": ["model"]}, "then": {"$ref": f"#/$defs/{name}_entry"}}
        for name, rule in rules.items()
    ]
    entry = {"type": "object", "properties": named, "required": ["model"], "allOf": choices}
    return {"type": "array", "items": entry, "minItems": 1, "description": SuiteFile.model_fields["models"].description}


def _entry(family: str, shared: Schema) -> Schema:
    """An entry of one family: its own settings, a recipe, and whatever a suite may say of all models.

    Of other people's models ("foreign") any further key is a keyword argument, which their function alone knows.
    """
    ours = family in MODELS
    recipe = {
        "enum": [*RECIPES, None],
        "default": family if family in RECIPES else DEFAULT_RECIPE,
        "description": "training settings to start from",
    }
    keys = {"model": {"const": family} if ours else {"type": "string", "pattern": FOREIGN_NAME}, "recipe": recipe}
    if family not in SIZE_SETTINGS:
        about = "for each shape of this entry, one of cnn's that equals it"
        keys["match"] = _rules(SuiteFile)["match"] | {"description": about}
    if ours:
        keys |= {key: _swept(rule) for key, rule in _rules(MODELS[family][0]).items()}
    return _mapping(keys | _references(shared), required=["model"], closed=ours)


def _mapping(properties: Schema, required: list[str], closed: bool = True) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": not closed}


def _references(keys: Schema) -> Schema:
    return {key: {"$ref": f"#/$defs/{key}"} for key in keys}


def _rules(settings: type[BaseModel]) -> dict[str, Schema]:
    """Key -> rule, with the names from the tables, and without the titles and defaults of Python's.

    Of a model and of Axes a default is a default; those of training come from the recipe.
    """
    rules = settings.model_json_schema()["properties"]
    left_out = {"title", "default"} if settings is Training else {"title"}
    rules = {key: {word: said for word, said in rule.items() if word not in left_out} for key, rule in rules.items()}
    return {key: rule | NAMES.get(key, {}) for key, rule in rules.items()}


def _swept(rule: Schema) -> Schema:
    """One value, or a list of them."""
    notes = {word: rule[word] for word in ("description", "default") if word in rule}
    one = {word: said for word, said in rule.items() if word not in notes}
    return notes | {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _strength(about: Augmentation) -> Schema:
    return {"type": "number", "minimum": about.low, "maximum": about.high, "description": about.unit}


# key -> what its rule says besides: the names that the program knows
NAMES: dict[str, Schema] = {
    "dataset": {
        "anyOf": [
            {"enum": [*DATASETS]},
            {"type": "string", "pattern": r"[/\\.]"},  # a path
            {"$ref": "#/$defs/UserDataOptions"},
        ]
    },
    "recipe": {"enum": [*RECIPES, None]},
    "dtype": {"enum": [*DTYPES]},
    "device": {"anyOf": [{"enum": ["auto", *DEVICES]}, {"pattern": f"^({'|'.join(DEVICES)}):[0-9]+$"}]},
    "optimizer": {"enum": [*OPTIMIZERS]},
    "schedule": {"enum": [*SCHEDULES]},
    "augment": {
        "properties": {name: _strength(about) for name, about in AUGMENTATIONS.items()},
        "additionalProperties": False,
    },
}


if __name__ == "__main__":
    write_schema()
