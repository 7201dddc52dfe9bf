"""A run against a stored baseline: advisory, since two days differ by more than a change does.

Speeds are divided by how fast the machine is now against then, the geometric mean of the references' speed ratios.
`check` times the references itself, after the run, so that must have been made on this machine within the hour. What
the reference work doesn't see (another neighbour in the caches, a hot processor) stays in the figures: hence the wide
margins. The gate (`run_bench.py gate`) is what decides.
"""

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.analysis.formatting import listed
from bench.analysis.summary import Tables, read_tables
from bench.errors import UserError, nearest
from bench.gate.baseline import (
    REFERENCE_DEVICE,
    Baseline,
    Configuration,
    Machine,
    Provenance,
    Timed,
    configurations,
    provenance_of,
    read_baseline,
    this_machine,
    time_twice,
    why_stale,
)
from bench.gate.reference import REFERENCE_VERSION, REFERENCES
from bench.measure.stats import binomial_half_width

MARGIN = 0.25  # of a step's time
MEMORY_MARGIN = 0.10
ACCURACY_HALF_WIDTHS = 3
MOST_APART = 1.5  # references that disagree by more than this factor don't describe one machine
ALLOWED = {"cpu": "CPU", "device": "device", "threads": "threads", "torch": "torch", "data": "data", "age": "age"}
BAD, GOOD = ("slower", "more memory", "less accurate"), ("faster", "less memory")
OK, NEW, MISSING, UNMEASURED = "ok", "new", "missing in run", "not measured"
FINE, WORSE, REFUSED, NOT_COMPARABLE = 0, 1, 2, 4


@dataclass(frozen=True)
class Figure:
    """One metric then and now; `change` is the ratio now / then (speed: normalised), or accuracy's difference."""

    metric: str
    then: float
    now: float
    change: float
    verdict: str


@dataclass(frozen=True)
class Line:
    """One configuration: its figures, and their verdict in a word or several."""

    config_id: str
    label: str
    device: str
    verdict: str
    figures: tuple[Figure, ...] = ()

    @property
    def bad(self) -> bool:
        return any(figure.verdict in BAD for figure in self.figures)


@dataclass(frozen=True)
class Check:
    """All that a run and a baseline have to say about each other.

    Attributes:
        refused: why nothing was compared, in one line; "" if it was.
        references: how fast this machine is now, as a multiple of then, by reference.
        machine: their geometric mean, by which speeds on the CPU were divided; None where they weren't timed.
        apart: the fastest reference's ratio over the slowest's.
    """

    run: str
    baseline: str
    provenance: Provenance
    refused: str = ""
    references: dict[str, float] = field(default_factory=dict)
    machine: float | None = None
    apart: float | None = None
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 all fine, 1 something is worse, 2 refused, 4 nothing compared, or not all that the baseline has."""
        if self.refused:
            return REFUSED
        if self.worse:
            return WORSE
        return FINE if self.compared and not self.lost else NOT_COMPARABLE

    @property
    def compared(self) -> list[Line]:
        return [line for line in self.lines if line.figures]

    @property
    def worse(self) -> list[Line]:
        return [line for line in self.lines if line.bad]

    @property
    def lost(self) -> list[Line]:
        """Of the baseline's, those whose speed this run hasn't measured."""
        return [line for line in self.lines if line.verdict in (MISSING, UNMEASURED)]


def check_run(
    run_dir: Path,
    baseline_path: Path,
    allow: Set[str] = frozenset(),
    margin: float = MARGIN,
    here: Machine | None = None,
) -> Check:
    """Compare a run that was just made on this machine with a stored baseline; times the reference work for ~10 s.

    Args:
        allow: differences to compare across: names of `ALLOWED`. They stay in the notes.
        margin: of a training step's time, what isn't called slower or faster (0.25).

    Raises:
        StoreError: not a run, or not a baseline.
        UserError: a name in `allow` that isn't one.
    """
    for name in sorted(allow - ALLOWED.keys()):
        raise UserError(f"--allow {name}: no such difference; {nearest(name, ALLOWED)}")
    baseline, tables = read_baseline(baseline_path), read_tables(run_dir)
    here = here or this_machine()
    pairs = _pairs(baseline, tables)
    both = [(old, new) for old, new in pairs if old and new]
    differ = _differences(baseline, tables, both, here)
    notes = tuple(_notes(differ, both, baseline))
    check = Check(str(run_dir), str(baseline_path), baseline.provenance, notes=notes)
    if both and differ.keys() - allow:
        return replace(check, refused=_refusal(differ, allow))
    if any(old.device == REFERENCE_DEVICE for old, _ in both):
        check = _with_references(check, baseline.references.seconds, time_twice(here, baseline.references.threads))
    if check.refused:
        return check
    sizes = baseline.provenance.num_test_images, provenance_of(tables, here).num_test_images
    num_test_images = min((size for size in sizes if size), default=math.nan)
    lines = (_line(old, new, check.machine or 1.0, margin, num_test_images) for old, new in pairs)
    return replace(check, lines=tuple(lines))


def _refusal(differ: dict[str, str], allow: Set[str]) -> str:
    """What differs and isn't allowed, and what would do."""
    asked = [name for name in differ if name not in allow]
    way = f", or --allow {','.join(asked)}" if set(asked) <= ALLOWED.keys() else ""
    return f"{'; '.join(differ[name] for name in asked)}; compare like with like{way}"


