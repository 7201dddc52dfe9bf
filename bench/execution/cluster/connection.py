"""The link to a Ray cluster: joined quickly or refused in one line, quiet, and watched while it lasts."""

import hashlib
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import UserError

SOURCE, PACKAGES = Path(__file__).parents[3], ("bench", "models")  # what every node gets of the driver's
KNOCK_SECONDS = 5.0  # for an answer of the head's port
JOIN_SECONDS = 60.0  # for Ray to connect, or to start a cluster of this machine alone

# An HTTP/2 client's first words with an empty SETTINGS frame (RFC 9113, section 3.4); gRPC answers with its own.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = 4


class ClusterError(UserError):
    """A cluster that can't be joined, or isn't there any more."""


def import_ray() -> Any:
    """The package, told to be quiet. Raises: ClusterError: it isn't installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers of every cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change to come
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # a cluster started here: the kernel alone ends trials
    try:
        import ray
        from ray._private import worker
    except ImportError as error:
        raise ClusterError(
            f"--executor ray needs the package ray ({error}); pip install 'vit-cnn-bench[cluster]' brings it"
        ) from None
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None  # logs of nodes, which it prints into the answer's stream
    return ray


def join(ray: Any, address: str | None) -> None:
    """Connect to the cluster at HOST:PORT; without an address to the one that this machine has, or to a new one.

    Ray sends the driver's source to every node that runs a task, as the tasks' working directory: that comes first in
    a process's paths, before whatever version is installed there.

    Raises:
        ClusterError: nothing there, something else there, another version of Ray or Python, or no node here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    where = f"--address {address}" if address else "a Ray cluster of this machine"
    if address and (problem := knock(*host_and_port(address))):
        raise ClusterError(f"{where}: {problem}; give the address that `ray start --head` printed, HOST:PORT")
    settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if not address:
        settings["include_dashboard"] = False
    try:
        with TemporaryDirectory(prefix="vit-cnn-bench-source-") as folder, _bounded(where):
            for package in PACKAGES:
                shutil.copytree(SOURCE / package, Path(folder, package), ignore=shutil.ignore_patterns("__pycache__"))
            ray.init(address=address or "local", runtime_env={"working_dir": folder}, **settings)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray raises whatever happened, in many lines
        found = " ".join(str(error).split())
        if "ersion mismatch" in found:
            why = f"{found[:300]}; driver and nodes need one version of Ray and of Python"
        elif address and ("node" in found.lower() and ("not found" in found.lower() or "ip" in found.lower())):
            why = (
                f"this machine isn't a node of that cluster; `ray start --address {address} --num-cpus 0` makes it one "
                f"that runs no trials ({found[:200]})"
            )
        else:
            why = f"can't be joined ({found[:300]})"
        raise ClusterError(f"{where}: {why}") from None


def source_digest() -> str:
    """Of the source that this process runs: driver and node have to agree."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def knock(host: str, port: int) -> str | None:
    """What is wrong at an address; None if something speaks gRPC there. Ray's own clients would try for 40 s."""
    try:
        with socket.create_connection((host, port), timeout=KNOCK_SECONDS) as connection:
            connection.settimeout(KNOCK_SECONDS)
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except OSError as error:
        return f"nothing answers there ({error.strerror or error})"
    if len(answer) < 4 or answer[3] != _SETTINGS_FRAME or answer.startswith(b"HTTP"):
        return "what answers there is no head of a Ray cluster"
    return None


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16 and "/" not in host):
        raise ClusterError(f"--address {address}: not HOST:PORT, such as 10.0.0.1:6379")
    return host.strip("[]"), int(port)


@contextmanager
def _bounded(where: str) -> Iterator[None]:
    """For Ray's way in: it tries for minutes to join what isn't there, and keeps SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(*_: object) -> None:
        raise ClusterError(f"{where}: Ray couldn't join it within {JOIN_SECONDS:.0f} s")

    on_term, on_alarm = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, JOIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, on_alarm)
        signal.signal(signal.SIGTERM, on_term)
