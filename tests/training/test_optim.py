"""Schedules against torch's own; which parameters decay."""

import copy

import pytest
import torch

from bench.config.recipes import RECIPES
from bench.training.optim import (
    MATCH_ADAM,
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_TURNS,
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    learning_rate,
    orthogonalized,
)
from bench.trial import Training
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


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_looks_ahead_along_its_momentum(momentum: float) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    optimizer = build_optimizer(model, Training(optimizer="sgd", learning_rate=0.1, weight_decay=0.0, beta1=momentum))
    speed = moved = 0.0
    for gradient in (1.0, 2.0):
        model.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        speed = momentum * speed + gradient
        moved += 0.1 * (gradient + momentum * speed)  # Nesterov's
    assert before - model.weight.item() == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_is_left_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    idle, used, head = (torch.nn.Linear(3, 3) for _ in range(3))  # Muon takes the first two together, Adam the head
    before = [p.clone() for p in (*idle.parameters(), *used.parameters())]
    optimizer = build_optimizer(torch.nn.ModuleList([idle, used, head]), Training(optimizer=name, learning_rate=0.1))
    for _ in range(2):
        head(used(torch.ones(2, 3))).square().sum().backward()
        optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip((*idle.parameters(), *used.parameters()), before, strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("learning", ["2.bias", "1.weight", "0.weight"])
def test_groups_and_shapes_without_a_gradient_hold_up_no_other(name: str, learning: str) -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 4), torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)])
    optimizer = build_optimizer(layers, Training(optimizer=name, learning_rate=0.1))
    before = {key: p.detach().clone() for key, p in layers.named_parameters()}
    layers.get_parameter(learning).grad = torch.ones_like(before[learning])
    optimizer.step()
    assert [key for key, p in layers.named_parameters() if not torch.equal(p, before[key])] == [learning]


def test_orthogonalized_keeps_singular_vectors_and_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    values = values / values.norm(dim=1, keepdim=True)
    for _ in range(NEWTON_SCHULZ_TURNS):  # the same polynomial, on the values instead of the matrices
        a, b, c = NEWTON_SCHULZ
        values = a * values + b * values**3 + c * values**5
    assert 0.6 < values.min() < values.max() < 1.3
    expected = left @ torch.diag_embed(values) @ right
    torch.testing.assert_close(orthogonalized(matrices).double(), expected, atol=1e-4, rtol=0)


