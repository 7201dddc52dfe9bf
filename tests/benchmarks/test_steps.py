"""One training step and one inference of each family in each numeric mode, for pytest-benchmark.

    python -m pytest tests/benchmarks -n 0 --benchmark-only --benchmark-json steps.json

The JSON is what public tools for benchmarks in CI read. A usual test run skips these.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.config.recipes import RECIPES
from bench.data.dataset import ImageFormat, TrainingBatches, load_dataset
from bench.system.device import available_devices, open_device
from bench.system.precision import DTYPES, set_exact_arithmetic
from bench.training.loop import Learner
from bench.training.optim import build_optimizer
from models import build_model

BATCH = 64
SHAPES: dict[str, dict[str, Any]] = {
    "vit": {"patch_size": 2, "depth": 4, "embed_dim": 32},  # 16 tokens, as patch 7 on MNIST
    "cnn": {"depth": 2, "width": 16},
}


@pytest.fixture(autouse=True)
def exact_again() -> Iterator[None]:
    yield
    set_exact_arithmetic()


def prepare(family: str, dtype: str, device_name: str) -> tuple[Learner, Tensor, Tensor]:
    device, precision = open_device(device_name), DTYPES[dtype]
    reason = device.lacks(dtype)
    if reason:
        pytest.skip(reason)
    set_exact_arithmetic(precision)
    torch.manual_seed(0)
    data = load_dataset("digits").to(device.torch_device)
    model = build_model(family, SHAPES[family], 8, 1, 10).to(device.torch_device, precision.weights)
    learner = Learner(model, build_optimizer(model, RECIPES[family]), lambda step: 1e-3, precision, device)
    images, labels = next(iter(TrainingBatches(data, BATCH, seed=0, form=ImageFormat(precision.image_dtype))))
    return learner, images, labels


@pytest.mark.parametrize("device_name", available_devices())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", SHAPES)
def test_training_step(benchmark: Any, family: str, dtype: str, device_name: str) -> None:
    learner, images, labels = prepare(family, dtype, device_name)
    device = open_device(device_name)
    benchmark.extra_info |= {"images": BATCH, "device_name": device.name, "torch": torch.__version__}

    def step() -> None:
        learner.step(images, labels)
        device.synchronize()

    benchmark(step)


@pytest.mark.parametrize("device_name", available_devices())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", SHAPES)
def test_inference(benchmark: Any, family: str, dtype: str, device_name: str) -> None:
    learner, images, _ = prepare(family, dtype, device_name)
    device = open_device(device_name)
    benchmark.extra_info |= {"images": BATCH, "device_name": device.name, "torch": torch.__version__}
    learner.model.eval()

    def infer() -> Tensor:
        with torch.inference_mode(), learner.context:
            logits = learner.model(images)
        device.synchronize()
        return logits

    assert benchmark(infer).shape == (BATCH, 10)
