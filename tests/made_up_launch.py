"""Launches of the speed rounds made up: slices whose true speeds are known, with the noise that real ones have.

What a real launch adds on the whole scatters by some percent, a slice within it by 2 to 3%; a slice in which a thread
waited for a core takes longer by what it waited.
"""

import base64
import math
import random
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.result import SLICE_COLUMNS, Launch
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows

SPEEDS = {"vit-p7-d2-fp32-cpu": 21_500.0, "cnn-d2-fp32-cpu": 16_400.0}  # config_id -> training, images/s of a thread
INFERENCE = 3.1  # times as fast as training
SLICE, STRETCH = 0.05, 0.4  # seconds of a slice, and of a stretch of the real loop
PARTS = {"data_seconds": 0.05, "forward_seconds": 0.3, "backward_seconds": 0.53, "optimizer_seconds": 0.12}  # of a step
PROBE = 15e-6  # seconds of a probe's loop on a core of its own
EXCHANGE = 12e-6  # seconds in which threads on cores with a common cache pass data to each other
PEAK = 4e10  # FLOP/s of a thread


def made_up_launch(
    launch: int = 0,
    speeds: Mapping[str, float] = SPEEDS,
    *,
    device: str = "cpu",
    device_name: str = "AMD EPYC 7R13",
    threads: Sequence[int] = (1, 2),
    batch_size: int = 128,
    rounds: int = 4,
    noise: float = 0.02,
    drift: float = 0.04,
    disturbed: float = 0.0,
    neighbour: float = 0.0,
    apart: float = 0.0,
    loses: Mapping[str, float] | None = None,
    stall: float | Mapping[str, float] = 0.0,
    missing: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Launch:
    """A launch in which all configurations are timed at each number of threads, in random order round by round.

    Args:
        speeds: config_id -> images/s in training with one thread; n threads are n**0.8 times as fast.
        noise: standard deviation of a slice's log speed, and of a configuration's in this launch.
        drift: of the whole launch's, which all configurations share.
        disturbed: share of slices in which a thread waits for a core as long as it computes.
        neighbour: mean of what another machine's work on the same cores takes from log speeds, and by which probes of
            the cores take longer; each slice draws its own.
        apart: share of slices of several threads that run on cores without a common cache, and pass data to each other
            three times as slowly.
        loses: config_id -> how many times as slow it is there.
        stall: share of its time that the real training loop loses beyond its steps; or by config_id.
        missing: config_id -> why it has no slices.
    """
    chance = random.Random(f"{seed} {launch}")
    stalls = stall if isinstance(stall, Mapping) else dict.fromkeys(speeds, stall)
    missing = dict(missing or {})
    level = drift * chance.gauss()
    works = [("train", batch_size), ("loop", batch_size), ("steps", batch_size), ("infer", 1), ("infer", batch_size)]
    arms = [(config, n, *work) for config in speeds if config not in missing for n in threads for work in works]
    own = {arm: level + noise * chance.gauss() for arm in arms}
    slices: list[dict[str, Any]] = []
    for number in range(rounds):
        chance.shuffle(arms)
        for slot, arm in enumerate(arms):
            config, n, work, batch = arm
            rate = (
                speeds[config]
                * n**0.8
                * {"train": 1.0, "steps": 1.0, "loop": 1 - stalls.get(config, 0.0), "infer": INFERENCE}[work]
            )
            exchange = EXCHANGE if n > 1 and work in ("train", "infer") else None
            if exchange and apart and chance.random() < apart:
                exchange *= 3
                rate /= (loses or {}).get(config, 1.0)
            slowed = chance.expovariate(1 / neighbour) if neighbour else 0.0
            rate *= math.exp(own[arm] + noise * chance.gauss() - slowed)
            steps = max(1, round((STRETCH if work in ("loop", "steps") else SLICE) * rate / batch))
            computed = steps * batch / rate
            waited = computed if chance.random() < disturbed else 0.0
            single = batch / rate if (work, batch) == ("infer", 1) else None
            row = {"config_id": config, "num_threads": n, "work": work, "batch_size": batch, "group": 0}
            row |= {"round": number, "slot": slot, "steps": steps, "images": steps * batch}
            row |= {"seconds": computed + waited, "waited_seconds": waited, "stolen_seconds": 0.0}
            row |= {"throttled_seconds": None, "probe_seconds": PROBE * math.exp(slowed)}  # no quota
            row["exchange_seconds"] = exchange
            row |= {f"p{p}_seconds": single and single * factor for p, factor in ((50, 1.0), (95, 1.2), (99, 1.6))}
            slices.append({key: row[key] for key in SLICE_COLUMNS})
    splits: list[dict[str, Any]] = [
        {"config_id": config, "num_threads": n}
        | {part: share * batch_size / (speeds[config] * n**0.8) for part, share in PARTS.items()}
        for config in speeds
        if config not in missing
        for n in threads
    ]
    machine = {"load": 0.4, "megahertz": 2_900.0, "quota": None}
    started = f"2026-03-01T10:{launch % 60:02}:00+00:00"
    wall = sum(row["seconds"] for row in slices) + 6.0
    peaks = {"fp32": PEAK, "amp-bf16": 2 * PEAK}
    return Launch(launch, device, device_name, started, wall, machine, slices, splits, peaks, missing)


def made_up_launches(
    speeds: Mapping[str, float], count: int = 6, *, first: int = 0, threads: Sequence[int] = (1,), **how: Any
) -> list[Launch]:
    """Launches of one device, numbered from `first`; `how`: as of `made_up_launch`."""
    return [made_up_launch(number, speeds, threads=threads, **how) for number in range(first, first + count)]


def add_launches(folder: Path, count: int = 8, **how: Any) -> list[Launch]:
    """Launches of all configurations of a made-up run, appended to it: `count` a device, as fast as in its trials.

    Args:
        how: as of `made_up_launch`.
    """
    devices: dict[tuple[str, str], dict[str, float]] = {}
    for row in read_rows(folder):
        if row["images_per_second"]:
            speeds = devices.setdefault((row["device"], row["device_name"]), {})
            speeds.setdefault(row["config_id"], float(row["images_per_second"]) / 2**0.8)  # trials have two threads
    launches = []
    with patch("os.fsync"):
        store = RunFolder.open(folder)
        for _ in range(count):
            for (device, name), speeds in devices.items():
                launches.append(made_up_launch(store.launches, speeds, device=device, device_name=name, **how))
                store.append_launch(launches[-1])
        store.close()
    return launches


def packed(right: Sequence[bool]) -> str:
    """`Result.correct` of images that were got right, or not."""
    return base64.b64encode(zlib.compress(np.packbits(np.array(right, bool)).tobytes())).decode()


def time_in_rounds(folder: Path, speeds: Mapping[str, float], count: int = 8, **how: Any) -> Path:
    """The same with speeds that are given: config_id -> training images/s of a thread."""
    with patch("os.fsync"):
        store = RunFolder.open(folder)
        for _ in range(count):
            store.append_launch(made_up_launch(store.launches, speeds, **how))
        store.close()
    return folder
