"""A job: a trial on its way through a cluster, from place to place until it has a result."""

from dataclasses import dataclass, field
from typing import Any

from bench.execution.cluster.nodes import Claim, Node
from bench.result import Result
from bench.trial import Trial


@dataclass
class Job:
    """A trial on its way.

    Attributes:
        started: when its task began, seconds of a monotonic clock; None while it waits for its place.
        parcels: its data, where the node had asked for them.
        losses: how each attempt ended that gave no result.
    """

    trial: Trial
    digest: str | None
    node: Node | None = None
    claim: Claim | None = None
    sent: float = 0.0
    started: float | None = None
    started_at: str | None = None
    parcels: list[Any] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def ended(self, status: str, error: str, trace: str | None = None) -> Result:
        row = Result(**self.trial.row(), status=status, error=error, started_at=self.started_at)
        row.node, row.trace = self.node.name if self.node else None, trace
        return row
