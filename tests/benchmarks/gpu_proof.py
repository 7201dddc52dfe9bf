"""Does it all hold on a card? At most ten minutes on one CUDA GPU, and a page that says so part by part.

    python tests/benchmarks/gpu_proof.py [--device cuda] [--seconds 600] [--data-dir DIR] [--parts NAME ...]
        [--short] [--write]

`--write` puts the page into results/reference/gpu.md. `--device cpu` rehearses what a CPU can do of it; `--short` is a
small form of each part. A part runs in a process of its own, so that one which fails, crashes or hangs costs the
others nothing; parts that the time doesn't reach are named. The two that train on MNIST take it from the cache, from
--data-dir, or from the network.

- losses: training in fp32 on the CPU and on the device. The tolerance is measured: how far the CPU's own losses drift
  when each weight is moved by 1e-6 of itself at the start, which stands for the roundings that another order of sums
  brings into a step; ten times that, since they come in every step, and no less than 1e-5.
- modes: in every numeric mode that the device has, the loss falls; pure half precision included.
- compile, channels_last: whole trials with and without; the same seed leads to about the same loss.
- memory: a tensor of 256 MiB, and a trial's columns against the allocator's own peak of the same steps.
- speeds: the speed rounds as in speed_proof.py: equal configurations, and a slowdown of 1.10.
- energy: what the card's meter counts under load, against its power as the driver samples it.
- smoke, mnist-quick: whole runs of the program.
"""

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from itertools import islice
from pathlib import Path

from bench.execution.local import Subprocess, set_environment

set_environment()  # as a trial has it; before torch loads

import torch
from speed_proof import Phase, asked_of, entries_of

from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.data.download import fetch
from bench.measure.stopwatch import Stopwatch
from bench.result import Result
from bench.speed import rounds
from bench.speed.rounds import Setting, measure
from bench.system.device import open_device
from bench.system.files import write_atomically
from bench.system.precision import DTYPES
from bench.training.trial_setup import new_learner, set_up
from bench.trial import Trial

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "results" / "reference" / "gpu.md"
MIB = 2**20
KNOWN = 256 * MIB
MOVED, TIMES, LEAST = 1e-6, 10, 1e-5  # of the tolerance for losses: see above
FALLEN = 0.8  # of the first losses' mean, at most, is that of the last ones of a training that works
CLOSE = 0.02  # of a known amount of memory
ANSWERS = {True: "yes", False: "**no**", None: "not told here"}
POWER_CLOSE = 0.25  # the driver's samples are means of its own windows


@dataclass
class Outcome:
    """Of a part. `holds`: None where this device can't tell; `lines`: Markdown."""

    holds: bool | None
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What every part is told. `short`: as little as shows that the part runs."""

    device: str
    short: bool = False
    seconds: float = 600.0
    data_dir: Path | None = None

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")


def trials(asked: Asked, *settings: str) -> dict[str, Trial]:
    """Family -> a small trial of it on scikit-learn's digits, on the device."""
    about = ["models.vit.patch_size=2", "models.cnn.depth=2", "seeds=1", f"device={asked.device}", "num_threads=null"]
    plan = load_plan(read_suite(find_suite("smoke"), [*about, *settings]))
    for reason in plan.skipped.values():
        raise SystemExit(reason)
    return {trial.model: trial.model_copy(update={"timed": True}) for trial in plan.trials}


def losses(trial: Trial, steps: int, moved: float = 0.0) -> list[float]:
    """Training losses of the first steps, from weights that are moved by about such a share of themselves."""
    setup = set_up(trial, None, Stopwatch())
    learner = new_learner(setup)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.mul_(1 + moved * torch.randn(weight.shape, generator=dice).to(weight.device, weight.dtype))
    return torch.stack([learner.step(*batch) for batch in islice(setup.batches, steps)]).tolist()


def apart(a: list[float], b: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(x / y - 1) for x, y in zip(a, b, strict=True))


