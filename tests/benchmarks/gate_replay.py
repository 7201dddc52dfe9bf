"""Virtual gates: what the gate would have said, many times over, from recorded launches.

    python tests/benchmarks/gate_replay.py results/reference/gate/journals [--write results/reference/gate]

The journals come from `python tests/benchmarks/gate_record.py`. A virtual gate draws launches with replacement, all
cells of a launch together, and asks bench/gate/decision.py just as a real gate does (bench/gate/driver.py): what the
screen flags or leaves open is measured again, on launches drawn anew.
"""

import argparse
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
from gate_recordings import Recording, load_all, one_slow_cell

from bench.errors import UserError
from bench.gate.decision import CellVerdict, Decision, decide, flagged, unsettled
from bench.gate.journal import Arm, Phase, Record, Slice
from bench.gate.launch_stats import launch_values

ARMS: tuple[Arm, Arm] = ("base", "head")


class Launches:
    """A journal's launches, ready to be drawn again and again under new numbers.

    What a launch says of a cell is one number (bench.gate.launch_stats.launch_values), so a launch is kept as two
    slices a cell whose ratio is that number: the same verdicts, many times faster.
    """

    def __init__(self, record: Record) -> None:
        self.header = record.header
        gathered: dict[int, list[Slice]] = {launch: [] for launch in record.launches["screen"]}
        for piece in record.slices:
            if piece.phase == "screen":
                gathered[piece.launch].append(piece)
        said = [self._said(pieces) for pieces in gathered.values()]
        self._said_by = [cells for cells in said if cells.keys() == set(record.header["cells"])]
        self._numbered: dict[tuple[int, int, Phase], list[Slice]] = {}

    def __len__(self) -> int:
        return len(self._said_by)

    def slices(self, drawn: int, number: int, phase: Phase) -> list[Slice]:
        """The launch `drawn` as if it were the gate's launch `number`."""
        key = drawn, number, phase
        if key not in self._numbered:
            self._numbered[key] = [
                Slice(number, phase, cell, 0, slot, arm, 1, seconds)
                for cell, (base, head) in self._said_by[drawn].items()
                for slot, (arm, seconds) in enumerate(zip(ARMS, (base, head), strict=True))
            ]
        return self._numbered[key]

    @staticmethod
    def _said(pieces: list[Slice]) -> dict[str, tuple[float, float]]:
        found = {}
        for cell, values in launch_values(pieces, ["screen"]).items():
            base = median(p.seconds / p.steps for p in pieces if p.cell == cell and p.arm == "base")
            found[cell] = base, base * float(np.exp(values[0]))
        return found


def virtual_gates(
    record: Record, count: int, launches: int, confirm_launches: int, rng: np.random.Generator
) -> list[Decision]:
    """What `count` gates say, each on launches drawn with replacement."""
    source = Launches(record)
    screens = rng.integers(len(source), size=(count, launches)).tolist()
    confirmations = rng.integers(len(source), size=(count, confirm_launches)).tolist()
    return [one_gate(source, screen, again) for screen, again in zip(screens, confirmations, strict=True)]


def separate_gates(record: Record, launches: int, confirm_launches: int) -> list[Decision]:
    """The gates that the journal holds in its own order, none sharing a launch with another: few, but independent."""
    source, size = Launches(record), launches + confirm_launches
    starts = range(0, len(source) - size + 1, size)
    return [one_gate(source, range(at, at + launches), range(at + launches, at + size)) for at in starts]


def virtual_screens(record: Record, count: int, launches: int, rng: np.random.Generator) -> Iterator[Decision]:
    """Decisions on a screen alone, whatever it flags, so that their intervals are of all cells alike."""
    source = Launches(record)
    for screen in rng.integers(len(source), size=(count, launches)).tolist():
        yield decide(_screened(source, screen))


def one_gate(source: Launches, screen: Sequence[int], confirm: Sequence[int]) -> Decision:
    """A gate on these launches; `confirm` has only the cells that the screen flags or leaves open."""
    trial = _screened(source, screen)
    doubtful = {*flagged(trial), *unsettled(trial)}
    if doubtful:
        for drawn in confirm:
            _add(trial, source, drawn, "confirm", doubtful)
    return decide(trial)


def _screened(source: Launches, screen: Sequence[int]) -> Record:
    trial = Record(source.header, ended=True)
    for drawn in screen:
        _add(trial, source, drawn, "screen")
    return trial


def _add(trial: Record, source: Launches, drawn: int, phase: Phase, cells: Collection[str] | None = None) -> None:
    number = len(trial.launches["screen"]) + len(trial.launches["confirm"])
    trial.slices += [p for p in source.slices(drawn, number, phase) if cells is None or p.cell in cells]
    trial.launches[phase].append(number)


def gate_minutes(decisions: Sequence[Decision], recording: Recording) -> float:
    """What the average gate's launches take; those of a confirmation have only the doubtful cells."""
    launches = [
        each.launches["screen"] + each.launches["confirm"] * fmean(_again(each, cell) for cell in each.cells)
        for each in decisions
    ]
    return recording.launch_seconds * fmean(launches) / 60


def _again(decision: Decision, cell: CellVerdict) -> bool:
    """Whether the cell was measured again: its estimate is then of the confirmation, or of all launches."""
    more = cell.estimate is not None and cell.estimate.n > decision.launches["screen"]
    return cell.p_confirm is not None or more


def regressed(decision: Decision) -> bool:
    return decision.verdict == "regression"


def main() -> None:
    from gate_report import report  # draws; the virtual gates need nothing of it

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("journals", type=Path, help="folder of recorded journals")
    parser.add_argument("--gates", type=int, default=1000, help="virtual gates a journal")
    parser.add_argument("--launches", type=int, default=6, help="of a gate's screen")
    parser.add_argument("--confirm", type=int, help="launches of a confirmation; default: as the screen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="folder for README.md, rules.png and rules.svg")
    options = parser.parse_args()
    try:
        recordings = load_all(options.journals)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    named = {one.name: one for one in recordings}
    if {"real-quiet", "slow10-quiet"} <= named.keys():
        recordings += one_slow_cell(named["real-quiet"], named["slow10-quiet"])
    report(recordings, options)


if __name__ == "__main__":
    main()