def test_muon_is_torchs_muon_on_hidden_matrices_and_adamw_on_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch's would round to bfloat16 inside
    training = Training(optimizer="muon", learning_rate=0.01, weight_decay=0.1, beta1=0.9, beta2=0.95)
    models = [_two_hidden_layers() for _ in range(2)]
    ours = build_optimizer(models[0], training)
    matrices = [p for p in models[1].parameters() if p.ndim == 2]
    vectors = [p for p in models[1].parameters() if p.ndim == 1]
    theirs = [
        torch.optim.Muon(matrices[:-1], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([matrices[-1]], lr=0.01, weight_decay=0.1, betas=(0.9, 0.95)),
        torch.optim.AdamW(vectors, lr=0.01, weight_decay=0.0, betas=(0.9, 0.95)),
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        images = torch.randn(8, 6, generator=generator)
        for model, optimizers in zip(models, ([ours], theirs), strict=True):
            model(images).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


KERNELS: dict[str, torch.nn.Linear | torch.nn.Conv2d] = {
    "linear": torch.nn.Linear(32, 10),
    "grey stem": torch.nn.Conv2d(1, 16, 3),  # (16, 1, 3, 3)
    "one pixel": torch.nn.Conv2d(8, 8, 1),  # (8, 8, 1, 1)
    "depthwise": torch.nn.Conv2d(8, 8, 3, groups=8),  # (8, 1, 3, 3)
    "colour stem": torch.nn.Conv2d(3, 64, 3),  # taller than wide: (64, 27)
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_makes_the_update_of_a_kernel_orthogonal_as_outputs_by_the_rest(
    name: str, layout: torch.memory_format
) -> None:
    layer = copy.deepcopy(KERNELS[name]).to(memory_format=layout)
    weight, before = layer.weight, layer.weight.detach().clone()
    torch.manual_seed(0)
    weight.grad = torch.randn(weight.shape).to(memory_format=layout if weight.ndim == 4 else torch.contiguous_format)
    training = Training(optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    build_optimizer(torch.nn.ModuleList([layer, torch.nn.Linear(4, 3)]), training).step()

    rows, columns = len(weight), weight[0].numel()
    left, values, right = torch.linalg.svd(weight.grad.reshape(rows, columns).double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(NEWTON_SCHULZ_TURNS):
        a, b, c = NEWTON_SCHULZ
        values = a * values + b * values**3 + c * values**5
    update = (left * values @ right).reshape(weight.shape) * MATCH_ADAM * max(rows, columns) ** 0.5
    wanted = before.double() * (1 - 0.01 * 0.1) - 0.01 * update
    torch.testing.assert_close(weight.double(), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_decay_and_tokens_positions_biases_norms_and_scales_do_not(name: str) -> None:
    others = {
        "class token": torch.zeros(1, 1, 32),
        "positions": torch.zeros(1, 50, 32),
        "scale of channels": torch.zeros(8, 1, 1),  # torchvision's ConvNeXt
        "scale of heads": torch.zeros(4, 1, 1),  # timm's and torchvision's Swin V2
    }
    model = torch.nn.Module()
    for key, value in others.items():
        model.register_parameter(key, torch.nn.Parameter(value))
    model.add_module("norm", torch.nn.BatchNorm2d(8))
    for key, layer in KERNELS.items():
        model.add_module(key, copy.deepcopy(layer))
    groups = build_optimizer(model, Training(optimizer=name, weight_decay=0.1)).param_groups
    names = {id(p): key for key, p in model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {f"{key}.weight" for key in KERNELS}
    if name == "muon":  # of which the last one is the head
        assert {names[id(p)] for p in groups[0]["params"]} == decayed - {"colour stem.weight"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_muon_keeps_its_momentum_in_the_parameters_type_and_learns_alike(dtype: torch.dtype) -> None:
    exact, rounded = _two_hidden_layers(), _two_hidden_layers().to(dtype)
    optimizers = [build_optimizer(each, Training(optimizer="muon", learning_rate=0.01)) for each in (exact, rounded)]
    kept = [means for _, means in optimizers[1]._same_shape]  # type: ignore[attr-defined]
    hidden = optimizers[1].param_groups[0]["params"]
    assert {means.dtype for means in kept} == {dtype}
    assert sum(means.nbytes for means in kept) == sum(p.nbytes for p in hidden)
    generator = torch.Generator().manual_seed(0)
    images, wanted = torch.randn(64, 6, generator=generator), torch.randn(64, 3, generator=generator)
    losses: list[list[float]] = [[], []]
    for _ in range(200):
        for model, optimizer, found in zip((exact, rounded), optimizers, losses, strict=True):
            own = next(model.parameters()).dtype
            loss = (model(images.to(own)).float() - wanted).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert losses[1][-1] == pytest.approx(losses[0][-1], rel=0.1)  # 16 bits of the weights alone move it by 0.05
    assert kept[0].any()


def test_muon_forgets_a_step_whose_gradients_overflowed() -> None:
    training = Training(optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    smooth, bumpy = _two_hidden_layers(), _two_hidden_layers()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 6, generator=generator) for _ in range(6)]
    for model, taken in ((smooth, batches), (bumpy, [*batches[:3], batches[3] * float("inf"), *batches[3:]])):
        optimizer = build_optimizer(model, training)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for images in taken:
            scaler.scale(model(images).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    for mine, other in zip(bumpy.parameters(), smooth.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def _two_hidden_layers() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = ((6, 9), (9, 5), (5, 9), (9, 3))
    return torch.nn.Sequential(
        *(layer for size in sizes for layer in (torch.nn.Linear(*size), torch.nn.LayerNorm(size[1])))
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_optimised_once_and_only_matrices_decay(name: str) -> None:
    for family, settings in (("vit", {"pool": "class"}), ("cnn", {})):
        model = build_model(family, settings, 28, 1, 10)
        training = RECIPES[family].model_copy(update={"optimizer": name})
        *decayed, rest = build_optimizer(model, training).param_groups
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        assert sorted(names) == sorted(id(p) for group in (*decayed, rest) for p in group["params"])
        assert all(group["weight_decay"] == training.weight_decay for group in decayed)
        assert rest["weight_decay"] == 0
        undecayed = {names[id(p)] for p in rest["params"]}
        assert all(key in undecayed for key in names.values() if key.endswith("bias") or "norm" in key)
        assert not any(key.endswith(("qkv.weight", "fc1.weight", "head.weight")) for key in undecayed)
