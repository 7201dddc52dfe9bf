"""FLOPs: closed forms against the counter, both against hand counts and published figures."""

import copy
import functools
import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from bench.measure import flops as flops_module
from bench.measure.flops import ADDED_FORMULAS, FORMULAS, REPLACED_FORMULAS, count_flops, flop_counter, forward_flops
from models import build_model
from models.cnn import CNN, CNNConfig
from models.vit import ViT, ViTConfig

aten = torch.ops.aten


def counted(forward: Callable[[], Tensor], backward: bool = False) -> int:
    """FLOPs of running `forward`, and its backward pass, where its tensors are."""
    with flop_counter() as counter:
        output = forward()
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


def closed_form(network: ViT | CNN) -> int:
    """FLOPs of one image's forward pass, from the settings and the layers' shapes alone; a multiply-add is two."""
    image_size, num_classes = network.image_size, network.head.out_features
    if isinstance(network, CNN):
        products, side = network.head.in_features * num_classes, image_size
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                side = math.ceil(side / module.stride[0])  # half a kernel of padding
                products += side**2 * module.weight.numel()
        return 2 * products
    config = network.config
    num_patches, D = (image_size // config.patch_size) ** 2, config.embed_dim
    N = num_patches + (config.pool == "class")
    qkv, rest = 3 * D * D, D * D + 2 * N * D + 2 * D * config.hidden_dim  # rest: Q K^T, A V, projection, MLP
    last_tokens = 1 if config.pool == "class" else N  # that the last block works out
    blocks = config.depth * N * qkv + ((config.depth - 1) * N + last_tokens) * rest
    return 2 * (num_patches * network.patch_embed.proj.in_features * D + blocks + D * num_classes)


@st.composite
def vits(draw: st.DrawFn, in_channels: int) -> ViT:
    patch_size, num_heads = draw(st.sampled_from([2, 4, 7, 14])), draw(st.integers(1, 4))
    config = ViTConfig(
        patch_size=patch_size,
        embed_dim=4 * num_heads * draw(st.integers(1, 6)),
        depth=draw(st.integers(1, 3)),
        num_heads=num_heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.5, 4.0])),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        pool=draw(st.sampled_from(["mean", "class"])),
        positions=draw(st.sampled_from(["learned", "sincos"])),
        attention=draw(st.sampled_from(["auto", "explicit", "fused"])),
    )
    sides = {2: [8, 28], 4: [8, 28, 32], 7: [28], 14: [28, 56]}[patch_size]
    return ViT(config, draw(st.sampled_from(sides)), in_channels, draw(st.integers(2, 100)))


@st.composite
def cnns(draw: st.DrawFn, in_channels: int) -> CNN:
    config = CNNConfig(
        depth=draw(st.integers(1, 4)),
        width=draw(st.integers(1, 24)),
        growth=draw(st.floats(1, 3)),
        kernel_size=draw(st.sampled_from([3, 5, 7])),
    )
    return CNN(config, draw(st.integers(4, 65)), in_channels, draw(st.integers(2, 100)))


@settings(max_examples=15)
@given(st.sampled_from([1, 3]).flatmap(lambda channels: st.tuples(vits(channels) | cnns(channels), st.just(channels))))
def test_closed_form_is_the_counted_amount_on_the_cpu_and_on_the_meta_device(drawn: tuple[ViT | CNN, int]) -> None:
    network, channels = drawn
    shape = (channels, network.image_size, network.image_size)
    network.eval()
    with torch.no_grad():
        on_cpu = counted(lambda: network(torch.zeros(1, *shape)))
    assert on_cpu == closed_form(network)
    assert forward_flops(network, shape) == closed_form(network)
    assert forward_flops(network.to("meta"), shape) == closed_form(network)


def two_blocks(attention: Any, pool: Any, device: str) -> tuple[ViT, Tensor, int]:
    """A network on a device, two images for it, and the FLOPs of its embedding: the images need no gradient."""
    with torch.device(device):
        network = ViT(ViTConfig(attention=attention, pool=pool, depth=2, embed_dim=32, num_heads=4), 28, 1, 10)
        return network, torch.zeros(2, 1, 28, 28), 2 * 16 * 49 * 32


KINDS = (
    pytest.mark.parametrize("attention", ["explicit", "fused"]),
    pytest.mark.parametrize("device", ["cpu", "meta"]),
    pytest.mark.parametrize("pool", ["mean", "class"]),
)


