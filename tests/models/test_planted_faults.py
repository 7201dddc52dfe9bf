"""Each check of model_checks fails when the fault it is there for is planted: a test that can't fail proves nothing."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import model_checks as checks
import pytest
import torch
from model_checks import SMALL, Case
from torch import Tensor, nn
from torch.nn import functional as F

import models.cnn
import models.vit
from models import MODELS
from models.cnn import CNN
from models.vit import MLP, Attention, Block, PatchEmbedding, ViT

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    says: str
    plant: Plant
    case: Case
    check: Callable[[Case], None]

    def __str__(self) -> str:
        return f"{self.case.family}: {self.says} -> {self.check.__name__}"


# Ways to plant a fault


def replaced(owner: Any, name: str, value: Any) -> Plant:
    return lambda patch: patch.setattr(owner, name, value)


def attention_limit(weights: int) -> Plant:
    return replaced(models.vit, "EXPLICIT_ATTENTION_MAX_WEIGHTS", weights)


def explicit_if(heads_count: bool = True, half: bool = True, anywhere: bool = False) -> Plant:
    """Attention's choice of its kernel, with one of these left out."""

    def explicit(self: Attention, k: Tensor) -> bool:
        if self.kind != "auto":
            return self.kind == "explicit"
        few = (self.num_heads if heads_count else 1) * k.shape[2] ** 2 <= models.vit.EXPLICIT_ATTENTION_MAX_WEIGHTS
        return (k.is_cpu or anywhere) and (few or (half and k.dtype != torch.float32))

    return replaced(Attention, "_explicit", explicit)


def once_built(cls: type[nn.Module], change: Callable[[Any], object]) -> Plant:
    """Each `cls` is changed as soon as it is built."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        build = cast(Callable[..., None], cls.__init__)

        @functools.wraps(build)
        def build_and_change(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            build(self, *args, **kwargs)
            change(self)

        patch.setattr(cls, "__init__", build_and_change)

    return plant


def with_output(change: Callable[[Tensor], Tensor], part: str = "") -> Callable[[nn.Module], object]:
    return lambda model: model.get_submodule(part).register_forward_hook(lambda _, args, output: change(output))


def with_input(change: Callable[[Tensor], Tensor], part: str = "") -> Callable[[nn.Module], object]:
    return lambda model: model.get_submodule(part).register_forward_pre_hook(lambda _, args: change(args[0]))


def with_setting(cls: type[nn.Module], **settings: Any) -> Plant:
    """The config's own values of these settings are ignored."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        build = cast(Callable[..., None], cls.__init__)
        patch.setattr(
            cls,
            "__init__",
            lambda self, config, *sizes: build(self, config.model_copy(update=settings), *sizes),
        )

    return plant


# Faults


def without_a_corner(images: Tensor) -> Tensor:
    mask = torch.ones_like(images)
    mask[..., -4:, -4:] = 0
    return images * mask


def without_the_last_channel(images: Tensor) -> Tensor:
    return torch.cat([images[:, :-1], torch.zeros_like(images[:, -1:])], dim=1)


def moved_by_place_in_batch(logits: Tensor) -> Tensor:
    return logits + torch.arange(len(logits))[:, None]


def skip_last_block(model: nn.Module) -> None:
    checks.blocks_of(model)[-1].register_forward_hook(lambda _, args, output: args[0])


def equal_blocks(model: nn.Module) -> None:
    first, *others = checks.blocks_of(model)
    for block in others:
        block.load_state_dict(first.state_dict())


def batch_statistics(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


def patches(order: tuple[int, ...] = (0, 2, 4, 1, 3, 5)) -> Plant:
    def forward(self: PatchEmbedding, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        P = self.patch_size
        x = x.view(B, C, H // P, P, W // P, P).permute(*order)
        return self.proj(x.reshape(B, -1, C * P * P))

    return replaced(PatchEmbedding, "forward", forward)


def attention(
    *,
    parts: tuple[int, int, int] = (0, 1, 2),
    softmax_dim: int = -1,
    detached: bool = False,
    merge_heads: bool = True,
    over_batch: bool = False,
    drop: bool = True,
) -> Plant:
    def forward(self: Attention, x: Tensor) -> Tensor:
        if over_batch:
            x = x.transpose(0, 1)
        B, N, D = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = (qkv[part] for part in parts)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=softmax_dim)
        y = (weights.detach() if detached else weights) @ v
        y = self.proj((y.transpose(1, 2) if merge_heads else y).reshape(B, N, D))
        y = self.drop(y) if drop else y
        return y.transpose(0, 1) if over_batch else y

    return replaced(Attention, "forward", forward)


def block(*, residual: bool = True, pre_norm: bool = True) -> Plant:
    def forward(self: Block, x: Tensor) -> Tensor:
        if not pre_norm:
            x = self.norm1(x + self.attn(x))
            return self.norm2(x + self.mlp(x))
        x = self.attn(self.norm1(x)) + (x if residual else 0)
        return x + self.mlp(self.norm2(x))

    return replaced(Block, "forward", forward)


def mlp(approximate: str = "none") -> Plant:
    def forward(self: MLP, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x), approximate=approximate))))

    return replaced(MLP, "forward", forward)


