"""Matched pairs: how close they come, who is paired with whom, and what is said where nobody fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli.list import show_plan
from bench.config.matching import TOLERANCE
from bench.config.plan import Plan, load_plan
from bench.config.solver import GROWTHS_DOWN, GROWTHS_UP, solve
from bench.config.suite_file import find_suite, read_suite
from bench.data.catalog import DATASETS
from bench.errors import SuiteError
from bench.measure.flops import forward_flops
from bench.training.run import run_trial
from bench.trial import Trial
from models import build_model

PlanOf = Callable[..., Plan]

SMALL: dict[str, Any] = {
    "dataset": "mnist",
    "match": "params",
    "models": [
        {"model": "vit", "patch_size": [7, 14], "depth": [2, 3], "embed_dim": 16},
        {"model": "cnn", "depth": [2, 3], "width": 4},
    ],
    "dtype": ["fp32", "amp-bf16"],
    "seeds": 2,
}


@pytest.fixture
def plan_of(tmp_path: Path) -> PlanOf:
    def make(suite: dict[str, Any], *options: str, **more: Any) -> Plan:
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(suite), encoding="utf-8")
        return load_plan(read_suite(path, options), **more)

    return make


def pairs(plan: Plan) -> list[tuple[Trial, Trial]]:
    """(sized, reference), seed 0."""
    by_id = {trial.config_id: trial for trial in plan.trials}
    return [(trial, by_id[trial.match.to]) for trial in plan.trials if trial.match and trial.seed == 0]


def counted(trial: Trial, by: str) -> int:
    """From a model with numbers, its FLOPs by the counter: neither is what the solver looks at."""
    spec = DATASETS[trial.dataset]
    model = build_model(trial.model, trial.settings, spec.image_size, spec.in_channels, spec.num_classes)
    if by == "params":
        return sum(parameter.numel() for parameter in model.parameters())
    return forward_flops(model, (spec.in_channels, spec.image_size, spec.image_size))


@pytest.mark.parametrize("by", ["params", "flops"])
@pytest.mark.slow
def test_every_pair_of_the_main_suite_is_equal_within_tolerance(by: str) -> None:
    text = read_suite(find_suite("mnist"), [f"match={by}"])
    found = pairs(load_plan(text))
    references = {reference.config_id: reference for _, reference in found}
    assert len(found) == len(references) == 12
    assert {reference.model for reference in references.values()} == {"vit"}
    for sized, reference in found:
        assert sized.match is not None
        assert sized.match.by == by
        assert sized.match.target == pytest.approx(counted(reference, by), rel=1e-3)
        assert counted(sized, by) == pytest.approx(sized.match.target, rel=TOLERANCE[sized.match.by])
        assert sized.settings["depth"] == reference.settings["depth"]
        assert (sized.dtype, sized.device) == (reference.dtype, reference.device)


def test_nothing_but_the_dials_of_the_sized_family_changes(plan_of: PlanOf) -> None:
    plain, matched = plan_of(SMALL, "match=null"), plan_of(SMALL)
    assert [t for t in matched.trials if t.model == "vit"] == [t for t in plain.trials if t.model == "vit"]
    assert not any(trial.match for trial in plain.trials)
    before = next(trial for trial in plain.trials if trial.model == "cnn")
    for sized, _ in pairs(matched):
        assert sized.training == before.training
        changed = {key for key, value in sized.settings.items() if value != before.settings[key]}
        assert changed <= {"width", "growth", "depth"}


def test_pairs_agree_in_what_both_sweep(plan_of: PlanOf) -> None:
    found = [(sized.settings["depth"], sized.dtype, reference) for sized, reference in pairs(plan_of(SMALL))]
    assert len(found) == 8
    assert all((depth, dtype) == (r.settings["depth"], r.dtype) for depth, dtype, r in found)


def test_a_depth_that_only_one_of_them_sweeps_does_not_part_them(plan_of: PlanOf) -> None:
    entries = [{"model": "vit", "patch_size": 4, "depth": 2}, {"model": "cnn", "depth": [2, 3]}]
    found = [(s.settings["depth"], r.settings["depth"]) for s, r in pairs(plan_of(SMALL | {"models": entries}))]
    assert sorted(set(found)) == [(2, 2), (3, 2)]


@pytest.mark.slow
def test_a_list_matches_in_each_and_widths_of_the_suite_collapse(plan_of: PlanOf) -> None:
    plan = plan_of(
        SMALL, "match=[params, flops]", "models.cnn.width=[4, 8]", "models.vit.patch_size=[4, 7]", "dtype=fp32"
    )
    kinds = [sized.match.by for sized, _ in pairs(plan) if sized.match]
    assert kinds == ["params"] * 4 + ["flops"] * 4
    assert len({trial.trial_id for trial in plan.trials}) == len(plan.trials) == 2 * (4 + 8)


def test_other_peoples_models_are_matched_too(plan_of: PlanOf) -> None:
    entries = [{"model": "torchvision:shufflenet_v2_x0_5"}, {"model": "cnn", "depth": 2}]
    [(sized, reference)] = pairs(plan_of(SMALL | {"models": entries, "dtype": "fp32"}, "match=flops"))
    assert counted(sized, "flops") == pytest.approx(counted(reference, "flops"), rel=0.05)


def test_one_entry_may_be_matched_alone_beside_the_whole_grid(plan_of: PlanOf) -> None:
    plain = SMALL | {"match": None}
    models = [*SMALL["models"], {"model": "vit", "patch_size": 7, "depth": 2, "embed_dim": 16, "match": ["params"]}]
    plan = plan_of(plain | {"models": models, "seeds": 1})
    assert len([trial for trial in plan.trials if not trial.match]) == 8 + 4  # every sweep as it is written
    pairs = [trial for trial in plan.trials if trial.match]
    assert {trial.dtype for trial in pairs} == {"fp32", "amp-bf16"}  # one for each of the entry's
    ids = {trial.config_id: trial for trial in plan.trials}
    for trial in pairs:
        assert trial.match is not None
        assert ids[trial.match.to].settings["patch_size"] == 7
        assert plan.num_params[trial.config_id] == pytest.approx(plan.num_params[trial.match.to], rel=0.02)


def test_default_growth_builds_the_network_that_it_has_always_built() -> None:
    torch.manual_seed(0)
    given_two = build_model("cnn", {"width": 6, "depth": 3, "growth": 2.0}, 32, 1, 10).state_dict()
    torch.manual_seed(0)
    default = build_model("cnn", {"width": 6, "depth": 3}, 32, 1, 10).state_dict()
    torch.testing.assert_close(default, given_two, rtol=0, atol=0)
    shapes = [tuple(default[f"blocks.{i}.conv1.0.weight"].shape[:2]) for i in range(3)]
    assert shapes == [(6, 6), (12, 6), (24, 12)]


def test_a_sized_model_has_in_its_row_whom_it_equals(plan_of: PlanOf) -> None:
    options = ("dtype=fp32", "epochs=1", "batch_size=625", "evaluations_per_epoch=1", "instrument_seconds=0")
    entries = [{"model": "vit", "patch_size": 4, "depth": 2, "embed_dim": 32}, {"model": "cnn", "depth": 1}]
    plan = plan_of(SMALL | {"dataset": "digits", "models": entries}, *options)
    sized, reference = pairs(plan)[0]
    result = run_trial(sized)
    assert result.status == "ok", result.error
    assert (result.match, result.matched_to) == ("params", reference.config_id)
    assert result.num_params == plan.num_params[sized.config_id]


# The solver alone


@settings(max_examples=50)
@given(
    target=st.integers(20, 20_000),
    powers=st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5)),
)
def test_the_growth_is_the_nearest_to_the_usual_one_that_fits(target: int, powers: tuple[int, int, int]) -> None:
    def amount(width: int, growth: float) -> float:
        a, b, c = width, round(width * growth), round(width * growth**2)
        return powers[0] * a + powers[1] * (a * a + a * b + b * b) + powers[2] * c * c

    (width, growth, found), fits = solve(amount, target, 0.02)
    assert found == amount(width, growth)
    widths = [width for width in range(1, 100) if amount(width, 1.2) <= 1.02 * target]
    every = [(abs(g - 2), w) for g in [*GROWTHS_UP, *GROWTHS_DOWN] for w in widths if _near(amount(w, g), target, 0.02)]
    assert fits == bool(every) == _near(found, target, 0.02)
    if every:
        assert abs(growth - 2) == min(every)[0]


def _near(found: float, target: float, tolerance: float) -> bool:
    return target * (1 - tolerance) <= found <= target * (1 + tolerance)


# What is said


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, ["match=parms"], "--set match=parms: match: found 'parms', expected 'params' or 'flops'"),
        ({}, ["match=[]"], "--set match=[]: match: found [], expected "),
        (
            {},
            ["models=[{model: vit, patch_size: 7}]"],
            "mine.yaml:1: match needs a model that can be sized; add one of",
        ),
        ({}, ["models=[{model: cnn}]"], "mine.yaml:1: match needs a model to match, such as vit"),
        (
            {},
            ["models.vit.depth=[2, 4]"],
            "'vit p7 d4 e16 fp32' has no partner; the closest, 'cnn d2 w4 fp32', differs ",
        ),
        ({}, ["models.cnn.depth=[2, 3, 4]"], "'cnn d4 w4 fp32' has no partner; the closest, 'vit p7 d2 e16 fp32', dif"),
        ({}, ["models.cnn.num_threads=1"], "differs in num_threads (None, not 1): give both the same"),
        ({}, ["models.cnn.batch_size=64"], "differs in batch_size (128, not 64): give both the same"),
        ({}, ["models.cnn.dtype=fp32"], "'vit p7 d2 e16 amp-bf16' has no partner; the closest, 'cnn d2 w4 fp32'"),
        (
            {
                "models": [
                    {"model": "vit", "patch_size": 7, "embed_dim": 2, "mlp_ratio": 1.0},
                    {"model": "cnn", "depth": 9},
                ]
            },
            [],
            "mine.yaml:1: match: no cnn like 'cnn d9 w24 fp32' equals 'vit p7 d4 e2 fp32' in params within 2%; "
            "the nearest has ",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(changes: dict[str, Any], options: list[str], said: str, plan_of: PlanOf) -> None:
    with pytest.raises(SuiteError) as caught:
        plan_of(SMALL | changes, *options)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_entry_that_is_sized_itself_or_matched_in_nonsense_is_refused(plan_of: PlanOf) -> None:
    vit, cnn = SMALL["models"]
    with pytest.raises(SuiteError, match="a cnn is sized to match others"):
        plan_of(SMALL | {"match": None, "models": [vit, cnn | {"match": "params"}]})
    with pytest.raises(SuiteError, match="unknown match 'size'"):
        plan_of(SMALL | {"match": None, "models": [vit | {"match": ["size"]}, cnn]})


def test_the_dry_run_shows_the_pairs(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for options, expected in (("dtype=fp32",), 4), (("dtype=fp32", "match=null"), 0):
        plan = plan_of(SMALL, *options)
        show_plan(plan, dict.fromkeys((trial.trial_id for trial in plan.trials), 1.0))
        shown = capsys.readouterr().out
        assert ("matched to" in shown) == bool(expected)
        assert shown.count("(params)") == expected
        assert ("vit p7 d2 e16 fp32 (params)" in shown) == bool(expected)
    plan = plan_of(SMALL | {"dtype": "fp32", "match": None}, "channels_last=[false, true]", "train_fraction=0.1")
    show_plan(plan, dict.fromkeys((trial.trial_id for trial in plan.trials), 1.0))
    shown = capsys.readouterr().out
    assert shown.count("channels_last=True") == shown.count("channels_last=False") == 6
    assert "train_fraction" not in shown  # they all have the same


def test_pairs_that_multiply_need_a_yes(plan_of: PlanOf) -> None:
    models = [{"model": "vit", "patch_size": [7, 14], "mlp_ratio": [1.0, 2.0]}, {"model": "cnn", "kernel_size": [3, 5]}]
    suite = SMALL | {"models": models, "dtype": "fp32", "seeds": 100}
    with pytest.raises(SuiteError, match="match: 1,100 trials or more, since what one side sweeps alone is"):
        plan_of(suite)
    assert len(plan_of(suite, "seeds=80").trials) == 960
    assert len(plan_of(suite, yes=True).trials) == 1200
