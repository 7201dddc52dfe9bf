"""What a step does in two trees, compared exactly: counts have no noise, so a difference is named on any machine."""

from dataclasses import dataclass
from typing import Any, Literal

from bench.analysis.formatting import mebibytes, whole

Direction = Literal["more", "less", "other"]

MEMORY_GRAIN = 1024  # bytes: a smaller difference is a scalar or two
NAMED_KINDS = 4  # operators that a line names before it only counts
ROUNDING = 1e-4  # share of a loss: a smaller difference may come from nothing but sums in another order
WAITS = ("_local_scalar_dense", "nonzero", "masked_select")  # operators whose caller needs a value, not a promise of it
# These make another view of the same numbers. No kernel runs, so a change in them alone may be a harmless rewriting.
VIEWS = frozenset(
    """
    _conj _neg_view _reshape_alias _unsafe_view alias as_strided detach detach_ diagonal expand lift_fresh permute
    real select slice split split_with_sizes squeeze squeeze_ t t_ transpose transpose_ unbind unfold unsafe_split
    unsqueeze unsqueeze_ view view_as_complex view_as_real
    """.split()  # noqa: SIM905 - forty quoted names are harder to read
)


@dataclass(frozen=True)
class WorkChange:
    """Something that a step of `head` does and one of `base` doesn't, or not as often.

    Attributes:
        what: "parameters", "FLOPs", "operators", "graph breaks", "peak memory", "loss", "batch".
        base, head: as a table prints them, such as "14,410" and "15,882".
        detail: in words, such as "4 more aten.clone (float32) a step"; "" if there is no more to say.
        direction: "more" (head does more: a regression of work), "less", or "other" (same amount, another result).
    """

    cell: str
    what: str
    base: str
    head: str
    detail: str
    direction: Direction


def compare_work(cell: str, base: dict[str, Any], head: dict[str, Any]) -> list[WorkChange]:
    """Where two arms' counts (bench.gate.step_work.count_work) differ, the most telling first; empty if nowhere.

    What only one arm has counted, as where the other's tree is older, isn't compared.
    """
    changes = [
        _count(cell, "batch", "batch", base, head),
        _count(cell, "parameters", "parameters", base, head),
        _count(cell, "flops", "FLOPs", base, head),
        _operators(cell, _kinds(base.get("operators")), _kinds(head.get("operators"))),
        _count(cell, "graph_breaks", "graph breaks", base, head),
        _peak_memory(cell, _number(base.get("peak_bytes")), _number(head.get("peak_bytes"))),
        _loss(cell, base, head),
    ]
    return [change for change in changes if change is not None]


def _count(cell: str, key: str, what: str, base: dict[str, Any], head: dict[str, Any]) -> WorkChange | None:
    before, after = _number(base.get(key)), _number(head.get(key))
    if before is None or after is None or before == after:
        return None
    detail = f"{whole(abs(after - before))} {'more' if after > before else 'fewer'}"
    if before and key != "graph_breaks":
        factor = after / before
        detail += f", {factor:.2f} times" if abs(factor - 1) >= 0.005 else f", {100 * (factor - 1):+.1g}%"
    direction = _direction(before, after)
    if key == "batch":
        detail, direction = "images a step: a step of one arm isn't a step of the other", "other"
    return WorkChange(cell, what, whole(before), whole(after), detail, direction)


def _operators(cell: str, base: dict[str, int] | None, head: dict[str, int] | None) -> WorkChange | None:
    """One change for all operators: where kernels differ, views aren't spoken of."""
    if base is None or head is None or base == head:
        return None
    kinds = {kind for kind in {**base, **head} if base.get(kind, 0) != head.get(kind, 0)}
    kernels = {kind for kind in kinds if not _is_view(kind)}
    totals = [sum(count for kind, count in arm.items() if _is_view(kind) != bool(kernels)) for arm in (base, head)]
    if not kinds:
        return None
    if not kernels:
        detail = _phrases(kinds, base, head) + ": views, for which no kernel runs"
        return WorkChange(cell, "operators", f"{whole(totals[0])} views", f"{whole(totals[1])} views", detail, "other")
    direction = _direction(*totals)
    if any(_waits(kind) and head.get(kind, 0) > base.get(kind, 0) for kind in kernels):
        direction = "more"  # one wait costs more than many operators save
    detail = _phrases(kernels, base, head)
    return WorkChange(cell, "operators", whole(totals[0]), whole(totals[1]), detail, direction)


