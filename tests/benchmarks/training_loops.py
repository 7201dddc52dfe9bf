"""Our training loop against a notebook's and against a bare one: same model, same batch size, in alternation.

    python tests/benchmarks/training_loops.py [--rounds 20] [--seconds 2] [--write results/reference/training_loops.md]

A round runs each loop for some seconds, in an order of its own; a ratio is taken within the round, so that whatever the
machine does to a round it does to both. Printed: the median ratio over rounds with its 95% interval.

- ours: `bench.training.loop.train` as a trial runs it, stopwatch, blocks, learner and all.
- compiled: the same with `compile: default`, after its warm-up.
- notebook: torchvision's dataset, a DataLoader with ToTensor, nn.MultiheadAttention, Adam, `.item()` in each step.
- bare: our model over our tensors with a fused Adam, and nothing else.
"""

import argparse
import itertools
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config.recipes import RECIPES
from bench.data.dataset import Dataset, TrainingBatches, load_dataset
from bench.data.download import cached_folder
from bench.measure.stats import log_mean_interval
from bench.measure.stopwatch import Stopwatch
from bench.system.device import CPU, cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.system.precision import DTYPES, set_exact_arithmetic
from bench.training.compilation import compiled
from bench.training.loop import Learner, Score, cross_entropy, train
from bench.training.optim import build_optimizer, learning_rate
from bench.trial import Compile
from models import build_model

BATCH = 64
SETTINGS = {"patch_size": 7, "embed_dim": 16, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0, "pool": "class"}
TRAINING = RECIPES["notebook"]
NUM_PARAMS = 14_410

Slice = Callable[[float], float]  # seconds -> images per second over about so many seconds


def ours(data: Dataset, mode: Compile = False) -> Slice:
    """`train`, its stops and blocks chosen as run_trial chooses them; no evaluation falls into a slice."""
    model = build_model("vit", SETTINGS, 28, 1, 10)
    learner = Learner(
        model,
        build_optimizer(model, TRAINING),
        lambda step: learning_rate(TRAINING, step, 1),
        DTYPES["fp32"],
        CPU(),
        loss=compiled(cross_entropy, mode),
    )
    batches = TrainingBatches(data, BATCH, seed=0)
    source = iter(batches)
    nothing = Score(0.0, 0.0, torch.zeros(1), torch.zeros(1))
    pace = [1e-2]  # seconds a step, of the slice before

    def run(seconds: float) -> float:
        watch = Stopwatch()
        steps = max(1, int(seconds / pace[0]))
        block_steps = max(1, int(0.3 / pace[0]))
        start = time.perf_counter()
        for _ in train(learner, source, lambda: nothing, [steps], batches.steps_per_epoch, block_steps, 1e9, watch):
            pass
        elapsed = time.perf_counter() - start  # an outside stopwatch, so that the harness's own cost counts
        pace[0] = elapsed / steps
        return steps * BATCH / elapsed

    return run


def bare(data: Dataset) -> Slice:
    model = build_model("vit", SETTINGS, 28, 1, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    pixels, labels = data.train.resident

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(data.train))
            for indices in order.split(BATCH)[: len(order) // BATCH]:
                yield pixels[indices].float().sub_(data.mean).div_(data.std), labels[indices]

    def step(images: Tensor, labels: Tensor) -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return timed(batches(), step)


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


def notebook(root: Path) -> Slice:
    model = NotebookViT()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    dataset = torchvision.datasets.MNIST(str(root), train=True, transform=torchvision.transforms.ToTensor())
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    total = 0.0

    def step(images: Tensor, labels: Tensor) -> None:
        nonlocal total
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()

    return timed(itertools.chain.from_iterable(itertools.repeat(loader)), step)


def timed(batches: Iterator[tuple[Tensor, Tensor]], step: Callable[[Tensor, Tensor], None]) -> Slice:
    def run(seconds: float) -> float:
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step(*next(batches))
            steps += 1
        return steps * BATCH / (time.perf_counter() - start)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    set_exact_arithmetic()
    data = load_dataset("mnist")
    for model in (NotebookViT(), build_model("vit", SETTINGS, 28, 1, 10)):
        assert sum(p.numel() for p in model.parameters()) == NUM_PARAMS
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MNIST").mkdir()
        (Path(folder) / "MNIST" / "raw").symlink_to(cached_folder("mnist"), target_is_directory=True)
        loops = {
            "ours": ours(data),
            "ours, compiled": ours(data, "default"),
            "notebook": notebook(Path(folder)),
            "bare": bare(data),
        }
        for loop in loops.values():
            loop(1.0)  # warm
        rates: dict[str, list[float]] = {name: [] for name in loops}
        dice = random.Random(0)
        for _ in range(options.rounds):
            for name in dice.sample(list(loops), len(loops)):
                rates[name].append(loops[name](options.seconds))
    text = report(rates, options.rounds, options.seconds)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


def report(rates: dict[str, list[float]], rounds: int, seconds: float) -> str:
    against = rates["notebook"]
    lines = [
        f"`python tests/benchmarks/training_loops.py --rounds {rounds} --seconds {seconds:g}`, {date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. The {NUM_PARAMS:,}-parameter ViT on MNIST, batch {BATCH}, fp32; n = {rounds} "
        "rounds in random order; medians, 95% intervals over rounds.",
        "",
        "| loop | images/s | times as fast as the notebook's | 95% interval | lowest and highest round |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(values, against, strict=True)]
        ratio, rate = log_mean_interval(ratios), log_mean_interval(values)
        compared = f"{ratio.amount:.3f} | {ratio.low:.3f} to {ratio.high:.3f} | {min(ratios):.3f}, {max(ratios):.3f}"
        lines.append(f"| {name} | {rate.amount:,.0f} | {'1 | |' if name == 'notebook' else compared} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
