"""Nodes of a cluster: what each has, what a trial takes of one, and what a plan may ask of all together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.errors import DeviceError, nearest
from bench.system.device import DEVICES
from bench.trial import Trial


class Claim(NamedTuple):
    """What a trial takes of a node, in Ray's counts."""

    cpus: float
    cards: int


@dataclass
class Node:
    """A node as Ray and its own report have it.

    Attributes:
        cpus, cards: what Ray hands out there.
        devices: kind -> the devices' names; None until the node has told.
        lacks: kind -> numeric mode -> why the node can't.
        lacks_compiler: kind -> why it can't compile, or None.
        taken: by trials of ours that are there now.
        doubted: whether it may be dead, by what became of a trial there.
    """

    node_id: str
    name: str
    cpus: float
    cards: int
    devices: dict[str, list[str]] | None = None
    lacks: dict[str, dict[str, str]] = field(default_factory=dict)
    lacks_compiler: dict[str, str | None] = field(default_factory=dict)
    cpu: str = ""
    torch: str = ""
    refused: str | None = None
    taken: list[Claim] = field(default_factory=list)
    doubted: bool = False

    @classmethod
    def of(cls, found: dict[str, Any]) -> "Node":
        """From an entry of ray.nodes(); a node that was given no name goes by its host's."""
        name, address = found.get("NodeName"), found["NodeManagerAddress"]
        resources = found["Resources"]
        own_name = name if name and name != address else found["NodeManagerHostname"]
        return cls(found["NodeID"], own_name, resources.get("CPU", 0.0), int(resources.get("GPU", 0)))

    def tell(self, report: dict[str, Any]) -> None:
        """Take over what the node said of itself."""
        self.refused = report.get("refused")
        self.devices = report.get("devices", {})
        self.lacks, self.lacks_compiler = report.get("lacks", {}), report.get("lacks_compiler", {})
        self.cpu, self.torch = report.get("cpu", ""), report.get("torch", "")

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
        """Whether that is free now, on a node that isn't doubted; processors and cards are never timed side by side."""
        beside = all((other.cards > 0) == (claim.cards > 0) for other in self.taken)
        cpus, cards = (sum(column) for column in zip(Claim(0, 0), *self.taken, strict=True))
        return not self.doubted and beside and cpus + claim.cpus <= self.cpus and cards + claim.cards <= self.cards

    def why_not(self, trial: Trial) -> str | None:
        """A numeric mode, or compilation, that its devices of the kind don't have."""
        kind = trial.device.partition(":")[0]
        return self.lacks.get(kind, {}).get(trial.dtype) or (self.lacks_compiler.get(kind) if trial.compile else None)


def best_node(trial: Trial, nodes: Sequence[Node]) -> tuple[Node, Claim] | None:
    """Where a trial may start now: rather on a node without cards if it needs none, then on the emptiest."""
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
            raise DeviceError(f"device '{asked}': no node of the cluster has it; there: {self._there()}")
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

    def _there(self) -> str:
        found = dict.fromkeys(
            f"{kind} ({name})" for node in self.nodes for kind, names in (node.devices or {}).items() for name in names
        )
        return ", ".join(found) or "none"
