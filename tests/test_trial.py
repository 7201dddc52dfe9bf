"""What makes two trials the same, and what their names are good for."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.spec import UserData
from bench.result import AXES, COLUMNS
from bench.trial import NO_AXES, Training, Trial, slug

VIT = {"patch_size": 7, "depth": 2, "embed_dim": 32, "num_heads": 4, "dropout": 0.0}

OWN = UserData(
    name="faces",
    kind="folder",
    path="/here/faces",
    image_size=32,
    in_channels=3,
    class_names=("a", "b"),
    num_train=90,
    num_val=10,
    num_test=10,
    checksum="123456789abc",
)


def trial(**changes: Any) -> Trial:
    plain: dict[str, Any] = {
        "suite": "mine",
        "dataset": "mnist",
        "model": "vit",
        "settings": VIT,
        "recipe": "vit",
        "training": Training(),
        "dtype": "fp32",
        "device": "cpu",
        "targets": (0.9, 0.95, 0.97),
    }
    return Trial(**plain | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "kmnist"},
        {"model": "cnn"},
        {"settings": VIT | {"depth": 4}},
        {"settings": VIT | {"dropout": 0.1}},
        {"training": Training(epochs=4)},
        {"training": Training(augment={"flip": 0.5})},
        {"training": Training(clip_norm=1.0)},
        {"training": Training(normalization="symmetric")},
        {"data": OWN},
        {"data": OWN.model_copy(update={"checksum": "0" * 12})},
        {"dtype": "amp-bf16"},
        {"device": "cuda"},
        {"num_threads": 1},
        {"split_seed": 1},
    ],
    ids=str,
)
def test_whatever_determines_a_result_changes_both_ids(changes: dict[str, Any]) -> None:
    assert trial(**changes).config_id != trial().config_id
    assert trial(**changes).trial_id != trial().trial_id


def test_every_field_sets_configurations_apart_or_is_named_as_one_that_does_not() -> None:
    """Whoever looks for equal configurations goes by AXES: those that differ in a forgotten one would be merged."""
    same_in_a_run = {"dataset", "data", "split_seed"}
    assert sorted(AXES) == sorted(Trial.model_fields.keys() - NO_AXES - same_in_a_run)
    assert set(AXES) <= COLUMNS.keys()


def test_the_seed_changes_the_trial_but_not_the_configuration() -> None:
    assert trial(seed=1).config_id == trial().config_id
    assert trial(seed=1).trial_id != trial().trial_id


@pytest.mark.parametrize("changes", [{"suite": "yours"}, {"recipe": "cnn"}, {"targets": (0.5,)}], ids=str)
def test_what_determines_nothing_changes_no_id(changes: dict[str, Any]) -> None:
    assert trial(**changes).trial_id == trial().trial_id


def test_a_copy_with_another_seed_has_the_name_of_that_seed() -> None:
    first = trial()
    assert first.trial_id.startswith("vit-p7-d2-e32-fp32-cpu-s0-")
    assert first.model_copy(update={"seed": 3}).trial_id == trial(seed=3).trial_id


def test_ids_do_not_depend_on_the_order_of_keys() -> None:
    turned = dict(reversed(VIT.items()))
    augment = {"rotation": 15.0, "flip": 0.5}
    one = trial(training=Training(augment=augment))
    other = trial(settings=turned, training=Training(augment=dict(reversed(augment.items()))))
    assert one.trial_id == other.trial_id
    assert list(one.training.augment) == list(other.training.augment)  # nor does the order in which they are applied


def test_ids_are_the_same_in_every_process_and_version() -> None:
    training = Training(
        epochs=3,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        beta1=0.9,
        beta2=0.999,
        schedule="one-cycle",
        lr_warmup_fraction=0.3,
        label_smoothing=0.0,
        clip_norm=None,
        augment={},
        evaluations_per_epoch=5,
    )
    assert trial(training=training).config_id == "d5e65f057c"  # with another one no run so far can be resumed


def test_a_trial_survives_the_way_through_json() -> None:
    first = trial(training=Training(augment={"rotation": 15}, clip_norm=None), num_threads=2)
    again = Trial.model_validate_json(first.model_dump_json())
    assert again == first
    assert again.trial_id == first.trial_id


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    model=st.text(max_size=20),
    dtype=st.text(max_size=20),
    device=st.text(max_size=20),
    seed=st.integers(0, 2**32),
)
def test_trial_ids_are_fit_for_file_names(model: str, dtype: str, device: str, seed: int) -> None:
    name = trial(model=model, dtype=dtype, device=device, seed=seed).trial_id
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert len(name) < 120


NUMBERS = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 99),
        "batch_size": st.integers(1, 999),
        "learning_rate": st.floats(1e-6, 1),
        "weight_decay": st.floats(0, 1),
        "clip_norm": st.none() | st.floats(1e-3, 10),
        "augment": st.dictionaries(st.sampled_from(["flip", "rotation"]), st.floats(0, 1)),
    }
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(one=NUMBERS, other=NUMBERS)
def test_two_trials_have_one_id_exactly_if_their_settings_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    ids = {trial(training=Training(**numbers)).config_id for numbers in (one, other)}
    assert len(ids) == (1 if one == other else 2)


@pytest.mark.parametrize("text", ["", "---", "ü", "/", ".."])
def test_a_slug_is_never_empty(text: str) -> None:
    assert slug(text) == "x"


def test_a_row_holds_columns_of_the_store_only_and_leaves_what_is_not_there_empty() -> None:
    row = trial(model="cnn", settings={"depth": 2, "width": 16}).row()
    assert set(row) <= set(COLUMNS)
    assert row["patch_size"] is None
    assert row["width"] == 16
    assert json.loads(row["settings"]) == {"depth": 2, "width": 16}
    assert Training.model_validate_json(row["training"]) == Training()


def test_the_headline_target_is_the_middle_one() -> None:
    assert trial().target_accuracy == 0.95
    assert trial(targets=()).target_accuracy is None


def test_settings_that_came_later_leave_the_ids_of_older_runs_as_they_were() -> None:
    assert trial().config_id == "327abc305e"
    assert trial(settings=VIT | {"init": "xavier"}).config_id == "327abc305e"
    assert trial(settings=VIT | {"init": "torch"}).config_id != "327abc305e"


def test_data_of_ones_own_may_be_moved() -> None:
    moved = OWN.model_copy(update={"path": "/there/faces", "notes": ("resized",)})
    assert trial(data=OWN).trial_id == trial(data=moved).trial_id