def of_each_kind(test: Callable[..., None]) -> Callable[..., None]:
    return functools.reduce(lambda marked, mark: mark(marked), KINDS, test)


@pytest.mark.slow
@of_each_kind
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_attention_kernel_device_and_autocast_change_no_count(
    attention: Any, device: str, autocast: torch.dtype | None, pool: Any
) -> None:
    network, images, embedding = two_blocks(attention, pool, device)
    with flop_counter() as counter:
        with torch.autocast("cpu", dtype=autocast) if autocast else nullcontext():
            output = network(images)
        assert counter.get_total_flops() == 2 * closed_form(network)
        output.sum().backward()
    assert counter.get_total_flops() == 2 * (3 * closed_form(network) - embedding)


@of_each_kind
def test_of_any_attention_kernel_and_device_an_image_has_its_share_of_the_count(
    attention: Any, device: str, pool: Any
) -> None:
    network, images, embedding = two_blocks(attention, pool, device)
    assert count_flops(network, images) == (closed_form(network), 3 * closed_form(network) - embedding)


def test_small_vit_is_what_a_hand_counts() -> None:
    """8x8 grey image, patch 4: 4 patches of 16 pixels and a class token; embed_dim 6, 2 heads of 3, MLP 12."""
    network = ViT(ViTConfig(patch_size=4, embed_dim=6, depth=3, num_heads=2, mlp_ratio=2.0, pool="class"), 8, 1, 10)
    embedding = 4 * 16 * 6
    qkv, scores, values, projection = 5 * 6 * 18, 2 * 5 * 5 * 3, 2 * 5 * 5 * 3, 5 * 6 * 6
    mlp = 5 * 6 * 12 + 5 * 12 * 6
    whole_block = qkv + scores + values + projection + mlp
    last_block = qkv + 2 * 1 * 5 * 3 + 2 * 1 * 5 * 3 + 1 * 6 * 6 + 1 * 6 * 12 + 1 * 12 * 6  # the class token alone asks
    head = 1 * 6 * 10
    by_hand = 2 * (embedding + 2 * whole_block + last_block + head)
    assert by_hand == 2 * (384 + 2 * 1_740 + 780 + 60) == 9_408
    assert closed_form(network) == by_hand
    assert count_flops(network, torch.zeros(1, 1, 8, 8)) == (by_hand, 3 * by_hand - 2 * embedding)


def test_small_cnn_is_what_a_hand_counts() -> None:
    """16x16 colour image: stem to 8x8 with 4 channels; one block there; one to 4x4 with 8 channels."""
    network = CNN(CNNConfig(depth=2, width=4), 16, 3, 10)
    stem = 8 * 8 * 4 * (3 * 5 * 5)
    first = 2 * (8 * 8 * 4 * (4 * 3 * 3))
    second = 4 * 4 * 8 * (4 * 3 * 3) + 4 * 4 * 8 * (8 * 3 * 3)
    head = (8 + 8) * 10  # mean and maximum
    by_hand = 2 * (stem + first + second + head)
    assert by_hand == 2 * (19_200 + 18_432 + 13_824 + 160) == 103_232
    assert closed_form(network) == by_hand
    assert count_flops(network, torch.zeros(2, 3, 16, 16)) == (by_hand, 3 * by_hand - 2 * stem)


