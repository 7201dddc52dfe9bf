"""Devices: clocks, memory, random numbers and numeric modes of a CPU, CUDA, MPS or XPU, behind one interface.

A device is an object of a class in DEVICES, named like torch's ("cpu", "cuda", "cuda:1", "mps", "xpu").
"""

import ctypes
import gc
import platform
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch

from bench.errors import DeviceError, nearest
from bench.system.contention import machine_state
from bench.system.environment import cpu_name
from bench.system.power import Meter, nvml_meter, rapl_meter
from bench.system.precision import DTYPES
from bench.system.process import PROC, line_of

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's <malloc.h>
LARGE_BLOCK = 1 << 16  # bytes
HALF_PRECISION = {torch.bfloat16: "bfloat16", torch.float16: "float16"}


def emulated(dtype: torch.dtype) -> bool:
    """Whether this processor computes in `dtype` by way of float32, which takes 7 to 15 times as long as float32 does.

    True of x86 processors where oneDNN, and with it torch, finds no instructions that it can use. What a step costs on
    other kinds was never measured: False.
    """
    known = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()
    if dtype not in HALF_PRECISION or not known:
        return False
    bfloat16, float16 = torch.ops.mkldnn._is_mkldnn_bf16_supported, torch.ops.mkldnn._is_mkldnn_fp16_supported
    return not (bfloat16 if dtype is torch.bfloat16 else float16)()


class CPU:
    """The processor. Memory is the process's own high-water mark above its floor.

    Every device has these methods; a backend below overrides what it does differently.
    """

    type = "cpu"

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.torch_device = torch.device(self.type) if self.type in ("cpu", "mps") else torch.device(self.type, index)
        self._floor = 0

    @staticmethod
    def count() -> int:
        """How many of them this machine has."""
        return 1

    @property
    def name(self) -> str:
        return cpu_name()

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done; on a CPU it is."""

    def lacks(self, dtype: str) -> str | None:
        """Why the numeric mode `dtype` can't run here, in one clause, or None if it can."""
        if DTYPES[dtype].tf32:
            return "a CPU has no TF32"
        half = DTYPES[dtype].compute_dtype
        return f"this processor has no {HALF_PRECISION[half]} of its own" if emulated(half) else None

    def reset_peak_memory(self) -> None:
        """Begin to watch: what is in use now becomes the floor, and peaks so far are forgotten."""
        gc.collect()
        if sys.platform == "linux":
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)  # glibc keeps freed memory; training would reuse it unseen
            with suppress(OSError):  # a sandbox may forbid it; a peak from before would then count
                Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        self._floor = _resident_bytes("VmRSS")

    def return_freed_memory(self) -> None:
        """From here on large blocks come from the system and go back to it, so that a peak is what lived at once.

        By itself glibc keeps ever larger blocks as it sees them freed; what then lies in its gaps differs from run to
        run, by half of a peak.
        """
        _set_malloc({M_MMAP_THRESHOLD: LARGE_BLOCK, M_TRIM_THRESHOLD: LARGE_BLOCK})

    def keep_freed_memory(self) -> None:
        """From here on what is freed stays with this process; peaks mean nothing any more.

        Asking for large blocks anew in every step, page by page, takes time.
        """
        _set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1})

    def sample_memory(self) -> None:
        """Look at the memory in use now, for devices that keep no peak of their own. Not for timed passes."""

    def peak_memory_bytes(self) -> int | None:
        """Highest memory in use since the reset, above the floor; None where the device can't tell."""
        return (_resident_bytes("VmHWM") - self._floor) or None

    def peak_memory_reserved_bytes(self) -> int | None:
        """Highest memory held by the allocator; None where there is no such thing."""
        return None

    def free_memory_bytes(self) -> int | None:
        """Memory that is still to be had; None where the device can't tell."""
        free = machine_state()["available_memory_bytes"]
        return None if free is None else int(free)

    def energy_joules(self) -> float | None:
        """Energy counted so far, of which only differences mean something; None where there is no meter to read."""
        return self._meter() if self._meter else None

    @cached_property
    def _meter(self) -> Meter | None:
        return rapl_meter()