def equal_losses(asked: Asked) -> Outcome:
    steps, held, lines = 5 if asked.short else 30, True, []
    for family, trial in trials(asked).items():
        on_cpu = trial.model_copy(update={"device": "cpu"})
        reference = losses(on_cpu, steps)
        tolerance = max(LEAST, TIMES * apart(losses(on_cpu, steps, MOVED), reference))
        found = apart(losses(trial, steps), reference)
        held &= found <= tolerance
        lines.append(
            f"- {family}: largest relative difference over {steps} steps {found:.1e}, tolerance {tolerance:.1e}"
        )
    return Outcome(held, lines)


def modes(asked: Asked) -> Outcome:
    steps, held, lines = (
        80 if asked.short else 150,
        True,
        ["| mode | model | first ten | last ten |", "|:--|:--|--:|--:|"],
    )
    for mode in DTYPES:
        reason = open_device(asked.device).lacks(mode)
        if reason:
            lines.append(f"| {mode} |  | {reason} |  |")
            continue
        for family, trial in trials(asked, f"dtype={mode}").items():
            found = losses(trial, steps)
            first, last = sum(found[:10]) / 10, sum(found[-10:]) / 10
            held &= last <= FALLEN * first  # false of NaN, too
            lines.append(f"| {mode} | {family} | {first:.3f} | {last:.3f} |")
    return Outcome(held, lines)


def compared(asked: Asked, setting: str, families: tuple[str, ...]) -> Outcome:
    """Whole trials without and with a setting: both end well, with about the same training loss."""
    held, lines = (
        True,
        ["| model | setting | status | images/s | train loss | test accuracy |", "|:--|:--|:--|--:|--:|--:|"],
    )
    for family in families[:1] if asked.short else families:
        found: list[Result] = []
        for settings in ((), (setting,)):
            short = ["epochs=1", "instrument_seconds=0"] if asked.short else ["epochs=3"]
            result = Subprocess().run(trials(asked, *short, *settings)[family], None, lambda message: None)
            found.append(result)
            speed, loss, accuracy = (
                value or 0.0 for value in (result.images_per_second, result.train_loss, result.test_accuracy)
            )
            lines.append(
                f"| {family} | {' '.join(settings)} | {result.error or result.status} | {speed:,.0f} | {loss:.4f} | "
                f"{accuracy:.1%} |"
            )
        ends = [result.train_loss or 0.0 for result in found]
        held &= all(result.status == "ok" for result in found) and abs(ends[1] / (ends[0] or 1) - 1) < 0.1
    return Outcome(held, lines)


def compiles(asked: Asked) -> Outcome:
    return compared(asked, "compile=default", ("vit", "cnn"))


def channels_last(asked: Asked) -> Outcome:
    return compared(asked, "channels_last=true", ("cnn",))


def allocated(trial: Trial) -> int:
    """Bytes that CUDA's own allocator had at most while a trial's first steps ran; in a fresh process."""
    setup = set_up(trial, None, Stopwatch())
    torch.cuda.reset_peak_memory_stats()
    floor = torch.cuda.memory_allocated()
    learner = new_learner(setup)
    for batch in islice(setup.batches, 20):
        learner.step(*batch)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - floor


def memory(asked: Asked) -> Outcome:
    device = open_device(asked.device)
    device.reset_peak_memory()
    tensor = torch.ones(KNOWN, dtype=torch.uint8, device=device.torch_device)
    device.synchronize()
    device.sample_memory()
    peak = device.peak_memory_bytes() or 0
    del tensor
    held, lines = abs(peak / KNOWN - 1) <= CLOSE, [f"- A tensor of 256 MiB: a peak of {peak / MIB:.1f} MiB."]
    for family, trial in trials(asked, "epochs=1", "instrument_seconds=0").items():
        result = Subprocess().run(trial, None, lambda message: None)
        if result.status != "ok" or not result.peak_memory_bytes or not result.num_params:
            return Outcome(False, [*lines, f"- {family}: {result.error or 'no peak'}"])
        held &= result.gradient_bytes == 4 * result.num_params
        parts = (result.param_bytes, result.gradient_bytes, result.optimizer_bytes, result.activation_bytes)
        words = [f"{(part or 0) / MIB:.2f}" for part in parts]
        line = (
            f"- {family}: a trial's peak of {result.peak_memory_bytes / MIB:.2f} MiB (weights, gradients, optimiser, "
        )
        line += f"rest: {', '.join(words)})"
        if asked.is_cuda:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                own = pool.apply(allocated, (trial,))
            held &= abs(result.peak_memory_bytes / own - 1) <= CLOSE
            line += f"; by the allocator's own count {own / MIB:.2f} MiB"
        lines.append(line + ".")
    return Outcome(held, lines)


