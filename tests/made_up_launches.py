"""Launches made up from known speeds: what the machine, the process and the neighbours do to slices is drawn here."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench.result import Launch

SLICE = 0.045


def make_launches(
    speeds: Mapping[str, float],
    count: int = 6,
    threads: Sequence[int] = (1,),
    works: Sequence[tuple[str, int]] = (("train", 128), ("infer", 128), ("infer", 1)),
    rounds: int = 4,
    machine: float = 0.2,
    launch: float = 0.02,
    within: float = 0.02,
    disturbed: float = 0.0,
    loss: Mapping[str, float] | None = None,
    first: int = 0,
    seed: int = 0,
) -> list[Launch]:
    """Launches of configurations with these true images/s, the same for each work.

    Args:
        machine: deviation, on logarithms, of what a launch does to all its cells.
        launch: of what it does to each cell on its own.
        within: of a slice.
        disturbed: share of slices that another process makes twice as long, and that say so.
        loss: share of time that the training loop loses, by configuration; a "loop" slice is added for it.
        first: number of the first launch.
    """
    dice = random.Random(seed)
    found = []
    for number in range(first, first + count):
        moved = dice.gauss(0, machine)
        slices: list[dict[str, Any]] = []
        for config_id, speed in speeds.items():
            for work, batch_size in works:
                for num_threads in threads:
                    own = moved + dice.gauss(0, launch)
                    for round_ in range(rounds):
                        rate = speed * 2.718281828 ** (own + dice.gauss(0, within))
                        about = (config_id, num_threads, work, batch_size)
                        slices.append(make_slice(*about, rate, round_, dice.random() < disturbed))
            for num_threads in threads:
                if loss is not None:
                    rate = speed * 2.718281828**moved * (1 - loss.get(config_id, 0.0))
                    slices.append(make_slice(config_id, num_threads, "loop", works[0][1], rate, rounds))
        found.append(
            Launch(number, "cpu", "a CPU", "2026-01-01T00:00:00+00:00", 20.0, {"load": 0.1}, slices, [], {}, {})
        )
    return found


def make_slice(
    config_id: str,
    num_threads: int,
    work: str,
    batch_size: int,
    images_per_second: float,
    round_: int = 0,
    disturbed: bool = False,
    group: int = 0,
) -> dict[str, Any]:
    """One slice; a disturbed one took twice as long, and half of it waiting."""
    steps = max(1, round(SLICE * images_per_second / batch_size))
    seconds = steps * batch_size / images_per_second * (2 if disturbed else 1)
    piece = {
        "config_id": config_id, "num_threads": num_threads, "work": work, "batch_size": batch_size, "group": group,
        "round": round_, "slot": 0, "steps": steps, "images": steps * batch_size, "seconds": seconds,
        "waited_seconds": seconds / 2 if disturbed else 0.0, "stolen_seconds": 0.0, "throttled_seconds": None,
    }  # fmt: skip
    return piece | ({"p50_seconds": seconds / steps} if work == "infer" and batch_size == 1 else {})
