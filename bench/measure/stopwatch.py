"""Stopwatch: a clock that waits for the device at the edges of what it times, and a warm-up until times settle."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate

BLOCK_SECONDS = 0.25  # shorter blocks flag differences that aren't there
SETTLED = 0.05  # two neighbouring warm-up blocks that agree within this share: warm
WARM_UP_BLOCK_SECONDS = 0.1
WARM_UP_BLOCKS = 12  # give up waiting for a noisy machine to settle


@dataclass
class Block:
    """A run of training steps between two readings of the clock; images are those of all processes."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass
class Stopwatch:
    """Seconds by phase (train, eval), from a monotonic clock that waits for the device at every edge.

    Args:
        synchronize: waits until the device has done all it was asked to.
        now: a monotonic clock, seconds.
        energy: the device's meter, joules since some moment; None where it has none. Read outside the timed part.
        processes: that train together, each with as many images as this one.
        pauses: entered around each block of training, outside the timed part; for a count of what it loses.

    Attributes:
        joules: spent in training; None where there is no meter.
    """

    synchronize: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.perf_counter
    energy: Callable[[], float | None] = lambda: None
    processes: int = 1
    pauses: AbstractContextManager[object] = field(default_factory=nullcontext)
    joules: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[Block]:
        """Time what happens inside, on the account of `name`; failures are timed too."""
        block = Block()
        self.synchronize()
        start = self.now()
        try:
            yield block
        finally:
            self.synchronize()
            block.seconds = self.now() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + block.seconds

    @contextmanager
    def block(self, steps: int) -> Iterator[Block]:
        """Time `steps` training steps as one block of throughput; the caller counts its own images."""
        before = self.energy()
        with self.pauses, self.phase("train") as block:
            block.steps = steps
            yield block
        after = self.energy()
        if before is not None and after is not None:
            self.joules = (self.joules or 0.0) + after - before
        block.images *= self.processes
        self.blocks.append(block)


def whole_blocks(blocks: list[Block], at_least: float = BLOCK_SECONDS) -> list[Block]:
    """Neighbours joined until each has as many steps as the median step's pace does in `at_least` seconds.

    Blocks end at evaluations, which may come thick; joined ones are long enough to mean something. They are joined by
    steps and not by seconds, so that all stand for as many images: the median over them is then the pace of most
    images, also where it changed on the way. A short rest joins the last.
    """
    enough = at_least / _median_pace(blocks) if blocks else 0.0
    joined: list[Block] = []
    for block in blocks:
        if joined and joined[-1].steps < enough:
            joined[-1] = _join(joined[-1], block)
        else:
            joined.append(Block(block.steps, block.images, block.seconds))
    if len(joined) > 1 and joined[-1].steps < enough:
        rest = joined.pop()
        joined[-1] = _join(joined[-1], rest)
    return joined


def _median_pace(blocks: list[Block]) -> float:
    """Seconds that the median step took, by the mean of its block."""
    ordered = sorted(blocks, key=lambda block: block.seconds / block.steps)
    counts = list(accumulate(block.steps for block in ordered))
    middle = ordered[bisect_left(counts, counts[-1] / 2)]
    return middle.seconds / middle.steps


def _join(a: Block, b: Block) -> Block:
    return Block(a.steps + b.steps, a.images + b.images, a.seconds + b.seconds)


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up found out.

    Attributes:
        first_step_seconds: the first step, with whatever it compiles and allocates.
        step_seconds: a step at the end.
        seconds: all of it.
        steps: how many it ran.
        block_steps: how many steps fill a timed block.
        settled: whether the last blocks agreed.
    """

    first_step_seconds: float
    step_seconds: float
    seconds: float
    steps: int
    block_steps: int
    settled: bool


def warm_up(
    step: Callable[[], object],
    synchronize: Callable[[], None],
    now: Callable[[], float],
    fewest_steps: int = 2,
    most_blocks: int = WARM_UP_BLOCKS,
) -> WarmUp:
    """Run `step` so often, and then until two neighbouring blocks take the same time, or for `most_blocks` of them."""
    start = now()
    first = _seconds(step, 1, synchronize, now)
    per_step = _seconds(step, fewest_steps - 1, synchronize, now) / (fewest_steps - 1)
    steps, size, settled = fewest_steps, 1, False
    for _ in range(most_blocks):
        size = max(1, math.ceil(WARM_UP_BLOCK_SECONDS / max(per_step, 1e-6)))
        before, per_step = per_step, _seconds(step, size, synchronize, now) / size
        steps += size
        settled = abs(per_step - before) <= SETTLED * before
        if settled:
            break
    # A quarter more than the shortest block allowed, so that a quick one still lasts.
    block_steps = max(1, math.ceil(1.25 * BLOCK_SECONDS / max(per_step, 1e-6)))
    return WarmUp(first, per_step, now() - start, steps, block_steps, settled)


def _seconds(
    step: Callable[[], object], steps: int, synchronize: Callable[[], None], now: Callable[[], float]
) -> float:
    synchronize()
    start = now()
    for _ in range(steps):
        step()
    synchronize()
    return now() - start
