"""How long a trial and a run will take: measured on this machine before, or else guessed from the work in it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.config.inventory import HERE, Inventory
from bench.config.plan import Plan
from bench.config.solver import count_flops
from bench.data.catalog import DATASETS
from bench.errors import StoreError
from bench.store.tables import read_rows
from bench.trial import Trial


class Pace(NamedTuple):
    """What a trial's time is guessed from."""

    seconds_per_step: float
    seconds_per_block_and_step: float
    flops_per_second: float
    seconds_per_attention_weight: float  # beyond its FLOPs, forward and backward: softmax, and memory for all of them


# Guesses, fitted to a few trials; any measured trial on this machine is worth more.
ALONE = Pace(1.5e-3, 6e-4, 9e10, 4e-9)  # on two CPU cores
BESIDE_OTHERS = Pace(1.5e-3, 2e-3, 7.5e10, 7.5e-9)  # on one thread
OVERHEAD_SECONDS = 0.7
# Of a run: imports and plan; what its launches take beyond their time; the page.
START_SECONDS, LAUNCH_SECONDS, REPORT_SECONDS = 4.0, 1.5, 5.0
BACKWARD = 3  # forward and backward cost about three forwards
PAST_RUNS = 20  # the newest


def estimate_seconds(trials: Iterable[Trial], results: Path, inventory: Inventory = HERE) -> dict[str, float]:
    """trial_id -> seconds that each takes from end to end, whatever runs beside it.

    They come from the newest runs under `results` where this machine ran the same configuration in the same way: alone,
    or beside others.
    """
    measured = _measured(results)
    title = cache(inventory.title)  # a look into the system's files each time, and thousands of trials ask
    estimates = {}
    for trial in trials:
        seconds = measured.get((trial.config_id, title(trial.device), trial.timed))
        estimates[trial.trial_id] = _guess(trial, count_flops(trial)) if seconds is None else seconds
    return estimates


def estimate_run(plan: Plan, estimates: Mapping[str, float], at_once: int, speeds: float = 1.0) -> float:
    """Seconds that a run takes at the most.

    Args:
        estimates: trial_id -> seconds, of the trials that are still to do.
        at_once: how many trials run side by side, where they do.
        speeds: share of the speed rounds' time that is spent.
    """
    todo = [trial for trial in plan.trials if trial.trial_id in estimates]
    beside = [estimates[trial.trial_id] for trial in todo if not trial.timed]
    alone = [estimates[trial.trial_id] for trial in todo if trial.timed]
    training = max(sum(beside) / at_once, max(beside, default=0.0)) + sum(alone)
    rounds = speeds * plan.suite.rounds_seconds
    return START_SECONDS + training + rounds + LAUNCH_SECONDS * (rounds > 0) + REPORT_SECONDS


def _measured(results: Path) -> dict[tuple[str, str, bool], float]:
    seconds: dict[tuple[str, str, bool], list[float]] = {}
    records = (path for path in results.glob("*/*/run.json") if not path.parent.is_symlink())  # such as latest
    newest = sorted(records, key=lambda path: path.stat().st_mtime)[-PAST_RUNS:]
    for path in newest:
        try:
            rows = read_rows(path.parent)
        except (StoreError, OSError):
            continue  # half a run, or one of another version: no estimate comes from it
        for row in rows:
            if row["status"] == "ok" and row["wall_seconds"]:
                key = row["config_id"], row["device_name"], row["timed"] != "false"
                with suppress(ValueError):  # a damaged cell
                    seconds.setdefault(key, []).append(float(row["wall_seconds"]))
    return {key: median(values) for key, values in seconds.items()}


def _guess(trial: Trial, flops: float) -> float:
    spec, training = trial.data or DATASETS[trial.dataset], trial.training
    num_train = spec.num_train - spec.num_val
    steps = training.num_steps(num_train // training.batch_size)
    epochs = training.steps_fraction * training.epochs
    evaluated = epochs * training.evaluations_per_epoch * spec.num_val + (spec.num_test if trial.tested else 0)
    passes = epochs * num_train + evaluated / BACKWARD
    blocks = trial.settings.get("depth")  # other people's models may call anything by that name
    blocks = blocks if isinstance(blocks, int) and blocks else 4
    pace = ALONE if trial.timed else BESIDE_OTHERS
    overhead = OVERHEAD_SECONDS + (trial.instrument_seconds if trial.timed else 0.0)
    per_step = pace.seconds_per_step + pace.seconds_per_block_and_step * blocks
    per_image = BACKWARD * flops / pace.flops_per_second
    per_image += _attention_weights(trial, spec.image_size) * pace.seconds_per_attention_weight
    return overhead + steps * per_step + passes * per_image


def _attention_weights(trial: Trial, image_size: int) -> int:
    """Of an image, in all heads and blocks; 0 in models without."""
    if trial.model != "vit":
        return 0
    patch_size, heads, depth = (int(trial.settings[name]) for name in ("patch_size", "num_heads", "depth"))
    return depth * heads * (image_size // patch_size) ** 4
