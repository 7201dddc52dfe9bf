"""Our ViT against other people's at equal shape: the same images, optimiser and threads, in alternation.

    python tests/benchmarks/vit_peers.py [--rounds 11] [--seconds 0.25] [--only WORD ...] [--write FILE]

A point is an image size, patch, width, batch and pass; `--only` keeps the points that have every WORD in their name,
such as `--only D16 train`. A round runs each model for some seconds, in an order of its own; a ratio is taken within
the round, so that whatever the machine does to a round it does to all. Printed: for each peer the median over rounds
of how many times as fast ours is, and for the fastest peer its 95% interval as well.

- train: forward, cross-entropy, backward and a step of one fused Adam, the same for all.
- forward: eval mode under inference_mode, where torchvision and nn.TransformerEncoder have a fast path of their own.
- All have a class token, learned positions, depth 4, mlp_ratio 4 and no dropout. timm is run with its switch for
  fused attention on and off. nn.TransformerEncoder stands between our patches and our head.
- Ours gives the same logits and gradients (tests/models/test_peers.py) for less work: its last block works out the
class   token alone, since the head sees no other. The peers work out every token to the end.
"""

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from peers import PEERS, Shape, ours
from torch import nn
from torch.nn import functional as F

from bench.measure.stats import log_mean_interval
from bench.system.device import cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.system.precision import set_exact_arithmetic
from bench.training.optim import FusedAdam

WIDTHS = {16: 4, 64: 4, 192: 3}  # embed_dim -> heads
IMAGES = [(28, 7, 1), (28, 4, 1), (32, 8, 3), (32, 4, 3)]  # image_size, patch_size, in_channels
BATCHES = [64, 512]
PASSES = ["train", "forward"]


@dataclass(frozen=True)
class Point:
    shape: Shape
    batch: int
    work: str

    def __str__(self) -> str:
        shape = self.shape
        return f"{shape.image_size}px P{shape.patch_size} D{shape.embed_dim} B{self.batch} {self.work}"


POINTS = [
    Point(Shape(size, patch, width, WIDTHS[width], channels), batch, work)
    for work in PASSES
    for width in WIDTHS
    for size, patch, channels in IMAGES
    for batch in BATCHES
]


def one_pass(model: nn.Module, point: Point) -> Callable[[], None]:
    """One training step, or one forward pass, on a batch that stays in memory."""
    side = point.shape.image_size
    images = torch.randn(point.batch, point.shape.in_channels, side, side)
    labels = torch.randint(point.shape.num_classes, (point.batch,))
    if point.work == "forward":
        model.eval()

        def forward() -> None:
            with torch.inference_mode():
                model(images)

        return forward
    optimizer = FusedAdam([{"params": list(model.parameters())}], 1e-3, (0.9, 0.999), decoupled=False)

    def train() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def rate(work: Callable[[], None], seconds: float) -> float:
    """Passes per second over about `seconds`, and over one pass at least."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        work()
        count += 1
    return count / elapsed


def measure(point: Point, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images per second of each model, one a round."""
    torch.manual_seed(0)
    works = {name: one_pass(build(point.shape), point) for name, build in {"ours": ours, **PEERS}.items()}
    for work in works.values():
        work(), work()  # warm
    rates: dict[str, list[float]] = {name: [] for name in works}
    dice = random.Random(0)
    for _ in range(rounds):
        for name in dice.sample(list(works), len(works)):
            rates[name].append(rate(works[name], seconds) * point.batch)
    return rates


def row(point: Point, rates: dict[str, list[float]]) -> str:
    ratios = {name: [a / b for a, b in zip(rates["ours"], rates[name], strict=True)] for name in PEERS}
    found = {name: log_mean_interval(values) for name, values in ratios.items()}
    best = min(found, key=lambda name: found[name].amount)
    shape, speed = point.shape, log_mean_interval(rates["ours"]).amount
    cells = [point.work, shape.embed_dim, shape.image_size, shape.patch_size, shape.num_tokens, point.batch]
    cells += [f"{speed:,.0f}", *(f"{found[name].amount:.2f}" for name in PEERS)]
    cells += [f"**{found[best].amount:.3f}**", f"{found[best].low:.3f} to {found[best].high:.3f}"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(rounds: int, seconds: float, only: list[str]) -> str:
    columns = ["pass", "embed_dim", "image", "patch", "tokens", "batch", "ours, images/s", *PEERS]
    columns += ["the fastest peer", "95% interval"]
    lines = [
        f"`python tests/benchmarks/vit_peers.py --rounds {rounds} --seconds {seconds:g}"
        f"{' --only ' + ' '.join(only) if only else ''}`, {date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. fp32, depth 4, mlp_ratio 4, 4 heads (3 at embed_dim 192), class token;",
        f"how many times as fast as each peer ours is; n = {rounds} rounds in random order; medians over rounds.",
        "",
        "| " + " | ".join(columns) + " |",
        "| :-- |" + " --: |" * (len(columns) - 1),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="points with all these words")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    set_exact_arithmetic()
    lines = [head(options.rounds, options.seconds, options.only)]
    print(lines[0])
    for point in POINTS:
        if set(options.only) <= set(str(point).split()):
            lines.append(row(point, measure(point, options.rounds, options.seconds)))
            print(lines[-1], flush=True)
    if options.write:
        write_atomically(options.write, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