def whole_vit(*, positions: bool = True, token: int = 0, one_for_all: bool = False) -> Plant:
    def forward(self: ViT, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if positions:
            x = x + (self.pos_embed[:, :1] if one_for_all else self.pos_embed)
        x = self.norm(self.blocks(self.drop(x)))
        return self.head(x.mean(dim=1) if self.cls_token is None else x[:, token])

    return replaced(ViT, "forward", forward)


def scale_by_embed_dim(part: Attention) -> None:
    part.scale = part.qkv.in_features**-0.5


def epsilon_of_torch(part: Block) -> None:
    part.norm1.eps = part.norm2.eps = 1e-5


def small_positions(model: ViT) -> None:
    nn.init.normal_(cast(Tensor, model.pos_embed), std=0.02)


def he_by_fan_out(weight: Tensor, **_: Any) -> Tensor:
    return nn.init.normal_(weight, std=(2 / (weight.numel() / weight.shape[1])) ** 0.5)


def trained_positions(self: ViT, name: str, table: Tensor) -> None:
    self.register_parameter(name, nn.Parameter(table))


def unsaved_positions(self: ViT, name: str, table: Tensor) -> None:
    nn.Module.register_buffer(self, name, table, persistent=False)


def other_waves(side: int, embed_dim: int, num_prefix: int = 0) -> Tensor:
    """As those of sentences, whose lowest frequency isn't a ten-thousandth yet (Vaswani et al. 2017)."""
    angles = torch.arange(side)[:, None] * 10_000 ** -(torch.arange(embed_dim // 4) / (embed_dim // 4))
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    table = torch.cat([waves.repeat(side, 1), waves.repeat_interleave(side, 0)], dim=1)
    return torch.cat([torch.zeros(num_prefix, embed_dim), table])[None]


def rows_only(side: int, embed_dim: int, num_prefix: int = 0) -> Tensor:
    angles = torch.arange(side).repeat_interleave(side)[:, None] / torch.arange(1, embed_dim // 2 + 1)
    return torch.cat([torch.zeros(num_prefix, embed_dim), torch.cat([angles.sin(), angles.cos()], dim=1)])[None]


def random_positions(side: int, embed_dim: int, num_prefix: int = 0) -> Tensor:
    return torch.cat([torch.zeros(num_prefix, embed_dim), torch.randn(side**2, embed_dim)])[None]


def with_seeds(cls: Any, seeds: Iterator[int]) -> Plant:
    """Weights start from these seeds, one a build, and not from the one that the caller set."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        init_weights = cls.init_weights

        def seed_and_init(self: nn.Module) -> None:
            torch.manual_seed(next(seeds))
            init_weights(self)

        patch.setattr(cls, "init_weights", seed_and_init)

    return plant


def no_init(self: nn.Module) -> None:
    pass


def no_head_bias(model: nn.Module) -> None:
    model.get_submodule("head").register_parameter("bias", None)


def of_any_family(family: str) -> list[Fault]:
    """Faults planted from outside, that any family could have."""
    cls = cast(type[nn.Module], MODELS[family][1])
    one, deep = Case(family), Case(family, {"depth": 3})
    three_channels = Case(family, in_channels=3)
    wide = SMALL[family][1]

    def built(says: str, change: Callable[[nn.Module], object], case: Case, check: Callable[[Case], None]) -> Fault:
        return Fault(says, once_built(cls, change), case, check)

    def dropped(x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)

    return [
        built("logits are transposed", with_output(lambda y: y.T), one, checks.check_shapes),
        built("the image is ignored", with_input(lambda x: x * 0), one, checks.check_logits_change_with_the_image),
        built("a corner is ignored", with_input(without_a_corner), one, checks.check_every_pixel_matters),
        built(
            "a channel is ignored",
            with_input(without_the_last_channel),
            three_channels,
            checks.check_every_pixel_matters,
        ),
        built(
            "the place in the batch moves the logits",
            with_output(moved_by_place_in_batch),
            one,
            checks.check_batch_order_goes_through,
        ),
        built(
            "softmax over the batch",
            with_output(lambda y: y.softmax(dim=0)),
            one,
            checks.check_a_batch_of_one_equals_its_row,
        ),
        built("a block is skipped", skip_last_block, deep, checks.check_every_parameter_gets_a_gradient),
        built(
            "the head is frozen",
            lambda model: model.get_submodule("head").requires_grad_(False),
            one,
            checks.check_every_parameter_gets_a_gradient,
        ),
        built(
            "the body is detached",
            with_input(Tensor.detach, "head"),
            one,
            checks.check_every_parameter_gets_a_gradient,
        ),
        built(
            "logits are probabilities",
            with_output(lambda y: y.softmax(dim=1)),
            one,
            checks.check_64_samples_can_be_overfitted,
        ),
        built("dropout in evaluation", with_input(dropped, "head"), one, checks.check_dropout_is_for_training_only),
        Fault(
            "dropout is left out",
            replaced(nn.Dropout, "forward", lambda self, x: x),
            one,
            checks.check_dropout_is_for_training_only,
        ),
        Fault("depth is ignored", with_setting(cls, depth=2), one, checks.check_depth_counts_blocks),
        Fault("width is ignored", with_setting(cls, **{wide: 8}), one, checks.check_wider_means_more_parameters),
        built("blocks start equal", equal_blocks, one, checks.check_blocks_start_different),
        Fault(
            "the seed is ignored",
            with_seeds(cls, itertools.repeat(0)),
            one,
            checks.check_the_seed_decides_how_weights_start,
        ),
        Fault(
            "the seed is not enough",
            with_seeds(cls, itertools.count()),
            one,
            checks.check_the_seed_decides_how_weights_start,
        ),
    ]


VIT, EXPLICIT, VIT_28PX = Case("vit"), Case("vit", {"attention": "explicit"}), Case("vit", image_size=28)
SINCOS = Case("vit", {"positions": "sincos"}, image_size=20)
RGB, CLASS = Case("vit", image_size=12, in_channels=3), Case("vit", {"pool": "class"}, image_size=12)
CNN_8PX = Case("cnn")
GRADIENT, TIMM = checks.check_every_parameter_gets_a_gradient, checks.check_forward_equals_timm
TORCH, ALONE = checks.check_attention_equals_torch, checks.check_a_batch_of_one_equals_its_row
HEADS, LIMIT = Case("vit", {"embed_dim": 30, "num_heads": 30}), checks.check_auto_attention_is_explicit_up_to_its_limit
POSITIONS, FIXED = checks.check_positions_matter, checks.check_fixed_positions
STARTS, CNN_STARTS = checks.check_vit_starts_as_its_docstring_says, checks.check_cnn_starts_as_its_docstring_says

SHARED_BLOCK = replaced(models.vit, "Block", functools.cache(Block))
TOO_SMALL_SCALE = once_built(Attention, scale_by_embed_dim)
NO_HEAD_BIAS = once_built(ViT, no_head_bias)

FAULTS = [
    *(fault for family in SMALL for fault in of_any_family(family)),
    Fault("blocks share one instance", SHARED_BLOCK, VIT, checks.check_depth_counts_blocks),
    Fault("blocks share one instance", SHARED_BLOCK, VIT, checks.check_blocks_start_different),
    Fault("attention is scaled by embed_dim ** -0.5", TOO_SMALL_SCALE, EXPLICIT, TORCH),
    Fault("explicit has a scale of its own", TOO_SMALL_SCALE, VIT, checks.check_explicit_attention_equals_fused),
    Fault(
        "the kind of attention is ignored",
        replaced(Attention, "_explicit", lambda self, q: True),
        VIT,
        checks.check_explicit_attention_equals_fused,
    ),
    Fault("the limit of explicit attention is less", attention_limit(11_999), HEADS, LIMIT),
    Fault("the limit of explicit attention is more", attention_limit(13_230), HEADS, LIMIT),
    Fault("the limit of explicit attention leaves out heads", explicit_if(heads_count=False), HEADS, LIMIT),
    Fault("half precision is fused on a CPU", explicit_if(half=False), HEADS, LIMIT),
    Fault("attention is explicit on a card", explicit_if(anywhere=True), HEADS, LIMIT),
    Fault("softmax over queries", attention(softmax_dim=-2), VIT, TORCH),
    Fault("softmax over heads", attention(softmax_dim=1), VIT, TORCH),
    Fault("query and key change places", attention(parts=(1, 0, 2)), VIT, TORCH),
    Fault("heads are merged in the wrong order", attention(merge_heads=False), VIT, TORCH),
    Fault("attention over the batch", attention(over_batch=True), VIT, ALONE),
    Fault("attention weights are detached", attention(detached=True), VIT, GRADIENT),
    Fault("the attention branch is detached", once_built(Attention, with_output(Tensor.detach)), VIT, GRADIENT),
    Fault("attention has no dropout", attention(drop=False), VIT, checks.check_dropout_is_for_training_only),
    Fault("patches are flattened channels last", patches((0, 2, 4, 3, 5, 1)), RGB, TIMM),
    Fault("patches are transposed inside", patches((0, 2, 4, 1, 5, 3)), RGB, TIMM),
    Fault("patches are listed column by column", patches((0, 4, 2, 1, 3, 5)), RGB, TIMM),
    Fault("a patch is made of far pixels", patches((0, 3, 5, 1, 2, 4)), RGB, TIMM),
    Fault("no residual around attention", block(residual=False), RGB, TIMM),
    Fault("normalised after the branch", block(pre_norm=False), RGB, TIMM),
    Fault("epsilon of torch instead of the paper's", once_built(Block, epsilon_of_torch), RGB, TIMM),
    Fault("GELU is approximated", mlp("tanh"), RGB, TIMM),
    Fault("the last token is the class token", whole_vit(token=-1), CLASS, TIMM),
    Fault("positions are not added", whole_vit(positions=False), VIT, POSITIONS),
    Fault("positions are not added", whole_vit(positions=False), VIT, GRADIENT),
    Fault("fixed positions are not added", whole_vit(positions=False), SINCOS, POSITIONS),
    Fault("all tokens get the first position", whole_vit(one_for_all=True), VIT, POSITIONS),
    Fault("all tokens get the first position", whole_vit(one_for_all=True), VIT, GRADIENT),
    Fault("fixed positions are trained", replaced(ViT, "register_buffer", trained_positions), SINCOS, FIXED),
    Fault("fixed positions are not saved", replaced(ViT, "register_buffer", unsaved_positions), SINCOS, FIXED),
    Fault("positions tell the row only", replaced(models.vit, "sincos_positions", rows_only), SINCOS, FIXED),
    Fault("positions have other waves", replaced(models.vit, "sincos_positions", other_waves), SINCOS, FIXED),
    Fault("positions are random", replaced(models.vit, "sincos_positions", random_positions), SINCOS, FIXED),
    Fault("torch's own initialisation", replaced(ViT, "init_weights", no_init), VIT_28PX, STARTS),
    Fault("positions start too small", once_built(ViT, small_positions), VIT_28PX, STARTS),
    Fault("weights start normal", replaced(nn.init, "xavier_uniform_", nn.init.xavier_normal_), VIT_28PX, STARTS),
    Fault("the head has no bias", NO_HEAD_BIAS, VIT, checks.check_the_notebook_model_has_its_size),
    Fault("the head has no bias", NO_HEAD_BIAS, VIT, checks.check_vit_b16_has_its_size),
    Fault(
        "statistics of the batch in evaluation", replaced(nn.BatchNorm2d, "forward", batch_statistics), CNN_8PX, ALONE
    ),
    Fault("one stage too many", replaced(models.cnn, "SMALLEST_MAP", 2), CNN_8PX, checks.check_the_map_keeps_4_pixels),
    Fault("one stage too few", replaced(models.cnn, "SMALLEST_MAP", 8), CNN_8PX, checks.check_the_map_keeps_4_pixels),
    Fault(
        "width is ignored",
        with_setting(CNN, width=8),
        CNN_8PX,
        checks.check_width_is_the_channels_of_the_first_stage,
    ),
    Fault(
        "growth is ignored",
        with_setting(CNN, growth=2.0),
        CNN_8PX,
        checks.check_growth_is_the_channels_of_a_stage_over_those_before,
    ),
    Fault("torch's own initialisation", replaced(CNN, "init_weights", no_init), CNN_8PX, CNN_STARTS),
    Fault("He's initialisation", replaced(nn.init, "kaiming_uniform_", he_by_fan_out), CNN_8PX, CNN_STARTS),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.check(fault.case)
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError):
        fault.check(fault.case)


def test_every_check_has_a_planted_fault() -> None:
    every_check = {name for name in vars(checks) if name.startswith("check_")}
    assert {fault.check.__name__ for fault in FAULTS} == every_check


@pytest.mark.parametrize("case", [RGB, CLASS], ids=str)
def test_the_parts_rewritten_here_are_sound_without_their_faults(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for plant in (patches(), attention(), block(), mlp(), whole_vit()):
        plant(monkeypatch)
    checks.check_attention_equals_torch(case)
    checks.check_forward_equals_timm(case)
    checks.check_every_parameter_gets_a_gradient(case)
    checks.check_dropout_is_for_training_only(case)
