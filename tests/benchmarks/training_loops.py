"""Our training loop against a notebook's and against a bare one: same model, same batch size, in the speed rounds.

    python tests/benchmarks/training_loops.py [--seconds 240] [--threads N]
        [--write results/reference/training_loops.md]

All loops are open in one process and timed in slices of some 45 ms in random order; a launch is a fresh process, and
the unit of every interval. Printed are images/s, and the ratio to the notebook's.

- ours: `bench.training.loop.train` as a trial runs it, learner, stopwatch and blocks and all; no evaluation.
- compiled: the same with `compile: default`, after its warm-up.
- notebook: torchvision's dataset, a DataLoader with ToTensor, nn.MultiheadAttention, Adam, `.item()` in each step.
- bare: our model over our tensors with a fused Adam, and nothing else.

What is timed is four steps of each, with their batches. So ours has a block and a stop of `train` in four steps, where
a trial has a block in 250 ms and a stop in a quarter of an epoch: it is charged more than a trial pays. The notebook's
loader makes each batch within its step, as it has no processes of its own, so that any four steps cost alike. What
comes in a lump is its shuffle of 60,000 indices, some milliseconds of an epoch of ten seconds: it falls into one slice
of hundreds, and since a launch counts by the upper end of its slices, the notebook is spared it. All are spared garbage
collection.
"""

import argparse
import itertools
import platform
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config.recipes import RECIPES
from bench.data.dataset import Dataset, TrainingBatches, load_dataset
from bench.data.download import cached_folder
from bench.measure.speed_stats import Cell, Speeds
from bench.measure.stopwatch import Stopwatch
from bench.result import Launch
from bench.speed.cells import PlainCell
from bench.speed.rounds import Entry, Setting, measure
from bench.system.device import CPU, cpu_name
from bench.system.environment import default_threads, usable_cores
from bench.system.files import write_atomically
from bench.system.precision import DTYPES
from bench.training.compilation import compiled
from bench.training.loop import Learner, Score, cross_entropy, train
from bench.training.optim import build_optimizer, learning_rate
from bench.trial import Compile
from models import build_model

BATCH = 64
STEPS = 4  # that are timed as one
IMAGES = STEPS * BATCH
SETTINGS = {"patch_size": 7, "embed_dim": 16, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0, "pool": "class"}
TRAINING = RECIPES["notebook"]
NUM_PARAMS = 14_410


@cache
def dataset() -> Dataset:
    return load_dataset("mnist")


def ours(threads: int, mode: Compile = False) -> list[PlainCell]:
    torch.set_num_threads(threads)  # compiled code is made for a number of them
    model = build_model("vit", SETTINGS, 28, 1, 10)
    optimizer = build_optimizer(model, TRAINING)
    loss = compiled(cross_entropy, mode)
    learner = Learner(model, optimizer, lambda step: learning_rate(TRAINING, step, 1), DTYPES["fp32"], CPU(), loss=loss)
    source = iter(TrainingBatches(dataset(), BATCH, seed=0))
    nothing, watch = Score(0.0, 0.0, torch.zeros(1), torch.zeros(1)), Stopwatch()

    def steps() -> None:
        for _ in train(learner, source, lambda: nothing, [STEPS], STEPS, STEPS, 1e9, watch):
            pass

    return [PlainCell("train", IMAGES, steps)]


def bare() -> list[PlainCell]:
    data, model = dataset(), build_model("vit", SETTINGS, 28, 1, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    pixels, labels = data.train.resident

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(data.train))
            for indices in order.split(BATCH)[: len(order) // BATCH]:
                yield pixels[indices].float().sub_(data.mean).div_(data.std), labels[indices]

    source = batches()

    def steps() -> None:
        for images, labels in itertools.islice(source, STEPS):
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return [PlainCell("train", IMAGES, steps)]


class NotebookBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class NotebookViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 7, 7)
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos = nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(*(NotebookBlock() for _ in range(4)))
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.blocks(x)[:, 0])


def notebook(root: str) -> list[PlainCell]:
    model = NotebookViT()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    dataset = torchvision.datasets.MNIST(root, train=True, transform=torchvision.transforms.ToTensor())
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    source = itertools.chain.from_iterable(itertools.repeat(loader))
    total = 0.0

    def steps() -> None:
        nonlocal total
        for images, labels in itertools.islice(source, STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return [PlainCell("train", IMAGES, steps)]


def entries(root: str, threads: int) -> list[Entry]:
    """The loops. `root`: the folder in which torchvision finds MNIST."""
    loops: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("ours", {"threads": threads}),
        "ours, compiled": ("ours", {"threads": threads, "mode": "default"}),
        "notebook": ("notebook", {"root": root}),
        "bare": ("bare", {}),
    }
    return [
        Entry(name, code=f"training_loops:{function}", arguments=arguments, threads=(threads,))
        for name, (function, arguments) in loops.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="at most")
    parser.add_argument("--precision", type=float, default=0.01, help="half-width of the ratios to reach, as a share")
    parser.add_argument("--threads", type=int, default=default_threads(torch.get_num_threads()))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    for model in (NotebookViT(), build_model("vit", SETTINGS, 28, 1, 10)):
        assert sum(p.numel() for p in model.parameters()) == NUM_PARAMS
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MNIST").mkdir()
        (Path(folder) / "MNIST" / "raw").symlink_to(cached_folder("mnist"), target_is_directory=True)
        setting = Setting(entries(folder, options.threads), cpu_name(), precision=options.precision)
        text = report([*measure(setting, [], 0, options.seconds)], options)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


def report(launches: Sequence[Launch], options: argparse.Namespace) -> str:
    speeds, threads = Speeds(launches), options.threads
    for name, reason in launches[-1].missing.items():
        raise SystemExit(f"{name}: {reason}")
    reference = Cell("notebook", "train", IMAGES, threads)
    if reference not in speeds.cells:
        raise SystemExit("the machine is too busy: not one slice of the notebook's was undisturbed; try --threads 1")
    lines = [
        f"`python tests/benchmarks/training_loops.py --seconds {options.seconds:g} --threads {threads}`, "
        f"{date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {threads} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. The {NUM_PARAMS:,}-parameter ViT on MNIST, batch {BATCH}, fp32; n = "
        f"{len(launches)} launches, {speeds.clean_share(threads):.0%} of the slices undisturbed; 95% intervals over "
        "launches.",
        "",
        "| loop | images/s | times as fast as the notebook's | 95% interval | launches |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for cell in (each for each in speeds.cells if each.work == "train"):
        ratio = speeds.ratio(cell, reference)
        compared = "1 | " if cell == reference else f"{ratio.amount:.3f} | {ratio.low:.3f} to {ratio.high:.3f}"
        lines.append(f"| {cell.config_id} | {speeds.speed(cell).amount:,.0f} | {compared} | {ratio.n} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
