"""From a suite's text to its trials: which, in which order, under which names, and what is refused."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.cli.list import plan_as_json, show_plan
from bench.config import solver
from bench.config.inventory import Here
from bench.config.plan import Plan, load_plan
from bench.config.recipes import RECIPES
from bench.config.solver import count_flops
from bench.config.suite_file import MOST_TRIALS, find_suite, read_suite, suite_names
from bench.data.catalog import DATASETS
from bench.errors import DataError, DeviceError, SuiteError, UserError
from bench.execution.estimate import estimate_seconds
from bench.system import device
from bench.system.device import CPU, available_devices
from bench.trial import Trial
from models import build_meta_model
from models.vit import ViTConfig

PlanOf = Callable[..., Plan]

SMALL: dict[str, Any] = {
    "dataset": "digits",
    "models": [{"model": "vit", "patch_size": [2, 4], "depth": 1}, {"model": "cnn", "depth": 1, "width": 4}],
    "seeds": 2,
}


@pytest.fixture
def plan_of(tmp_path: Path) -> PlanOf:
    """The plan of a suite given as YAML, or as its content."""

    def make(suite: str | dict[str, Any], *options: str, **more: Any) -> Plan:
        path = tmp_path / "mine.yaml"
        path.write_text(suite if isinstance(suite, str) else json.dumps(suite), encoding="utf-8")
        return load_plan(read_suite(path, options), **more)

    return make


class Toaster(CPU):
    """A second kind of device, for a machine that has but one."""

    type = "toaster"

    def __init__(self, index: int = 0) -> None:
        self.index = index

    @staticmethod
    def count() -> int:
        return 2

    def lacks(self, dtype: str) -> str | None:
        return "toast has no bfloat16" if dtype == "amp-bf16" else None


@pytest.fixture
def toaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device.DEVICES, "toaster", Toaster)


def test_seeds_vary_slowest_then_devices_and_dtypes_fastest(plan_of: PlanOf, toaster: None) -> None:
    options = ("device=[cpu, toaster]", "dtype=[fp32, amp-fp16]", "batch_size=[32, 64]")
    trials = plan_of(SMALL, *options).trials
    expected = [
        (seed, device, *shape, batch_size, dtype)
        for seed in (0, 1)
        for device in ("cpu", "toaster")
        for shape in (("vit", 2), ("vit", 4), ("cnn", None))
        for batch_size in (32, 64)
        for dtype in ("fp32", "amp-fp16")
    ]
    found = [(t.seed, t.device, t.model, t.settings.get("patch_size"), t.training.batch_size, t.dtype) for t in trials]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert [trial[:2] for trial in found] == [trial[:2] for trial in expected]
    assert [trial[-1] for trial in found] == [trial[-1] for trial in expected]


def test_seeds_are_counted_from_0_or_named(plan_of: PlanOf) -> None:
    assert [trial.seed for trial in plan_of(SMALL, "models=[{model: cnn}]").trials] == [0, 1]
    assert [trial.seed for trial in plan_of(SMALL, "models=[{model: cnn}]", "seeds=[7, 3, 7]").trials] == [7, 3]


def test_an_entrys_value_wins_over_the_suites_and_an_option_over_both(plan_of: PlanOf) -> None:
    suite = SMALL | {"epochs": 2, "models": [{"model": "cnn", "width": 4, "epochs": 5}, {"model": "cnn", "width": 8}]}
    epochs = {trial.settings["width"]: trial.training.epochs for trial in plan_of(suite).trials}
    assert epochs == {4: 5, 8: 2}
    assert {trial.training.epochs for trial in plan_of(suite, "epochs=9").trials} == {9}


def test_each_family_has_its_own_recipe_unless_one_is_forced(plan_of: PlanOf) -> None:
    assert {t.model: t.recipe for t in plan_of(SMALL).trials} == {"vit": "vit", "cnn": "cnn"}
    assert all(t.training == RECIPES[t.recipe] for t in plan_of(SMALL).trials)
    assert {t.recipe for t in plan_of(SMALL, "recipe=notebook").trials} == {"notebook"}
    mixed = plan_of(SMALL, "models.vit.recipe=cnn", "models.cnn.recipe=null")
    assert {t.model: t.recipe for t in mixed.trials} == {"vit": "cnn", "cnn": "cnn"}


def test_equal_trials_are_run_once(plan_of: PlanOf) -> None:
    entry = {"model": "cnn", "depth": 1}
    assert len(plan_of(SMALL | {"models": [entry, entry | {"depth": [1, 1, 2]}]}).trials) == 4
    assert len(plan_of(SMALL, "device=[cpu, 'cpu:0']", "dtype=[fp32, fp32]").trials) == len(plan_of(SMALL).trials)


def test_the_same_settings_have_the_same_ids_however_they_are_written(plan_of: PlanOf) -> None:
    one = """
        dataset: digits
        models:
          - {model: vit, patch_size: 4, mlp_ratio: 2, depth: 2}
        weight_decay: 0
        augment: {rotation: 15, flip: 0.5}
        learning_rate: 3e-4
        """
    other = f"""
        learning_rate: 0.0003
        augment:
          flip: 5e-1
          rotation: 15.0
        models:
          - depth: [2]
            mlp_ratio: 2.0
            device: auto
            model: vit
            patch_size: 4
            num_heads: {ViTConfig.model_fields["num_heads"].default}   # the default
            weight_decay: 0.0
        dataset: digits
        description: the same
        targets: [0.5]
        """
    assert [t.trial_id for t in plan_of(one).trials] == [t.trial_id for t in plan_of(other).trials]


SWEPT: dict[str, Any] = {
    "epochs": st.integers(1, 9),
    "batch_size": st.integers(1, 99),
    "learning_rate": st.floats(1e-5, 1),
    "weight_decay": st.floats(0, 1),
    "optimizer": st.sampled_from(["adam", "adamw", "sgd"]),
    "schedule": st.sampled_from(["constant", "cosine"]),
    "clip_norm": st.none() | st.floats(0.1, 9),
    "dtype": st.sampled_from(["fp32", "amp-bf16", "amp-fp16"]),
    "num_threads": st.none() | st.integers(1, 4),
    "depth": st.integers(1, 3),
    "width": st.integers(1, 9),
    "dropout": st.floats(0, 0.9),
}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(chosen=st.fixed_dictionaries({}, optional=SWEPT), key=st.sampled_from(sorted(SWEPT)), data=st.data())
def test_an_id_changes_with_any_setting_and_with_nothing_else(
    chosen: dict[str, Any], key: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def config_id(entry: dict[str, Any]) -> str:
        path = tmp_path_factory.getbasetemp() / "mine.yaml"
        path.write_text(json.dumps({"dataset": "digits", "models": [entry]}), encoding="utf-8")
        [trial] = load_plan(read_suite(path)).trials
        return trial.config_id

    before = data.draw(SWEPT[key])
    after = data.draw(SWEPT[key].filter(lambda value: value != before))
    entry = {"model": "cnn"} | chosen | {key: before}
    assert config_id(dict(reversed(entry.items()))) == config_id(entry)
    assert config_id(entry | {key: after}) != config_id(entry)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kaggle's files in the folder where the program is started, as the suite kaggle-vit wants them."""
    rows = gzip.decompress((Path(__file__).parents[1] / "fixtures" / "images" / "mnist.csv.gz").read_bytes()).decode()
    header, *images = rows.splitlines()
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "train.csv").write_text("\n".join([header, *images, *images]) + "\n", encoding="utf-8")
    unlabelled = [row.partition(",")[2] for row in (header, *images[:20])]
    (tmp_path / "kaggle" / "test.csv").write_text("\n".join(unlabelled) + "\n", encoding="utf-8")
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_suite_whose_files_are_not_here_says_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^kaggle-vit.yaml:3: .*`python examples/make_kaggle_csv.py kaggle` makes it"):
        load_plan(read_suite(find_suite("kaggle-vit")))


