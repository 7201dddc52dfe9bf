"""Proof of the speed rounds: equal configurations come out equal, a known slowdown comes out as itself.

    python tests/benchmarks/speed_proof.py record quiet --phases 8
    python tests/benchmarks/speed_proof.py record hog --phases 8      (bursts, stream, neighbours likewise)
    python tests/benchmarks/speed_proof.py judge
    python tests/benchmarks/speed_proof.py resolution quiet            (hog likewise)
    python tests/benchmarks/speed_proof.py stalls
    python tests/benchmarks/speed_proof.py times --seeds 10
    python tests/benchmarks/speed_proof.py repeat --runs 5

A phase is what a run does between its trials: five launches of all configurations. Here they are a ViT of `mnist`, the
same once more ("again"), the same with each tenth training step done twice ("slowed": 1.10 times the work of training,
none of inference), another ViT and a CNN. What these commands write lies in results/reference/speed.

- record: adds phases to phases-REGIME.jsonl.xz; judge: writes proof.md from all of them.
- resolution: the speed rounds of suite `mnist` as a run has them, in all their time. resolution.md says how well they
  know all pairs and, beside a hog, how many intervals hold what the quiet machine had.
- stalls: networks that sleep or litter in training, and a folder of images that are slow to read; stalls.md has what
  `stall_share` says of each.
- times: a ViT and a CNN of `mnist` are trained with as many seeds, timed from end to end, a launch after each pair, all
  on one core. times.md holds the seconds to 95% by a trial's own clock against images times seconds an image of the
  launches. A trial lasts half a minute, in which a neighbour on the same core comes and goes; so probes run beside it,
  too, and its seconds are also given without what they say that it lost.
- repeat: whole runs of `smoke` and `mnist-quick`, every second one beside a hog; repeat.md has what each answers, and
  in how many lines `compare` calls it changed against the first.
"""

import argparse
import json
import lzma
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from itertools import combinations, islice
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

import numpy as np
from gate_noise import NOISES, noise
from made_up_data import write_png_folder
from scipy.special import stdtrit

from bench.analysis.comparison import is_too_noisy
from bench.analysis.labels import family_title
from bench.analysis.run_comparison import compare_runs
from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.data.download import fetch
from bench.execution.base import ignore
from bench.execution.local import Subprocess
from bench.measure.speed_stats import Cell, Estimate, Speeds, is_clean, panel_of
from bench.measure.stats import accuracy_interval
from bench.result import Launch, Result
from bench.speed import rounds
from bench.speed.rounds import Entry, Setting, measure, one_of_each
from bench.system.core_probe import CoreProbes
from bench.system.device import cpu_name
from bench.system.environment import cores

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
    def known(self) -> bool:
        return math.isfinite(self.found.half_width)

    @property
    def called(self) -> bool:
        """Good enough to be told; else it is too noisy to call."""
        return not is_too_noisy(self.found, PRECISION)

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
            before += as_line(found, took)
            path.write_bytes(lzma.compress(before.encode()))
            print(f"{regime}: phase {number + 1} of {count}, {len(found)} launches, {took:.0f} s", flush=True)


def as_line(launches: Sequence[Launch], seconds: float) -> str:
    about = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1)}
    return json.dumps({"about": about, "launches": [compact(launch) for launch in launches]}) + "\n"


def compact(launch: Launch) -> dict[str, Any]:
    """A launch for the archive: slices by columns, seconds rounded."""
    content = asdict(launch) | {"splits": [], "missing": launch.missing}
    columns = list(dict.fromkeys(key for piece in launch.slices for key in piece))
    content["slices"] = {
        key: [round(v, DIGITS) if isinstance(v := piece.get(key), float) else v for piece in launch.slices]
        for key in columns
    }
    return content


