"""What a model looks at: against torch's own attention, the model's own outputs, and finite differences."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import build_model, introspection
from models.vit import Block, ViT

SHAPES: list[dict[str, Any]] = [
    {"pool": "mean", "attention": "explicit"},
    {"pool": "class", "attention": "explicit"},
    {"pool": "mean", "attention": "fused", "num_heads": 4},
    {"pool": "class", "attention": "fused", "depth": 1, "patch_size": 2},
    {"pool": "class", "attention": "auto", "depth": 3, "positions": "sincos", "dropout": 0.5},
]


def vit(in_channels: int = 1, **settings: Any) -> ViT:
    """A small one whose weights are all far from their start, in float64."""
    torch.manual_seed(0)
    given = {"patch_size": 4, "embed_dim": 16, "num_heads": 2, "depth": 2, **settings}
    model = build_model("vit", given, 8, in_channels, 3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return cast(ViT, model.double())


def cnn(in_channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return build_model("cnn", {"width": 4, "depth": 1}, 8, in_channels, 3).double()


def images(count: int = 3, in_channels: int = 1) -> Tensor:
    return torch.randn(count, in_channels, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def blocks_of(model: ViT) -> list[Block]:
    return [cast(Block, block) for block in model.blocks]


@torch.no_grad()
def whole_blocks(model: ViT, x: Tensor) -> list[Tensor]:
    """What enters each block, and what leaves the last one, all tokens of it."""
    x = model.patch_embed(x)
    if model.cls_token is not None:
        x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)
    states = [x + model.pos_embed]
    for block in blocks_of(model):
        states.append(block(states[-1]))
    return states


def own_maps(model: nn.Module, x: Tensor) -> Tensor:
    maps = introspection.attention_maps(model, x)
    assert maps is not None
    return maps


@pytest.mark.parametrize("settings", SHAPES, ids=str)
@torch.no_grad()
def test_attention_of_every_block_equals_that_of_torchs_attention_with_the_same_weights(
    settings: dict[str, Any],
) -> None:
    model = vit(**settings)
    maps = own_maps(model, images())
    states = whole_blocks(model.eval(), images())
    for index, block in enumerate(blocks_of(model)):
        theirs = nn.MultiheadAttention(16, block.attn.num_heads, batch_first=True).double()
        theirs.in_proj_weight.copy_(block.attn.qkv.weight)
        theirs.in_proj_bias.copy_(block.attn.qkv.bias)
        x = block.norm1(states[index])
        _, weights = theirs(x, x, x, need_weights=True, average_attn_weights=False)
        torch.testing.assert_close(maps[:, index], weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", SHAPES, ids=str)
@torch.no_grad()
def test_a_blocks_output_follows_from_its_map(settings: dict[str, Any]) -> None:
    model = vit(**settings)
    maps = own_maps(model, images())
    states = whole_blocks(model.eval(), images())
    for index, block in enumerate(blocks_of(model)):
        value = block.attn.qkv(block.norm1(states[index])).chunk(3, dim=-1)[2]
        heads = value.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)  # (B, h, N, d)
        x = states[index] + block.attn.proj((maps[:, index] @ heads).transpose(1, 2).flatten(2))
        torch.testing.assert_close(x + block.mlp(block.norm2(x)), states[index + 1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pool", ["mean", "class"])
def test_rows_of_attention_and_of_its_rollout_sum_to_one_in_any_dtype(pool: str, dtype: torch.dtype) -> None:
    model = vit(pool=pool).to(dtype)
    maps = own_maps(model, images().to(dtype))
    tokens = 4 + (pool == "class")
    assert maps.shape == (3, 2, 2, tokens, tokens)
    assert maps.dtype == torch.float32
    rollout = introspection.attention_rollout(maps)
    for rows in (maps, rollout):
        torch.testing.assert_close(rows.sum(dim=-1), torch.ones(rows.shape[:-1]), rtol=0, atol=1e-5)


def test_attention_under_autocast_is_that_of_the_rounded_queries_and_keys() -> None:
    model = vit().float()
    exact = own_maps(model, images().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = own_maps(model, images().float())
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)
    torch.testing.assert_close(rounded.sum(dim=-1), torch.ones(3, 2, 2, 4), rtol=0, atol=1e-5)


def test_looking_changes_neither_mode_nor_gradients_nor_logits() -> None:
    model = vit(pool="class", dropout=0.5).train()
    torch.manual_seed(0)
    before = model(images())
    own_maps(model, images())
    introspection.saliency(model, images(), torch.tensor([0, 1, 2]))
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.manual_seed(0)
    assert torch.equal(model(images()), before)


def test_rollout_multiplies_blocks_with_half_a_shortcut_each() -> None:
    first, second = torch.rand(2, 1, 2, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    mixed = [(block.mean(dim=1) + torch.eye(3)) / 2 for block in (first, second)]
    rollout = introspection.attention_rollout(torch.stack([first, second], dim=1))
    torch.testing.assert_close(rollout, mixed[1] @ mixed[0])
    own = introspection.attention_rollout(torch.eye(3).expand(1, 4, 2, 3, 3))
    assert torch.equal(own[0], torch.eye(3)), "who looks at themselves alone stays themselves"


def test_a_grid_lies_over_the_image_row_by_row() -> None:
    with_class, without = vit(pool="class"), vit(pool="mean")
    rows = torch.arange(25.0).view(5, 5)
    assert introspection.token_grid(with_class, rows).tolist() == [[1, 2], [3, 4]]
    rows = torch.arange(16.0).view(4, 4)
    assert introspection.token_grid(without, rows).tolist() == [[6, 7], [8, 9]]
    assert introspection.token_grid(without, own_maps(without, images())).shape == (3, 2, 2, 2, 2)


@torch.no_grad()
def test_a_patch_that_alone_differs_is_where_its_token_lies_in_the_grid() -> None:
    """Which patch a token is of is told by the one whose pixels change it."""
    model = vit(pool="mean", depth=1)
    embedded = model.patch_embed(images(1))
    changed = images(1)
    changed[:, :, 4:, :4] += 1  # the lower left patch
    moved = (model.patch_embed(changed) - embedded).abs().sum(dim=-1)[0]
    assert moved.view(2, 2).gt(0).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_a_position_is_most_like_itself(pool: str, positions: str) -> None:
    similarity = introspection.position_similarity(vit(pool=pool, positions=positions))
    assert similarity is not None
    assert similarity.shape == (4, 2, 2)
    assert similarity.flatten(1).argmax(dim=1).tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(similarity.flatten(1).diagonal().double(), torch.ones(4).double())


@pytest.mark.parametrize("build", [vit, cnn])
def test_saliency_is_the_slope_of_the_labels_logit(build: Any) -> None:
    model, x, labels = build(in_channels=2).eval(), images(2, in_channels=2), torch.tensor([2, 0])
    found = introspection.saliency(model, x, labels)
    assert found.shape == (2, 8, 8)
    step, slopes = 1e-6, torch.zeros(2, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for place in torch.cartesian_prod(torch.arange(2), torch.arange(8), torch.arange(8)).tolist():
            shift = torch.zeros_like(x)
            shift[:, *place] = step
            rise = (model(x + shift) - model(x - shift))[torch.arange(2), labels]
            slopes[:, *place] = rise / (2 * step)
    torch.testing.assert_close(found, slopes.abs().amax(dim=1), rtol=1e-4, atol=1e-6)


def test_saliency_works_where_gradients_are_off() -> None:
    model = cnn()
    with torch.inference_mode():
        found = introspection.saliency(model, images(), torch.tensor([0, 1, 2]))
    assert float(found.abs().sum()) > 0


def test_a_cnn_has_first_filters_and_responses_and_no_attention() -> None:
    model = cnn()
    kernels, responses = introspection.first_filters(model), introspection.first_responses(model, images())
    assert kernels is not None
    assert kernels.shape == (4, 1, 5, 5)
    assert responses is not None
    torch.testing.assert_close(responses, F.conv2d(images(), kernels, stride=2, padding=2))
    looks = (
        introspection.attention_maps(model, images()),
        introspection.position_similarity(model),
    )
    assert looks == (None, None)


def test_what_a_model_does_not_have_is_none() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    assert introspection.first_filters(plain) is None
    assert introspection.first_responses(plain, images()) is None
    assert introspection.attention_maps(plain, images()) is None
    assert introspection.saliency(plain, images(), torch.tensor([0, 1, 2])).shape == (3, 8, 8)
    assert introspection.first_filters(vit()) is None


def test_filters_of_timms_vit_are_those_of_its_patch_embedding() -> None:
    settings = {"patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2}
    model = build_model("timm:vit_tiny_patch16_224", settings, 16, 3, 5)
    kernels = introspection.first_filters(model)
    assert kernels is not None
    assert kernels.shape == (12, 3, 8, 8)
    assert introspection.attention_maps(model, torch.zeros(1, 3, 16, 16)) is None
    assert introspection.saliency(model, torch.randn(1, 3, 16, 16), torch.tensor([4])).shape == (1, 16, 16)