@pytest.mark.slow
@pytest.mark.usefixtures("kaggle")
@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_can_be_planned(name: str) -> None:
    plan = load_plan(read_suite(find_suite(name)))
    assert plan.name == name
    assert {trial.model for trial in plan.trials} == {"vit", "cnn"}
    assert len({trial.trial_id for trial in plan.trials}) == len(plan.trials)
    assert set(plan.num_params) == {trial.config_id for trial in plan.trials}
    assert all(count > 0 for count in plan.num_params.values())
    assert plan.suite.description


@pytest.mark.usefixtures("kaggle")
@pytest.mark.parametrize("name", ["notebook-vit", "kaggle-vit"])
def test_a_replay_begins_with_the_model_that_it_replays(name: str) -> None:
    plan = load_plan(read_suite(find_suite(name)))
    first = plan.trials[0]
    assert first.model == "vit"
    assert plan.num_params[first.config_id] == 14_410
    assert plan.suite.published[0].points[-1].epoch == first.training.epochs


@pytest.mark.usefixtures("native_half_precision")
def test_what_a_device_lacks_is_skipped_with_the_reason(plan_of: PlanOf, toaster: None) -> None:
    plan = plan_of(SMALL, "device=['toaster:1', cpu]", "dtype=[fp32, amp-bf16]")
    lacking = [t.trial_id for t in plan.trials if t.device == "toaster:1" and t.dtype == "amp-bf16"]
    assert plan.skipped == dict.fromkeys(lacking, "toast has no bfloat16")
    assert len(lacking) == 6


