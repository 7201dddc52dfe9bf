"""Energy meters that machines bring along: a reading in joules, of which only differences mean something.

A figure is for all that runs on the metered part, whoever started it, idle power included: RAPL's for the whole of
each processor package (cores, caches, memory controller; not the memory), NVML's for the whole graphics card (its
memory and fans included; not the processor that feeds it). The two are therefore not to be compared with each other.
"""

from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

Meter = Callable[[], float | None]  # joules so far; None: the meter no longer answers


def rapl_meter(root: Path = POWERCAP) -> Meter | None:
    """The sum over the processor's packages (Intel's and AMD's alike), or None where it can't be read.

    Zones within a package (intel-rapl:0:1) are parts of it, and the one called psys is the whole machine, which has the
    packages in it: neither is added. By Linux's default only root may read them.

    A zone counts microjoules, and starts again from zero when its range is used up. Two readings must lie less than a
    whole range apart (about 262 kJ: three quarters of an hour at 100 W), or a turn of the counter goes unseen.
    """
    total, last = 0, dict[Path, int]()

    def joules() -> float | None:
        nonlocal total
        try:
            for counter, span in ranges.items():
                now = int(counter.read_bytes())
                total += (now - last.get(counter, now)) % span
                last[counter] = now
        except (OSError, ValueError):
            return None
        return total / 1e6

    try:
        folders = [folder for folder in root.glob("intel-rapl:*") if folder.name.count(":") == 1]
        packages = [folder for folder in folders if (folder / "name").read_text().startswith("package")]
        ranges = {folder / "energy_uj": int((folder / "max_energy_range_uj").read_text()) for folder in packages}
    except (OSError, ValueError):
        return None
    return joules if ranges and joules() is not None else None


def nvml_meter(uuid: str) -> Meter | None:
    """The graphics card with this UUID (as torch has it, without NVML's prefix), or None.

    By UUID and not by number, since CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's. None without the
    optional package nvidia-ml-py, without the driver, and on a card older than Volta or a slice of one (MIG).
    """
    try:
        import pynvml
    except ImportError:
        return None

    def joules() -> float | None:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000  # it counts millijoules
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None
    return None if joules() is None else joules
