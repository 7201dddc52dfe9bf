"""How long a trial will take: measured on this machine before, or else guessed from the work in it."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median

from bench.config.inventory import HERE, Inventory
from bench.config.solver import count_flops
from bench.data.catalog import DATASETS
from bench.errors import StoreError
from bench.store.tables import read_rows
from bench.trial import Trial

# Guesses for two CPU cores, fitted to a few trials; any measured trial on this machine is worth more.
SECONDS_PER_STEP = 1.5e-3
SECONDS_PER_BLOCK_AND_STEP = 6e-4
FLOPS_PER_SECOND = 7e10
OVERHEAD_SECONDS = 1.5
BACKWARD = 3  # forward and backward cost about three forwards
PAST_RUNS = 20  # of a suite's, the newest


def estimate_seconds(trials: Iterable[Trial], results: Path, inventory: Inventory = HERE) -> dict[str, float]:
    """trial_id -> seconds; from the newest runs under `results` where this machine ran the same configuration."""
    measured = _measured(results)
    title = cache(inventory.title)  # a look into the system's files each time, and thousands of trials ask
    estimates = {}
    for trial in trials:
        seconds = measured.get((trial.config_id, title(trial.device)))
        estimates[trial.trial_id] = _guess(trial, count_flops(trial)) if seconds is None else seconds
    return estimates


def _measured(results: Path) -> dict[tuple[str, str], float]:
    seconds: dict[tuple[str, str], list[float]] = {}
    newest = sorted(results.glob("*/*/run.json"), key=lambda path: path.stat().st_mtime)[-PAST_RUNS:]
    for path in newest:
        try:
            rows = read_rows(path.parent)
        except (StoreError, OSError):
            continue  # half a run, or one of another version: no estimate comes from it
        for row in rows:
            if row["status"] == "ok" and row["wall_seconds"]:  # trials side by side tell no seconds
                with suppress(ValueError):  # a damaged cell
                    seconds.setdefault((row["config_id"], row["device_name"]), []).append(float(row["wall_seconds"]))
    return {key: median(values) for key, values in seconds.items()}


def _guess(trial: Trial, flops: float) -> float:
    spec, training = trial.data or DATASETS[trial.dataset], trial.training
    num_train = spec.num_train - spec.num_val
    steps = training.epochs * (num_train // training.batch_size)
    evaluated = training.epochs * training.evaluations_per_epoch * spec.num_val + spec.num_test
    work = flops * (BACKWARD * training.epochs * num_train + evaluated)
    blocks = trial.settings.get("depth")  # other people's models may call anything by that name
    per_step = SECONDS_PER_STEP + SECONDS_PER_BLOCK_AND_STEP * (blocks if isinstance(blocks, int) and blocks else 4)
    return OVERHEAD_SECONDS + steps * per_step + work / FLOPS_PER_SECOND
