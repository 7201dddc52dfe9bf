"""Tables and the picture of the gate's proof; `python tests/benchmarks/gate_replay.py` asks for them."""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

import matplotlib
import numpy as np
from gate_curves import OURS, Point, Tally, all_curves, percent, picture
from gate_recordings import Recording, read_any
from gate_replay import gate_minutes, regressed, separate_gates, virtual_gates, virtual_screens
from rival_rules import RIVALS

from bench.gate.decision import Decision, decide
from bench.report.plots import style
from bench.system.files import write_atomically


def report(recordings: Sequence[Recording], options: argparse.Namespace) -> None:
    """Print the tables, and write them and the picture to `options.write`.

    `options` are gate_replay's: gates, launches, confirm, seed, write.
    """
    rng = np.random.default_rng(options.seed)
    plan = options.launches, options.confirm or options.launches, rng
    found = {one.name: virtual_gates(one.record, options.gates, *plan) for one in recordings}
    gates = "\n".join(gate_table(recordings, found, options, rng))
    curves = all_curves(recordings, found, options, rng)
    rules = "\n".join(rule_table(curves, options))
    print(gates, rules, sep="\n\n")
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        real = "\n".join(whole_gates(options.journals))
        facts = {
            "real": real,
            "launches": launches_text(recordings),
            "cpu": cpu_text(recordings),
            "plan": plan_text(options),
        }
        text = TEXT.format(gates=gates, rules=rules, command=command_text(options), **facts)
        write_atomically(options.write / "README.md", text)
        with matplotlib.rc_context(style.STYLE):
            figure = picture(curves, launches_text(recordings))
        for suffix in ("png", "svg"):
            (options.write / f"rules.{suffix}").write_bytes(style.save(figure, suffix))


# What our gate says, journal by journal


