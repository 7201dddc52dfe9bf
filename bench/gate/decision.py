"""Decide: from a journal to a verdict. Pure arithmetic, the same live and in a replay.

The unit is the launch, a pair of fresh processes, since a process has a speed of its own that no number of blocks
within it averages out. A cell fails only if it is flagged among all cells (Bonferroni) and then confirmed on fresh
launches (Holm), both times beyond the margin; it passes only if the interval excludes the promised slowdown. So noise
can't pass, and a chance finding has to happen twice. How often it is wrong was measured: results/reference/gate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.gate.journal import Failure, Phase, Record
from bench.gate.launch_stats import (
    Estimate,
    bonferroni,
    detectable,
    holm,
    launch_values,
    noise,
    p_slower,
    step_seconds,
    trimmed,
)
from bench.gate.work_diff import WorkChange, compare_work

Verdict = Literal["pass", "regression", "inconclusive", "missing", "crashed"]
EXIT_STATUS: dict[Verdict, int] = {"pass": 0, "regression": 1, "inconclusive": 3, "missing": 4, "crashed": 5}
WORST_FIRST: tuple[Verdict, ...] = ("regression", "crashed", "missing", "inconclusive", "pass")
FEWEST_LAUNCHES = 6  # of which trimming leaves 4; fewer say too little to pass or to fail anything
# A false alarm has to pass both: at most one gate in a hundred, whatever the noise. The first may be generous, since it
# costs a wrong suspect only some launches.
SCREEN_ALPHA = 0.20  # over all cells
CONFIRM_ALPHA = 0.05  # over the suspects


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

    `launches` says how many of each phase were finished.
    """

    verdict: Verdict
    exit_status: int
    headline: str
    cells: tuple[CellVerdict, ...]
    work: tuple[WorkChange, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    launches: dict[str, int] = field(default_factory=dict)


def flagged(record: Record) -> list[str]:
    """Cells that the screen finds slower than the margin; only fresh launches can confirm them."""
    return _screen(record)[1]


def unsettled(record: Record) -> list[str]:
    """Cells that aren't flagged but whose interval still holds the promised slowdown: more launches may settle them."""
    screen, suspects = _screen(record)
    limit = 1 + record.header["promise"]
    return [cell for cell, found in screen.items() if cell not in suspects and found.estimate.high >= limit]


def decide(
    record: Record,
    work: Literal["fail", "warn"] = "fail",
    inconclusive: Literal["fail", "warn", "pass"] = "fail",
    allow_missing: bool = False,
) -> Decision:
    """The verdict on a journal.

    Args:
        work: what more work a step (parameters, FLOPs, operators, ...) means: "fail" makes it a regression.
        inconclusive: "fail" is exit status 3; with the others it is 0 where nothing worse was found.
        allow_missing: cells that base doesn't have aren't held against head, so long as others were compared.
    """
    compared = {cell: arms for cell, arms in record.work.items() if {"base", "head"} <= arms.keys()}
    changes = tuple(
        change for cell, arms in compared.items() for change in compare_work(cell, arms["base"], arms["head"])
    )
    if record.header.get("only_work"):
        cells = tuple(_judge_work(record, cell, cell in compared) for cell in record.header["cells"])
    else:
        cells = tuple(_judge_all(record))
    new = _only_base_lacks(record) if allow_missing else set()
    verdicts = [cell.verdict for cell in cells if cell.verdict != "missing" or cell.cell not in new]
    verdict: Verdict = min(verdicts, key=WORST_FIRST.index, default="missing")
    if work == "fail" and any(change.direction == "more" for change in changes):
        verdict = "regression"
    accepted = verdict == "inconclusive" and inconclusive != "fail"
    exit_status = 0 if accepted else EXIT_STATUS[verdict]
    headline, notes = _headline(verdict, cells, changes, record), tuple(_notes(cells, changes, record))
    launches = {phase: len(numbers) for phase, numbers in record.launches.items()}
    return Decision(verdict, exit_status, headline, cells, changes, tuple(record.failures), notes, launches)


@dataclass(frozen=True)
class _Tested:
    """A phase's estimate of a cell, and the p of "no slower", adjusted for the number of cells tested."""

    estimate: Estimate
    p: float

    def slower(self, alpha: float, margin: float) -> bool:
        """Shown to be slower, and by more than isn't worth failing."""
        return self.p <= alpha and self.estimate.ratio > 1 + margin


def _screen(record: Record) -> tuple[dict[str, _Tested], list[str]]:
    """Of all cells, and those of them that are suspects."""
    screen = _tested(record, "screen", bonferroni, record.header["cells"])
    return screen, [cell for cell, found in screen.items() if found.slower(SCREEN_ALPHA, record.header["margin"])]


def _tested(
    record: Record, phase: Phase, adjust: Callable[[Sequence[float]], list[float]], cells: Sequence[str]
) -> dict[str, _Tested]:
    """The cells that have launches enough in this phase."""
    values = launch_values(record.slices, [phase])
    enough = {cell: values[cell] for cell in cells if len(values.get(cell, ())) >= FEWEST_LAUNCHES}
    ps = adjust([p_slower(found) for found in enough.values()])
    return {cell: _Tested(trimmed(found), p) for (cell, found), p in zip(enough.items(), ps, strict=True)}


def _judge_all(record: Record) -> Iterator[CellVerdict]:
    margin, promise, cells = record.header["margin"], record.header["promise"], record.header["cells"]
    screen, suspects = _screen(record)
    confirm = _tested(record, "confirm", holm, suspects)
    pooled = launch_values(record.slices, ["screen", "confirm"])
    times = step_seconds(record.slices)
    for cell in cells:
        failed = _failed(record, cell)
        if cell not in screen:
            few = f"{len(pooled.get(cell, ()))} launches; at least {FEWEST_LAUNCHES} are needed: a larger --budget"
            yield failed or CellVerdict(cell, "inconclusive", reason=few)
            continue
        values = pooled[cell]
        found, again = trimmed(values), confirm.get(cell)
        verdict: Verdict = "pass"
        reason = ""
        if cell in suspects:
            size = f"flagged at {100 * (screen[cell].estimate.ratio - 1):.1f}%"
            if again is None:
                verdict, reason = "inconclusive", f"{size}, too few launches to confirm: a larger --budget"
            elif again.slower(CONFIRM_ALPHA, margin):
                verdict, reason, found = "regression", f"{size}, confirmed", again.estimate
            else:
                reason = f"{size}, not confirmed on fresh launches"
        if verdict == "pass" and found.high >= 1 + promise:
            verdict, reason = "inconclusive", reason or f"a slowdown of {100 * promise:g}% can't be excluded"
        if failed and verdict != "regression":
            verdict, reason = failed.verdict, failed.reason
        yield CellVerdict(
            cell,
            verdict,
            found,
            faster=verdict == "pass" and found.high < 1,
            noise=noise(values),
            detectable=detectable(values, margin, min(SCREEN_ALPHA / len(cells), CONFIRM_ALPHA)),
            p_screen=screen[cell].p,
            p_confirm=again.p if again else None,
            reason=reason,
            seconds_per_step=(times[cell]["base"], times[cell]["head"]),
        )


def _judge_work(record: Record, cell: str, compared: bool) -> CellVerdict:
    if failed := _failed(record, cell):
        return failed
    if not compared:
        return CellVerdict(cell, "missing", reason="its work wasn't counted in both trees")
    return CellVerdict(cell, "pass", reason="only its work was compared")


def _failed(record: Record, cell: str) -> CellVerdict | None:
    """What the first failure of the cell, or of a whole arm, comes to."""
    for failure in record.failures:
        if failure.cell in (None, cell):
            return CellVerdict(cell, "missing" if failure.kind == "missing" else "crashed", reason=failure.reason)
    return None


def _only_base_lacks(record: Record) -> set[str | None]:
    """Cells that are new in head; one that head lacks is broken or gone, and that is never excused."""
    absent = [failure for failure in record.failures if failure.kind == "missing"]
    return {f.cell for f in absent if f.arm == "base"} - {f.cell for f in absent if f.arm == "head"} - {None}


def _headline(verdict: Verdict, cells: Sequence[CellVerdict], changes: Sequence[WorkChange], record: Record) -> str:
    """The answer in one sentence."""
    margin, promise = (f"{100 * record.header[key]:g}%" for key in ("margin", "promise"))
    ratios = {c.cell: c.estimate.ratio for c in cells if c.estimate}
    named = {kind: [cell for cell in cells if cell.verdict == kind] for kind in WORST_FIRST}
    if named["regression"]:
        parts = [f"{c.cell} is {100 * (c.estimate.ratio - 1):.1f}% slower" for c in named["regression"] if c.estimate]
        return f"Regression: {', '.join(parts)}; flagged, and confirmed on fresh launches."
    if verdict == "regression":
        more = sorted({change.cell for change in changes if change.direction == "more"})
        return f"More work a step in {', '.join(more)}: counted, not timed, so there is no noise in it."
    if verdict == "crashed":
        return f"A worker failed: {named['crashed'][0].reason}."
    if verdict == "missing":
        return f"Not comparable: {named['missing'][0].reason}." if named["missing"] else "Nothing was compared."
    if verdict == "inconclusive":
        slower = {c.cell: c.estimate for c in named["inconclusive"] if c.estimate and c.estimate.low > 1}
        likely = max(slower, key=lambda cell: ratios[cell], default="")
        if likely and ratios[likely] > 1 + record.header["margin"]:
            found = slower[likely]
            low, ratio, high = (f"{100 * (end - 1):.1f}" for end in (found.low, found.ratio, found.high))
            return f"Likely a regression, not confirmed: {likely} is about {ratio}% slower ({low} to {high}%)."
        count = f"{len(named['inconclusive'])} of {len(cells)} cells"
        return f"Inconclusive: this machine's noise leaves {count} undecided between no change and {promise} slower."
    if not ratios:
        return f"No more work a step in any of {len(cells)} cells."
    slowest = max(ratios, key=lambda cell: ratios[cell])
    change = 100 * (ratios[slowest] - 1)
    return (
        f"No regression: every cell is less than {promise} slower with 95% confidence; the slowest, {slowest}, "
        f"measured {abs(change):.1f}% {'slower' if change >= 0 else 'faster'} (up to {margin} isn't worth failing)."
    )


def _notes(cells: Sequence[CellVerdict], changes: Sequence[WorkChange], record: Record) -> Iterator[str]:
    less = {change.cell for change in changes if change.direction == "less"}
    for cell in cells:
        if cell.faster and cell.cell in less:
            yield f"{cell.cell} is faster, and does less work a step: see what changed."
    if not record.ended:
        yield "This gate didn't come to its end: the verdict is on what it had measured; --resume goes on."