# GMACs of one image, from the table "GFLOPS" of torchvision's documentation, which its weights carry (from fvcore).
# timm counts norms and softmax too: 17.58 for ViT-B/16 (its results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv).
@pytest.mark.parametrize(
    ("name", "size", "weights"),
    [
        ("vit_b_16", 224, "ViT_B_16_Weights"),
        ("resnet50", 224, "ResNet50_Weights"),
        ("mobilenet_v2", 224, "MobileNet_V2_Weights"),
        ("swin_t", 224, "Swin_T_Weights"),
        ("convnext_tiny", 224, "ConvNeXt_Tiny_Weights"),
    ],
)
@pytest.mark.slow
def test_published_figures_of_torchvision_are_met(name: str, size: int, weights: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    published = next(iter(getattr(torchvision.models, weights))).meta["_ops"]
    assert forward_flops(network, (3, size, size)) / 2e9 == pytest.approx(published, abs=0.0006)  # three decimals


@pytest.mark.parametrize(("name", "published"), [("vit_b_16", 17.58), ("resnet50", 4.09)])
def test_well_known_figures_are_met_to_a_tenth_of_a_percent(name: str, published: float) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    assert forward_flops(network, (3, 224, 224)) / 2e9 == pytest.approx(published, rel=0.001)


@pytest.mark.slow
def test_our_vit_b_16_is_counted_as_torchvisions_less_what_its_last_block_leaves_out() -> None:
    config = ViTConfig(patch_size=16, embed_dim=768, depth=12, num_heads=12, pool="class")
    with torch.device("meta"):
        ours, theirs = ViT(config, 224, 3, 1000), torchvision.models.vit_b_16()
    published = count_flops(theirs, torch.zeros(1, 3, 224, 224))
    left_out = 2 * 196 * (2 * 197 * 768 + 768 * 768 + 2 * 768 * 3072)  # Q K^T and weights V, projection, MLP
    assert closed_form(ours) == published.forward - left_out
    assert count_flops(ours, torch.zeros(1, 3, 224, 224)) == (closed_form(ours), published.training - 3 * left_out)


def test_torchs_own_counter_counts_no_fused_attention_on_a_cpu() -> None:
    network = ViT(ViTConfig(attention="fused", patch_size=4, depth=2), 28, 1, 10).eval()
    images = torch.zeros(1, 1, 28, 28)
    with torch.no_grad(), FlopCounterMode(display=False) as torchs:
        network(images)
    attention = 2 * (2 * 2 * 49 * 49 * 32)  # blocks x (Q K^T and weights V)
    assert torchs.get_total_flops() == closed_form(network) - attention
    assert counted(lambda: network(images)) == closed_form(network)


def test_torch_still_lacks_what_we_add_and_has_what_we_replace() -> None:
    both = set(ADDED_FORMULAS) & set(flop_registry)
    assert not both, f"torch counts {both} by now: take them out of ADDED_FORMULAS, unless its count is not ours"
    assert set(REPLACED_FORMULAS) <= set(flop_registry)
    assert aten._scaled_dot_product_flash_attention_for_cpu in ADDED_FORMULAS


def test_this_torch_has_every_operator_that_we_have_a_formula_for() -> None:
    """One under another name would be counted as nothing, in silence."""
    assert not [name for name in FORMULAS if not hasattr(aten, name)]
    assert len(ADDED_FORMULAS | REPLACED_FORMULAS) == len(FORMULAS)


def test_groups_of_a_convolution_are_counted_once_in_the_backward_pass() -> None:
    for layer in (
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=8),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.ConvTranspose2d(8, 16, 3, stride=2, groups=4),
    ):
        x = torch.zeros(2, 8, 9, 9, requires_grad=True)
        forward = counted(partial(layer, x))
        assert counted(partial(layer, x), backward=True) == 3 * forward
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    with FlopCounterMode(display=False) as torchs:
        depthwise(torch.zeros(1, 8, 9, 9)).sum().backward()
    assert torchs.get_total_flops() == (1 + 8) * 2 * 49 * 8 * 9  # why ours exists: it should be 1 + 1


@pytest.mark.parametrize(
    ("operator", "shapes", "by_hand"),
    [
        ("mv", [(3, 5), (5,)], 2 * 15),
        ("dot", [(5,), (5,)], 2 * 5),
        ("addmv", [(3,), (3, 5), (5,)], 2 * 15),
        ("addmm_", [(3, 4), (3, 5), (5, 4)], 2 * 60),
        ("baddbmm_", [(7, 3, 4), (7, 3, 5), (7, 5, 4)], 2 * 7 * 60),
        ("addbmm", [(3, 4), (7, 3, 5), (7, 5, 4)], 2 * 7 * 60),
        ("_addmm_activation", [(4,), (3, 5), (5, 4)], 2 * 60),
        ("mkldnn_linear", [(2, 3, 5), (4, 5), (4,)], 2 * 2 * 60),
        ("_scaled_dot_product_fused_attention_overrideable", [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)], 2 * 210 * 12),
    ],
)
def test_formula_of_an_operator_is_what_a_hand_counts(operator: str, shapes: list[Any], by_hand: int) -> None:
    formula = ADDED_FORMULAS[getattr(aten, operator)]
    assert formula(*map(torch.Size, shapes), out_shape=None) == by_hand


