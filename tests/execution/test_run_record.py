"""What a run that goes on says of itself is checked before anybody believes it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.config.plan import load_plan
from bench.config.suite_file import read_suite
from bench.errors import StoreError
from bench.execution import run_record
from bench.execution.run_record import describe_environment, make_record, read_begun
from bench.report.sections import _conditions
from bench.store.tables import SCHEMA_VERSION


def written(folder: Path, **record: Any) -> Path:
    (folder / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, **record}), encoding="utf-8")
    return folder


def test_what_is_known_is_taken_and_the_rest_left_alone(tmp_path: Path) -> None:
    dataset = {"name": "digits", "checksum": "abc"}
    begun = read_begun(written(tmp_path, source="smoke", plan=["a"], dataset=dataset, environment={"python": "3"}))
    assert (begun.source, begun.plan, begun.dataset.checksum) == ("smoke", ["a"], "abc")
    assert (begun.options, begun.data_dir) == ([], None)


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"source": 5}, "source"),
        ({"options": "epochs=3"}, "options"),
        ({"plan": ["a", None]}, "plan.1"),
        ({"dataset": "mnist"}, "dataset"),
        ({"dataset": {"checksum": 1.0}}, "dataset.checksum"),
        ({"command": [[]]}, "command.0"),
    ],
)
def test_anything_of_another_kind_is_one_line_that_names_it(tmp_path: Path, record: dict[str, Any], place: str) -> None:
    with pytest.raises(StoreError, match=rf"run\.json: {place}: .*it was changed since") as refused:
        read_begun(written(tmp_path, **record))
    assert "\n" not in str(refused.value)


def test_environment_tells_the_limits_of_a_container_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "cpu_quota", lambda: None)
    monkeypatch.setattr(run_record, "memory_limit", lambda: None)
    assert not {"cpu_quota", "memory_limit_bytes"} & set(describe_environment())
    monkeypatch.setattr(run_record, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr(run_record, "memory_limit", lambda: 2**30)
    found = describe_environment()
    assert (found["cpu_quota"], found["memory_limit_bytes"]) == (1.5, 2**30)


def test_recipes_are_told_as_the_trials_have_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: digits\nmodels: [{model: cnn, depth: 1, width: 4}]\nepochs: 7\n")
    text = read_suite(path, ["learning_rate=[0.003, 0.01]", "batch_size=50"])
    found = make_record(load_plan(text), text, str(path), None, None)["recipes"]["cnn"]
    assert (found["learning_rate"], found["epochs"], found["batch_size"]) == ([0.003, 0.01], 7, 50)
    other = read_suite(path, ["models.cnn.recipe=vit"])
    assert list(make_record(load_plan(other), other, str(path), None, None)["recipes"]) == ["cnn, vit"]
    assert "learning_rate 0.003 | 0.01" in dict(_conditions({"recipes": {"cnn": found}}))["Recipe cnn"]