def speeds(asked: Asked) -> Outcome:
    settings = ["dtype=fp32", f"device={asked.device}"]
    if asked.short:
        entries = entries_of("smoke", *settings, "batch_size=128")  # what asked_of asks for
    else:
        fetch("mnist", asked.data_dir)
        sizes = ["models.vit.patch_size=[7,14]", "models.vit.depth=2", "models.cnn.depth=2"]
        entries = entries_of("mnist", *settings, *sizes)
    setting = Setting(entries, open_device(asked.device).name, asked.data_dir, precision=0.0)
    count = 1 if asked.short else rounds.FEWEST_LAUNCHES
    launches = [*islice(measure(setting, [], 0, asked.seconds), count)]
    lines = [f"{len(launches)} launches, {sum(each.wall_seconds for each in launches):.0f} s.", ""]
    lines += [f"- missing: {name}: {reason}" for name, reason in launches[-1].missing.items()]
    lines += ["", "| work | threads | truth | found | 95% interval | holds it |", "|:--|--:|--:|--:|--:|:--|"]
    held, told = [], bool(launches[-1].slices)
    for each in asked_of(Phase("card", {}, launches)):
        found = each.found
        held.append(each.holds)
        words = f"{found.amount:.3f} | {found.low:.3f} to {found.high:.3f} | {'yes' if each.holds else 'no'}"
        lines.append(f"| {each.work} | {each.threads} | {each.truth:.2f} | {words} |")
        if each.truth != 1.0:
            told &= found.low > 1.0
    lines += [
        "",
        "An interval of 95% misses one time in twenty. More than one miss, or a slowdown that isn't told from",
    ]
    lines += ["equal speed, and this part doesn't hold."]
    return Outcome(None if asked.short else told and held.count(False) <= 1, lines)


def energy(asked: Asked) -> Outcome:
    device = open_device(asked.device)
    if device.energy_joules() is None:
        return Outcome(None, ["- No meter that can be read (of a card: it takes the package nvidia-ml-py)."])
    matrix = torch.ones(4096 if asked.is_cuda else 512, device=device.torch_device).diag()
    start, before, watts = time.monotonic(), device.energy_joules() or 0.0, []
    while (took := time.monotonic() - start) < (0.5 if asked.short else 8):
        for _ in range(20):
            matrix @ matrix
        device.synchronize()
        if asked.is_cuda and took > 1:  # the driver's mean of a second lags behind
            watts.append(power(device.torch_device))
    joules = (device.energy_joules() or 0.0) - before
    lines = [f"- {joules:.1f} J in {took:.1f} s of matrix products: {joules / took:.1f} W by the meter."]
    if not watts:
        return Outcome(joules > 0, lines)
    sampled = sum(watts) / len(watts)
    lines.append(f"- {sampled:.1f} W by the driver's samples (n = {len(watts)}).")
    return Outcome(abs(joules / took / sampled - 1) <= POWER_CLOSE, lines)


def power(place: torch.device) -> float:
    """Watts that the driver says the card draws."""
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(place).uuid}")
    return pynvml.nvmlDeviceGetPowerUsage(card) / 1000


def whole(suite: str, asked: Asked, *more: str) -> Outcome:
    """A run of the program, and its answer."""
    where = ["--data-dir", str(asked.data_dir)] if asked.data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--suite", suite, "--device", asked.device, "--out", f"{folder}/run", "--quiet", *where, *more]
        command = [sys.executable, str(ROOT / "run_bench.py"), *options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=asked.seconds, cwd=folder, check=False)
    told = run.stdout if run.returncode == 0 else f"{run.stdout}\n{run.stderr[-2000:]}"
    lines = [f"- exit status {run.returncode}", "", "```text", *told.strip().splitlines()[:20], "```"]
    return Outcome(run.returncode == 0, [line.replace(folder, "") for line in lines])


