"""The published schema is the one that the classes give, and it judges as the program does."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bench.config.plan import Plan, load_plan
from bench.config.schema import SCHEMA_FILE, suite_schema, write_schema
from bench.config.suite_file import SUITES_FOLDER, find_suite, read_suite, suite_names
from bench.config.suite_keys import Axes
from bench.errors import UserError
from bench.trial import Training
from models import MODELS, SIZE_SETTINGS

VIT: dict[str, Any] = {"model": "vit", "patch_size": 4}
GOOD: dict[str, Any] = {"dataset": "digits", "models": [VIT, {"model": "cnn", "depth": [1, 2]}]}


@pytest.fixture(scope="module")
def judge() -> Draft202012Validator:
    Draft202012Validator.check_schema(suite_schema())
    return Draft202012Validator(suite_schema())


def test_the_committed_schema_is_current() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == suite_schema(), "run: python -m bench.config.schema"


def test_the_schema_is_written_where_suites_name_it(tmp_path: Path) -> None:
    write_schema(tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8")) == suite_schema()
    for name in suite_names():
        first_line = find_suite(name).read_text(encoding="utf-8").splitlines()[0]
        assert first_line == f"# yaml-language-server: $schema={SCHEMA_FILE.relative_to(SUITES_FOLDER)}"


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_is_valid(name: str, judge: Draft202012Validator) -> None:
    assert [*judge.iter_errors(read_suite(find_suite(name)).content)] == []


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_may_hold_its_familys_settings_and_no_others(name: str) -> None:
    entry = suite_schema()["$defs"][f"{name}_entry"]
    own, shared = set(MODELS[name][0].model_fields), {*Axes.model_fields, *Training.model_fields}
    match = set() if name in SIZE_SETTINGS else {"match"}
    assert set(entry["properties"]) == {"model", "recipe"} | match | own | shared
    assert entry["additionalProperties"] is False


def test_every_key_is_described() -> None:
    schema = suite_schema()
    top = {key for key, rule in schema["properties"].items() if "description" not in rule and "$ref" not in rule}
    shared = {key for key in [*Axes.model_fields, *Training.model_fields] if "description" not in schema["$defs"][key]}
    assert top | shared <= {"label_smoothing"}  # its name says it all


ACCEPTED: list[dict[str, Any]] = [
    GOOD,
    GOOD | {"dtype": ["fp32", "amp-bf16"], "device": "cpu", "learning_rate": [1e-3, 1]},
    GOOD | {"seeds": [0, 7], "clip_norm": [None, 1], "augment": [{}, {"flip": 0.5, "rotation": 15}]},
    GOOD | {"recipe": "notebook", "split_seed": 3, "targets": [0.5, 1], "num_threads": [1, 2]},
    GOOD | {"models": [VIT | {"recipe": "cnn", "epochs": 4, "pool": ["mean", "class"]}]},
    GOOD | {"models": [VIT | {"recipe": None, "device": ["cpu", "cpu:0"]}]},
    GOOD | {"models": [VIT, {"model": "torchvision:resnet18", "zero_init_residual": [True, False], "epochs": 2}]},
    GOOD | {"models": [VIT, {"model": "torchvision:resnet18", "recipe": "vit"}]},
    GOOD | {"match": "params", "models": [VIT, {"model": "cnn", "depth": 2}]},
    GOOD | {"match": ["flops", "params"], "models": [VIT, {"model": "cnn", "depth": 2, "growth": 3}]},
    GOOD | {"match": None, "train_fraction": [0.1, 1], "channels_last": [True, False]},
]

REFUSED: list[dict[str, Any]] = [
    {"dataset": "digits"},
    {"models": [VIT]},
    {"dataset": "digits", "models": []},
    {"dataset": "digits", "models": VIT},
    {"dataset": "digits", "models": ["vit"]},
    {"dataset": "digits", "models": [{"patch_size": 4}]},
    {"dataset": "digits", "models": [{"model": "resnet"}]},
    {"dataset": "digits", "models": [{"model": ["vit", "cnn"]}]},
    {"dataset": "digits", "models": [{"model": "torchvision:"}]},
    {"dataset": "digits", "models": [{"model": "torchvision:resnet18", "epochs": -1}]},
    {"dataset": "digits", "models": [{"model": "torchvision:resnet18", "recipe": "resnet"}]},
    GOOD | {"match": "parameters"},
    GOOD | {"match": []},
    GOOD | {"match": ["params", "width"]},
    GOOD | {"train_fraction": 0},
    GOOD | {"compile": True},
    {"dataset": "digits", "models": [{"model": "cnn", "patch_size": 4}]},
    {"dataset": "digits", "models": [VIT | {"seeds": 2}]},
    {"dataset": "digits", "models": [VIT | {"depth": 0}]},
    {"dataset": "digits", "models": [VIT | {"depth": []}]},
    {"dataset": "digits", "models": [VIT | {"depth": [2, "four"]}]},
    {"dataset": "digits", "models": [VIT | {"pool": "max"}]},
    {"dataset": "digits", "models": [VIT | {"recipe": ["vit", "cnn"]}]},
    GOOD | {"dataset": "minst"},
    GOOD | {"depth": 2},
    GOOD | {"epoch": 3},
    GOOD | {"epochs": -1},
    GOOD | {"epochs": 2.5},
    GOOD | {"epochs": "3"},
    GOOD | {"epochs": True},
    GOOD | {"learning_rate": 0},
    GOOD | {"learning_rate": "fast"},
    GOOD | {"dtype": "bf17"},
    GOOD | {"dtype": []},
    GOOD | {"device": "gpu"},
    GOOD | {"optimizer": "adan"},
    GOOD | {"schedule": "cosin"},
    GOOD | {"recipe": "resnet"},
    GOOD | {"augment": {"flop": 0.5}},
    GOOD | {"augment": {"flip": "half"}},
    GOOD | {"augment": "flip"},
    GOOD | {"seeds": 0},
    GOOD | {"seeds": []},
    GOOD | {"seeds": [1, -1]},
    GOOD | {"targets": [97]},
    GOOD | {"targets": 0.97},
]


def planned(content: dict[str, Any], folder: Path) -> Plan:
    path = folder / "mine.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return load_plan(read_suite(path))


@pytest.mark.slow
@pytest.mark.parametrize("content", ACCEPTED, ids=json.dumps)
def test_schema_and_program_accept(content: dict[str, Any], judge: Draft202012Validator, tmp_path: Path) -> None:
    assert [*judge.iter_errors(content)] == []
    assert planned(content, tmp_path).trials


@pytest.mark.parametrize("content", REFUSED, ids=json.dumps)
def test_schema_and_program_refuse(content: dict[str, Any], judge: Draft202012Validator, tmp_path: Path) -> None:
    assert not judge.is_valid(content)
    with pytest.raises(UserError):
        planned(content, tmp_path)