def test_attention_of_every_backend_has_the_same_backward_count() -> None:
    q, k, v, grad = (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4), (2, 3, 5, 4)
    backward = {name: f for name, f in (ADDED_FORMULAS | REPLACED_FORMULAS).items() if "attention" in str(name)}
    counts = {f(grad, q, k, v, out_shape=None) for name, f in backward.items() if "backward" in str(name)}
    assert counts == {2 * 2 * 2 * 3 * 5 * 7 * (8 + 4)}


class Awkward(nn.Module):
    """A network of a user's: draws numbers, normalises by batch, counts its calls, wants a value, returns a dict."""

    def __init__(self, wants_a_value: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Linear(4, 4, bias=False)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.shared.weight
        self.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.scale = torch.ones(4)  # neither a weight nor a buffer
        self.wants_a_value = wants_a_value

    def forward(self, x: Tensor) -> dict[str, Any]:
        self.get_buffer("calls").add_(1)
        x = F.dropout(self.norm(self.conv(x)), 0.5, self.training).mean(dim=(2, 3)) * self.scale
        if self.wants_a_value and x.sum().item() > 1e30:
            return {}
        return {"logits": self.frozen(self.tied(self.shared(x))), "extra": [x.detach(), None]}


@pytest.fixture(params=["small", "large"])
def _of_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are counted with their numbers at once, as small ones are, or on shapes alone, as large ones."""
    monkeypatch.setattr(flops_module, "MOST_PIXELS", 32 * 32 if request.param == "small" else 0)


@pytest.mark.usefixtures("_of_any_size")
@pytest.mark.parametrize("wants_a_value", [False, True])
def test_counting_leaves_weights_gradients_buffers_modes_and_random_numbers_alone(wants_a_value: bool) -> None:
    network = Awkward(wants_a_value)
    network.norm.eval()  # a mode of its own
    network(torch.randn(2, 1, 8, 8))["logits"].sum().backward()
    before = copy.deepcopy(network)
    gradients = [(p, p.grad, p.grad.clone()) for p in network.parameters() if p.grad is not None]
    modes = [module.training for module in network.modules()]
    state, others = torch.get_rng_state(), random.getstate()

    flops = count_flops(network, torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))

    conv, linear = 2 * 64 * 4 * 9, 2 * 4 * 4
    assert flops.forward == conv + 3 * linear
    assert flops.training == flops.forward + conv + 2 * 2 * linear + linear  # the frozen one passes its gradient on
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == others
    assert [module.training for module in network.modules()] == modes
    for (name, now), then in zip(network.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(now, then), name
    for p, gradient, values in gradients:
        assert p.grad is gradient
        assert torch.equal(gradient, values)
    assert network.frozen.weight.grad is None
    assert network.tied.weight is network.shared.weight
    assert torch.equal(network.scale, torch.ones(4))


@pytest.mark.usefixtures("_of_any_size")
def test_network_that_can_not_be_copied_is_counted() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    vars(network)["stream"] = (number for number in range(3))  # nobody copies a generator
    with pytest.raises(TypeError, match="generator"):
        copy.deepcopy(network)
    assert count_flops(network, torch.zeros(2, 1, 8, 8)) == (2 * 640, 4 * 640)


@pytest.mark.usefixtures("_of_any_size")
def test_networks_own_mistake_comes_through() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_flops(nn.Linear(3, 4), torch.zeros(2, 5))


class LooksAtValues(nn.Module):
    """A layer that can't be run on shapes alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() < 1e30 else -x


@pytest.mark.usefixtures("_of_any_size")
@pytest.mark.parametrize("first", [nn.Flatten(2), nn.Sequential(nn.Flatten(2), LooksAtValues())])
def test_encoders_of_torch_take_no_uncounted_short_cut(first: nn.Module) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    network = nn.Sequential(first, nn.Linear(16, 8), layer)
    by_hand = 2 * (5 * 16 * 8 + 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8 + 2 * 5 * 8 * 16)
    assert forward_flops(network.eval(), (5, 4, 4)) == by_hand
    assert torch.backends.mha.get_fastpath_enabled()


def test_network_in_bfloat16_is_counted_like_any() -> None:
    network = build_model("cnn", {}, 28, 1, 10)
    flops = count_flops(network, torch.zeros(2, 1, 28, 28))
    network = network.to(torch.bfloat16)
    assert count_flops(network, torch.zeros(2, 1, 28, 28, dtype=torch.bfloat16)) == flops
    assert forward_flops(network, (1, 28, 28)) == flops.forward
