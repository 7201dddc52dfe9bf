"""What every model must do, as functions of a Case; each raises AssertionError where a model doesn't do it.

test_models.py holds the models to them, test_planted_faults.py holds them to faults they must see. Sums are taken in
float64 where a difference has to be told from rounding.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import build_model
from models.cnn import SMALLEST_MAP
from models.vit import Attention, ViT

# family -> settings small enough for tests, and the setting that makes it wider
SMALL: dict[str, tuple[dict[str, Any], str]] = {
    "vit": ({"patch_size": 4, "embed_dim": 16, "num_heads": 2, "depth": 2}, "embed_dim"),
    "cnn": ({"width": 8, "depth": 3}, "width"),
}
# The ViT of the notebook this project began with, and its size.
NOTEBOOK = {"patch_size": 7, "embed_dim": 16, "num_heads": 4, "depth": 4, "mlp_ratio": 4.0, "pool": "class"}
NOTEBOOK_PARAMS = 14_410
# ViT-B/16, table 1 of the paper; the count is that of timm and torchvision.
VIT_B16 = {"patch_size": 16, "embed_dim": 768, "num_heads": 12, "depth": 12, "mlp_ratio": 4.0, "pool": "class"}
VIT_B16_PARAMS = 86_567_656

NOISE = 1e-10  # float64: what is smaller than this is rounding


@dataclass(frozen=True)
class Case:
    """A model to be checked, and images that fit it."""

    family: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # settings that differ from SMALL
    image_size: int = 8
    in_channels: int = 1
    num_classes: int = 3

    def build(self, seed: int = 0, **changes: Any) -> nn.Module:
        torch.manual_seed(seed)
        settings = {**SMALL[self.family][0], **self.changes, **changes}
        return build_model(self.family, settings, self.image_size, self.in_channels, self.num_classes)

    def images(self, count: int) -> Tensor:
        shape = (count, self.in_channels, self.image_size, self.image_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def labels(self, count: int) -> Tensor:
        return torch.randint(self.num_classes, (count,), generator=torch.Generator().manual_seed(2))

    def __str__(self) -> str:
        settings = "".join(f"-{name}={value}" for name, value in self.changes.items())
        return f"{self.family}-{self.image_size}px-{self.in_channels}ch{settings}"


def trained(case: Case) -> nn.Module:
    """A model in float64 and eval mode that has seen a training batch: normalisations hold what they saw in it."""
    model = case.build().double()
    model(case.images(16).double())
    return model.eval()


def num_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.Sequential, model.get_submodule("blocks")))


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """No parameter is left at the zero or one it starts with, so that none of them can be forgotten unseen."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


# Every family


def check_shapes(case: Case) -> None:
    model = case.build()
    for count in (2, 5):
        logits = model(case.images(count))
        assert logits.shape == (count, case.num_classes), f"logits are {tuple(logits.shape)}"
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


@torch.no_grad()
def check_logits_change_with_the_image(case: Case) -> None:
    logits = trained(case)(case.images(4).double())
    for a, b in itertools.combinations(logits, 2):
        assert (a - b).abs().max() > 1e-3, "two images have the same logits"


@torch.no_grad()
def check_every_pixel_matters(case: Case) -> None:
    model, image = trained(case), case.images(1).double()
    before = model(image)
    pixels = torch.eye(image.numel(), dtype=torch.float64).view(-1, *image.shape[1:])
    for chunk in pixels.split(256):
        change = (model(image + 3 * chunk) - before).abs().amax(dim=1)
        blind = chunk[change < NOISE].sum(dim=0).nonzero()
        assert not len(blind), f"logits don't depend on these pixels (channel, row, column): {blind.tolist()}"


@torch.no_grad()
def check_batch_order_goes_through(case: Case) -> None:
    model, images = trained(case), case.images(8).double()
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    torch.testing.assert_close(model(images[order]), model(images)[order], rtol=0, atol=NOISE)


@torch.no_grad()
def check_a_batch_of_one_equals_its_row(case: Case) -> None:
    model, images = trained(case), case.images(8).double()
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(alone, model(images), rtol=0, atol=NOISE)


