"""Decision: what a gate says, cell by cell. Types only; bench.gate.decision fills them."""

from dataclasses import dataclass, field
from typing import Literal

from bench.gate.journal import Failure
from bench.gate.launch_stats import Estimate
from bench.gate.work_diff import WorkChange

Verdict = Literal["pass", "regression", "inconclusive", "missing", "crashed"]
EXIT_STATUS: dict[Verdict, int] = {"pass": 0, "regression": 1, "inconclusive": 3, "missing": 4, "crashed": 5}


@dataclass(frozen=True)
class CellVerdict:
    """One cell's line of the table.

    Attributes:
        estimate: of the confirmation where there was one, else of all launches; None where too little was measured.
        verdict: "pass" only if the interval's upper end is under the promise; "regression" only if it was confirmed.
        faster: the interval lies below 1, in a cell that passes.
        noise: standard deviation over launches of log ratios, as a share (0.027); None with fewer than two.
        detectable: slowdown, as a share, that this many launches of this noise would have caught 19 times of 20.
        p_screen, p_confirm: one-sided, adjusted for the number of cells; None where not tested.
        reason: in words, such as "flagged at 6.1%, not confirmed"; "" if there is no more to say.
        seconds_per_step: (base's, head's) medians, for orientation only.
    """

    cell: str
    verdict: Verdict
    estimate: Estimate | None = None
    faster: bool = False
    noise: float | None = None
    detectable: float | None = None
    p_screen: float | None = None
    p_confirm: float | None = None
    reason: str = ""
    seconds_per_step: tuple[float, float] | None = None


@dataclass(frozen=True)
class Decision:
    """The gate's answer. `verdict` is the worst of its cells' in the order regression, crashed, missing, inconclusive.

    Attributes:
        launches: phase -> how many were finished.
    """

    verdict: Verdict
    exit_status: int
    headline: str
    cells: tuple[CellVerdict, ...]
    work: tuple[WorkChange, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = field(default=())
    launches: dict[str, int] = field(default_factory=dict)
