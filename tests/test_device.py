"""Every device that is here keeps the same contract; memory is held against a known allocation."""

import multiprocessing

import pytest
import torch

from bench.device import DEVICES, DTYPES, available_devices, best_device, open_device
from bench.errors import DeviceError


@pytest.mark.parametrize("name", available_devices())
def test_device_names_itself_synchronises_and_places_tensors(name: str) -> None:
    device = open_device(name)
    device.synchronize()
    assert device.name
    assert torch.ones(2, device=device.torch_device).device.type == device.type


@pytest.mark.parametrize("name", available_devices())
@pytest.mark.parametrize("dtype", DTYPES)
def test_numeric_mode_computes_in_its_type_or_says_why_not(name: str, dtype: str) -> None:
    device = open_device(name)
    reason = device.lacks(dtype)
    if reason is not None:
        assert reason.strip()
        return
    layer = torch.nn.Linear(4, 4, device=device.torch_device)
    with DTYPES[dtype].context(device):
        found = layer(torch.ones(2, 4, device=device.torch_device))
    assert found.dtype == (DTYPES[dtype].autocast or torch.float32)


def _peak_of_64_mib() -> tuple[int | None, int | None]:
    device = open_device(best_device())
    before = torch.ones(64 * 2**20, dtype=torch.uint8)  # freed before the watch begins: must not hide what follows
    del before
    device.reset_peak_memory()
    nothing = device.peak_memory_bytes()
    held = torch.ones(64 * 2**20, dtype=torch.uint8, device=device.torch_device)
    del held
    return nothing, device.peak_memory_bytes()


def test_peak_memory_is_that_of_a_known_allocation() -> None:
    if best_device() == "mps":
        pytest.skip("MPS keeps no peak")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own, as a trial has
        nothing, peak = pool.apply(_peak_of_64_mib)
    assert (nothing or 0) < 2 * 2**20
    assert peak is not None
    assert peak / 2**20 == pytest.approx(64, rel=0.02, abs=1)


def test_unknown_device_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DeviceError, match="did you mean 'cuda'"):
        open_device("cdua")


def test_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    for kind, device_class in DEVICES.items():
        if kind != "cpu":
            with pytest.raises(DeviceError, match=r"here: .*cpu"):
                open_device(f"{kind}:{device_class.count()}")
    with pytest.raises(DeviceError):
        open_device("cpu:x")


def test_the_processor_is_always_there_and_last() -> None:
    assert available_devices()[-1] == "cpu"
    assert best_device() == available_devices()[0].partition(":")[0]
