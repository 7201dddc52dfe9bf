"""What a step does in two trees, compared exactly: counts have no noise, so a difference is named on any machine."""

from collections import Counter
from collections.abc import Callable, Mapping
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
    changes = []
    for key, (what, rule) in RULES.items():
        before, after = base.get(key), head.get(key)
        if before is None or after is None or before == after:
            continue
        if found := rule(before, after):
            of, to, detail, direction = found
            if key == "loss":
                detail = f"{'sum of the logits' if base.get('work') == 'infer' else 'after 8 steps'}: {detail}"
            changes.append(WorkChange(cell, what, of, to, detail, direction))
    return changes


Found = tuple[str, str, str, Direction]  # of base, of head, detail, direction


def _count(before: int, after: int) -> Found:
    detail = f"{whole(abs(after - before))} {'more' if after > before else 'fewer'}"
    if before:
        factor = after / before
        detail += f", {factor:.2f} times" if abs(factor - 1) >= 0.005 else f", {100 * (factor - 1):+.1g}%"
    return whole(before), whole(after), detail, _direction(before, after)


def _graph_breaks(before: int, after: int) -> Found:
    base, head, detail, direction = _count(before, after)
    return base, head, detail.partition(", ")[0], direction


def _batch(before: int, after: int) -> Found:
    return whole(before), whole(after), "images a step: a step of one arm isn't a step of the other", "other"


def _operators(counted: dict[str, int], then_counted: dict[str, int]) -> Found | None:
    """One change for all operators: where kernels differ, views aren't spoken of."""
    base, head = Counter(counted), Counter(then_counted)
    kinds = {kind for kind in base | head if base[kind] != head[kind]}
    kernels = {kind for kind in kinds if not _is_view(kind)}
    totals = [sum(count for kind, count in arm.items() if _is_view(kind) != bool(kernels)) for arm in (base, head)]
    detail = _phrases(kernels or kinds, base, head)
    if not kernels:
        detail += ": views, for which no kernel runs"
        return f"{whole(totals[0])} views", f"{whole(totals[1])} views", detail, "other"
    waits = any(_waits(kind) and head[kind] > base[kind] for kind in kernels)  # one costs more than many others save
    return whole(totals[0]), whole(totals[1]), detail, "more" if waits else _direction(*totals)


def _phrases(kinds: set[str], base: Mapping[str, int], head: Mapping[str, int]) -> str:
    """The largest differences in words: what waits for the device first, then float64, which is seldom meant."""
    ranked = sorted(kinds, key=lambda kind: (-abs(head[kind] - base[kind]), kind))
    waiting = [kind for kind in ranked if _waits(kind) and head[kind] > base[kind]]
    rest = [kind for kind in ranked if kind not in waiting]
    said = [_phrase(kind, base[kind], head[kind]) for kind in waiting]
    wide_before, wide_after = (sum(n for kind, n in arm.items() if _is_wide(kind)) for arm in (base, head))
    if bool(wide_before) != bool(wide_after):
        now, then = (f"{whole(wide_after)} a step", "none") if wide_after else ("none", f"{whole(wide_before)} a step")
        said.append(f"float64 operators: {now}, base has {then}")
        rest = [kind for kind in rest if not _is_wide(kind)]
    said += [_phrase(kind, base[kind], head[kind]) for kind in rest]
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


def _peak_memory(before: int, after: int) -> Found | None:
    if abs(after - before) < MEMORY_GRAIN:
        return None
    texts = mebibytes(before), mebibytes(after)
    if texts[0] == texts[1]:
        texts = f"{whole(before)} bytes", f"{whole(after)} bytes"
    detail = f"{100 * (after / before - 1):+.2g}%" if before else ""
    return *texts, detail, _direction(before, after)


def _loss(before: str, after: str) -> Found | None:
    x, y = float.fromhex(before), float.fromhex(after)
    if x == y:  # zero of either sign
        return None
    larger, order = max(abs(x), abs(y)), ""
    if abs(y - x) < ROUNDING * larger:  # never where one isn't finite
        order = f", or sums in another order (they differ by {abs(y - x) / larger:.0e} of it)"
    digits = next((n for n in (5, 9) if f"{x:.{n}g}" != f"{y:.{n}g}"), 17)
    return f"{x:.{digits}g}", f"{y:.{digits}g}", f"not the same computation{order}", "other"


def _direction(before: int, after: int) -> Direction:
    return "more" if after > before else "less" if after < before else "other"


# key of count_work -> how it is called, and what is said of two counts that differ
RULES: dict[str, tuple[str, Callable[[Any, Any], Found | None]]] = {
    "batch": ("batch", _batch),
    "parameters": ("parameters", _count),
    "flops": ("FLOPs", _count),
    "operators": ("operators", _operators),
    "graph_breaks": ("graph breaks", _graph_breaks),
    "peak_bytes": ("peak memory", _peak_memory),
    "loss": ("loss", _loss),
}
