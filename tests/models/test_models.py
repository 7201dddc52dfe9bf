"""Every model sees its whole image, treats each image alone, and can learn; the ViT equals its public references."""

import math
from collections.abc import Iterator
from typing import Any

import model_checks as checks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import SMALL, Case

from models import MODELS, SIZE_SETTINGS, build_meta_model, build_model
from models.vit import ViT, ViTConfig, sincos_positions

SHAPES = [(8, 1, 1), (12, 3, 2), (28, 1, 3), (32, 3, 4)]  # image_size, in_channels, depth
VARIANTS = [
    Case("vit", {"pool": "class"}),
    Case("vit", {"positions": "sincos"}, image_size=12),
    Case("vit", {"positions": "sincos", "pool": "class"}, in_channels=3),
    Case("vit", {"attention": "fused"}, image_size=12),
    Case("vit", {"attention": "explicit", "patch_size": 2}, image_size=12),
    Case("cnn", {"kernel_size": 5}, image_size=12, in_channels=3),
]
CASES = [Case(family, {"depth": depth}, size, channels) for family in SMALL for size, channels, depth in SHAPES]
CASES += VARIANTS
LEARNERS = [*(Case(family) for family in SMALL), Case("vit", {"pool": "class", "positions": "sincos"})]
# Of 9 and of 36 tokens: explicit attention takes its softmax along columns of few, along rows of many.
POOLS = [
    Case("vit", {"pool": pool, "depth": 3, "patch_size": patch_size}, image_size=12, in_channels=3)
    for pool in ("mean", "class")
    for patch_size in (4, 2)
]
VIT, CNN = Case("vit"), Case("cnn")

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_family = pytest.mark.parametrize("case", [Case(family) for family in SMALL], ids=str)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_family_is_tested_here() -> None:
    assert SMALL.keys() == MODELS.keys()


@every_case
def test_images_become_one_row_of_logits_each(case: Case) -> None:
    checks.check_shapes(case)


@every_case
def test_logits_change_with_the_image(case: Case) -> None:
    checks.check_logits_change_with_the_image(case)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case.image_size == 32 else ()) for case in CASES], ids=str
)
def test_every_pixel_of_every_channel_matters(case: Case) -> None:
    checks.check_every_pixel_matters(case)


@every_case
def test_permuting_the_batch_permutes_the_logits(case: Case) -> None:
    checks.check_batch_order_goes_through(case)


@every_case
def test_a_batch_of_one_equals_its_row_in_a_batch_of_eight(case: Case) -> None:
    checks.check_a_batch_of_one_equals_its_row(case)


@every_case
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    checks.check_every_parameter_gets_a_gradient(case)


@pytest.mark.parametrize("case", LEARNERS, ids=str)
def test_64_samples_can_be_overfitted(case: Case) -> None:
    checks.check_64_samples_can_be_overfitted(case)


@every_case
def test_dropout_is_active_in_training_and_not_in_evaluation(case: Case) -> None:
    checks.check_dropout_is_for_training_only(case)


@every_family
def test_depth_counts_blocks_and_each_adds_parameters(case: Case) -> None:
    checks.check_depth_counts_blocks(case)


@every_family
def test_a_wider_model_has_more_parameters(case: Case) -> None:
    checks.check_wider_means_more_parameters(case)


@every_family
def test_blocks_start_different_from_each_other(case: Case) -> None:
    checks.check_blocks_start_different(case)


@every_case
def test_the_seed_decides_how_weights_start(case: Case) -> None:
    checks.check_the_seed_decides_how_weights_start(case)


@pytest.mark.parametrize("kind", ["auto", "explicit", "fused"])
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_equals_that_of_torch_with_the_same_weights(kind: str, num_heads: int) -> None:
    checks.check_attention_equals_torch(Case("vit", {"attention": kind, "num_heads": num_heads}))


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_explicit_and_fused_attention_agree(case: Case) -> None:
    checks.check_explicit_attention_equals_fused(case)


