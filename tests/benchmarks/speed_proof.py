"""Proof of the speed rounds: equal configurations come out equal, a known slowdown comes out as itself.

    python tests/benchmarks/speed_proof.py record quiet --phases 8
    python tests/benchmarks/speed_proof.py record hog --phases 8      (bursts, stream, neighbours likewise)
    python tests/benchmarks/speed_proof.py judge
    python tests/benchmarks/speed_proof.py stalls

A phase is what a run does between its trials: five launches of all configurations. Here they are a ViT of `mnist`, the
same once more ("again"), the same with each tenth training step done twice ("slowed": 1.10 times the work of training,
none of inference), another ViT and a CNN. `record` adds phases to results/reference/speed/phases-REGIME.jsonl.xz, and
`judge` writes results/reference/speed/proof.md from all of them. `stalls` times networks that sleep or litter in
training, and a folder of images that are slow to read, and writes what `stall_share` says of each to stalls.md.
"""

import argparse
import json
import lzma
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

from gate_noise import NOISES, noise
from made_up_data import write_png_folder

from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.data.download import fetch
from bench.measure.speed_stats import Cell, Estimate, Speeds
from bench.measure.stats import accuracy_interval
from bench.result import Launch
from bench.speed import rounds
from bench.speed.rounds import Entry, Setting, measure, one_of_each

FOLDER = ROOT / "results" / "reference" / "speed"
SLOWED = 1.10  # what each tenth step done twice comes to
WORKS = (("train", 128), ("infer", 128), ("infer", 1))
NAMES = {("train", 128): "training", ("infer", 128): "inference", ("infer", 1): "one image"}
PRECISION, EQUIVALENT = 0.03, 0.03  # the suite's defaults
DIGITS = 6  # of a second


class Phase(NamedTuple):
    regime: str
    about: dict[str, Any]
    launches: list[Launch]


class Asked(NamedTuple):
    """A ratio whose true value is known, as a phase found it."""

    regime: str
    work: str
    threads: int
    truth: float
    found: Estimate

    @property
    def called(self) -> bool:
        """Good enough to be told; else it is too noisy to call."""
        return self.found.n >= 3 and self.found.half_width <= 2 * PRECISION

    @property
    def holds(self) -> bool:
        return self.found.low <= self.truth <= self.found.high

    @property
    def told_apart(self) -> bool:
        """It would be told as a difference: its interval leaves out 1, and isn't within what is equivalent."""
        low, high = self.found.low, self.found.high
        equivalent = low >= 1 / (1 + EQUIVALENT) and high <= 1 + EQUIVALENT
        return self.called and not low <= 1 <= high and not equivalent


def entries() -> list[Entry]:
    """What is timed: configuration "base" thrice, and two others."""
    fetch("mnist", None)
    return entries_of("mnist", "dtype=fp32", "models.vit.patch_size=[7,14]", "models.vit.depth=2", "models.cnn.depth=2")


def entries_of(suite: str, *settings: str) -> list[Entry]:
    """Likewise of any suite on one device: its first ViT, another, and its first CNN."""
    (trials,) = one_of_each(load_plan(read_suite(find_suite(suite), settings)).trials).values()
    base, other = [trial for trial in trials if trial.model == "vit"][:2]
    cnn = next(trial for trial in trials if trial.model == "cnn")
    same = [Entry("base", base), Entry("again", base), Entry("slowed", base, every=10)]
    return [*same, Entry("other", other), Entry("cnn", cnn)]


def record(regime: str, count: int, seconds: float) -> None:
    path = FOLDER / f"phases-{regime}.jsonl.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = lzma.decompress(path.read_bytes()).decode() if path.exists() else ""
    setting = Setting(entries(), "", precision=0.0)  # never good enough: all phases have as many launches
    with noise(regime):
        for number in range(count):
            start = time.monotonic()
            found = []
            for launch in measure(setting, [], 0, seconds):
                found.append(launch)
                if len(found) == rounds.FEWEST_LAUNCHES:
                    break
            took = time.monotonic() - start
            about = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(took, 1)}
            before += json.dumps({"about": about, "launches": [compact(launch) for launch in found]}) + "\n"
            path.write_bytes(lzma.compress(before.encode()))
            print(f"{regime}: phase {number + 1} of {count}, {len(found)} launches, {took:.0f} s", flush=True)


def compact(launch: Launch) -> dict[str, Any]:
    """A launch for the archive: slices by columns, seconds rounded."""
    content = asdict(launch) | {"splits": [], "missing": launch.missing}
    columns = list(dict.fromkeys(key for piece in launch.slices for key in piece))
    content["slices"] = {
        key: [round(v, DIGITS) if isinstance(v := piece.get(key), float) else v for piece in launch.slices]
        for key in columns
    }
    return content


def phases(regime: str) -> Iterator[Phase]:
    path = FOLDER / f"phases-{regime}.jsonl.xz"
    if not path.exists():
        return
    for line in lzma.decompress(path.read_bytes()).decode().splitlines():
        content = json.loads(line)
        launches = []
        for each in content["launches"]:
            columns = each["slices"]
            slices = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            launches.append(Launch(**each | {"slices": slices}))
        yield Phase(regime, content["about"], launches)


def asked_of(phase: Phase) -> Iterator[Asked]:
    """All ratios of a phase whose truth is known."""
    speeds = Speeds(phase.launches)
    for threads in speeds.threads:
        for work, size in WORKS:
            base, again, slowed = (Cell(name, work, size, threads) for name in ("base", "again", "slowed"))
            truth = SLOWED if work == "train" else 1.0
            yield Asked(phase.regime, NAMES[work, size], threads, 1.0, speeds.ratio(again, base))
            yield Asked(phase.regime, NAMES[work, size], threads, truth, speeds.ratio(base, slowed))


