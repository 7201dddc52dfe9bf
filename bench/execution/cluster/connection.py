"""A cluster that was joined: its nodes as they come, tell what they have, and go; tasks sent to them."""

import hashlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.execution.cluster import bootstrap
from bench.execution.cluster.nodes import Claim, Node

# The link to a Ray cluster: joined quickly or refused in one line, quiet, and watched while it lasts.
KNOCK_SECONDS = 5.0  # for an answer of the head's port
JOIN_SECONDS = 60.0  # for Ray to connect, or to start a cluster of this machine alone
SILENT_SECONDS = 10.0  # a head that answers nothing for so long is gone; Ray itself would end this process after 60 s


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

    Raises:
        ClusterError: nothing there, something else there, another version of Ray or Python, or no node here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        host, port = _parts(address)
        if problem := knock(host, port):
            raise ClusterError(
                f"--address {address}: {problem}; give the address that `ray start --head` printed, HOST:PORT"
            )
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": None if address else False}
    try:
        with _handlers_kept(), _bounded(address):
            ray.init(address=address or "local", **{key: value for key, value in quiet.items() if value is not None})
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray raises whatever happened, in many lines
        raise ClusterError(_explained(address, " ".join(str(error).split()))) from None


def knock(host: str, port: int) -> str | None:
    """What is wrong at an address; None if something speaks gRPC there."""
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


class Watch:
    """Whether the cluster's head still answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._host, self._port = _parts(address)
        self._heard = time.monotonic()

    def look(self) -> bool:
        """Whether it answers now. Raises: ClusterError: it hasn't for SILENT_SECONDS."""
        try:
            socket.create_connection((self._host, self._port), timeout=2.0).close()
        except OSError:
            if time.monotonic() - self._heard > SILENT_SECONDS:
                raise ClusterError(
                    f"the head of the cluster, {self.address}, is gone; what had finished is kept: start the cluster "
                    "again, then --resume the run"
                ) from None
            return False
        self._heard = time.monotonic()
        return True


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16 and "/" not in host):
        raise ClusterError(f"--address {address}: not HOST:PORT, such as 10.0.0.1:6379")
    return host.strip("[]"), int(port)


def _explained(address: str | None, found: str) -> str:
    where = f"--address {address}" if address else "a Ray cluster of this machine"
    if "ersion mismatch" in found:
        return f"{where}: {found[:300]}; driver and nodes need one version of Ray and of Python"
    if address and ("node" in found.lower() and ("not found" in found.lower() or "ip" in found.lower())):
        return (
            f"{where}: this machine isn't a node of that cluster; `ray start --address {address} --num-cpus 0` makes "
            f"it one that runs no trials ({found[:200]})"
        )
    return f"{where}: can't be joined ({found[:300]})"


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it is Ctrl-C's equal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _bounded(address: str | None) -> Iterator[None]:
    """Ray tries for minutes to join what isn't there."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(*_: object) -> None:
        where = f"--address {address}" if address else "a Ray cluster of this machine"
        raise ClusterError(f"{where}: Ray couldn't join it within {JOIN_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, JOIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


REFRESH_SECONDS = 2.0
TELL_SECONDS = 90.0  # for nodes to tell what they have, while somebody waits for the plan; one may be in use by others

Stream = Any  # ray.ObjectRefGenerator: a task's messages as they come


class Cluster:
    """Raises: ClusterError: it can't be joined."""

    def __init__(self, address: str | None) -> None:
        self.ray = import_ray()
        join(self.ray, address)
        self.asked = address
        self.watch = Watch(self.ray.get_runtime_context().gcs_address)
        self.nodes: dict[str, Node] = {}
        self._lost: set[str] = set()  # Ray lists a node for some seconds after its death; it never comes back as such
        self._asked: dict[Stream, Node] = {}
        self._next_look = 0.0
        code = bootstrap.pack_code(Path(__file__).parents[3])
        self._code = [self.ray.put(code), hashlib.sha256(code).hexdigest()]
        self.ray.cloudpickle.register_pickle_by_value(bootstrap)  # nodes may have none of our modules, or others
        self._task = self.ray.remote(bootstrap.on_node)
        # A worker's fork server sees for good the cards that the worker's first task was given: one task, one worker.
        self._task_on_cards = self.ray.remote(num_gpus=1, max_calls=1)(bootstrap.on_node)
        self._sign = self.ray.remote(bootstrap.sign_of_life)

    def close(self) -> None:
        """Leave; what still runs for us ends."""
        self.ray.shutdown()

    def start(self, node: Node, claim: Claim, order: str, arguments: dict[str, Any]) -> Stream:
        """A task on that node and no other, once Ray has what it claims; it is never repeated behind our back."""
        task = self._task_on_cards if claim.cards else self._task
        return self._there(task, node, claim).remote(*self._code, order, arguments)

    def refresh(self) -> None:
        """Look for nodes that came or went, now and then. Raises: ClusterError: the head is gone."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + REFRESH_SECONDS
            if self.watch.look():  # else the question below would be kept waiting
                self._look()
        self._listen()

    def lose(self, node: Node) -> None:
        """A task's end has told that the node is dead."""
        self._lost.add(node.node_id)
        self.nodes.pop(node.node_id, None)

    def doubt(self, node: Node) -> None:
        """Something died there: no more for it until it has given a sign of life. Ray may take a minute to tell."""
        if node.node_id in self.nodes and not node.doubted:
            node.doubted = True
            self._asked[self._there(self._sign, node, Claim(0, 0)).remote()] = node

    @property
    def asks(self) -> bool:
        """Whether an answer of a node is still to come."""
        return bool(self._asked)

    def meet(self) -> list[Node]:
        """All nodes, once each has told what it has, or has had its time to."""
        deadline = time.monotonic() + TELL_SECONDS
        self.refresh()
        while self._asked and time.monotonic() < deadline:
            self.ray.wait(list(self._asked), timeout=REFRESH_SECONDS)
            self.refresh()
        return list(self.nodes.values())

    def _look(self) -> None:
        alive = {found["NodeID"]: found for found in self.ray.nodes() if found["Alive"]}
        for node_id in self.nodes.keys() - alive.keys():
            self.lose(self.nodes[node_id])
        for node_id in alive.keys() - self.nodes.keys() - self._lost:
            node = self.nodes[node_id] = Node.of(alive[node_id])
            if node.cpus >= 1:  # a driver's own machine may be a node without any
                self._asked[self.start(node, Claim(1, node.cards), "describe", {})] = node
            else:
                node.tell({})

    def _there(self, task: Any, node: Node, claim: Claim) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return task.options(
            num_cpus=claim.cpus,
            num_gpus=claim.cards,
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        )

    def _listen(self) -> None:
        if not self._asked:
            return
        told, _ = self.ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for stream in told:
            node = self._asked.pop(stream)
            try:
                report = self.ray.get(next(stream), timeout=REFRESH_SECONDS)
            except (self.ray.exceptions.NodeDiedError, self.ray.exceptions.TaskUnschedulableError):
                self.lose(node)
                continue
            except (self.ray.exceptions.RayError, StopIteration) as error:
                report = {"refused": f"it couldn't tell what it has ({' '.join(str(error).split())[:200]})"}
            if report == bootstrap.ALIVE:
                node.doubted = False
                continue
            node.tell(report)
            if node.refused:
                say(f"warning: node {node.name} of the cluster runs no trials: {node.refused}")