def gate_table(
    recordings: Sequence[Recording],
    decisions: Mapping[str, Sequence[Decision]],
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> Iterator[str]:
    yield (
        "| journal | head's slowdown | launches | regression (95% bounds) | inconclusive | pass | another cell blamed "
        "| 95% intervals that hold the truth | regressions in separate gates | minutes a gate |"
    )
    yield "| :-- | :-- | --: | :-- | --: | --: | --: | --: | --: | --: |"
    confirm = options.confirm or options.launches
    together, apart, aa_covered = Tally(), Tally(), Tally()
    for one in recordings:
        found = decisions[one.name]
        separate = separate_gates(one.record, options.launches, confirm)
        screens = virtual_screens(one.record, options.gates // 2, options.launches, rng)
        covered = [holds for screen in screens for holds in coverage(screen, one)]
        minutes, counts = gate_minutes(found, one), Counter(each.verdict for each in found)
        tally, few = Tally(), Tally()
        tally.add(map(regressed, found), minutes)
        few.add(map(regressed, separate), minutes)
        if not one.slowdown:
            together.add(map(regressed, found), minutes)
            apart.add(map(regressed, separate), minutes)
            aa_covered.add(covered, minutes)
        shares = [percent(counts[verdict] / len(found)) for verdict in ("inconclusive", "pass")]
        blamed = percent(fmean(blames_another(each, one) for each in found)) if one.slowdown else "-"
        yield row(
            one.name, slowdown_text(one), len(one.record.launches["screen"]), tally.text(), *shares, blamed,
            percent(fmean(covered)), f"{few.hits} of {few.n}", f"{minutes:.1f}",
        )  # fmt: skip
    if together.n:
        launches = sum(len(one.record.launches["screen"]) for one in recordings if not one.slowdown)
        yield row(
            "**all of identical code**", "none", launches, f"**{together.text()}**", "", "", "-",
            percent(aa_covered.rate), f"{apart.hits} of {apart.n}", f"{fmean(together.minutes):.1f}",
        )  # fmt: skip


def whole_gates(folder: Path) -> Iterator[str]:
    """What real gates of a tree against itself said, by the noise beside them."""
    said: dict[str, list[tuple[Decision, float]]] = {}
    for path in sorted(folder.glob("real-*.jsonl*")):
        record = read_any(path)
        said.setdefault(path.name.split("-")[1], []).append((decide(record), record.seconds or math.nan))
    yield "| noise | gates | pass | inconclusive | false alarms | launches (median) | seconds (median, longest) |"
    yield "| :-- | --: | --: | --: | --: | --: | --: |"
    everything = [one for found in said.values() for one in found]
    for noise, found in [*said.items(), ("**all**", everything)] if everything else []:
        verdicts = Counter(decision.verdict for decision, _ in found)
        seconds = [spent for _, spent in found]
        launches = median(decision.launches["screen"] + decision.launches["confirm"] for decision, _ in found)
        yield row(
            noise, len(found), verdicts["pass"], verdicts["inconclusive"], verdicts["regression"], f"{launches:g}",
            f"{median(seconds):.0f}, {max(seconds):.0f}",
        )  # fmt: skip


def blames_another(decision: Decision, recording: Recording) -> bool:
    return any(cell.verdict == "regression" and cell.cell not in recording.slowed for cell in decision.cells)


def coverage(decision: Decision, recording: Recording) -> Iterator[bool]:
    """For each cell's interval whether it holds the true ratio."""
    for cell in decision.cells:
        if cell.estimate:
            yield cell.estimate.low <= recording.truth(cell.cell) <= cell.estimate.high


def rule_table(curves: dict[str, list[Point]], options: argparse.Namespace) -> Iterator[str]:
    """Each rule as its tool would be used: the others at their defaults, or the nearest that the journals allow."""
    slowdowns = sorted({size for points in curves.values() for point in points for size in point.tallies if size})
    heads = [f"fails at +{100 * slowdown:.0f}%" for slowdown in slowdowns]
    yield row("rule", "processes of each version", "false alarms (95% bounds)", *heads, "minutes")
    yield row(":--", "--:", ":--", *["--:"] * len(heads), "--:")
    for name, points in curves.items():
        usual = RIVALS[name].processes if name in RIVALS else points[0].size
        known = max((len(point.tallies) for point in points), default=0)
        whole = [point for point in points if len(point.tallies) == known]
        if not whole:
            continue
        point = min(whole, key=lambda each: abs(each.size - usual))
        powers = [percent(point.tallies[s].rate) if s in point.tallies else "-" for s in slowdowns]
        alarms = point.tallies[0.0].text() if 0.0 in point.tallies else "-"
        again = f" to flag, {options.confirm or options.launches} to confirm" if name == OURS else ""
        yield row(name, f"{point.size}{again}", alarms, *powers, f"{point.minutes(min(point.tallies)):.1f}")


# Words


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def slowdown_text(recording: Recording) -> str:
    if not recording.slowdown:
        return "none"
    everywhere = set(recording.slowed) == set(recording.record.header["cells"])
    return f"{100 * recording.slowdown:.1f}% in {'every cell' if everywhere else ', '.join(recording.slowed)}"


def plan_text(options: argparse.Namespace) -> str:
    return f"{options.launches} launches, a confirmation {options.confirm or options.launches}"


def command_text(options: argparse.Namespace) -> str:
    """What was asked besides the defaults, for the README's command."""
    asked = {"--launches": options.launches, "--confirm": options.confirm, "--gates": options.gates}
    return "".join(f"{name} {value} " for name, value in asked.items() if value)


def launches_text(recordings: Sequence[Recording]) -> str:
    same = sum(len(one.record.launches["screen"]) for one in recordings if not one.slowdown)
    slowed = [one for one in recordings if one.slowdown and not one.name.endswith(" only")]  # those are mixed of others
    slower = sum(len(one.record.launches["screen"]) for one in slowed)
    cells = median(len(one.record.header["cells"]) for one in recordings)
    return f"n = {same} launches of identical code and {slower} with a slower head, {cells:.0f} cells each"


def cpu_text(recordings: Sequence[Recording]) -> str:
    headers = [one.record.header for one in recordings]
    names = {head.get("cpu") or head.get("environment", {}).get("cpu") or "unknown processor" for head in headers}
    days = sorted({str(head.get("started_at", ""))[:10] for head in headers})
    return f"{', '.join(sorted(names))}, {' and '.join(days)}"


TEXT = """# The gate's proof: how often it is wrong, beside the rules that people use

Measured on {cpu}: {launches}.

```
# An hour or two; journals of whole gates, and of launches with a slower head:
python tests/benchmarks/gate_real.py --hog 4 --bursts 4 --stream 4 --quiet 11
python tests/benchmarks/gate_record.py slow10 quiet --launches 30
# A minute or two:
python tests/benchmarks/gate_replay.py results/reference/gate/journals {command}--write results/reference/gate
```

Real faults, each in a commit of its own, and harmless commits: [faults.md](faults.md); some of them timed, on a machine
that ran other jobs too: [faults_timed.md](faults_timed.md). There two slowdowns were flagged without time enough to
confirm them; with 160 seconds both were confirmed. Why the arms alternate every 60 ms:
[alternation.md](alternation.md).

A journal holds launches: two fresh processes, base and head, whose cells are timed in alternation. In `real` both run
the same code. In `slow10` head does every tenth step twice, which is 10% more work, and no sleep; in `slow03`, `05` and
`20` it is 3, 5 and 20%. `quiet` had the machine to itself; `hog`, `bursts` and `stream` had a neighbour that keeps a
core busy, does so now and then, or keeps copying memory (tests/benchmarks/gate_noise.py). `others` shared its core with
half a dozen other people's jobs, and alternated in four slices of 250 ms only: the worst that was met. Journals named
"only" are mixed, cell by cell, from launches of identical and of slowed code.

## What the gate says

A *virtual gate* draws its launches from a journal with replacement, all cells of a launch together, and decides by the
same code as a real gate (bench/gate/decision.py); cells that its screen flags or leaves open are measured again, on
launches drawn anew. Here a screen has {plan}. The bounds
(Clopper and Pearson, 95%) allow for the luck of the draw, not for that of the recording. *Separate* gates take launches
in the order of recording, none twice: few, but independent of each other. Intervals are those of all cells' screens:
95% of them should hold the true ratio. Minutes count a confirmation as long as the screen, for its share of the cells;
a real gate makes as many launches of it as its time allows.

{gates}

## Whole gates, end to end

`gate_real.py` runs `run_bench.py gate --aa` so often, with its default suite (four cells) and budget (160 s); the
launches of their screens are the `real` ones above.

{real}

## Beside other rules

The rules are those of their tools; tests/benchmarks/rival_rules.py names each one's source. They compare processes
that ran one after the other, so base's times are taken from some launches of the journal and head's from later ones, in
the journal's order: every such stretch is counted once, and longer ones overlap. A run fails if any cell does. Journals
with one slowed cell are left out here. Launches take turns on the cores, so neighbours ran on different ones, as
processes that nobody pins do. Minutes are those of the same slices: a launch has time for a process of either version.
The gate's own curve has longer screens and confirmations further right.

{rules}

![False alarms and power of each rule against minutes](rules.svg)
"""
