"""A check against a stored baseline as text: what was compared with what, the machine's speed, a table, the answer."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis.formatting import listed, mebibytes, percent, points, rate
from bench.gate.baseline_check import BAD, GOOD, UNMEASURED, Check, Figure, Line

HEAD = ("configuration", "metric", "baseline", "now", "change", "verdict")
ADVICE = "Advisory: another day's figures. Whether a change made training slower is for `run_bench.py gate` to say."


def _pace(ratio: float) -> str:
    """A ratio of speeds as what it does to a step's time."""
    return f"{100 * (ratio - 1):.1f}% faster" if ratio >= 1 else f"{100 * (1 / ratio - 1):.1f}% slower"


def _growth(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}%"


METRICS = {  # how a figure and its change read
    "images_per_second": ("training speed", rate, _pace),
    "peak_memory_bytes": ("peak memory", mebibytes, _growth),
    "test_accuracy": ("test accuracy", percent, points),
}


def show_check(check: Check, console: Console) -> None:
    """Print a check; one that was refused has no table."""
    for line in _before(check):
        console.print(escape(line), highlight=False)
    if check.lines:
        console.print("", _table(check), "")
    for note in check.notes:
        console.print(escape(f"Note: {note}"), highlight=False)
    console.print(f"[bold]{escape(headline(check))}[/bold]", highlight=False)
    console.print(ADVICE, highlight=False)


def headline(check: Check) -> str:
    """The answer in one sentence."""
    if check.refused:
        return f"Refused: {check.refused}."
    total = len(check.compared)
    if not total:
        return "Nothing comparable: no configuration of the baseline was measured in this run."
    worse = [f"{line.label} ({line.verdict})" for line in check.worse]
    count = f"{len(worse) or 'none'} of {total} compared configuration{'s' * (total > 1)}"
    said = f"Worse than the baseline in {count}{': ' * bool(worse)}{listed(worse)}"
    return (
        f"{said}; not measured in this run: {listed([line.label for line in check.lost])}."
        if check.lost
        else f"{said}."
    )


def as_json(check: Check) -> dict[str, Any]:
    """The whole check, for programs."""
    plain = asdict(check) | {"provenance": check.provenance.model_dump(mode="json")}
    return plain | {"headline": headline(check), "exit_status": check.exit_status}


def _before(check: Check) -> Iterator[str]:
    made = check.provenance
    commit = f"commit {(made.commit or 'unknown')[:12]}{' with uncommitted changes' * bool(made.dirty)}"
    threads = f"threads: {listed([str(count) for count in made.threads]) or 'unknown'}"
    yield f"Run:      {check.run}"
    yield f"Baseline: {check.baseline} ({made.made_at[:10]}, {commit}, torch {made.torch}, {made.cpu}, {threads})"
    if check.machine is not None and check.apart is not None:
        told = ", ".join(f"{name} {speed:.2f}" for name, speed in check.references.items())
        yield (
            f"Machine:  {check.machine:.2f} times as fast as then, by reference work timed just now, after the run "
            f"({told}; {check.apart:.2f} times apart). Changes of speed have it divided out; that holds if the run was "
            "made here, just before."
        )


def _table(check: Check) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(HEAD):
        table.add_column(name, justify="right" if 2 <= index <= 4 else "left", overflow="fold")
    for line in check.lines:
        if not line.figures:
            table.add_row(escape(line.label), "", "", "", "", _coloured(line))
        for index, figure in enumerate(line.figures):
            table.add_row("" if index else escape(line.label), *_cells(figure), _coloured(figure))
        if line.figures and line.verdict == UNMEASURED:
            table.add_row("", METRICS["images_per_second"][0], "", "", "", UNMEASURED)
    return table


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    title, show, change = METRICS[figure.metric]
    return title, show(figure.then), show(figure.now), change(figure.change)


def _coloured(found: Figure | Line) -> str:
    colour = "red" if found.verdict in BAD else "green" if found.verdict in GOOD else ""
    return f"[{colour}]{found.verdict}[/{colour}]" if colour else found.verdict
