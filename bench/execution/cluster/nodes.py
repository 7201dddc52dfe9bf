"""Nodes of a cluster as they come, say what they have, and go; what a trial takes of one, and a plan may ask."""

import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.errors import DeviceError, nearest
from bench.execution.cluster import node_task
from bench.execution.cluster.connection import ClusterError, host_and_port, import_ray, join, say, source_digest
from bench.system.device import DEVICES
from bench.trial import Trial

LOOK_SECONDS = 2.0  # between looks for nodes that came or went
SILENT_SECONDS = 10.0  # a head that answers nothing for so long is gone; Ray itself would end this process after 60 s
DESCRIBE_SECONDS = 90.0  # for nodes to say what they have, before the plan is made; one may be in use by others


class Claim(NamedTuple):
    """What a trial takes of a node, in Ray's counts."""

    cpus: float
    cards: int


@dataclass
class Node:
    """A node as Ray and its own description have it.

    Attributes:
        cpus, cards: what Ray hands out there.
        devices: kind -> the devices' names; None until the node has said.
        lacks: kind -> numeric mode -> why the node can't.
        lacks_compiler: kind -> why it can't compile, or None.
        taken: by trials of ours that are there now.
        maybe_dead: a task died there, and the node hasn't answered since.
    """

    node_id: str
    name: str
    cpus: float
    cards: int
    devices: dict[str, list[str]] | None = None
    lacks: dict[str, dict[str, str]] = field(default_factory=dict)
    lacks_compiler: dict[str, str | None] = field(default_factory=dict)
    torch: str = ""
    taken: list[Claim] = field(default_factory=list)
    maybe_dead: bool = False

    def names(self, device: str) -> list[str]:
        """Its devices of the kind, if all are what was asked for: Ray hands out any of them."""
        kind, _, text = device.partition(":")
        found = (self.devices or {}).get(kind, [])
        return found if all(text.casefold() in name.casefold() for name in found) else []

    def claim(self, trial: Trial) -> Claim | None:
        """What the trial takes here; None if it can't run here.

        A timed trial on processors takes the whole node, one for its accuracy a core for each of its processes, and
        one on cards as many as it has processes, with their share of the cores.
        """
        names, kind = self.names(trial.device), trial.device.partition(":")[0]
        if not names or self.cpus < 1:
            return None
        if kind in ("cuda", "xpu"):
            cards = trial.world_size
            fits = cards <= min(self.cards, len(names))
            return Claim(max(1, self.cpus // self.cards * cards), cards) if fits else None
        if trial.timed:
            return Claim(self.cpus, 0)
        return Claim(trial.world_size, 0) if trial.world_size <= self.cpus else None

    def fits(self, claim: Claim) -> bool:
        """Whether that is free now; processors and cards are never timed side by side."""
        beside = all((other.cards > 0) == (claim.cards > 0) for other in self.taken)
        cpus, cards = (sum(column) for column in zip(Claim(0, 0), *self.taken, strict=True))
        return not self.maybe_dead and beside and cpus + claim.cpus <= self.cpus and cards + claim.cards <= self.cards

    def why_not(self, trial: Trial) -> str | None:
        """A numeric mode, or compilation, that its devices of the kind don't have."""
        kind = trial.device.partition(":")[0]
        return self.lacks.get(kind, {}).get(trial.dtype) or (self.lacks_compiler.get(kind) if trial.compile else None)


def best_node(trial: Trial, nodes: Iterable[Node]) -> tuple[Node, Claim] | None:
    """Where a trial may start now: rather on a node without cards if it needs none, then on the emptiest.

    Ray can't choose: "all CPUs of a node" is no number that holds for every node.
    """
    free = [
        (node, claim) for node in nodes if (claim := node.claim(trial)) and not node.why_not(trial) and node.fits(claim)
    ]
    return min(free, key=lambda found: (found[0].cards > 0 >= found[1].cards, len(found[0].taken)), default=None)


class ClusterInventory:
    """The devices of a cluster's nodes, for a plan made on a machine that needs none of them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def device_name(self, asked: str) -> str:
        """Kind, or kind and a part of the hardware's name: "cuda", "cuda:H100"."""
        if asked == "auto":
            return next((kind for kind in DEVICES if any(node.names(kind) for node in self.nodes)), "cpu")
        kind, _, text = asked.partition(":")
        if kind not in DEVICES:
            raise DeviceError(f"device '{asked}': no such device; {nearest(asked, [*DEVICES, 'auto'])}")
        if text.isdecimal():
            raise DeviceError(
                f"device '{asked}': a cluster hands out its devices itself; ask for '{kind}', or by name: 'cuda:H100'"
            )
        if not any(node.names(asked) for node in self.nodes):
            had = [(node.devices or {}).items() for node in self.nodes]
            there = dict.fromkeys(f"{kind} ({name})" for devices in had for kind, names in devices for name in names)
            raise DeviceError(f"device '{asked}': no node of the cluster has it; there: {', '.join(there) or 'none'}")
        return asked

    def lacks(self, trial: Trial) -> str | None:
        having = [node for node in self.nodes if node.names(trial.device)]
        if not having:
            return f"no node of the cluster has {trial.device}"
        able = [node for node in having if node.claim(trial)]
        if not able:
            return f"no node of the cluster has {trial.world_size} x {trial.device}"
        reasons = [node.why_not(trial) for node in able]
        return reasons[0] if all(reasons) else None

    def title(self, device: str) -> str:
        return next((names[0] for node in self.nodes if (names := node.names(device))), device)


class Cluster:
    """A cluster that was joined. Raises: ClusterError: it can't be."""

    def __init__(self, address: str | None) -> None:
        self.ray = import_ray()
        join(self.ray, address)
        self.address = address
        self._head, self._heard = self.ray.get_runtime_context().gcs_address, time.monotonic()
        self.source = source_digest()
        self.nodes: dict[str, Node] = {}
        self._dead: set[str] = set()  # Ray lists a node for some seconds after its death; it never comes back as such
        self._asked: dict[Any, Node] = {}  # reference to an answer -> who gives it
        self._next_look = 0.0
        # With max_calls=1 a worker process of Ray ends after its task: one that has opened devices must free them, and
        # a worker's fork server would show all later tasks the cards that the worker's first task was given.
        self._describe = self.ray.remote(max_calls=1)(node_task.describe)
        self._run = self.ray.remote(node_task.run)
        self._run_on_cards = self.ray.remote(max_calls=1)(node_task.run)
        self._answer = self.ray.remote(lambda: None)  # loads nothing: other cards there may be under measurement

    def close(self) -> None:
        """Leave; what still runs for us ends."""
        self.ray.shutdown()

    def start(self, node: Node, claim: Claim, *arguments: Any) -> Any:
        """node_task.run on that node, once Ray has what it claims there: a reference to what it will return."""
        task = self._run_on_cards if claim.cards else self._run
        return task.options(**self._on(node, claim)).remote(self.source, node.name, node.cards, *arguments)

    def refresh(self) -> None:
        """Look for nodes that came or went, now and then. Raises: ClusterError: the head is gone."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            try:
                socket.create_connection(host_and_port(self._head), timeout=2.0).close()
            except OSError:  # else the question below would be kept waiting
                if now - self._heard > SILENT_SECONDS:
                    raise ClusterError(
                        f"the head of the cluster, {self._head}, is gone; what had finished is kept: start the cluster "
                        "again, then --resume the run"
                    ) from None
            else:
                self._heard = now
                self._look()
        if self._asked:
            self._take_answers()

    def lose(self, node: Node) -> None:
        """It is dead: Ray says so, or the end of a task there."""
        self._dead.add(node.node_id)
        self.nodes.pop(node.node_id, None)

    def doubt(self, node: Node) -> None:
        """A task died there: no more trials for it until it has answered. Ray may take a minute to call it dead."""
        if node.node_id in self.nodes and not node.maybe_dead:
            node.maybe_dead = True
            self._asked[self._answer.options(**self._on(node, Claim(0, 0))).remote()] = node

    def meet(self) -> list[Node]:
        """All nodes, once each has said what it has, or has had its time to."""
        deadline = time.monotonic() + DESCRIBE_SECONDS
        self.refresh()
        while self._asked and time.monotonic() < deadline:
            self.ray.wait(list(self._asked), timeout=LOOK_SECONDS)
            self.refresh()
        return list(self.nodes.values())

    def _look(self) -> None:
        alive = {found["NodeID"]: found for found in self.ray.nodes() if found["Alive"]}
        for node_id in self.nodes.keys() - alive.keys():
            self.lose(self.nodes[node_id])
        for node_id in alive.keys() - self.nodes.keys() - self._dead:
            found, counts = alive[node_id], alive[node_id]["Resources"]
            given = found.get("NodeName")  # its address, where it was given none: then it goes by its host's
            name = given if given and given != found["NodeManagerAddress"] else found["NodeManagerHostname"]
            node = self.nodes[node_id] = Node(node_id, name, counts.get("CPU", 0.0), int(counts.get("GPU", 0)))
            if node.cpus >= 1:  # a driver's own machine may be a node without any
                task = self._describe.options(**self._on(node, Claim(1, node.cards)))
                self._asked[task.remote(self.source)] = node

    def _on(self, node: Node, claim: Claim) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {
            "num_cpus": claim.cpus,
            "num_gpus": claim.cards,
            "max_retries": 0,  # the scheduler's work
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        }

    def _take_answers(self) -> None:
        answers, _ = self.ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for answer in answers:
            node = self._asked.pop(answer)
            try:
                description = self.ray.get(answer, timeout=LOOK_SECONDS)
            except (self.ray.exceptions.NodeDiedError, self.ray.exceptions.TaskUnschedulableError):
                self.lose(node)
            except self.ray.exceptions.RayError as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                say(f"warning: node {node.name} of the cluster runs no trials: it couldn't say what it has ({why})")
            else:
                node.maybe_dead = False
                if description:
                    node.devices, node.torch = description["devices"], description["torch"]
                    node.lacks, node.lacks_compiler = description["lacks"], description["lacks_compiler"]