def _with_references(check: Check, then: dict[str, float], now: Timed) -> Check:
    """`check` with how fast the machine is as a multiple of then; refused where that isn't known well enough."""
    speeds = {name: then[name] / now.seconds[name] for name in then}
    mean = math.exp(sum(map(math.log, speeds.values())) / len(speeds))
    apart = max(speeds.values()) / min(speeds.values())
    why = f"this machine is too busy: {now.unsteady}" if now.unsteady else ""
    if apart > MOST_APART:
        told = listed([f"{name} {speed:.2f}" for name, speed in speeds.items()])
        why = f"as a multiple of the baseline's, this machine's speed is {told}: {apart:.2f} times apart"
    refused = f"inconclusive, {why}; run the suite again when it is quiet" if why else ""
    return replace(check, references=speeds, machine=mean, apart=apart, refused=refused)


def _pairs(baseline: Baseline, tables: Tables) -> list[tuple[Configuration | None, Configuration | None]]:
    """Each configuration of the baseline with its twin in the run, then those that only the run has."""
    runs = {found.key: found for found in configurations(tables)}
    pairs: list[tuple[Configuration | None, Configuration | None]] = []
    pairs += [(old, runs.pop(old.key, None)) for old in baseline.configurations]
    return pairs + [(None, new) for new in runs.values()]


def _differences(
    baseline: Baseline, tables: Tables, both: Sequence[tuple[Configuration, Configuration]], here: Machine
) -> dict[str, str]:
    """What isn't alike, a clause each, by its name in `ALLOWED`; what has another name can't be allowed."""
    then, now = baseline.provenance, provenance_of(tables, here)
    on_cpu = any(old.device == REFERENCE_DEVICE for old, _ in both)
    others = [(old, new) for old, new in both if old.device != REFERENCE_DEVICE]
    counts = [(old, new) for old, new in both if old.num_threads != new.num_threads]
    values: dict[str, tuple[Any, Any]] = {
        "cpu": (then.cpu, now.cpu),
        "device": (_all([old.device_name for old, _ in others]), _all([new.device_name for _, new in others])),
        "threads": (_all([old.num_threads for old, _ in counts]), _all([new.num_threads for _, new in counts])),
        "torch": (_minor(then.torch), _minor(now.torch)),
        "data": (then.data_checksum, now.data_checksum),
    }
    found = {
        name: f"{ALLOWED[name]}: {old or 'unknown'} in the baseline, {new or 'unknown'} in the run"
        for name, (old, new) in values.items()
        if old != new
    }
    if on_cpu:
        found |= {name: f"the run can't be normalised: {why}" for name, why in why_stale(tables, here).items()}
        work = baseline.references
        if (work.version, work.seconds.keys()) != (REFERENCE_VERSION, REFERENCES.keys()):
            versions = f"version {work.version} in the baseline, {REFERENCE_VERSION} here"
            found["references"] = f"reference work: {versions}; make the baseline again"
    return found


def _all(values: Sequence[object]) -> str:
    return listed(list(dict.fromkeys(str("unknown" if value is None else value) for value in values)))


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])


def _line(
    old: Configuration | None, new: Configuration | None, machine: float, margin: float, num_test_images: float
) -> Line:
    known = old or new
    assert known
    if old is None or new is None:
        return Line(known.config_id, known.label, known.device, MISSING if new is None else NEW)
    figures = tuple(_figures(old, new, machine if old.device == REFERENCE_DEVICE else 1.0, margin, num_test_images))
    lost = not figures or (old.images_per_second is not None and new.images_per_second is None)
    bad, good = (", ".join(figure.verdict for figure in figures if figure.verdict in kind) for kind in (BAD, GOOD))
    verdict = bad or (UNMEASURED if lost else good or OK)
    return Line(old.config_id, old.label, old.device, verdict, figures)


def _figures(
    old: Configuration, new: Configuration, machine: float, margin: float, num_test_images: float
) -> Iterator[Figure]:
    """The metrics that both have."""
    for metric, by, limit, words in (
        ("images_per_second", machine, margin, ("slower", "faster")),
        ("peak_memory_bytes", 1.0, MEMORY_MARGIN, ("less memory", "more memory")),
    ):
        then, now = getattr(old, metric), getattr(new, metric)
        if then is not None and now is not None:
            ratio = now / then / by
            low, high = ratio < 1 / (1 + limit), ratio > 1 + limit
            yield Figure(metric, then, now, ratio, words[0] if low else words[1] if high else OK)
    if old.test_accuracy is not None and new.test_accuracy is not None:
        change = new.test_accuracy - old.test_accuracy
        limit = ACCURACY_HALF_WIDTHS * binomial_half_width(old.test_accuracy, num_test_images)
        if not math.isnan(limit):
            yield Figure(
                "test_accuracy",
                old.test_accuracy,
                new.test_accuracy,
                change,
                "less accurate" if change < -limit else OK,
            )


def _notes(
    differ: dict[str, str], both: Sequence[tuple[Configuration, Configuration]], baseline: Baseline
) -> Iterator[str]:
    yield from (f"{told} (allowed)" for told in differ.values())
    if "torch" in differ:
        yield "What the other torch made faster or slower everywhere is normalised away with the machine."
    if any(old.device != REFERENCE_DEVICE for old, _ in both):
        yield "The reference work runs on the CPU: speeds of other devices are compared as they were measured."
    if baseline.provenance.dirty:
        yield "The baseline was made with uncommitted changes."
