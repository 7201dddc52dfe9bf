"""What a node of a cluster does: says what it has, and runs a trial in a process of the trial's own."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import DataError, UserError
from bench.execution.base import Options
from bench.execution.cluster.transfer import has_data, unpack
from bench.execution.local import Subprocess
from bench.system.environment import cores, cpu_name, usable_cores
from bench.trial import Trial

Message = dict[str, Any]

PREFIX = "vit-cnn-bench-trial-"  # of temporary folders; the process's id follows, so that leftovers are known as such


def describe() -> Iterator[Message]:
    """The node's hardware; its devices are opened in another process, so that this one never holds any."""
    executor = _executor(None)  # its fork server loads torch, and stays for trials on processors
    del executor
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_open_devices, args=(sender,), daemon=True)
    process.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(120) else {"refused": "its devices didn't open within 120 s"}
    except EOFError:
        found = {"refused": "the process that opened its devices died"}
    process.kill()
    process.join()
    yield {"cpu": cpu_name(), "cores": usable_cores(), "memory_bytes": _memory_bytes(), **found}


def run(
    trial: dict[str, Any],
    trial_id: str,
    node: str,
    timeout_seconds: float | None,
    digest: str | None,
    parcels: Sequence[Any],
    num_cards: int,
) -> Iterator[Message]:
    """A trial, once it has its data.

    Args:
        trial: its settings; `trial_id` is what the driver calls it.
        digest: of files that are read while training, as the driver found it.
        parcels: empty, or a reference to its data, for a node that lacks them.
        num_cards: that the node has; a trial on some of them takes their share of the cores.
    """
    yield {"started": os.getpid()}
    try:
        asked = Trial(**trial)
        if asked.trial_id != trial_id:
            raise DataError(f"the node calls this trial {asked.trial_id}, the driver {trial_id}")
        _check_source(asked, node)
        if not has_data(asked, digest):
            if not parcels:
                yield {"needs": True}
                return
            import ray

            unpack(asked, ray.get(parcels[0], timeout=600))
        whole = usable_cores()
        _pin(num_cards)
        yield _run(asked, node, whole, timeout_seconds)
    except UserError as error:
        yield {"refused": str(error)}


def _run(trial: Trial, node: str, node_cores: int, timeout_seconds: float | None) -> Message:
    load = os.getloadavg()[0] / node_cores
    _remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as work:
        folder = Path(work, trial_id := trial.trial_id)
        result = _executor(timeout_seconds).run(trial, folder, lambda message: None)
        assert result.trial_id == trial_id
        result.node, result.node_cpu, result.node_cores, result.load = node, cpu_name(), node_cores, load
        files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    return {"result": asdict(result), "files": files}


@cache
def _executor(timeout_seconds: float | None) -> Subprocess:
    return Subprocess(Options(timeout_seconds=timeout_seconds))


def _open_devices(sender: Any) -> None:
    """Names and limits of this node's devices, kind by kind."""
    import torch

    from bench.system.device import DEVICES
    from bench.system.precision import DTYPES
    from bench.training.compilation import lacks_compiler

    devices, lacks, uncompiled = {}, {}, {}
    for kind, device_class in DEVICES.items():
        opened = [device_class(index) for index in range(device_class.count())]
        if opened:
            devices[kind] = [device.name for device in opened]
            lacks[kind] = {dtype: reason for dtype in DTYPES if (reason := opened[0].lacks(dtype))}
            uncompiled[kind] = lacks_compiler(opened[0])
    sender.send({"devices": devices, "lacks": lacks, "lacks_compiler": uncompiled, "torch": torch.__version__})


def _check_source(trial: Trial, node: str) -> None:
    """A model that isn't ours has to be installed on the node, and be the same there."""
    if trial.source is None:
        return
    from models import source_of

    try:
        found = source_of(trial.model)
    except ValueError as error:
        raise DataError(
            f"model '{trial.model}': node {node} can't find it ({error}); install it there, or have its folder on "
            "PYTHONPATH when `ray start` is run"
        ) from None
    if found != trial.source:
        raise DataError(f"model '{trial.model}': node {node} has {found}, the driver {trial.source}; make them equal")


def _pin(num_cards: int) -> None:
    """Beside other trials on other cards: the cores that belong to this one's. Ray gives no card to two tasks."""
    import ray

    cards = [int(card) for card in ray.get_gpu_ids() if str(card).isdecimal()]
    own = cores()
    share = len(own) // num_cards if num_cards else 0
    if cards and share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {own[card * share + i] for card in cards if card < num_cards for i in range(share)})


def _remove_leftovers() -> None:
    """Temporary folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                pass  # somebody else's, and alive


def _memory_bytes() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
