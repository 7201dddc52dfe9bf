"""A cluster that was joined: its nodes as they come, tell what they have, and go; tasks sent to them."""

import hashlib
import time
from pathlib import Path
from typing import Any

from bench.execution.cluster import bootstrap
from bench.execution.cluster.cluster_link import Watch, import_ray, join, say
from bench.execution.cluster.nodes import Claim, Node

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