def _phrases(kinds: set[str], base: dict[str, int], head: dict[str, int]) -> str:
    """The largest differences in words: what waits for the device first, then float64, which is seldom meant."""
    ranked = sorted(kinds, key=lambda kind: (-abs(head.get(kind, 0) - base.get(kind, 0)), kind))
    waiting = [kind for kind in ranked if _waits(kind) and head.get(kind, 0) > base.get(kind, 0)]
    said = [_phrase(kind, base.get(kind, 0), head.get(kind, 0)) for kind in waiting]
    rest = [kind for kind in ranked if kind not in waiting]
    wide_before, wide_after = (sum(n for kind, n in arm.items() if _is_wide(kind)) for arm in (base, head))
    if bool(wide_before) != bool(wide_after):
        now, then = (f"{whole(wide_after)} a step", "none") if wide_after else ("none", f"{whole(wide_before)} a step")
        said.append(f"float64 operators: {now}, base has {then}")
        rest = [kind for kind in rest if not _is_wide(kind)]
    said += [_phrase(kind, base.get(kind, 0), head.get(kind, 0)) for kind in rest]
    unsaid = len(said) - NAMED_KINDS
    more = [f"and {whole(unsaid)} more kind{'s' if unsaid > 1 else ''}"] if unsaid > 0 else []
    return "; ".join([*said[:NAMED_KINDS], *more])


def _phrase(kind: str, before: int, after: int) -> str:
    operator, _, rest = kind.partition(" ")
    dtype, _, way = rest.partition(" ")
    name = f"{operator.removesuffix('.default')} ({', '.join(part for part in (dtype, way) if part)})"
    if not before:
        text = f"new: {name}, {whole(after)} a step"
    else:
        text = f"{whole(abs(after - before))} {'more' if after > before else 'fewer'} {name} a step"
    if _waits(kind) and after > before:
        text += ": it copies between devices" if way else ": it waits for the device"
    return text


def _waits(kind: str) -> bool:
    return _name(kind) in WAITS or " to " in kind


def _is_view(kind: str) -> bool:
    return _name(kind) in VIEWS


def _is_wide(kind: str) -> bool:
    return not _is_view(kind) and kind.partition(" ")[2].startswith("float64")


def _name(kind: str) -> str:
    """ "aten.mm.default float32" -> "mm"; "" of a library's own operators."""
    namespace, _, rest = kind.partition(" ")[0].partition(".")
    return rest.partition(".")[0] if namespace == "aten" else ""


def _peak_memory(cell: str, before: int | None, after: int | None) -> WorkChange | None:
    if before is None or after is None or abs(after - before) < MEMORY_GRAIN:
        return None
    texts = mebibytes(before), mebibytes(after)
    if texts[0] == texts[1]:
        texts = f"{whole(before)} bytes", f"{whole(after)} bytes"
    detail = f"{100 * (after / before - 1):+.2g}%" if before else ""
    return WorkChange(cell, "peak memory", *texts, detail, _direction(before, after))


def _loss(cell: str, base: dict[str, Any], head: dict[str, Any]) -> WorkChange | None:
    before, after = base.get("loss"), head.get("loss")
    if not isinstance(before, str) or not isinstance(after, str) or before == after:
        return None
    detail = "sum of the logits" if base.get("work") == "infer" else "after 8 steps"
    detail += ": not the same computation"
    x, y = _real(before), _real(after)
    if x is None or y is None:
        return WorkChange(cell, "loss", before[:20], after[:20], detail, "other")
    if x == y:
        return None
    share = abs(y - x) / max(abs(x), abs(y))  # NaN where one isn't finite
    if share < ROUNDING:
        detail += f", or sums in another order (they differ by {share:.0e} of it)"
    digits = next((n for n in (5, 9) if f"{x:.{n}g}" != f"{y:.{n}g}"), 17)
    return WorkChange(cell, "loss", f"{x:.{digits}g}", f"{y:.{digits}g}", detail, "other")


def _kinds(counts: Any) -> dict[str, int] | None:
    if not isinstance(counts, dict):
        return None
    numbers = {str(kind): _number(count) for kind, count in counts.items()}
    return {kind: count for kind, count in numbers.items() if count}


def _number(count: object) -> int | None:
    """A count as count_work writes it; None for whatever else stands there."""
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**63:
        return count
    return None


def _real(text: str) -> float | None:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        return None


def _direction(before: int, after: int) -> Direction:
    return "more" if after > before else "less" if after < before else "other"