def check_every_parameter_gets_a_gradient(case: Case) -> None:
    """Each output row of each weight does, so that a fused weight (query, key, value) can't hide a dead part."""
    model = case.build().double()
    F.cross_entropy(model(case.images(32).double()), case.labels(32)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        rows = parameter.grad.abs()
        if rows.dim() > 1:
            rows = rows.flatten(0, 1) if rows.shape[0] == 1 else rows.flatten(1)  # (1, N, D) positions; weights
        largest = rows.amax(dim=-1)  # of a vector this is its one largest entry: a key's bias never has a gradient
        assert (largest > NOISE).all(), f"{name} gets a gradient of zero"


def check_64_samples_can_be_overfitted(case: Case) -> None:
    model, images, labels = case.build(), case.images(64), case.labels(64)
    parameters = list(model.parameters())
    speeds = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(120):  # momentum by hand: the first step of torch.optim takes seconds, to import a compiler
        loss = F.cross_entropy(model(images), labels)
        with torch.no_grad():
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, speed, gradient in zip(parameters, speeds, gradients, strict=True):
                parameter.sub_(speed.mul_(0.9).add_(gradient, alpha=0.05))
    assert loss < 0.05, f"training loss {loss:.3f}"
    accuracy = (model.eval()(images).argmax(dim=1) == labels).double().mean()
    assert accuracy == 1, f"accuracy {accuracy:.3f} on the training images in eval mode"


def check_dropout_is_for_training_only(case: Case) -> None:
    model, images = case.build(dropout=0.5), case.images(4)
    drops = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    used = set()
    for name, module in drops.items():
        assert module.p == 0.5, f"{name} drops {module.p}"
        module.register_forward_hook(lambda *_, name=name: used.add(name))
    assert not torch.equal(model(images), model(images)), "dropout changes nothing in training"
    assert used == drops.keys(), f"{drops.keys() - used} are never used"
    plain = case.build(dropout=0.0)
    plain.load_state_dict(model.state_dict())
    # Two training passes above have moved a CNN's running statistics; they came along in the state.
    assert torch.equal(model.eval()(images), plain.eval()(images)), "dropout changes logits in eval mode"


def check_depth_counts_blocks(case: Case) -> None:
    sizes = []
    for depth in (1, 2, 3, 5):
        model = case.build(depth=depth)
        assert len(set(blocks_of(model))) == depth, f"{len(set(blocks_of(model)))} blocks at depth {depth}"
        sizes.append(num_params(model))
    assert sizes == sorted(set(sizes)), f"deeper models don't have more parameters: {sizes}"


def check_wider_means_more_parameters(case: Case) -> None:
    sizes = [num_params(case.build(**{SMALL[case.family][1]: width})) for width in (8, 16, 24)]
    assert sizes == sorted(set(sizes)), f"wider models don't have more parameters: {sizes}"


def check_blocks_start_different(case: Case) -> None:
    for one, other in itertools.combinations(blocks_of(case.build(depth=4)), 2):
        theirs = dict(other.named_parameters())
        for name, parameter in one.named_parameters():
            if parameter.dim() > 1 and name in theirs and parameter.shape == theirs[name].shape:
                assert not torch.equal(parameter, theirs[name]), f"two blocks start with the same {name}"


def check_the_seed_decides_how_weights_start(case: Case) -> None:
    first, again, other = (dict(case.build(seed).named_parameters()) for seed in (0, 0, 1))
    for name, parameter in first.items():
        assert torch.equal(parameter, again[name]), f"{name} differs between two builds with one seed"
        if parameter.dim() > 1:
            assert not torch.equal(parameter, other[name]), f"{name} is the same for two seeds"


# The ViT besides


@torch.no_grad()
def check_attention_equals_torch(case: Case) -> None:
    attention = cast(Attention, case.build().double().get_submodule("blocks.0.attn"))
    randomise(attention)
    theirs = nn.MultiheadAttention(attention.qkv.in_features, attention.num_heads, batch_first=True).double()
    theirs.in_proj_weight.copy_(attention.qkv.weight)
    theirs.in_proj_bias.copy_(attention.qkv.bias)
    theirs.out_proj.load_state_dict(attention.proj.state_dict())
    x = torch.randn(3, 5, attention.qkv.in_features, generator=torch.Generator().manual_seed(4)).double()
    torch.testing.assert_close(attention(x), theirs(x, x, x, need_weights=False)[0], rtol=0, atol=NOISE)


def check_explicit_attention_equals_fused(case: Case) -> None:
    """Both are taken when asked for, and agree in logits and in gradients."""
    logits, gradients = [], []
    for kind, fused in (("explicit", False), ("fused", True)):
        model = case.build(attention=kind)
        randomise(model)
        with mock.patch.object(
            F, "scaled_dot_product_attention", side_effect=F.scaled_dot_product_attention
        ) as fused_call:
            logits.append(model(case.images(4)))
        assert fused_call.called == fused, f"attention={kind} took the other one"
        logits[-1].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)


