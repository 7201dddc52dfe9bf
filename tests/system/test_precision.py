"""Numeric modes: each computes in the types that it says, on every device that has it, and learns."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from bench.system.device import CPU, available_devices, open_device
from bench.system.precision import DTYPES, Precision, set_exact_arithmetic
from bench.training.loop import Learner
from bench.training.optim import build_optimizer
from bench.trial import Training
from models import build_model

HALF = (torch.bfloat16, torch.float16)
FAMILIES = {
    "vit": {"patch_size": 7, "embed_dim": 16, "depth": 1, "num_heads": 2},
    "cnn": {"width": 4, "depth": 1},
}


@pytest.fixture(autouse=True)
def switches_as_found() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]


def test_table_holds_the_six_modes_under_their_own_names() -> None:
    assert list(DTYPES) == ["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16", "fp16"]
    assert all(name == precision.name for name, precision in DTYPES.items())


@pytest.mark.parametrize(
    ("name", "images", "products"),
    [
        ("fp32", torch.float32, torch.float32),
        ("tf32", torch.float32, torch.float32),
        ("amp-bf16", torch.float32, torch.bfloat16),
        ("amp-fp16", torch.float32, torch.float16),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("fp16", torch.float16, torch.float16),
    ],
)
def test_mode_says_in_which_types_images_enter_and_products_run(
    name: str, images: torch.dtype, products: torch.dtype
) -> None:
    assert DTYPES[name].image_dtype is images
    assert DTYPES[name].compute_dtype is products


def test_only_amp_fp16_scales_its_gradients() -> None:
    assert [name for name, precision in DTYPES.items() if precision.scale_gradients] == ["amp-fp16"]
    assert DTYPES["amp-fp16"].scaler(CPU()).is_enabled()
    assert not DTYPES["fp16"].scaler(CPU()).is_enabled()


@pytest.mark.usefixtures("native_half_precision")  # emulated, it is slower and no less right
@pytest.mark.parametrize("name", available_devices())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_model_learns_in_the_mode_and_keeps_its_types(name: str, dtype: str, family: str) -> None:
    device, precision = open_device(name), DTYPES[dtype]
    if reason := device.lacks(dtype):
        pytest.skip(reason)
    set_exact_arithmetic(precision)
    torch.manual_seed(0)
    model = build_model(family, FAMILIES[family], 14, 1, 4).to(device.torch_device, precision.weights)
    optimizer = build_optimizer(model, Training(learning_rate=1e-2))
    classes = torch.arange(32) % 4
    images = torch.randn(32, 1, 14, 14) * (1 + classes.view(-1, 1, 1, 1))  # of a contrast that tells the class
    images, labels = images.to(device.torch_device, precision.image_dtype), classes.to(device.torch_device)
    student = Learner(model, optimizer, lambda step: 1e-2, precision, device)
    seen: list[torch.dtype] = []
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    losses = [float(student.step(images, labels)) for _ in range(20)]

    assert losses[-1] < 0.7 * losses[0]  # NaN is not below anything
    assert set(seen) == {precision.compute_dtype}
    weights = precision.weights or torch.float32
    assert {p.dtype for p in model.parameters()} == {weights}
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_tf32_is_on_for_its_own_mode_and_off_for_all_others() -> None:
    backends = torch.backends
    new = (backends.cuda.matmul, backends.cudnn, backends.mkldnn)
    for name in ("fp32", "tf32", "amp-bf16", "tf32", "fp32"):  # there and back again
        set_exact_arithmetic(DTYPES[name])
        wanted = name == "tf32"
        assert {switch.fp32_precision for switch in new} == {"tf32" if wanted else "ieee"}
        # what torch.compile asks for, which raises where the two kinds of switches disagree
        assert backends.cuda.matmul.allow_tf32 is wanted
        assert backends.cudnn.allow_tf32 is wanted
        assert torch.get_float32_matmul_precision() == ("high" if wanted else "highest")
    set_exact_arithmetic(DTYPES["tf32"])
    set_exact_arithmetic()
    assert backends.cuda.matmul.fp32_precision == "ieee"


def test_arithmetic_is_deterministic_in_every_mode_whatever_was_set_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for precision in DTYPES.values():
        torch.backends.cudnn.benchmark = True  # as somebody's own model may have it
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(False)
        set_exact_arithmetic(precision)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.backends.cudnn.benchmark
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_small_gradients_do_not_break_adam_in_half_precision() -> None:
    """In float16 the mean square of a gradient of 1e-3 is 1e-9, which is zero there; the step mustn't be m / 1e-8."""
    for dtype in HALF:
        weights = nn.Parameter(torch.ones(4, 4, dtype=dtype))
        layer = nn.Module()
        layer.weights = weights
        optimizer = build_optimizer(layer, Training(learning_rate=1e-2, optimizer="adam", weight_decay=0.0))
        for _ in range(10):
            weights.grad = torch.full_like(weights, 1e-3)
            optimizer.step()
        moved = (1 - weights.detach().float()).abs()
        assert float(moved.min()) > 0
        assert float(moved.max()) < 0.2, dtype  # ten steps of the learning rate, and no more than twice that


def test_precision_is_immutable() -> None:
    with pytest.raises(AttributeError):
        Precision("fp32").tf32 = True  # type: ignore[misc]
