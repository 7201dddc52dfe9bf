"""Every device that is here keeps one contract; memory is held against a known allocation."""

import multiprocessing
import platform
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import DeviceError
from bench.system import device as device_module
from bench.system.device import CPU, CUDA, DEVICES, MPS, XPU, available_devices, best_device, open_device
from bench.system.precision import DTYPES

MIB = 2**20
KNOWN = 256 * MIB


def here(kind: str) -> CPU:
    """A device of this kind, or the test is skipped."""
    if not DEVICES[kind].count():
        pytest.skip(f"this machine has no device of kind {kind}")
    return open_device(kind)


kinds = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "cpu" else pytest.mark.gpu) for kind in DEVICES]
)


@kinds
def test_device_names_itself_synchronises_and_places_tensors(kind: str) -> None:
    device = here(kind)
    device.synchronize()
    assert device.name.strip()
    assert device.type == kind
    assert torch.ones(2, device=device.torch_device).device.type == kind


@kinds
def test_devices_are_counted_and_listed_by_index(kind: str) -> None:
    count = DEVICES[kind].count()
    listed = [name for name in available_devices() if name.partition(":")[0] == kind]
    assert listed == ([kind] if count == 1 else [f"{kind}:{index}" for index in range(count)])
    assert [open_device(name).index for name in listed] == list(range(count))


@pytest.mark.usefixtures("native_half_precision")
@kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_numeric_mode_computes_in_its_type_or_says_why_not(kind: str, dtype: str) -> None:
    device, precision = here(kind), DTYPES[dtype]
    reason = device.lacks(dtype)
    if reason is not None:
        assert reason.strip()
        assert "\n" not in reason
        return
    layer = torch.nn.Linear(4, 4).to(device.torch_device, precision.weights)
    with precision.context(device):
        found = layer(torch.ones(2, 4, device=device.torch_device, dtype=precision.image_dtype))
    assert found.dtype == precision.compute_dtype


def _peaks_of_known_memory(kind: str) -> tuple[int | None, int | None, int | None]:
    """Peaks before and after KNOWN bytes were held, and the allocator's, in a process of its own as a trial has."""
    device = open_device(kind)
    before = torch.ones(KNOWN // 2, dtype=torch.uint8, device=device.torch_device)
    del before  # freed before the watch begins: it must not hide what follows
    device.reset_peak_memory()
    device.sample_memory()
    nothing = device.peak_memory_bytes()
    held = torch.ones(KNOWN, dtype=torch.uint8, device=device.torch_device)
    device.synchronize()
    device.sample_memory()
    del held
    return nothing, device.peak_memory_bytes(), device.peak_memory_reserved_bytes()


@pytest.mark.slow
@kinds
def test_peak_memory_is_that_of_a_known_allocation(kind: str) -> None:
    here(kind)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        nothing, peak, reserved = pool.apply(_peaks_of_known_memory, (kind,))
    assert (nothing or 0) < 2 * MIB
    assert peak is not None
    assert peak == pytest.approx(KNOWN, rel=0.02)
    assert reserved is None or reserved >= peak


def _resident_after_a_block_was_freed(keep: bool) -> int:
    device = CPU()
    if keep:
        device.keep_freed_memory()
    block = torch.ones(KNOWN, dtype=torch.uint8)
    del block
    return device_module._resident_bytes("VmRSS")


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_stays_with_a_process_that_asks_to_keep_it() -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        given_back, kept = (pool.apply(_resident_after_a_block_was_freed, (keep,)) for keep in (False, True))
    assert kept - given_back > 0.9 * KNOWN


@kinds
def test_energy_is_not_measured_or_never_runs_backwards(kind: str) -> None:
    device = here(kind)
    readings = [device.energy_joules()]
    x = torch.ones(256, 256, device=device.torch_device)
    for _ in range(3):
        x = (x @ x).clamp(max=1)
        device.synchronize()
        readings.append(device.energy_joules())
    if readings[0] is None:
        assert readings == [None] * 4
    else:
        measured = [joules for joules in readings if joules is not None]
        assert len(measured) == 4
        assert measured == sorted(measured)


class FakeBackend(SimpleNamespace):
    """What torch.cuda and torch.xpu share, for a card that isn't here; remembers which device it was asked about."""

    def __init__(self, tf32: bool = True, bf16: bool = True) -> None:
        super().__init__(asked=[], tf32=tf32, bf16=bf16, allocated=100, peak=100, reserved=512)

    def device(self, chosen: torch.device) -> nullcontext[None]:
        self.asked.append(chosen)
        return nullcontext()

    def is_tf32_supported(self) -> bool:
        return self.tf32

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.bf16 or including_emulation

    def get_device_name(self, chosen: torch.device) -> str:
        return f"Card {chosen.index}"

    def get_device_properties(self, chosen: torch.device) -> SimpleNamespace:
        return SimpleNamespace(uuid=f"uuid-of-{chosen.index}")

    def empty_cache(self) -> None:
        pass

    def reset_peak_memory_stats(self, chosen: torch.device) -> None:
        self.peak = self.allocated

    def memory_allocated(self, chosen: torch.device) -> int:
        return self.allocated

    def max_memory_allocated(self, chosen: torch.device) -> int:
        return self.peak

    def max_memory_reserved(self, chosen: torch.device) -> int:
        return self.reserved


@pytest.mark.parametrize("card_class", [CUDA, XPU])
@pytest.mark.parametrize(
    ("tf32", "bf16", "lacking"),
    [
        (True, True, set()),
        (False, True, {"tf32"}),
        (False, False, {"tf32", "amp-bf16", "bf16"}),
    ],
)
def test_card_lacks_the_modes_that_it_would_only_emulate(
    card_class: type[CUDA], tf32: bool, bf16: bool, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend(tf32, bf16)
    monkeypatch.setattr(card_class, "backend", backend)
    card = card_class(1)
    reasons = {dtype: reason for dtype in DTYPES if (reason := card.lacks(dtype))}
    assert set(reasons) == lacking
    assert all(reason.startswith("Card 1 has no ") for reason in reasons.values())
    assert {chosen.index for chosen in backend.asked} == {1}  # not about whichever card is the current one


def test_peak_of_a_card_is_counted_above_what_it_held_before(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    monkeypatch.setattr(CUDA, "backend", backend)
    card = CUDA(0)
    backend.peak = 9000  # of something earlier
    card.reset_peak_memory()
    assert card.peak_memory_bytes() == 0
    backend.peak = 350
    assert card.peak_memory_bytes() == 250
    assert card.peak_memory_reserved_bytes() == 512


def test_energy_of_a_card_is_its_own_meter_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def meter_of(uuid: str) -> Any:
        opened.append(uuid)
        return iter([10.0, 12.5]).__next__

    monkeypatch.setattr(device_module, "nvml_meter", meter_of)
    monkeypatch.setattr(CUDA, "backend", FakeBackend())
    card = CUDA(1)
    assert [card.energy_joules(), card.energy_joules()] == [10.0, 12.5]
    assert opened == ["uuid-of-1"]
    monkeypatch.setattr(device_module, "nvml_meter", lambda uuid: None)
    assert CUDA(0).energy_joules() is None
    assert XPU(0).energy_joules() is None


def test_energy_of_the_processor_is_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "rapl_meter", lambda: lambda: 3.5)
    assert CPU().energy_joules() == 3.5
    monkeypatch.setattr(device_module, "rapl_meter", lambda: None)
    assert CPU().energy_joules() is None


def test_peak_of_an_apple_gpu_is_the_highest_sample_since_the_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000]
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: now[0])
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    gpu = MPS()
    gpu.sample_memory()
    now[0] = 100
    gpu.reset_peak_memory()
    assert gpu.peak_memory_bytes() is None  # nothing sampled is not measured, and not zero
    for now[0] in (300, 700, 200):
        gpu.sample_memory()
    assert gpu.peak_memory_bytes() == 600
    assert gpu.energy_joules() is None