def check_auto_attention_is_explicit_up_to_its_limit(case: Case) -> None:
    """Of 30 heads, whose weights are 12,000 with 20 tokens; and whether all tokens ask or the first alone."""
    float32, bfloat16, width = torch.float32, torch.bfloat16, case.changes["embed_dim"]
    for device, dtype, num_tokens, explicit in (
        ("cpu", float32, 19, True),
        ("cpu", float32, 20, True),
        ("cpu", float32, 21, False),
        ("cpu", bfloat16, 21, True),  # a CPU's fused kernel is slower in half precision at any size
        ("meta", float32, 2, False),
    ):
        taken = {}
        for kind in ("auto", "explicit", "fused"):
            attention = Attention(width, case.changes["num_heads"], 0.0, kind).to(device, dtype)
            x = torch.zeros(2, num_tokens, width, device=device, dtype=dtype)
            with mock.patch.object(
                F, "scaled_dot_product_attention", side_effect=F.scaled_dot_product_attention
            ) as fused_call:
                attention(x)
                attention(x, 1)
            taken[kind] = fused_call.call_count
        expected = {"auto": 0 if explicit else 2, "explicit": 0, "fused": 2}
        assert taken == expected, f"{num_tokens} tokens, {dtype}, {device}: {taken} fused calls of 2"


def check_forward_equals_timm(case: Case) -> None:
    """The whole of it, with timm's names for our parameters (they are the same) and every parameter random."""
    timm = pytest.importorskip("timm.models.vision_transformer", reason="timm is the reference for the whole forward")
    model = cast(ViT, trained(case))
    randomise(model)
    config = model.config
    theirs = timm.VisionTransformer(
        img_size=case.image_size,
        patch_size=config.patch_size,
        in_chans=case.in_channels,
        num_classes=case.num_classes,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        class_token=config.pool == "class",
        global_pool="token" if config.pool == "class" else "avg",
        fc_norm=False,  # timm normalises after taking the mean unless told not to; we do it before, as the paper
    )
    state = model.state_dict()
    kernel = (config.embed_dim, case.in_channels, config.patch_size, config.patch_size)
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].view(kernel)
    theirs.double().eval().load_state_dict(state)
    images = case.images(4).double()
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images), rtol=0, atol=NOISE)


@torch.no_grad()
def check_positions_matter(case: Case) -> None:
    """Without positions a ViT can't tell an image from one with the same patches in other places."""
    model, image = cast(ViT, trained(case)), case.images(1).double()
    moved = image.roll(model.config.patch_size, dims=-1)
    assert (model(image) - model(moved)).abs().max() > 1e-6, "logits don't change when patches change places"