def test_auto_attention_is_explicit_up_to_12_000_weights_an_image_on_a_cpu() -> None:
    checks.check_auto_attention_is_explicit_up_to_its_limit(Case("vit", {"embed_dim": 30, "num_heads": 30}))


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_the_whole_forward_equals_that_of_timm_with_the_same_weights(case: Case) -> None:
    checks.check_forward_equals_timm(case)


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_it_matters_where_a_patch_is(positions: str, pool: str) -> None:
    checks.check_positions_matter(Case("vit", {"positions": positions, "pool": pool}))


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_sincos_positions_are_fixed_saved_and_distinct(pool: str) -> None:
    checks.check_fixed_positions(Case("vit", {"positions": "sincos", "pool": pool}, image_size=20))


def test_a_vit_starts_as_its_docstring_says() -> None:
    checks.check_vit_starts_as_its_docstring_says(Case("vit", image_size=28))


@pytest.mark.parametrize(("init", "positions", "token"), [("xavier", 1 / 32, 0.02), ("torch", 1.0, 1.0)])
def test_tokens_that_are_learned_start_with_the_deviation_of_their_init(
    init: str, positions: float, token: float
) -> None:
    torch.manual_seed(0)
    model: Any = Case("vit", {"pool": "class", "init": init, "embed_dim": 1024, "depth": 1}, image_size=28).build()
    assert model.cls_token.std().item() == pytest.approx(token, rel=0.1)
    assert model.pos_embed.std().item() == pytest.approx(positions, rel=0.05)


def test_positions_of_the_narrowest_vit_have_waves_of_one_and_of_a_ten_thousandth() -> None:
    x, y = math.sin(1.0), math.sin(1e-4)
    a, b = math.cos(1.0), math.cos(1e-4)
    table = sincos_positions(2, 8, num_prefix=1)
    first, second = [0.0, 0.0, 1.0, 1.0], [x, y, a, b]
    expected = [[0.0] * 8, first + first, second + first, first + second, second + second]
    assert torch.allclose(table[0], torch.tensor(expected), atol=1e-7)


def test_the_notebook_model_has_14_410_parameters() -> None:
    checks.check_the_notebook_model_has_its_size(VIT)


def test_vit_b16_has_86_567_656_parameters() -> None:
    checks.check_vit_b16_has_its_size(VIT)


def test_the_feature_map_keeps_at_least_4_pixels() -> None:
    checks.check_the_map_keeps_4_pixels(CNN)


def test_width_is_the_channels_of_the_first_stage_and_each_further_stage_doubles_them() -> None:
    checks.check_width_is_the_channels_of_the_first_stage(CNN)


def test_growth_is_the_channels_of_a_stage_over_those_of_the_stage_before() -> None:
    checks.check_growth_is_the_channels_of_a_stage_over_those_before(CNN)


def test_a_cnn_starts_as_its_docstring_says() -> None:
    checks.check_cnn_starts_as_its_docstring_says(CNN)