@pytest.mark.parametrize(("macos", "lacking"), [(14, {"tf32"}), (13, {"tf32", "amp-bf16", "bf16"})])
def test_apple_gpu_lacks_tf32_and_before_macos_14_bfloat16(
    macos: int, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos >= major)
    assert {dtype for dtype in DTYPES if MPS().lacks(dtype)} == lacking


def fake_processor(monkeypatch: pytest.MonkeyPatch, machine: str, bfloat16: bool, float16: bool) -> None:
    """A processor of this architecture, for which oneDNN says what it has instructions for."""
    monkeypatch.setattr(device_module.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: float16)


@pytest.mark.parametrize(
    ("machine", "bfloat16", "float16", "lacking"),
    [
        ("x86_64", True, True, set()),
        ("AMD64", True, False, {"amp-fp16", "fp16"}),
        ("x86_64", False, True, {"amp-bf16", "bf16"}),
        ("AMD64", False, False, {"amp-bf16", "bf16", "amp-fp16", "fp16"}),
        ("aarch64", False, False, set()),
    ],
)
def test_x86_processor_lacks_the_modes_that_it_would_only_emulate(
    machine: str, bfloat16: bool, float16: bool, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_processor(monkeypatch, machine, bfloat16, float16)
    reasons = {dtype: reason for dtype in DTYPES if (reason := CPU().lacks(dtype))}
    assert set(reasons) == lacking | {"tf32"}
    for dtype, kind in (("bf16", "bfloat16"), ("amp-fp16", "float16")):
        assert reasons.get(dtype) in (None, f"this processor has no {kind} of its own")


def test_torch_without_onednn_tells_nothing_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_processor(monkeypatch, "x86_64", bfloat16=False, float16=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert {dtype for dtype in DTYPES if CPU().lacks(dtype)} == {"tf32"}


def test_this_machines_answer_is_onednns() -> None:
    known = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()
    for dtype, supported in (("bf16", "_is_mkldnn_bf16_supported"), ("fp16", "_is_mkldnn_fp16_supported")):
        assert (CPU().lacks(dtype) is None) == (not known or getattr(torch.ops.mkldnn, supported)())


def test_unknown_device_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DeviceError, match="did you mean 'cuda'"):
        open_device("cdua")


def test_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    for kind, device_class in DEVICES.items():
        if kind != "cpu":
            with pytest.raises(DeviceError, match=r"here: .*cpu"):
                open_device(f"{kind}:{device_class.count()}")
    with pytest.raises(DeviceError):
        open_device("cpu:no such processor")


def test_the_processor_is_always_there_and_last() -> None:
    assert available_devices()[-1] == "cpu"
    assert best_device() == available_devices()[0].partition(":")[0]