def phases(regime: str, kind: str = "phases") -> Iterator[Phase]:
    path = FOLDER / f"{kind}-{regime}.jsonl.xz"
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
        "`held`: of the intervals (of three launches at least; nominally of 98%), those that hold the truth: 1.00, or "
        "1.10 for training with repeated steps. `called`: ratios known to 6% or better, or twice as far from "
        "1 as their interval is wide; others would be told as too noisy to call. `false`: ratios of equal work that "
        "would be told as a difference.",
        "",
        "| regime | threads | phases | s a phase | undisturbed slices | cores apart | fixed loop's slowdown | ratios | "
        "held | median half-width | called | of these held | false |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for regime, own in recorded.items():
        for threads in sorted({each.threads for each in asked if each.regime == regime}):
            here = [each for each in asked if (each.regime, each.threads) == (regime, threads)]
            called = [each for each in here if each.called]
            equal = [each for each in here if each.truth == 1.0]
            speeds = [Speeds(phase.launches) for phase in own]
            clean = median(each.clean_share(threads) for each in speeds)
            apart = median(each.apart_share(threads) for each in speeds)
            slower = median(each.slowdown(threads) for each in speeds)
            took = median(phase.about["seconds"] for phase in own)
            lines.append(
                f"| {regime} | {threads} | {len(own)} | {took:.0f} | {clean:.0%} | {apart:.0%} | {slower:.2f} | "
                f"{len(here)} | "
                f"{share([each.holds for each in here if each.known])} | "
                f"{median(each.found.half_width for each in here):.1%} | {len(called)} | "
                f"{share([each.holds for each in called])} | {sum(each.told_apart for each in equal)} of {len(equal)} |"
            )
    equal = [each for each in asked if each.truth == 1.0]
    lines += [
        "",
        f"Over all: {share([each.holds for each in asked if each.known])} of the intervals hold the truth, "
        f"{share([each.holds for each in asked if each.called])} of the called ones; "
        f"{sum(each.told_apart for each in equal)} of {len(equal)} ratios of equal work would be told as a difference.",
        "",
        "## By number of launches",
        "",
        "The same phases in pieces of so many launches, all regimes together; of one and two, intervals come from an "
        "assumed scatter, and are known where half of the slices were undisturbed.",
        "",
        "| launches | ratios | known | held | median half-width of the known | false |",
        "|---:|---:|---:|---:|---:|---:|",
        *map(_row_of_pieces, range(1, rounds.FEWEST_LAUNCHES + 1)),
        "",
        "## A known slowdown",
        "",
        "Training with each tenth step done twice against the same without: the truth is 1.10.",
        "",
        "| regime | threads | phases | mean over them, 95% interval | lowest | highest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    slowed = [each for each in asked if each.truth == SLOWED and each.known]
    groups = [(regime, [threads]) for regime in recorded for threads in sorted({each.threads for each in slowed})]
    for regime, counts in [*groups, ("all", sorted({each.threads for each in slowed}))]:
        here = [each for each in slowed if regime in ("all", each.regime) and each.threads in counts]
        if len(here) > 1:
            logs = np.log([each.found.amount for each in here])
            half = float(stdtrit(len(here) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(here)))
            mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
            ends = f"{math.exp(logs.min()):.3f} | {math.exp(logs.max()):.3f}"
            numbers = " and ".join(map(str, counts))
            lines.append(f"| {regime} | {numbers} | {len(here)} | {mean:.3f} ({low:.3f} to {high:.3f}) | {ends} |")
    return "\n".join(lines) + "\n"


def _row_of_pieces(size: int) -> str:
    pieces = (
        Phase(phase.regime, phase.about, phase.launches[first : first + size])
        for regime in NOISES
        for phase in phases(regime)
        for first in range(0, len(phase.launches) - size + 1, size)
    )
    asked = [each for piece in pieces for each in asked_of(piece)]
    known = [each for each in asked if each.known]
    equal = [each for each in asked if each.truth == 1.0]
    width = median(each.found.half_width for each in known)
    told = f"{sum(each.told_apart for each in equal)} of {len(equal)}"
    return f"| {size} | {len(asked)} | {len(known)} | {share([each.holds for each in known])} | {width:.1%} | {told} |"


def resolution(regime: str | None) -> str:
    """What the speed rounds of `mnist` know of all pairs, in this regime now and in others as they were recorded.

    Args:
        regime: None measures nothing, and reads what was recorded once more.
    """
    fetch("mnist", None)
    plan = load_plan(read_suite(find_suite("mnist")))
    (trials,) = one_of_each([trial for trial in plan.trials if trial.trial_id not in plan.skipped]).values()
    setting = Setting([Entry(trial.config_id, trial) for trial in trials], "", precision=plan.suite.speed_precision)
    if regime:
        with noise(regime):
            start = time.monotonic()
            launches = [*measure(setting, [], 0, plan.suite.speed_seconds)]
            line = as_line(launches, time.monotonic() - start)
        (FOLDER / f"resolution-{regime}.jsonl.xz").write_bytes(lzma.compress(line.encode()))
    found = {regime: phase for regime in NOISES for phase in phases(regime, "resolution")}
    quiet = Speeds(found["quiet"].launches) if "quiet" in found else None
    lines = [
        "# What the speed rounds of `mnist` know",
        "",
        f"`python tests/benchmarks/speed_proof.py resolution REGIME`: {len(trials)} configurations, all pairs of them; "
        "half-widths of the 95% intervals of ratios. `hold`: pairs whose interval holds the quiet machine's ratio.",
        "",
        "| regime | s | launches | work | threads | undisturbed slices | cores apart | fixed loop's slowdown "
        "| median | worst | hold |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, phase in found.items():
        speeds = Speeds(phase.launches)
        for panel in sorted(speeds.panels):
            widths, n = speeds.half_widths(panel), panel.num_threads
            if not widths:  # other work left one configuration at the most
                continue
            cells = [cell for cell in speeds.cells if panel_of(cell) == panel]
            pairs = [(speeds.ratio(a, b), quiet.ratio(a, b)) for a, b in combinations(cells, 2)] if quiet else []
            held = [own.low <= other.amount <= own.high for own, other in pairs if math.isfinite(own.half_width)]
            work = "one image" if panel.one_image else {"train": "training", "infer": "inference"}[panel.work]
            lines.append(
                f"| {name} | {phase.about['seconds']:.0f} | {len(phase.launches)} | {work} | {n} | "
                f"{speeds.clean_share(n):.0%} | {speeds.apart_share(n):.0%} | {speeds.slowdown(n):.2f} | "
                f"{median(widths):.1%} | {max(widths):.1%} | {share(held) if name != 'quiet' else ''} |"
            )
    if quiet:
        lines += ["", "On the quiet machine, of slices of training that nothing else disturbed:", ""]
        lines += _while_apart(quiet, {trial.config_id: family_title(trial.model) for trial in trials})
    return "\n".join(lines) + "\n"


def _while_apart(speeds: Speeds, families: dict[str, str]) -> Iterator[str]:
    """How many times as long training took while cores shared no cache, by family and number of threads."""
    together = {id(piece) for launch in speeds.together for piece in launch.slices}
    logs: dict[tuple[str, int, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for piece in (piece for launch in speeds.launches for piece in launch.slices):
        if piece["work"] == "train" and is_clean(piece):
            key = families[piece["config_id"]], piece["num_threads"], piece["config_id"]
            logs[key][id(piece) in together].append(math.log(piece["seconds"] / piece["images"]))
    longer: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (family, threads, _), (apart, close) in logs.items():
        if apart and close:
            longer[family, threads].append(math.exp(mean(apart) - mean(close)))
    for (family, threads), own in sorted(longer.items()):
        ends = f"{min(own):.2f} to {max(own):.2f}"
        yield f"- {len(own)} {family}s with {threads} threads took {ends} times as long while cores were apart."


def stalls(seconds: float) -> str:
    """Planted stalls: what a trial counts of them, and what a launch's stretch of the real loop says."""
    lines = [
        "# Planted stalls",
        "",
        f"`python tests/benchmarks/speed_proof.py stalls`, one thread, {cpu_name()}, {date.today()}. A trial an epoch "
        "long counts pauses; launches compare the training loop with plain steps.",
        "",
        "| what | counted by a trial | estimated by launches, 95% interval | launches |",
        "|---|---:|---:|---:|",
    ]
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
                "epochs: 1\ntiming: whole\ninstrument_seconds: 0.1\n"
            )
            found.append(Entry(f"net{number}", load_plan(read_suite(suite)).trials[0]))
        launches = [*measure(Setting(found, "", precision=0.0), [], 0, seconds)]
        results = [Subprocess().run(entry.trial, None, ignore) for entry in found if entry.trial]
    speeds = Speeds(launches)
    for (what, *_), entry, result in zip(wanted, found, results, strict=True):
        assert entry.trial
        assert result.pause_share is not None, result.error
        low, amount, high, n = speeds.stall_share(entry.name, entry.trial.training.batch_size, 1)
        lines.append(f"| {what} | {result.pause_share:.1%} | {amount:.0%} ({low:.0%} to {high:.0%}) | {n} |")
    slept, sleepy = 0.05 * (results[1].evaluations[-1]["step"] // 50), results[1].train_seconds
    assert sleepy
    lines += ["", f"It slept for {slept:.2f} s of {sleepy:.2f} s of training by the clock: {slept / sleepy:.1%}."]
    lines.append("A launch's stretch is short and may miss a sleep; a report takes it where it sees more than a count.")
    return "\n".join(lines) + "\n"


TARGET = 0.95


def times(seeds: int) -> str:
    """Seconds to a target by a trial's own clock, against images times seconds an image."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    fetch("mnist", None)
    changes = ["dtype=fp32", "models.vit.patch_size=7", "models.vit.depth=2", "models.cnn.depth=2", "epochs=2"]
    changes += ["timing=whole", "match=null", f"targets=[{TARGET}]", f"seeds={seeds}", "instrument_seconds=0.1"]
    plan = load_plan(read_suite(find_suite("mnist"), changes))
    (firsts,) = one_of_each(plan.trials).values()
    setting = Setting([Entry(trial.config_id, trial) for trial in firsts], "", precision=0.0)
    executor, launches = Subprocess(), list[Launch]()
    whole: dict[str, list[tuple[Result, float]]] = {trial.config_id: [] for trial in firsts}
    for seed in range(seeds):
        for trial in (trial for trial in plan.trials if trial.seed == seed):
            with _watched() as slices:
                result = executor.run(trial, None, ignore)
            assert result.status == "ok", result.error
            whole[trial.config_id].append((result, sum(slices) / len(slices)))
            print(f"{trial.label} seed {seed}: {result.time_to_accuracy_seconds} s", flush=True)
            launches += islice(measure(setting, [], len(launches), 0.0), 1)  # what the host does meets both alike
    speeds = Speeds(launches)
    lines = [
        "# Time to accuracy: images times seconds an image, against whole timed trials",
        "",
        f"`python tests/benchmarks/speed_proof.py times --seeds {seeds}`, {cpu_name()}, one core, {date.today()}; "
        f"seconds of training to {TARGET:.0%} on validation, geometric means over {seeds} seeds and "
        f"{len(launches)} launches.",
        "",
        "| model | product, s | its speed is known to | trials' own clock, s | over the product, 95% interval "
        "| without what neighbours took | over the product, 95% interval |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for trial in firsts:
        own = [(result, probe) for result, probe in whole[trial.config_id] if result.time_to_accuracy_seconds]
        cell = Cell(trial.config_id, "train", trial.training.batch_size, 1)
        speed = speeds.speed(cell)
        images = np.array([result.images_to_accuracy for result, _ in own], float)
        direct = np.log(np.array([result.time_to_accuracy_seconds for result, _ in own], float))
        lost = np.array([speeds.slowness.lost({"probe_seconds": probe}, panel_of(cell)) for _, probe in own])
        product = np.log(images / speed.amount)
        figures = [f"{np.exp(product.mean()):.2f}", f"±{speed.half_width:.1%}"]
        for clock in (direct, direct - lost):
            apart = clock - product
            half = float(stdtrit(len(own) - 1, 0.975) * apart.std(ddof=1) / math.sqrt(len(own)))
            ends = np.exp([apart.mean(), apart.mean() - half, apart.mean() + half])
            figures += [f"{np.exp(clock.mean()):.2f}", "{:.3f} ({:.3f} to {:.3f})".format(*ends)]
        lines.append(f"| {trial.label} (n = {len(own)}) | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def repeat(count: int) -> str:
    """Whole runs of the two quick suites, and whether they say the same."""
    lines = [
        "# Whole runs, one after the other",
        "",
        f"`python tests/benchmarks/speed_proof.py repeat --runs {count}`, {cpu_name()}, {date.today()}. `changed`: "
        "lines in which `compare` calls a run better or worse than the suite's first.",
        "",
        "| suite | beside | seconds | answer | changed |",
        "|---|---|---:|---|---:|",
    ]
    with tempfile.TemporaryDirectory() as place:
        for suite in ("smoke", "mnist-quick"):
            folders = [Path(place, f"{suite}-{number}") for number in range(count)]
            for number, folder in enumerate(folders):
                regime, start = ("quiet", "hog")[number % 2], time.monotonic()
                command = [sys.executable, str(ROOT / "run_bench.py"), suite, "--quiet", "--out", str(folder)]
                with noise(regime):
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=place)
                seconds = time.monotonic() - start
                (answer,) = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["answers"]
                changes = compare_runs(folders[0], folder).changes if number else []
                changed = f"{sum(each.verdict in ('better', 'worse') for each in changes)} of {len(changes)}"
                said = " ".join([answer["headline"], *answer["advice"]])
                lines.append(f"| {suite} | {regime} | {seconds:.0f} | {said} | {changed if number else ''} |")
                print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Mean times of the probes' loop, second by second, while something runs."""
    probes, found, done = CoreProbes(cores()), list[float](), threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            mean, _ = probes.since_clear(one_core=False)
            found.extend([mean] if mean else [])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        probes.close()


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
    commands.add_parser("resolution").add_argument("regime", choices=NOISES, nargs="?")
    commands.add_parser("times").add_argument("--seeds", type=int, default=10)
    commands.add_parser("repeat").add_argument("--runs", type=int, default=5)
    commands.add_parser("stalls").add_argument("--seconds", type=float, default=150.0)
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if args.command == "record":
        record(args.regime, args.phases, args.seconds)
        return
    page: dict[str, Callable[[], str]] = {
        "judge": judge,
        "resolution": lambda: resolution(args.regime),
        "stalls": lambda: stalls(args.seconds),
        "times": lambda: times(args.seeds),
        "repeat": lambda: repeat(args.runs),
    }
    print(text := page[args.command]())
    (FOLDER / f"{'proof' if args.command == 'judge' else args.command}.md").write_text(text)


if __name__ == "__main__":
    main()