def judge() -> str:
    recorded = {regime: list(phases(regime)) for regime in NOISES}
    asked = [each for own in recorded.values() for phase in own for each in asked_of(phase)]
    launches = sum(len(phase.launches) for own in recorded.values() for phase in own)
    lines = [
        "# The speed rounds against what is known",
        "",
        f"{sum(map(len, recorded.values()))} phases of {rounds.FEWEST_LAUNCHES} launches ({launches} in all), by "
        "`python tests/benchmarks/speed_proof.py record REGIME`; made by its `judge`. A ViT of `mnist` (p7 d2, fp32, "
        "batch 128) was entered twice, and once more with each tenth training step done twice.",
        "",
        "## Equal configurations, and intervals",
        "",
        "`called`: ratios known to 6% or better, from three launches at least; the others would be told as too noisy "
        "to call. `held`: of the called ones, 95% intervals that hold the truth (1.00; 1.10 for training with repeated "
        "steps), and their median half-width. `false`: ratios of equal work that would be told as a difference.",
        "",
        "| regime | threads | phases | s a phase | undisturbed slices | ratios | called | held | half-width | false |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for regime, own in recorded.items():
        for threads in sorted({each.threads for each in asked if each.regime == regime}):
            here = [each for each in asked if (each.regime, each.threads) == (regime, threads)]
            called = [each for each in here if each.called]
            equal = [each for each in here if each.truth == 1.0]
            clean = median(Speeds(phase.launches).clean_share(threads) for phase in own)
            widths = [each.found.half_width for each in called] or [math.nan]
            took = median(phase.about["seconds"] for phase in own)
            lines.append(
                f"| {regime} | {threads} | {len(own)} | {took:.0f} | {clean:.0%} | {len(here)} | {len(called)} | "
                f"{share([each.holds for each in called])} | {median(widths):.1%} | "
                f"{sum(each.told_apart for each in equal)} of {len(equal)} |"
            )
    equal = [each for each in asked if each.truth == 1.0]
    called = [each for each in asked if each.called]
    lines += [
        "",
        f"Over all: {share([each.holds for each in called])} of the called intervals hold the truth; "
        f"{sum(each.told_apart for each in equal)} of {len(equal)} ratios of equal work would be told as a difference.",
        "",
        "## A known slowdown",
        "",
        "Training with each tenth step done twice against the same without: the truth is 1.10.",
        "",
        "| regime | threads | phases | called | mean over them | lowest | highest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    slowed = [each for each in asked if each.truth == SLOWED]
    for regime in recorded:
        for threads in sorted({each.threads for each in slowed if each.regime == regime}):
            here = [each for each in slowed if (each.regime, each.threads) == (regime, threads)]
            told = [each.found.amount for each in here if each.called]
            if told:
                mean = math.exp(sum(map(math.log, told)) / len(told))
                figures = f"{mean:.3f} | {min(told):.3f} | {max(told):.3f}"
                lines.append(f"| {regime} | {threads} | {len(here)} | {len(told)} | {figures} |")
    return "\n".join(lines) + "\n"


def stalls(seconds: float) -> str:
    """Planted stalls, and what a launch's stretch of the real loop says of them."""
    lines = ["# Planted stalls", "", "`python tests/benchmarks/speed_proof.py stalls`, one thread.", ""]
    lines += ["| what | share of training time lost, 95% interval | launches |", "|---|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        write_png_folder(Path(folder) / "digits", 400, sizes=[(900, 900)])
        slow = {"path": f"{folder}/digits", "image_size": 28, "stream": True}
        wanted: list[tuple[str, str, object]] = [
            ("nothing", "plain", "mnist"),
            ("a sleep of 50 ms each 50th step", "sleepy", "mnist"),
            ("20,000 lists that hold themselves, each step", "littering", "mnist"),
            ("images of 900 pixels, read from disk", "plain", slow),
        ]
        found = []
        for number, (_, net, data) in enumerate(wanted):
            suite = Path(folder) / "own.yaml"
            suite.write_text(
                f"dataset: {json.dumps(data)}\nmodels: [{{model: 'stalling_nets:{net}'}}]\nnum_threads: 1\n"
            )
            found.append(Entry(f"net{number}", load_plan(read_suite(suite)).trials[0]))
        launches = [*measure(Setting(found, "", precision=0.0), [], 0, seconds)]
    speeds = Speeds(launches)
    for (what, *_), entry in zip(wanted, found, strict=True):
        assert entry.trial
        low, amount, high, n = speeds.stall_share(entry.name, entry.trial.training.batch_size, 1)
        lines.append(f"| {what} | {amount:.0%} ({low:.0%} to {high:.0%}) | {n} |")
    return "\n".join(lines) + "\n"


def share(held: list[bool]) -> str:
    if not held:
        return "–"
    low, high = accuracy_interval(sum(held), len(held))
    return f"{sum(held) / len(held):.1%} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("regime", choices=NOISES)
    recording.add_argument("--phases", type=int, default=8)
    recording.add_argument("--seconds", type=float, default=600.0, help="most of a phase")
    commands.add_parser("judge")
    commands.add_parser("stalls").add_argument("--seconds", type=float, default=150.0)
    args = parser.parse_args()
    if args.command == "record":
        record(args.regime, args.phases, args.seconds)
    elif args.command == "stalls":
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "stalls.md").write_text(text := stalls(args.seconds))
        print(text)
    else:
        (FOLDER / "proof.md").write_text(judge())
        print(judge())


if __name__ == "__main__":
    main()