def test_what_cannot_be_compiled_here_is_skipped_with_the_reason(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.config.inventory.lacks_compiler", lambda device: f"no compiler for {device.type}")
    plan = plan_of(SMALL, "compile=[false, default]")
    compiled = [trial.trial_id for trial in plan.trials if trial.compile]
    assert plan.skipped == dict.fromkeys(compiled, "no compiler for cpu")
    assert len(compiled) == len(plan.trials) / 2 == 6


def test_a_batch_may_be_larger_than_a_share_of_the_images(plan_of: PlanOf) -> None:
    [trial] = plan_of(SMALL, "models=[{model: cnn}]", "train_fraction=0.01", "batch_size=1250", "seeds=1").trials
    assert (trial.train_fraction, trial.training.batch_size) == (0.01, 1250)


FILE = """\
dataset: digits
models:
  - model: vit
    patch_size: [2, 4]
  - {model: cnn, depth: 1}
  - model: vit
    depth: 1
    patch_size: 8
"""


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("dataset: digits", "dataset: digit", "mine.yaml:1: unknown dataset 'digit'; did you mean 'digits'?"),
        (
            "dataset: digits",
            "dataset: [digits, mnist]",
            "mine.yaml:1: dataset: found ['digits', 'mnist'], expected text",
        ),
        ("dataset: digits\n", "", "mine.yaml: 'dataset' is missing"),
        (
            "model: cnn",
            "model: resnet",
            "mine.yaml:5: unknown model 'resnet'; known: cnn, package.module:factory, timm:NAME, torchvision:NAME, vit",
        ),
        ("model: cnn, ", "", "mine.yaml:5: 'model' is missing; known: vit, cnn, timm:NAME, "),
        ("[2, 4]", "[2, 3]", "mine.yaml:4: patch_size 3 does not divide image_size 8 (scikit-learn digits)"),
        ("patch_size: 8", "patch_size: 5", "mine.yaml:8: patch_size 5 does not divide image_size 8"),
        ("depth: 1\n", "num_heads: 5\n    embed_dim: 32\n", "mine.yaml:7: num_heads 5 does not divide embed_dim 32"),
        ("depth: 1\n", "embed_dim: 30\n    num_heads: 4\n", "mine.yaml:8: num_heads 4 does not divide embed_dim 30"),
        ("depth: 1\n", "depth: 0\n", "mine.yaml:7: depth: found 0, expected at least 1"),
        ("depth: 1\n", "depth: 2.5\n", "mine.yaml:7: depth: found 2.5, expected a whole number"),
        ("depth: 1\n", "depth: two\n", "mine.yaml:7: depth: found 'two', expected a whole number"),
        ("depth: 1\n", "depth: true\n", "mine.yaml:7: depth: found true, expected a whole number"),
        ("depth: 1\n", "depth:\n", "mine.yaml:7: depth: found null, expected a whole number"),
        ("depth: 1\n", "depth: []\n", "mine.yaml:7: depth: the sweep is empty; give at least one value"),
        ("depth: 1\n", "dropout: 1\n", "mine.yaml:7: dropout: found 1, expected less than 1"),
        ("depth: 1\n", "pool: max\n", "mine.yaml:7: pool: found 'max', expected 'mean' or 'class'"),
        ("depth: 1\n", "embed_dim: 4611686018427387904\n", "mine.yaml:6: the model is too large for any machine"),
        ("depth: 1\n", "mlp_ratio: 1e18\n", "mine.yaml:6: the model is too large for any machine"),
        ("depth: 1\n", "dept: 1\n", "mine.yaml:7: unknown key 'dept'; did you mean 'depth'?"),
        ("depth: 1\n", "width: 1\n", "mine.yaml:7: unknown key 'width'; "),
        ("depth: 1\n", "recipe: note\n", "mine.yaml:7: unknown recipe 'note'; did you mean 'notebook'?"),
        (
            "depth: 1\n",
            "recipe: ''\n",
            "mine.yaml:7: unknown recipe ''; known: blog, cnn, cnn-99, notebook, plain, vit, vit-98, vit-99",
        ),
        ("depth: 1\n", "dtype: [fp32, bf61]\n", "mine.yaml:7: unknown dtype 'bf61'; "),
        ("depth: 1\n", "device: [cpu, gpu]\n", "mine.yaml:7: device 'gpu': no such device; did you mean '"),
        ("depth: 1\n", "device: 'cpu:1'\n", "mine.yaml:7: device 'cpu:1': this machine has 1 of kind cpu"),
        ("depth: 1\n", "1: 1\n", "mine.yaml:6: models.2.1: found 1, expected text"),
        ("models:", "depth: 2\nmodels:", "mine.yaml:2: 'depth' is a model's setting; did you mean 'models.vit.depth'?"),
        ("models:", "width: 2\nmodels:", "mine.yaml:2: 'width' is a model's setting; did you mean 'models.cnn.width'?"),
        ("models:", "epoch: 2\nmodels:", "mine.yaml:2: unknown key 'epoch'; did you mean 'epochs'?"),
        ("models:", '"a\\nb": 2\nmodels:', r"mine.yaml:2: unknown key 'a\nb'; "),
        ("models:", "epochs: -1\nmodels:", "mine.yaml:2: epochs: found -1, expected at least 1"),
        ("models:", "epochs: [1, [2]]\nmodels:", "mine.yaml:2: epochs: found [2], expected a whole number"),
        ("models:", "learning_rate: fast\nmodels:", "mine.yaml:2: learning_rate: found 'fast', expected a number"),
        ("models:", "learning_rate: 0\nmodels:", "mine.yaml:2: learning_rate: found 0, expected more than 0"),
        ("models:", "optimizer: adan\nmodels:", "mine.yaml:2: unknown optimizer 'adan'; did you mean 'adam"),
        ("models:", "schedule: cosin\nmodels:", "mine.yaml:2: unknown schedule 'cosin'; did you mean 'cosine'?"),
        ("models:", "recipe: vti\nmodels:", "mine.yaml:2: unknown recipe 'vti'; did you mean 'vit'?"),
        ("models:", "augment: {flop: 1}\nmodels:", "mine.yaml:2: unknown augmentation 'flop'; did you mean 'flip'?"),
        ("models:", "augment:\n  flip: a\nmodels:", "mine.yaml:3: augment.flip: found 'a', expected a number"),
        ("models:", "augment: flip\nmodels:", "mine.yaml:2: augment: found 'flip', expected a mapping"),
        (
            "models:",
            "batch_size: 1251\nmodels:",
            "mine.yaml:2: batch_size 1251 is larger than the 1250 training images (scikit-learn digits)",
        ),
        (
            "models:",
            "train_fraction: [1, 0.007]\nmodels:",
            "mine.yaml:2: train_fraction 0.007 leaves 9 training images for 10 classes (scikit-learn digits); at least",
        ),
        ("models:", "train_fraction: 0\nmodels:", "mine.yaml:2: train_fraction: found 0, expected more than 0"),
        ("models:", "train_fraction: 2\nmodels:", "mine.yaml:2: train_fraction: found 2, expected at most 1"),
        ("models:", "compile: fast\nmodels:", "mine.yaml:2: compile: found 'fast', expected "),
        ("models:", "seeds: 0\nmodels:", "mine.yaml:2: seeds: found 0, expected at least 1"),
        ("models:", "seeds: 1001\nmodels:", "mine.yaml:2: seeds: found 1001, expected at most 1000"),
        ("models:", "seeds: []\nmodels:", "mine.yaml:2: seeds: found [], expected at least 1 of them"),
        ("models:", "seeds: [1, -1]\nmodels:", "mine.yaml:2: seeds.1: found -1, expected at least 0"),
        ("models:", "seeds: [1, a]\nmodels:", "mine.yaml:2: seeds.1: found 'a', expected a whole number"),
        ("models:", "seeds: many\nmodels:", "mine.yaml:2: seeds: found 'many', expected a whole number"),
        ("models:", "targets: [0.9, 97]\nmodels:", "mine.yaml:2: targets.1: found 97, expected at most 1"),
        ("models:", "targets: 0.9\nmodels:", "mine.yaml:2: targets: found 0.9, expected a list"),
        ("models:", "description: [a]\nmodels:", "mine.yaml:2: description: found ['a'], expected text"),
    ],
    ids=lambda text: " ".join(str(text).split())[:40],
)
def test_a_mistake_is_named_with_its_place(written: str, instead: str, said: str, plan_of: PlanOf) -> None:
    assert FILE.count(written) == 1
    with pytest.raises(UserError) as caught:
        plan_of(FILE.replace(written, instead))
    message = str(caught.value)
    assert said in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("", "models: found null, expected a list"),
        ("[]", "models: found [], expected at least 1 of them"),
        ("vit", "models: found 'vit', expected a list"),
        ("{model: vit}", "models: found {'model': 'vit'}, expected a list"),
        ("[vit]", "models.0: found 'vit', expected a mapping"),
        ("[{model: cnn}, 3]", "models.1: found 3, expected a mapping"),
        ("[{}]", "'model' is missing"),
        ("[{model: [vit, cnn]}]", "unknown model ['vit', 'cnn']; known: cnn, package."),
        ("[{model: }]", "unknown model null; known: cnn, package.module:factory, "),
    ],
)
def test_models_that_are_no_list_of_entries_are_refused(models: str, said: str, plan_of: PlanOf) -> None:
    with pytest.raises(SuiteError) as caught:
        plan_of(f"dataset: digits\nmodels: {models}\n")
    assert "mine.yaml:2: " in str(caught.value)
    assert said in str(caught.value)
    with pytest.raises(SuiteError) as caught:
        plan_of(FILE, f"models={models}")
    assert str(caught.value).startswith(f"--set models={models}: ".replace(" : ", ": "))


