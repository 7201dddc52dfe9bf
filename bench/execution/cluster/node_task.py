"""What a node of a cluster does, as tasks of Ray: say what it has; run a trial in a process of the trial's own.

The tasks run in worker processes of Ray on the node, from the driver's source (see connection.join).
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Timer
from typing import Any

from bench.errors import DataError, UserError
from bench.execution.base import Options, ignore
from bench.execution.cluster.connection import SOURCE, source_digest
from bench.execution.cluster.transfer import has_data, unpack
from bench.execution.local import Subprocess
from bench.system.environment import cores, cpu_name, usable_cores
from bench.system.process import state
from bench.trial import Trial

Message = dict[str, Any]
PREFIX = "vit-cnn-bench-trial-"  # of temporary folders; the process's id follows, so that leftovers are known as such
DATA_SECONDS = 600.0  # for a dataset to come from the driver
OVERDUE_SECONDS = 900.0  # above a trial's limit, for what is around it


def describe(source: str) -> Message:
    """Names and limits of this node's devices, kind by kind. It opens them, so its process has to end with it.

    Args:
        source: the digest of the driver's source.
    """
    import torch

    from bench.system.device import DEVICES
    from bench.system.precision import DTYPES
    from bench.training.compilation import lacks_compiler

    _set_up(source)
    devices, lacks, uncompiled = {}, {}, {}
    for kind, device_class in DEVICES.items():
        opened = [device_class(index) for index in range(device_class.count())]
        if opened:
            devices[kind] = [device.name for device in opened]
            lacks[kind] = {dtype: reason for dtype in DTYPES if (reason := opened[0].lacks(dtype))}
            uncompiled[kind] = lacks_compiler(opened[0])
    return {"devices": devices, "lacks": lacks, "lacks_compiler": uncompiled, "torch": torch.__version__}


def run(
    source: str,
    node: str,
    num_cards: int,
    trial: Trial,
    timeout_seconds: float | None,
    stream_digest: str | None,
    data: Sequence[Any],
) -> Message:
    """A trial, if the node has its dataset.

    Args:
        source: the digest of the driver's source.
        num_cards: that the node has; a trial on some of them takes their share of the cores.
        stream_digest: of files that are read while training, as the driver found it.
        data: empty, or a reference to its dataset in Ray's object store, for a node that lacks it.

    Returns:
        {"result": ..., "files": name -> content}; {"refused": why}; or nothing: the dataset isn't here.
    """
    if timeout_seconds is not None:  # silent long after its time, it counts as lost
        watchdog = Timer(timeout_seconds + OVERDUE_SECONDS, os._exit, [1])
        watchdog.daemon = True
        watchdog.start()
    try:
        _set_up(source)
        _check_model(trial, node)
        if not has_data(trial, stream_digest):
            if not data:
                return {}
            import ray

            unpack(trial, ray.get(data[0], timeout=DATA_SECONDS))
        return _run(trial, node, num_cards, timeout_seconds)
    except UserError as error:
        return {"refused": str(error)}
    finally:
        if timeout_seconds is not None:
            watchdog.cancel()


def _run(trial: Trial, node: str, num_cards: int, timeout_seconds: float | None) -> Message:
    load, node_cores = os.getloadavg()[0] / len(cores()), usable_cores()  # the load is the whole machine's
    _bind_to_share_of_cores(num_cards)
    _remove_leftovers()
    with TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as work:
        folder = Path(work, trial.trial_id)
        result = Subprocess(Options(timeout_seconds=timeout_seconds)).run(trial, folder, ignore)
        result.node, result.node_cpu, result.node_cores, result.load = node, cpu_name(), node_cores, load
        files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    return {"result": asdict(result), "files": files}


@cache  # once a process
def _set_up(source: str) -> None:
    """Hold the source that arrived against the driver's, and undo what Ray does to torch's choice of threads.

    Raises: UserError: it isn't the driver's source.
    """
    if source_digest() != source:
        raise UserError(f"process {os.getpid()} of this node has another source than the driver, in {SOURCE}")
    try:
        first = Path("/proc/self/environ").read_bytes()  # what the process was started with
    except OSError:  # not Linux
        first = b""
    if b"OMP_NUM_THREADS=" not in first:  # then it is Ray's number and not the user's
        os.environ.pop("OMP_NUM_THREADS", None)


def _check_model(trial: Trial, node: str) -> None:
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


def _bind_to_share_of_cores(num_cards: int) -> None:
    """Beside other trials on other cards: the cores that belong to this one's. Ray gives no card to two tasks."""
    import ray

    cards = [int(card) for card in ray.get_gpu_ids() if str(card).isdecimal()]
    own = cores()
    share = len(own) // num_cards if num_cards else 0
    if cards and share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {own[card * share + i] for card in cards if card < num_cards for i in range(share)})


def _remove_leftovers() -> None:
    """Temporary folders of processes that were killed."""
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and state(os.getpid()) and not state(int(pid)):  # as far as the system tells who lives
            shutil.rmtree(folder, ignore_errors=True)
