"""The configurations of a suite: as written, in the suite's order, each with a name of its own."""

import pytest

from bench.config.plan import load_plan
from bench.config.suite_file import SuiteText, find_suite, read_suite, suite_names
from bench.errors import SuiteError
from bench.gate.request import configurations


def text(**content: object) -> SuiteText:
    return SuiteText("my.yaml", "my", {"dataset": "digits", **content}, {})


def test_lists_are_swept_and_all_else_is_left_as_written() -> None:
    found = configurations(
        text(models=[{"model": "vit", "patch_size": [2, 4]}, {"model": "cnn", "recipe": "plain"}], epochs=3)
    )
    assert [name for name, _ in found] == ["vit patch_size=2", "vit patch_size=4", "cnn"]
    assert found[0][1] == {"dataset": "digits", "models": [{"epochs": 3, "model": "vit", "patch_size": 2}]}
    assert found[2][1]["models"] == [{"epochs": 3, "model": "cnn", "recipe": "plain"}]


def test_an_entrys_own_setting_wins_over_the_suites() -> None:
    ((_, content),) = configurations(text(models=[{"model": "cnn", "batch_size": 8}], batch_size=[32, 64]))
    assert content["models"] == [{"model": "cnn", "batch_size": 8}]


def test_what_only_a_run_has_is_left_out() -> None:
    ((_, content),) = configurations(
        text(models=[{"model": "cnn"}], seeds=5, targets=[0.5], instrument_seconds=1, num_threads=2, timing="whole")
    )
    assert content == {"dataset": "digits", "models": [{"model": "cnn"}]}


def test_entries_that_no_sweep_tells_apart_have_names_of_their_own() -> None:
    names = [
        name for name, _ in configurations(text(models=[{"model": "cnn", "depth": 1}, {"model": "cnn", "depth": 2}]))
    ]
    assert len(set(names)) == 2


NAMED = [name for name in suite_names() if isinstance(read_suite(find_suite(name)).content["dataset"], str)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_each_configuration_of_our_suites_is_a_suite_of_its_own_and_all_are_there(name: str) -> None:
    suite = read_suite(find_suite(name))
    for place in (suite.content, *suite.content["models"]):
        for key in ("match", "world_size", "global_batch"):
            place.pop(key, None)
    found = configurations(suite)
    plans = [load_plan(SuiteText("x", "x", content, {})) for _, content in found[:3]]
    assert all(len(plan.num_params) == 1 for plan in plans)
    assert len(found) == len(load_plan(suite).num_params)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"models": [{"model": "vit"}], "match": "params"}, "'match' means nothing to a single step"),
        ({"models": [{"model": "vit"}], "dataset": None}, "'dataset' should be the name of one"),
        ({"models": []}, "list of entries"),
        ({"models": "vit"}, "list of entries"),
        ({"models": [{"depth": 2}]}, "list of entries"),
        ({"models": [{"model": "vit", "depth": []}]}, "depth: the sweep is empty"),
    ],
)
def test_a_suite_without_configurations_is_one_line(content: dict[str, object], words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        configurations(text(**content))