@pytest.mark.parametrize("key", ["epochs", "batch_size", "dtype", "augment"])
def test_a_mistake_counts_even_where_every_entry_has_its_own_value(key: str, plan_of: PlanOf) -> None:
    entry = {"model": "cnn", "epochs": 1, "batch_size": 1, "dtype": "fp32", "augment": {}}
    with pytest.raises(SuiteError, match=rf"mine\.yaml:1: {key}: found -1\.5, "):
        plan_of({"dataset": "digits", "models": [entry], key: -1.5})


def test_a_device_that_is_not_here_is_named_with_those_that_are(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.CUDA, "count", staticmethod(lambda: 0))
    with pytest.raises(DeviceError) as caught:
        plan_of(SMALL, "device=[cpu, cuda]")
    here = ", ".join(available_devices())
    assert str(caught.value) == (
        f"--set device=[cpu, cuda]: device 'cuda': this machine has 0 of kind cuda; here: {here}"
    )


KEYS = st.sampled_from(
    ["dataset", "recipe", "epochs", "dtype", "device", "seeds", "augment", "augment.flip", "targets", "optimizer"]
) | st.sampled_from(
    ["models", "models.vit.depth", "models.vit.patch_size", "models.0.augment", "models.1.model", "models.cnn.recipe"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5) | st.sampled_from([*DATASETS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


ANY = st.builds("{}={}".format, KEYS, VALUES.map(json.dumps))
# Of random values for random keys one in twenty gives a plan; these do, of models that are counted once.
FITTING = st.sampled_from(
    [
        *("dataset=digits", "epochs=2", "dtype=[fp32, bf16]", "device=cpu", "seeds=[3, 5]", "augment.flip=0.5"),
        *("augment={}", "targets=[0.5, 0.9]", "optimizer=adam", "models.vit.depth=1", "models.cnn.recipe=vit"),
    ]
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(changes=st.lists(FITTING, min_size=1, max_size=4, unique=True) | st.lists(FITTING | ANY, min_size=1, max_size=3))
def test_any_options_give_a_plan_or_one_line(changes: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    path.write_text(json.dumps(SMALL), encoding="utf-8")
    try:
        said = "" if load_plan(read_suite(path, changes)).trials else "a plan\nwithout trials"
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


def test_speed_rounds_leave_no_trial_of_one_process_on_a_cpu_to_be_timed(plan_of: PlanOf) -> None:
    assert {trial.timed for trial in plan_of(SMALL, "device=cpu").trials} == {False}
    whole = plan_of(SMALL, "device=cpu", "timing=whole").trials
    assert {trial.timed for trial in whole} == {True}
    assert [t.trial_id for t in whole] == [t.trial_id for t in plan_of(SMALL, "device=cpu").trials]


def test_trials_that_share_their_device_with_nobody_are_timed_whatever_the_timing(
    plan_of: PlanOf, toaster: None
) -> None:
    assert all(trial.timed for trial in plan_of(SMALL, "device=toaster").trials)


def test_trials_of_several_processes_are_timed_since_no_speed_round_measures_them(plan_of: PlanOf) -> None:
    plan = plan_of(SMALL, "device=cpu", "world_size=[1, 2]", "batch_size=64")
    assert {(trial.world_size, trial.timed) for trial in plan.trials} == {(1, False), (2, True)}


MANY = {"batch_size": [*range(1, 11)], "epochs": [*range(1, 31)]}


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (
            {"models": [{"model": "cnn", "depth": [1, 2]}], "seeds": 2} | MANY,
            "mine.yaml:1: 1,200 trials: batch_size 10 x epochs 30 x depth 2 x 2 seeds; more than 1,000 need --yes, or "
            "sweep fewer values",
        ),
        (
            {"models": [{"model": "cnn", "depth": [1, 2]}, {"model": "vit", "depth": [1, 2, 3]}]} | MANY,
            "mine.yaml:1: 1,500 trials: 900 of them are batch_size 10 x epochs 30 x depth 3; more than 1,000 need",
        ),
        (
            {"models": [{"model": "cnn"}], "epochs": [1, 2], "seeds": 501},
            "mine.yaml:1: 1,002 trials: epochs 2 x 501 seeds; more than 1,000 need --yes",
        ),
        ({"models": [{"model": "cnn"}] * 1001}, "mine.yaml:1: 1,001 trials: 1,001 entries; more than 1,000 need"),
    ],
    ids=["one-entry", "two-entries", "seeds", "entries"],
)
def test_very_many_trials_need_a_yes(suite: dict[str, Any], said: str, plan_of: PlanOf) -> None:
    with pytest.raises(SuiteError) as caught:
        plan_of({"dataset": "digits"} | suite)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_with_a_yes_very_many_trials_are_planned_and_a_thousand_need_none(plan_of: PlanOf) -> None:
    suite = {"dataset": "digits", "models": [{"model": "cnn", "width": 4}], "batch_size": [1, 2], "seeds": 500}
    assert len(plan_of(suite).trials) == MOST_TRIALS == 1000
    assert len(plan_of(suite, "seeds=501", yes=True).trials) == 1002


def test_an_absurd_product_is_refused_before_anything_is_expanded(plan_of: PlanOf) -> None:
    keys = ["epochs", "batch_size", "evaluations_per_epoch", "num_threads", "world_size"]
    suite = {"dataset": "nowhere", "models": [{"model": "vit"}]} | {key: [*range(1, 1001)] for key in keys}
    with pytest.raises(SuiteError, match=r"1,000,000,000,000,000 trials: .*; a plan has at most 100,000; sweep fewer"):
        plan_of(suite, yes=True)


def test_a_shape_is_built_once_however_many_trials_have_it(plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, dict[str, Any]]] = []

    def sketch(name: str, settings: dict[str, Any], *sizes: int) -> nn.Module:
        built.append((name, settings))
        return build_meta_model(name, settings, *sizes)

    monkeypatch.setattr("bench.config.solver.build_meta_model", sketch)
    solver._params.clear()
    solver._flops.cache_clear()
    plan = plan_of(SMALL, "learning_rate=[1e-3, 2e-3, 3e-3]", "dtype=[fp32, amp-bf16]", "match=params")
    estimate_seconds(plan.trials, Path("nowhere"))
    assert len(plan.trials) == 48
    times = Counter(json.dumps(one) for one in built)
    assert [number for one, number in times.items() if json.loads(one)[0] == "vit"] == [1, 1]
    assert max(times.values()) == 2  # of a size that was searched: once for its parameters, once for its FLOPs


def test_devices_are_asked_for_a_configuration_and_not_for_a_trial(plan_of: PlanOf) -> None:
    class Asked(Here):
        asked = 0

        def lacks(self, trial: Trial) -> str | None:
            self.asked += 1
            return super().lacks(trial)

    inventory = Asked()
    plan = plan_of(SMALL, "seeds=50", inventory=inventory)
    assert (inventory.asked, len(plan.trials)) == (3, 150)


def test_a_plan_of_many_configurations_is_shown_by_its_first_and_the_number_of_the_rest(
    plan_of: PlanOf, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of({"dataset": "digits", "models": [{"model": "cnn", "width": 4}]} | MANY)
    estimates = dict.fromkeys((trial.trial_id for trial in plan.trials), 1.0)
    show_plan(plan, estimates)
    said = capsys.readouterr().out
    assert said.count("cnn d2 w4") == 50
    assert "… and 250 more configurations; --json has them all" in " ".join(said.split())
    assert len(plan_as_json(plan, estimates)["trials"]) == 300


def test_configurations_of_one_label_are_told_apart_by_what_differs(
    plan_of: PlanOf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    models = [{"model": "cnn", "width": 4, "learning_rate": [1e-3, 2e-3]}, {"model": "vit", "patch_size": [2, 4]}]
    plan = plan_of({"dataset": "digits", "models": models})
    show_plan(plan, dict.fromkeys((trial.trial_id for trial in plan.trials), 1.0))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line.partition(" cpu ")[0] for line in lines[1:5]] == [
        "cnn d2 w4 fp32 learning_rate=0.001",
        "cnn d2 w4 fp32 learning_rate=0.002",
        "vit p2 d4 e32 fp32",
        "vit p4 d4 e32 fp32",
    ]


class MakesNumbers(torch.nn.Module):
    """Makes a tensor in each forward pass, on the CPU, as many people's code does."""

    def __init__(self, num_classes: int, image_size: int, in_channels: int) -> None:
        super().__init__()
        self.line = torch.nn.Linear(image_size * image_size * in_channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return self.line(flat + torch.arange(flat.shape[1]) * 0.01)


def test_a_model_that_makes_tensors_as_it_goes_is_planned_and_counted(plan_of: PlanOf) -> None:
    (trial,) = plan_of({"dataset": "digits", "models": [{"model": f"{__name__}:MakesNumbers"}], "epochs": 1}).trials
    assert count_flops(trial) == 2 * 64 * 10
