"""Inventory: which devices a plan may name, what they are called, and what they can't do: here, or on a cluster."""

from typing import Protocol

from bench.system.device import best_device, open_device
from bench.training.compilation import lacks_compiler
from bench.training.data_parallel import lacks_company
from bench.trial import Trial


class Inventory(Protocol):
    """The devices that trials may run on."""

    def device_name(self, asked: str) -> str:
        """One name for one device ("cuda:0" is "cuda"), and what "auto" means. Raises: DeviceError: no such one."""
        ...

    def lacks(self, trial: Trial) -> str | None:
        """Why none of them can run a trial, in one clause; None if one can."""
        ...

    def title(self, device: str) -> str:
        """The name of the hardware, as results have it."""
        ...


class Here:
    """This machine's devices."""

    def device_name(self, asked: str) -> str:
        if asked == "auto":
            return best_device()
        device = open_device(asked)
        return f"{device.type}:{device.index}" if device.index else device.type

    def lacks(self, trial: Trial) -> str | None:
        device = open_device(trial.device)
        lacking = device.lacks(trial.dtype) or (lacks_compiler(device) if trial.compile else None)
        return lacking or lacks_company(trial.device, trial.world_size)

    def title(self, device: str) -> str:
        return open_device(device).name


HERE: Inventory = Here()