@pytest.mark.parametrize(
    ("family", "wrong", "named"),
    [
        ("vit", {"num_heads": 5}, "num_heads 5 does not divide embed_dim 16"),
        ("vit", {"patch_size": 3}, "patch_size 3 does not divide image_size 8"),
        ("vit", {"patch_size": 0}, "patch_size"),
        ("vit", {"embed_dim": 6, "positions": "sincos"}, "positions .* embed_dim"),
        ("vit", {"embed_dim": 0}, "embed_dim\n"),  # of its own, not for the MLP that it leaves no width
        ("vit", {"num_heads": 0}, "num_heads\n"),
        ("vit", {"depth": 0}, "depth"),
        ("vit", {"depth": 1001}, "depth"),
        ("vit", {"depth": "2"}, "depth"),
        ("vit", {"dropout": 1.0}, "dropout"),
        ("vit", {"dropout": -0.1}, "dropout"),
        ("vit", {"mlp_ratio": 0.0}, "mlp_ratio"),
        ("vit", {"mlp_ratio": 0.01}, "mlp_ratio"),  # leaves the MLP no hidden unit
        ("vit", {"mlp_ratio": float("inf")}, "mlp_ratio"),
        ("vit", {"pool": "max"}, "pool"),
        ("vit", {"dept": 2}, "dept"),
        ("vit", {"width": 8}, "width"),
        ("cnn", {"depth": 0}, "depth"),
        ("cnn", {"depth": 1001}, "depth"),
        ("cnn", {"depth": "2"}, "depth"),
        ("cnn", {"width": 0}, "width"),
        ("cnn", {"dropout": -0.1}, "dropout"),
        ("cnn", {"dropout": 1.0}, "dropout"),
        ("cnn", {"growth": 0.9}, "growth"),
        ("cnn", {"growth": 8.1}, "growth"),
        ("cnn", {"kernel_size": 2}, "kernel_size"),  # an even one moves the map against its shortcut
        ("cnn", {"kernel_size": 1}, "kernel_size"),  # with a stride of 2 it never sees three pixels of four
        ("cnn", {"patch_size": 4}, "patch_size"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(family: str, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Case(family, wrong).build()


def test_the_largest_settings_are_allowed() -> None:
    for family, largest in (("vit", {"depth": 1000}), ("cnn", {"depth": 1000, "growth": 8.0})):
        assert MODELS[family][0](**largest).model_dump().items() >= largest.items()


def test_an_unknown_family_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="mlp"):
        build_model("mlp", {}, image_size=8, in_channels=1, num_classes=3)


def test_a_meta_model_has_the_parameters_of_the_model_and_takes_no_memory() -> None:
    for name, (own, _) in SMALL.items():
        model = build_meta_model(name, own, image_size=8, in_channels=1, num_classes=3)
        assert checks.num_params(model) == checks.num_params(Case(name).build())
        assert all(parameter.is_meta for parameter in model.parameters())


def test_settings_that_change_the_size_leave_depth_alone() -> None:
    for name, keys in SIZE_SETTINGS.items():
        assert {*keys} <= MODELS[name][0].model_fields.keys()
        assert "depth" not in keys


@st.composite
def vits(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Settings that fit each other, and the side of an image that the patches divide."""
    positions, num_heads = draw(st.sampled_from(["learned", "sincos"])), draw(st.integers(1, 4))
    embed_dim = num_heads * draw(st.integers(1, 3)) * (4 if positions == "sincos" else 1)
    patch_size = draw(st.integers(1, 8))
    return {
        "positions": positions,
        "num_heads": num_heads,
        "embed_dim": embed_dim,
        "patch_size": patch_size,
        "depth": draw(st.integers(1, 2)),
        "mlp_ratio": (draw(st.integers(1, 4 * embed_dim)) + 0.5) / embed_dim,  # at least one hidden unit
        "pool": draw(st.sampled_from(["mean", "class"])),
        "attention": draw(st.sampled_from(["auto", "explicit", "fused"])),
    }, patch_size * draw(st.integers(1, 16 // patch_size))


CNNS = st.tuples(
    st.fixed_dictionaries(
        {
            "depth": st.integers(1, 6),
            "width": st.integers(1, 4),
            "kernel_size": st.sampled_from([3, 5, 7]),
            "growth": st.floats(1, 8),
        }
    ),
    st.integers(1, 16),
)


@pytest.mark.parametrize(("family", "drawn"), [("vit", vits()), ("cnn", CNNS)], ids=["vit", "cnn"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), in_channels=st.integers(1, 4), num_classes=st.integers(1, 4))
def test_a_model_whose_settings_fit_can_be_built_and_run(
    family: str, drawn: st.SearchStrategy[Any], data: st.DataObject, in_channels: int, num_classes: int
) -> None:
    chosen, image_size = data.draw(drawn)
    model = build_model(family, chosen, image_size, in_channels, num_classes)
    logits = model(torch.zeros(2, in_channels, image_size, image_size))
    assert logits.shape == (2, num_classes)
    assert logits.isfinite().all()


def test_a_vit_may_start_as_torch_makes_its_layers() -> None:
    torch.manual_seed(0)
    ours, theirs = (ViT(ViTConfig(pool="class", init=init), 28, 1, 10) for init in ("xavier", "torch"))
    assert float(theirs.pos_embed.detach().std()) == pytest.approx(1.0, rel=0.1)
    assert float(ours.pos_embed.detach().std()) == pytest.approx(32**-0.5, rel=0.1)
    limit = 49**-0.5  # of nn.Linear: uniform within one over the root of its inputs
    assert float(theirs.patch_embed.proj.weight.detach().abs().max()) <= limit
    assert float(ours.patch_embed.proj.weight.detach().abs().max()) > limit
    assert float(ours.head.bias.detach().abs().max()) == 0
    assert float(theirs.head.bias.detach().abs().max()) > 0