class CUDA(CPU):
    """An NVIDIA GPU, or an AMD one under ROCm."""

    type = "cuda"
    backend = torch.cuda

    @staticmethod
    def count() -> int:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    @property
    def name(self) -> str:
        return self.backend.get_device_name(self.torch_device)

    def synchronize(self) -> None:
        self.backend.synchronize(self.torch_device)

    def lacks(self, dtype: str) -> str | None:
        precision = DTYPES[dtype]
        with self.backend.device(self.torch_device):  # what follows asks about the current device
            if precision.tf32 and not self.backend.is_tf32_supported():
                return f"{self.name} has no TF32"
            native_bf16 = self.backend.is_bf16_supported(including_emulation=False)
            if precision.compute_dtype is torch.bfloat16 and not native_bf16:
                return f"{self.name} has no bfloat16 of its own"
        return None

    def reset_peak_memory(self) -> None:
        gc.collect()
        self.backend.empty_cache()
        self.backend.reset_peak_memory_stats(self.torch_device)
        self._floor = self.backend.memory_allocated(self.torch_device)

    def peak_memory_bytes(self) -> int | None:
        return self.backend.max_memory_allocated(self.torch_device) - self._floor

    def peak_memory_reserved_bytes(self) -> int | None:
        return self.backend.max_memory_reserved(self.torch_device)

    def free_memory_bytes(self) -> int | None:
        return self.backend.mem_get_info(self.torch_device)[0]

    @cached_property
    def _meter(self) -> Meter | None:
        return nvml_meter(str(self.backend.get_device_properties(self.torch_device).uuid))


class XPU(CUDA):
    """An Intel GPU; torch.xpu mirrors torch.cuda."""

    type = "xpu"
    backend = torch.xpu

    @staticmethod
    def count() -> int:
        return torch.xpu.device_count() if torch.xpu.is_available() else 0

    _meter = None  # torch tells its power, not its energy


class MPS(CPU):
    """Apple's GPU. It keeps no peak: ours is the highest of the samples taken."""

    type = "mps"
    _meter = None
    _peak: int | None = None

    @staticmethod
    def count() -> int:
        return int(torch.backends.mps.is_available())

    @property
    def name(self) -> str:
        return f"{cpu_name()} GPU"

    def synchronize(self) -> None:
        torch.mps.synchronize()

    def lacks(self, dtype: str) -> str | None:
        precision = DTYPES[dtype]
        if precision.tf32:
            return "Apple's GPU has no TF32"
        if precision.compute_dtype is torch.bfloat16 and not torch.backends.mps.is_macos_or_newer(14, 0):
            return "bfloat16 on Apple's GPU needs macOS 14"
        return None

    def reset_peak_memory(self) -> None:
        gc.collect()
        torch.mps.empty_cache()
        self._floor, self._peak = torch.mps.current_allocated_memory(), None

    def sample_memory(self) -> None:
        self._peak = max(self._peak or 0, torch.mps.current_allocated_memory())

    def peak_memory_bytes(self) -> int | None:
        return None if self._peak is None else self._peak - self._floor


def open_device(name: str) -> CPU:
    """The device called `name`: "cpu", "cuda", "cuda:1", "mps", "xpu"; "cuda:A100" is the first one that is called so.

    Raises: DeviceError: no such kind of device, or this machine has none.
    """
    kind, _, which = name.partition(":")
    if kind not in DEVICES:
        raise DeviceError(f"device '{name}': no such device; {nearest(name, [*DEVICES, 'auto'])}")
    devices, here = [DEVICES[kind](index) for index in range(DEVICES[kind].count())], ", ".join(available_devices())
    if not (which or "0").isdecimal():
        for device in devices:
            if which.casefold() in device.name.casefold():
                return device
        names = ", ".join(dict.fromkeys(device.name for device in devices)) or here
        raise DeviceError(f"device '{name}': this machine has none whose name contains '{which}'; here: {names}")
    if int(which or 0) >= len(devices):
        raise DeviceError(f"device '{name}': this machine has {len(devices)} of kind {kind}; here: {here}")
    return devices[int(which or 0)]


def available_devices() -> list[str]:
    """Names of the devices that are here, the fastest kind first; several GPUs by index."""
    counts = {kind: device_class.count() for kind, device_class in DEVICES.items()}
    return [kind if n == 1 else f"{kind}:{index}" for kind, n in counts.items() for index in range(n)]


def best_device() -> str:
    """What `--device auto` means on this machine."""
    return available_devices()[0].partition(":")[0]


def _set_malloc(options: dict[int, int]) -> None:
    """Set options of glibc's malloc, where there is one."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        for option, value in options.items():
            set_option(option, value)


def _resident_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process; elsewhere than on Linux the high-water mark, the best there is."""
    if found := line_of(PROC / "self" / "status", field):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


DEVICES: dict[str, type[CPU]] = {"cuda": CUDA, "mps": MPS, "xpu": XPU, "cpu": CPU}