def check_fixed_positions(case: Case) -> None:
    model, again = cast(ViT, case.build(0)), case.build(1)
    table = cast(Tensor, model.pos_embed)
    assert "pos_embed" not in dict(model.named_parameters()), "fixed positions are trained"
    assert not table.requires_grad
    assert "pos_embed" in model.state_dict(), "fixed positions aren't saved"
    assert torch.equal(table, again.state_dict()["pos_embed"]), "fixed positions depend on the seed"
    prefix, half = int(model.cls_token is not None), model.config.embed_dim // 2
    side = case.image_size // model.config.patch_size
    assert table.shape == (1, prefix + side**2, 2 * half)
    assert not table[0, :prefix].any(), "the class token has a place in the image"
    rows = table[0, prefix:]
    assert len(rows.unique(dim=0)) == side**2, "two patches have the same position"
    grid = rows.view(side, side, 2 * half)
    assert torch.equal(grid[..., :half], grid[:1, :, :half].expand(side, -1, -1)), "the first half isn't the column's"
    assert torch.equal(grid[..., half:], grid[:, :1, half:].expand(-1, side, -1)), "the second half isn't the row's"
    frequencies = [10_000 ** -(i / (half // 2 - 1)) for i in range(half // 2)]  # from 1 to a ten-thousandth
    for place in range(side):
        wanted = [wave(place * frequency) for wave in (math.sin, math.cos) for frequency in frequencies]
        for found in (grid[0, place, :half], grid[place, 0, half:]):
            assert found.tolist() == pytest.approx(wanted, abs=1e-6), "positions aren't sines and cosines of theirs"


def check_vit_starts_as_its_docstring_says(case: Case) -> None:
    model = cast(ViT, case.build(embed_dim=64))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert not module.bias.any(), f"the bias of {name} doesn't start at zero"
            bound = math.sqrt(6 / (module.in_features + module.out_features))  # Glorot and Bengio 2010
            assert module.weight.abs().max() <= bound, f"{name} isn't Xavier uniform"
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15), f"{name} isn't Xavier"
    assert cast(Tensor, model.pos_embed).std().item() == pytest.approx(64**-0.5, rel=0.1), "positions aren't N(0, 1/D)"


def check_the_notebook_model_has_its_size(_: Case) -> None:
    found = num_params(build_model("vit", NOTEBOOK, image_size=28, in_channels=1, num_classes=10))
    assert found == NOTEBOOK_PARAMS, f"{found:,} parameters"


def check_vit_b16_has_its_size(_: Case) -> None:
    with torch.device("meta"):
        found = num_params(build_model("vit", VIT_B16, image_size=224, in_channels=3, num_classes=1000))
    assert found == VIT_B16_PARAMS, f"{found:,} parameters"


# The CNN besides


def check_the_map_keeps_4_pixels(case: Case) -> None:
    """And with blocks enough it is halved as often as that allows: 4 to 7 pixels are left."""
    for image_size in (8, 12, 16, 28, 32, 64, 96, 224):
        sized = replace(case, image_size=image_size)
        with torch.device("meta"):
            blocks = sized.build(depth=5, width=1)
            sides: list[int] = []
            blocks.get_submodule("blocks").register_forward_hook(
                lambda *call, sides=sides: sides.extend(call[2].shape[2:])
            )
            blocks(torch.empty(2, case.in_channels, image_size, image_size))
        assert all(SMALLEST_MAP <= side < 2 * SMALLEST_MAP for side in sides), f"{image_size} pixels become {sides}"


def check_width_is_the_channels_of_the_first_stage(case: Case) -> None:
    for width in (4, 12):
        model = replace(case, image_size=32).build(depth=3, width=width)
        shapes: list[int] = []
        for part in (model.get_submodule("stem"), *blocks_of(model)):
            part.register_forward_hook(lambda *call, shapes=shapes: shapes.append(call[2].shape[1]))
        model(replace(case, image_size=32).images(2))
        assert shapes == [width, width, 2 * width, 4 * width], f"channels at width {width}: {shapes}"


def check_growth_is_the_channels_of_a_stage_over_those_before(case: Case) -> None:
    """Rounded to whole channels, from the first stage's; the shapes of all weights follow."""
    for growth, expected in ((2.0, [10, 20, 40]), (1.26, [10, 13, 16]), (3.0, [10, 30, 90]), (1.0, [10, 10, 10])):
        model = replace(case, image_size=32).build(depth=3, width=10, growth=growth)
        found = [cast(nn.Conv2d, block.get_submodule("conv2.0")).out_channels for block in blocks_of(model)]
        assert found == expected, f"channels at growth {growth}: {found}"
        assert cast(nn.Linear, model.get_submodule("head")).in_features == 2 * expected[-1]  # mean and maximum


def check_cnn_starts_as_its_docstring_says(case: Case) -> None:
    model = case.build(width=32)
    assert not cast(nn.Linear, model.get_submodule("head")).bias.any(), "the head's bias doesn't start at zero"
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None, f"{name} has a bias before its normalisation"
            bound = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max() <= bound, f"{name} isn't uniform within 1 / sqrt(fan in)"
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15), f"{name} isn't uniform"
