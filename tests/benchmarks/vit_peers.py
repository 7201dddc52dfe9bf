"""Our ViT against other people's at equal shape: the same images, optimiser and threads, in the speed rounds.

    python tests/benchmarks/vit_peers.py [--seconds 60] [--threads N] [--compiled] [--only WORD ...] [--write FILE]

A point is an image size, patch, width, batch and pass; `--only` keeps the points that have every WORD in their name,
such as `--only D16 train`. All models of a point are open in one process and timed in slices of some 45 ms in random
order; a launch is a fresh process, and the unit of every interval. Printed: for each peer how many times as fast ours
is, and for the fastest peer, chosen among them by what was measured, its 95% interval as well.

- train: forward, cross-entropy, backward and a step of one fused Adam, the same for all.
- forward: eval mode under inference_mode, where torchvision and nn.TransformerEncoder have a fast path of their own.
- All have a class token, learned positions, depth 4, mlp_ratio 4 and no dropout. timm is run with its switch for
  fused attention on and off. nn.TransformerEncoder stands between our patches and our head.
- Ours gives the same logits and gradients (tests/models/test_peers.py) for less work: its last block works out the
  class token alone, since the head sees no other. The peers work out every token to the end.
- `--compiled` adds all of them compiled (torch.compile, default mode): a row for ours as it is against compiled peers,
  and one for ours compiled against them.
"""

import argparse
import math
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

import torch
from peers import PEERS, Shape, ours
from torch import nn
from torch.nn import functional as F

from bench.errors import UserError
from bench.measure.speed_stats import Cell, Speeds
from bench.speed.cells import PlainCell
from bench.speed.rounds import Entry, Setting, measure
from bench.system.device import cpu_name
from bench.system.environment import default_threads, usable_cores
from bench.system.files import write_atomically
from bench.training.optim import FusedAdam

WIDTHS = {16: 4, 64: 4, 192: 3}  # embed_dim -> heads
IMAGES = [(28, 7, 1), (28, 4, 1), (32, 8, 3), (32, 4, 3)]  # image_size, patch_size, in_channels
BATCHES = [64, 512]
WORKS = {"train": "train", "forward": "infer"}  # a point's pass -> a cell's work
MODELS: dict[str, Callable[[Shape], nn.Module]] = {"ours": ours, **PEERS}
COMPILED = ", compiled"


@dataclass(frozen=True)
class Point:
    image_size: int
    patch_size: int
    in_channels: int
    embed_dim: int
    batch: int
    work: str

    @property
    def shape(self) -> Shape:
        return Shape(self.image_size, self.patch_size, self.embed_dim, WIDTHS[self.embed_dim], self.in_channels)

    def __str__(self) -> str:
        return f"{self.image_size}px P{self.patch_size} D{self.embed_dim} B{self.batch} {self.work}"


POINTS = [
    Point(*image, width, batch, work) for work in WORKS for width in WIDTHS for image in IMAGES for batch in BATCHES
]


def cells(model: str, point: dict[str, int | str], compiled: bool, threads: int) -> list[PlainCell]:
    """One training step, or one forward pass, on a batch that stays in memory."""
    torch.set_num_threads(threads)  # compiled code is made for a number of them
    torch.manual_seed(0)
    asked = Point(**point)  # type: ignore[arg-type]
    try:
        network = MODELS[model](asked.shape)
    except ImportError as error:
        raise UserError(f"{error}; the extra `peers` brings it") from None
    if compiled:
        network.compile()
    side = asked.image_size
    images = torch.randn(asked.batch, asked.in_channels, side, side)
    labels = torch.randint(asked.shape.num_classes, (asked.batch,))

    def forward() -> None:
        with torch.inference_mode():
            network(images)

    if asked.work == "forward":
        network.eval()
        return [PlainCell("infer", asked.batch, forward)]
    optimizer = FusedAdam([{"params": list(network.parameters())}], 1e-3, (0.9, 0.999), decoupled=False)

    def train() -> None:
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return [PlainCell("train", asked.batch, train)]


def entries(point: Point, options: argparse.Namespace) -> list[Entry]:
    return [
        Entry(
            model + COMPILED * compiled,
            code="vit_peers:cells",
            arguments={"model": model, "point": vars(point), "compiled": compiled, "threads": options.threads},
            threads=(options.threads,),
        )
        for compiled in ((False, True) if options.compiled else (False,))
        for model in MODELS
    ]


def rows(point: Point, options: argparse.Namespace) -> Iterator[str]:
    setting = Setting(entries(point, options), cpu_name(), precision=options.precision)
    launches = [*measure(setting, [], 0, options.seconds)]
    for name, reason in launches[-1].missing.items():
        print(f"{point}: {name}: {reason}", file=sys.stderr)
    speeds = Speeds(launches)

    def cell(name: str) -> Cell:
        return Cell(name, WORKS[point.work], point.batch, options.threads)

    for mine, theirs in (("", ""), ("", COMPILED), (COMPILED, COMPILED))[: 3 if options.compiled else 1]:
        found = {name: speeds.ratio(cell(f"ours{mine}"), cell(f"{name}{theirs}")) for name in PEERS}
        best = min(found.values(), key=lambda ratio: math.inf if math.isnan(ratio.amount) else ratio.amount)
        words = [point.work, point.embed_dim, point.image_size, point.patch_size, point.shape.num_tokens, point.batch]
        if options.compiled:
            words.append(" / ".join("compiled" if each else "eager" for each in (mine, theirs)))
        words.append(known(speeds.speed(cell(f"ours{mine}")).amount, "{:,.0f}"))
        words += [known(ratio.amount, "{:.2f}") for ratio in found.values()]
        interval = "" if math.isnan(best.low) else f"{best.low:.3f} to {best.high:.3f}"
        words += [known(best.amount, "**{:.3f}**"), interval, best.n]
        words.append(f"{speeds.clean_share(options.threads):.0%}")
        yield "| " + " | ".join(map(str, words)) + " |"


def known(amount: float, form: str) -> str:
    """Nothing where it isn't known: no slice was undisturbed."""
    return "" if math.isnan(amount) else form.format(amount)


def head(options: argparse.Namespace) -> str:
    columns = ["pass", "embed_dim", "image", "patch", "tokens", "batch", *["ours / theirs"] * options.compiled]
    columns += ["ours, images/s", *PEERS, "the fastest peer", "95% interval", "launches", "slices undisturbed"]
    only = f" --only {' '.join(options.only)}" if options.only else ""
    lines = [
        f"`python tests/benchmarks/vit_peers.py --seconds {options.seconds:g} --threads {options.threads}"
        f"{' --compiled' * options.compiled}{only}`, {date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {options.threads} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. fp32, depth 4, mlp_ratio 4, 4 heads (3 at embed_dim 192), class token;",
        "how many times as fast as each peer ours is; 95% intervals over launches. The fastest peer is chosen.",
        "",
        "| " + " | ".join(columns) + " |",
        "| :-- |" + " --: |" * (len(columns) - 1),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="a point, at most")
    parser.add_argument("--precision", type=float, default=0.02, help="half-width of the ratios to reach, as a share")
    parser.add_argument("--threads", type=int, default=default_threads(torch.get_num_threads()))
    parser.add_argument("--compiled", action="store_true", help="all of them compiled, too")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="points with all these words")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [head(options)]
    print(lines[0])
    for point in POINTS:
        if set(options.only) <= set(str(point).split()):
            for row in rows(point, options):
                lines.append(row)
                print(row, flush=True)
    if options.write:
        write_atomically(options.write, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
