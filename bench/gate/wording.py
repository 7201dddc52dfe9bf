"""The gate's answer in words: the phrases that every form of it, text or file, says alike."""

import math
import shlex
import unicodedata
from typing import Any

from bench.gate.decision import CellVerdict, Decision, Estimate, Verdict
from bench.gate.journal import Failure, Record
from bench.gate.work_diff import WorkChange

MEANING: dict[Verdict, str] = {
    "pass": "No cell is slower by as much as the gate promises to catch. Nothing to do.",
    "regression": "A cell was flagged, and fresh launches confirmed it; running again is no cure. Find the change (if"
    " work differs, that is a hint); if it is meant, say so where you merge.",
    "inconclusive": "This machine was too noisy, or the time too short, to tell. It says nothing about the change. Give"
    " more time (`--budget`), a quieter machine, or let it warn (`--inconclusive warn`).",
    "missing": "Something could not be compared, and what is not compared does not pass. Cells that are new in head:"
    " `--allow-missing`.",
    "crashed": "A worker ended early or ran out of time; its last words stand under what failed. Run the command on"
    " your machine.",
}
SUSPECT = (
    "A cell looks slower, and what was measured does not suffice to say so, or not by how much. Give more time"
    " (`--budget`) or a quieter machine."
)
MORE_WORK = (
    "A step of head does more than one of base. This is counted, not timed: running again changes nothing. Remove it,"
    " or accept it with `--work warn`."
)
ONLY_WORK = "A step of head does no more than one of base. Nothing was timed."
ONLY_WORK_ACCEPTED = "A step of head does more than one of base, and that was accepted. Nothing was timed."
ITSELF = (
    "Both are the same source, so what differs is this machine's noise. The slowdown that would have been caught is"
    " what it can tell in this time."
)
FALSE_ALARM = (
    "Both are the same source, so this is a false alarm: please report it, with the journal. Until then, let the gate"
    " only advise on this machine."
)


def meaning_of(decision: Decision, record: Record) -> str:
    """What the verdict means, and what to do."""
    slower = any(cell.verdict == "regression" for cell in decision.cells)
    more = any(change.direction == "more" for change in decision.work)
    if decision.verdict == "regression" and not slower:
        return MORE_WORK
    if decision.verdict == "pass" and not measured(decision):
        return ONLY_WORK_ACCEPTED if more else ONLY_WORK
    if record.header.get("aa") and decision.verdict in ("pass", "inconclusive", "regression"):
        return FALSE_ALARM if slower else ITSELF
    if decision.verdict == "inconclusive" and any(_suspect(cell) for cell in decision.cells):
        return SUSPECT
    return MEANING[decision.verdict]


def _suspect(cell: CellVerdict) -> bool:
    """Shown to be slower, but not by how much, or not twice."""
    return cell.verdict == "inconclusive" and cell.estimate is not None and cell.estimate.low > 1


def measured(decision: Decision) -> bool:
    """Whether any cell was timed."""
    return any(cell.estimate for cell in decision.cells)


def verdict_line(decision: Decision) -> str:
    """The headline, and that it is only a warning where an inconclusive gate may pass."""
    warning = decision.exit_status == 0 and decision.verdict != "pass"
    return plain(decision.headline) + (
        f" A warning only: exit status 0, verdict {decision.verdict}." if warning else ""
    )


def change_in_words(estimate: Estimate | None) -> str:
    """ "4.1% slower", "1.2% faster", "0.3% slower: no difference shown" when the interval holds 1."""
    if estimate is None or not math.isfinite(estimate.ratio):
        return "not measured"
    size, direction = percent(abs(estimate.ratio - 1)), "slower" if estimate.ratio > 1 else "faster"
    if estimate.low > 1 or estimate.high < 1:  # an end that isn't known excludes nothing
        return f"under 0.1% {direction}" if size == "0.0%" else f"{size} {direction}"
    return f"{size if size == '0.0%' else f'{size} {direction}'}: no difference shown"


def interval_in_percent(estimate: Estimate | None) -> str:
    """ "-0.8% to +2.1%"; an end that isn't known is "?"."""
    if estimate is None:
        return "–"
    return f"{_signed(estimate.low)} to {_signed(estimate.high)}"


def caught_in_percent(detectable: float | None) -> str:
    """ "6%", to the next whole percent: never a promise that the launches don't keep."""
    if detectable is None or not math.isfinite(detectable):
        return "–"
    return f"{max(1, math.ceil(round(100 * detectable, 3)))}%"


def work_line(change: WorkChange) -> str:
    """ "cnn train: operators 412 -> 416, more work: 4 more aten.clone (float32) a step"."""
    weight = {"more": "more work", "less": "less work", "other": "another result"}[change.direction]
    detail = f": {change.detail}" if change.detail else ""
    return f"{change.cell}: {change.what} {change.base} -> {change.head}, {weight}{detail}"


def failure_line(failure: Failure) -> str:
    """ "crashed in head, cell cnn train, launch 3: killed by signal 9"."""
    kind = {"missing": "missing in", "crash": "crashed in", "timeout": "out of time in"}[failure.kind]
    where = [f"{kind} {failure.arm}", f"cell {failure.cell}" if failure.cell is not None else "every cell"]
    where += [f"launch {failure.launch}"] if failure.launch is not None else []
    return f"{', '.join(where)}: {clipped(failure.reason, 300)}"


def attempts(decision: Decision) -> str:
    """ "launches: 8 of all cells, 6 fresh ones of those flagged or left open"."""
    screen, confirm = decision.launches.get("screen", 0), decision.launches.get("confirm", 0)
    if not screen and not confirm:
        return "launches: none finished"
    again = f"{confirm} fresh ones of those flagged or left open" if confirm else "no fresh ones after that"
    return f"launches: {screen} of all cells, {again}"


def sides(record: Record) -> str:
    """ "Head fast-attention (89abcdef0123) against base origin/main (0123456789ab)."."""
    if record.header.get("aa"):
        return f"{_revision(record, 'head')} against itself."
    return f"Head {_revision(record, 'head')} against base {_revision(record, 'base')}."


def command_of(record: Record) -> str:
    """The command that ran this gate, as a shell takes it; "" where the journal doesn't know."""
    command = record.header.get("command") or ""
    return command if isinstance(command, str) else shlex.join(str(part) for part in command)


def clipped(text: str, most: int) -> str:
    """The end of a text: the last words of a traceback say most."""
    line = text.strip()
    return line if len(line) <= most else "... " + line[-most:]


def plain(text: object) -> str:
    """Text on one line, without anything that a terminal or a parser would obey."""
    line = " ".join(str(text).split())
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def percent(x: float) -> str:
    return f"{100 * x:.1f}%" if x < 1 else f"{100 * x:.0f}%"


def _signed(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "?"
    size = percent(abs(ratio - 1))
    return size if size == "0.0%" else f"{'-' if ratio < 1 else '+'}{size}"


def finite(value: Any) -> Any:
    """What JSON can hold: infinite and undefined numbers are null, other objects their text."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _revision(record: Record, arm: str) -> str:
    """ "feature/x (0123456)", or as much of it as is known."""
    found: dict[str, Any] = record.header.get(arm) or {}
    name, commit = plain(found.get("name") or "unnamed"), plain(found.get("commit") or "")[:12]
    known = not commit or commit.startswith(name) or name.startswith(commit)
    return name if known else f"{name} ({commit})"