def smoke(asked: Asked) -> Outcome:
    short = ["--set", "seeds=1", "--set", "speed_seconds=0", "--epochs", "2"] if asked.short else []
    return whole("smoke", asked, *short)


def mnist_quick(asked: Asked) -> Outcome:
    if asked.short:
        return Outcome(None, ["- Left out of the short form."])
    return whole("mnist-quick", asked)


PARTS: dict[str, tuple[str, Callable[[Asked], Outcome]]] = {
    "losses": ("equal losses in fp32 as on the CPU", equal_losses),
    "modes": ("every numeric mode trains", modes),
    "memory": ("memory against known amounts", memory),
    "energy": ("energy", energy),
    "channels_last": ("channels_last", channels_last),
    "compile": ("torch.compile", compiles),
    "speeds": ("speed rounds: equal configurations, a known slowdown", speeds),
    "smoke": ("`--suite smoke`, whole", smoke),
    "mnist-quick": ("`--suite mnist-quick`, whole", mnist_quick),
}


def in_a_process(name: str, asked: Asked) -> Outcome:
    """A part where it can do no harm; what goes wrong there is its outcome."""
    told = json.dumps(asdict(asked), default=str)
    command = [sys.executable, str(Path(__file__)), "--one", name, told]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=asked.seconds + 10, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(False, [f"- It took more than {asked.seconds:.0f} s."])
    with suppress(ValueError, IndexError):
        if run.returncode == 0:
            return Outcome(**json.loads(run.stdout.splitlines()[-1]))
    words = (run.stderr.strip() or "nothing said").splitlines()[-1]
    return Outcome(False, [f"- It ended with status {run.returncode}: {words[:400]}"])


def one(name: str, told: str) -> Outcome:
    content = json.loads(told)
    where = content.pop("data_dir")
    asked = Asked(**content, data_dir=Path(where) if where else None)
    try:
        return PARTS[name][1](asked)
    except subprocess.TimeoutExpired:
        return Outcome(False, [f"- It took more than {asked.seconds:.0f} s."])


def page(asked: Asked, names: list[str]) -> Iterator[str]:
    """Lines of the page, as parts end; those of the table last, since it has them all."""
    end = time.monotonic() + asked.seconds
    found: dict[str, tuple[Outcome, float]] = {}
    device = open_device(asked.device)
    yield f"# On {device.name}"
    yield ""
    card = f"CUDA {torch.version.cuda}, " if asked.is_cuda else ""
    form = " --short" if asked.short else ""
    yield (
        f"`python tests/benchmarks/gpu_proof.py --device {asked.device}{form}`, {date.today()}, {card}torch "
        f"{torch.__version__}, Python {platform.python_version()}."
    )
    for name in names:
        start = time.monotonic()
        left = end - start
        outcome = in_a_process(name, replace(asked, seconds=left)) if left > 5 else Outcome(False, ["- Not begun."])
        found[name] = outcome, time.monotonic() - start
        yield from ["", f"## {PARTS[name][0]}", "", *outcome.lines]
    yield from ["", "## In one table", "", "| part | does it hold? | seconds |", "|:--|:--|--:|"]
    for name, (outcome, seconds) in found.items():
        yield f"| {PARTS[name][0]} | {ANSWERS[outcome.holds]} | {seconds:.0f} |"
    yield from ["", "The other half is `python -m pytest -m gpu`: the tests that need a card, one by one."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most")
    parser.add_argument("--data-dir", type=Path, help="folder that holds MNIST's files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--short", action="store_true", help="as little as shows that the parts run")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(asdict(one(*args.one))))
        return
    asked = Asked(args.device, args.short, args.seconds, args.data_dir and args.data_dir.resolve())
    lines = []
    for line in page(asked, args.parts):
        lines.append(line)
        print(line, flush=True)
    if args.write:
        write_atomically(PAGE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
