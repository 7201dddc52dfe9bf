"""The stopwatch and the warm-up, under a clock that we turn by hand."""

import itertools

import pytest

from bench.measure.stats import block_interval
from bench.measure.stopwatch import Block, Stopwatch, warm_up, whole_blocks


class FakeClock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_phases_add_up_exactly() -> None:
    clock = FakeClock()
    watch = Stopwatch(now=clock)
    for name, seconds in (("setup", 3.0), ("train", 2.0), ("eval", 0.5), ("train", 1.25)):
        with watch.phase(name):
            clock.time += seconds
        clock.time += 7.0  # between phases: nobody's
    assert watch.seconds == {"setup": 3.0, "train": 3.25, "eval": 0.5}


def test_device_is_waited_for_at_both_edges_of_a_block() -> None:
    clock = FakeClock()
    waits = []

    def synchronize() -> None:
        waits.append(clock.time)
        clock.time += 1.0  # work that was still running on the device

    watch = Stopwatch(synchronize, clock)
    with watch.block(steps=10) as block:
        block.images = 640
        clock.time += 4.0
    assert waits == [100.0, 105.0]
    assert watch.blocks == [Block(steps=10, images=640, seconds=5.0)]  # launch and wait, but not the wait before


def test_images_of_a_block_are_those_of_all_processes() -> None:
    watch = Stopwatch(processes=4)
    with watch.block(steps=10) as block:
        block.images = 160
    assert (watch.blocks[0].steps, watch.blocks[0].images) == (10, 640)


def test_time_of_a_failing_phase_is_counted_and_its_block_is_not() -> None:
    clock = FakeClock()
    watch = Stopwatch(now=clock)
    with pytest.raises(ZeroDivisionError), watch.block(steps=1):
        clock.time += 2.0
        raise ZeroDivisionError
    assert watch.seconds == {"train": 2.0}
    assert watch.blocks == []


def test_short_blocks_are_joined_until_long_enough() -> None:
    blocks = [Block(1, 10, 0.1), Block(1, 10, 0.1), Block(1, 10, 0.1), Block(5, 50, 0.5), Block(1, 10, 0.1)]
    joined = whole_blocks(blocks, at_least=0.25)
    assert [(b.steps, b.images) for b in joined] == [(3, 30), (6, 60)]
    assert sum(b.seconds for b in joined) == pytest.approx(0.9)
    assert whole_blocks([]) == []
    assert len(blocks) == 5
    assert blocks[3].steps == 5  # the raw ones stay as they were


def test_blocks_are_joined_by_steps_so_that_their_median_is_the_pace_of_most_images() -> None:
    slow, quick = [Block(1, 64, 0.2)] * 20, [Block(10, 640, 0.0625)] * 40  # 320 and 10,240 images/s
    for blocks in (slow + quick, quick + slow):
        joined = whole_blocks(blocks, at_least=0.25)
        assert [block.steps for block in joined] == [40] * 9 + [60]
        assert sum(block.images for block in joined) == 20 * 64 + 40 * 640
        assert block_interval([b.images for b in joined], [b.seconds for b in joined]).median == pytest.approx(10240)


def test_the_median_steps_pace_says_how_many_steps_are_enough() -> None:
    blocks = [Block(steps, 64 * steps, seconds) for steps, seconds in ((3, 0.03), (4, 0.2), (4, 0.4), (1, 0.01))]
    for order in itertools.permutations(blocks):  # paces of 0.01, 0.01, 0.05 and 0.1 s; of twelve steps the sixth's
        joined = whole_blocks([*order], at_least=0.25)
        assert min(block.steps for block in joined) >= 5
        assert sum(block.steps for block in joined) == 12
    assert [block.steps for block in whole_blocks([blocks[1], blocks[3], blocks[2], blocks[0]], 0.25)] == [5, 7]


def test_a_lone_short_block_is_kept() -> None:
    assert whole_blocks([Block(1, 10, 0.1)], at_least=0.25) == [Block(1, 10, 0.1)]


def test_warm_up_ends_when_blocks_agree() -> None:
    clock = FakeClock()
    durations = iter([2.0, 0.5, 0.2, *[0.01] * 1000])

    def step() -> None:
        clock.time += next(durations)

    warm = warm_up(step, lambda: None, clock)
    assert warm.settled
    assert warm.first_step_seconds == 2.0
    assert warm.seconds == clock.time - 100.0
    assert warm.steps < 40
    assert warm.block_steps * 0.01 == pytest.approx(0.3125, abs=0.02)  # a quarter more than the shortest block


def test_a_warm_up_of_no_blocks_takes_the_steps_that_it_is_told() -> None:
    taken: list[int] = []
    warm = warm_up(lambda: taken.append(1), lambda: None, FakeClock(), fewest_steps=8, most_blocks=0)
    assert warm.steps == len(taken) == 8


def test_warm_up_gives_up_on_a_machine_that_never_settles() -> None:
    clock = FakeClock()
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        clock.time += 0.2 if count % 2 else 0.4

    warm = warm_up(step, lambda: None, clock)
    assert not warm.settled
    assert warm.steps == count == 14


def test_energy_is_that_of_training_blocks_alone_and_read_outside_their_time() -> None:
    time, meter = [0.0], [5000.0]

    def read() -> float:
        time[0] += 10.0  # a slow meter
        return meter[0]

    watch = Stopwatch(now=lambda: time[0], energy=read)
    for watts in (20.0, 40.0):
        with watch.block(1):
            time[0] += 2.0
            meter[0] += 2.0 * watts
        with watch.phase("eval"):
            meter[0] += 1e6
    assert watch.joules == 120.0
    assert watch.seconds["train"] == 4.0


def test_energy_without_a_meter_is_unknown_and_not_zero() -> None:
    watch = Stopwatch()
    with watch.block(1):
        pass
    assert watch.joules is None
