"""A gate's journal made up: launches with the noise that real ones have, and a slowdown that is known.

The sizes are those of recorded launches of identical code on two shared cores: the ratio of a launch's two processes
scatters by 2.7% (SD), now and then one is off by 8 to 22%, blocks within a launch scatter by 1%, and the machine as a
whole drifts by some percent from launch to launch, which a paired comparison doesn't see and a sequential one does.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.gate.journal import FORMAT, Arm, Journal, Phase, Record, Slice

CELLS = ("vit train", "vit infer", "cnn train", "cnn infer")
SECONDS = 4.0  # of a launch, for each of its cells
ORDERS: tuple[tuple[Arm, ...], ...] = (("base", "head", "head", "base"), ("head", "base", "base", "head"))


@dataclass(frozen=True)
class Noise:
    """Standard deviations of logarithms; `odd` is the share of a cell's launches that are off by `odd_size`."""

    launch: float = 0.027
    block: float = 0.01
    drift: float = 0.04
    odd: float = 0.03
    odd_size: tuple[float, float] = (0.08, 0.22)


NONE = Noise(0.0, 0.0, 0.0, 0.0)


def made_up_journal(
    launches: int = 60,
    slowdown: float = 0.0,
    slowed: Collection[str] | None = None,
    cells: Sequence[str] = CELLS,
    noise: Noise = Noise(),
    blocks: int = 4,
    seed: int = 0,
    phase: Phase = "screen",
) -> Record:
    """`launches` launches of one phase in which head's steps take 1 + `slowdown` of base's in the `slowed` cells (all).

    The header says what was slowed, as a recorded journal's does; a launch takes 4 s a cell.
    """
    rng = np.random.default_rng(seed)
    slowed = tuple(cells if slowed is None else slowed) if slowdown else ()
    record = Record(header(cells, slowdown, slowed), ended=True)
    for launch in range(launches):
        drift = noise.drift * rng.standard_normal()
        for number, cell in enumerate(cells):
            ratio = noise.launch * rng.standard_normal() + _odd(noise, rng) + np.log1p(slowdown * (cell in slowed))
            level = np.log(0.004 * (number + 1)) + drift
            record.slices += _slices(launch, phase, cell, blocks, level, ratio, noise.block, rng)
        record.launches[phase].append(launch)
        record.wall_seconds.append(SECONDS * len(cells))
    return record


def header(cells: Sequence[str], slowdown: float = 0.0, slowed: Sequence[str] = ()) -> dict[str, object]:
    side = {"name": "made up", "commit": "0" * 40}
    more = {"slowed": slowdown, "slowed_cells": list(slowed), "noise": "made up"}
    asked = {"margin": 0.03, "promise": 0.10, "threads": 1, "command": "made up", "started_at": "2026-01-01T00:00:00Z"}
    return {"format": FORMAT, "cells": list(cells), "base": side, "head": side, "environment": {}, **asked, **more}


def write_journal(path: Path, record: Record) -> None:
    """The record as a gate would have written it."""
    journal = Journal(path)
    journal.append("gate", record.header)
    phases: tuple[Phase, ...] = ("screen", "confirm")
    seconds = iter(record.wall_seconds)
    for phase in phases:
        for launch in record.launches[phase]:
            of_it = [piece for piece in record.slices if (piece.launch, piece.phase) == (launch, phase)]
            journal.launch(launch, phase, 0, of_it, next(seconds))
    if record.ended:
        journal.append("end", {})


def _odd(noise: Noise, rng: np.random.Generator) -> float:
    return float(rng.choice((-1.0, 1.0)) * rng.uniform(*noise.odd_size)) if rng.random() < noise.odd else 0.0


def _slices(
    launch: int,
    phase: Phase,
    cell: str,
    blocks: int,
    level: float,
    ratio: float,
    scatter: float,
    rng: np.random.Generator,
) -> list[Slice]:
    found = []
    for block in range(blocks):
        for slot, arm in enumerate(ORDERS[rng.integers(2)]):
            # Two slices an arm: the difference of their means scatters as much as one slice.
            log = level + (ratio if arm == "head" else 0.0) + scatter * rng.standard_normal()
            steps = max(1, round(0.25 / float(np.exp(level))))
            found.append(Slice(launch, phase, cell, block, slot, arm, steps, steps * float(np.exp(log))))
    return found
