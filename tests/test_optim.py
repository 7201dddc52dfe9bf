"""Schedules against torch's own; which parameters decay."""

import pytest
import torch

from bench.optim import OPTIMIZERS, SCHEDULES, build_optimizer, learning_rate
from bench.recipes import RECIPES, Training
from models import build_model


def test_one_cycle_is_torchs_one_cycle() -> None:
    training = Training(learning_rate=0.5, schedule="one-cycle", lr_warmup_fraction=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=1001, pct_start=0.3)
    for step in range(1000):
        assert learning_rate(training, step, 1000) == pytest.approx(theirs.get_last_lr()[0], abs=2e-3)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_zero_and_the_peak(name: str) -> None:
    for warmup in (0.0, 0.3, 0.9):
        values = [SCHEDULES[name](step / 500, warmup) for step in range(500)]
        assert all(0 <= value <= 1 for value in values)
        assert max(values) == pytest.approx(1, abs=1e-3)


def test_cosine_rises_linearly_then_falls_to_zero() -> None:
    cosine = SCHEDULES["cosine"]
    assert [cosine(x, 0.2) for x in (0.0, 0.1, 0.2, 0.6)] == pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert cosine(1.0, 0.2) == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("overflow", [False, True])
def test_fused_adam_is_torchs_bit_for_bit(name: str, overflow: bool) -> None:
    training = Training(optimizer=name, learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.95)
    models = [
        torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3)) for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    ours = build_optimizer(models[0], training)
    twin = build_optimizer(models[1], training)
    torchs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    theirs = torchs([dict(group) for group in twin.param_groups], fused=True)
    scalers = [torch.amp.GradScaler("cpu", init_scale=4.0, enabled=overflow) for _ in models]
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        images = torch.randn(8, 6, generator=generator)
        images = images * float("inf") if overflow and step in (3, 7) else images
        for model, optimizer, scaler in zip(models, (ours, theirs), scalers, strict=True):
            scaler.scale(model(images).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(mine, other)


def test_a_parameter_without_a_gradient_is_left_as_it_is() -> None:
    used, idle = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    before = [p.clone() for p in (*used.parameters(), *idle.parameters())]
    optimizer = build_optimizer(torch.nn.ModuleList([used, idle]), Training(learning_rate=0.1))
    used(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip((*used.parameters(), *idle.parameters()), before, strict=True)]
    assert moved == [True, True, False, False]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_optimised_once_and_only_matrices_decay(name: str) -> None:
    for family, settings in (("vit", {"pool": "class"}), ("cnn", {})):
        model = build_model(family, settings, 28, 1, 10)
        training = RECIPES[family].model_copy(update={"optimizer": name})
        decayed, rest = build_optimizer(model, training).param_groups
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        assert sorted(names) == sorted(id(p) for p in [*decayed["params"], *rest["params"]])
        assert decayed["weight_decay"] == training.weight_decay
        assert rest["weight_decay"] == 0
        undecayed = {names[id(p)] for p in rest["params"]}
        assert all(key in undecayed for key in names.values() if key.endswith("bias") or "norm" in key)
        assert not any(key.endswith(("qkv.weight", "fc1.weight", "head.weight")) for key in undecayed)
