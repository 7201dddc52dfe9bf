"""Fuzz what reads other people's files, guided by coverage (atheris) or by shape (hypothesis).

    python tests/benchmarks/fuzz.py --target suite --minutes 5 --corpus DIR [--engine atheris|hypothesis]

The rule is that of fuzz_targets.judge. A finding doesn't end the run: it is kept in DIR/findings, once for each place
in the program that it comes from, and printed at the end as JSON with executions, seconds and the corpus' size. A
worker runs two minutes, then a fresh one goes on, so that neither a crash nor a hang nor a leak ends the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fuzz_targets
from fuzz_targets import TARGETS, Finding, judge

SLICE_SECONDS = 120
HANGS_SECONDS = 30  # then libFuzzer ends the worker, and the input is a finding
MEMORY_MIB = {"suite": 1_500, "set": 1_500}  # with torch; of the others 700
INSTRUMENTED = ["bench", "yaml", "csv", "zipfile", "gzip", "numpy.lib", "pandas.io.parsers", "fuzz_targets"]
SEEDS = Path(__file__).parents[1] / "fixtures" / "fuzz"  # what a new corpus begins with
WORDS = Path(__file__).parent / "fuzz_words.txt"  # for libFuzzer to put in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of inputs, which grows")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default="atheris")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)  # seconds
    options = parser.parse_args()
    for folder in (options.corpus, findings_of(options.corpus), options.corpus / "inputs"):
        folder.mkdir(parents=True, exist_ok=True)
    inputs = options.corpus / "inputs"
    if not any(inputs.iterdir()):
        for seed in (SEEDS / options.target).iterdir():
            shutil.copy(seed, inputs / seed.name)
    if options.worker:
        work(options.target, options.corpus, options.engine, options.worker)
    else:
        print(json.dumps(fuzz(options.target, options.corpus, options.engine, 60 * options.minutes), indent=1))


def findings_of(corpus: Path) -> Path:
    return corpus / "findings"


def fuzz(target: str, corpus: Path, engine: str, seconds: float) -> dict[str, Any]:
    """Workers, one after the other, until the time is over."""
    executions, began = 0, time.monotonic()
    while (left := seconds - (time.monotonic() - began)) > 1:
        worker = [sys.executable, __file__, "--target", target, "--corpus", str(corpus), "--engine", engine]
        this = min(left, SLICE_SECONDS)
        with (corpus / "log.txt").open("ab+") as log:
            start = log.seek(0, os.SEEK_END)
            subprocess.run([*worker, "--worker", str(this)], stdout=log, stderr=log, check=False)
            log.seek(start)
            said = log.read().decode("utf-8", "replace")
        counts = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\s", said, re.MULTILINE)
        executions += max((int(a or b) for a, b in counts), default=0)
        if not counts:
            raise SystemExit(f"the worker couldn't start; see {corpus / 'log.txt'}")
    ended = [path for path in corpus.glob("*-*") if path.name.startswith(("timeout-", "oom-", "crash-"))]
    findings = [json.loads(path.read_text()) for path in sorted(findings_of(corpus).glob("*.json"))]
    return {
        "target": target,
        "engine": engine,
        "seconds": round(time.monotonic() - began, 1),
        "executions": executions,
        "corpus": len(list((corpus / "inputs").iterdir())),
        "findings": findings + [{"fault": path.name.split("-")[0], "input": path.name} for path in ended],
    }


def work(target: str, corpus: Path, engine: str, seconds: float) -> None:
    """One worker's time; tmpfs where there is one, since a store flushes each file to the disk."""
    shared = Path("/dev/shm")  # noqa: S108 - a scratch folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as scratch:
        os.environ["VIT_CNN_BENCH_CACHE"] = str(Path(scratch, "cache"))
        folder = Path(scratch, "work")
        (with_atheris if engine == "atheris" else with_hypothesis)(target, corpus, folder, seconds)


def keep(finding: Finding, data: bytes, corpus: Path) -> None:
    """The shortest input that leads to a place."""
    name = hashlib.sha256(finding.place.encode()).hexdigest()[:12]
    path = findings_of(corpus) / f"{name}.bin"
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps({**finding._asdict(), "input": path.name}))


def with_atheris(target: str, corpus: Path, folder: Path, seconds: float) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        importlib.reload(fuzz_targets)
        for module in ("data.user_data", "data.readers.images", "result", "store.run_folder"):
            importlib.import_module(f"bench.{module}")
        if target in ("suite", "set"):
            importlib.import_module("bench.config.plan")
        if target == "verify":
            importlib.import_module("bench.store.verify")
    judged = fuzz_targets.judge

    def one_input(data: bytes) -> None:
        if finding := judged(fuzz_targets.TARGETS[target], data, folder):
            keep(finding, data, corpus)

    limits = [f"-max_total_time={int(seconds)}", f"-timeout={HANGS_SECONDS}", "-print_final_stats=1"]
    limits += [f"-rss_limit_mb={MEMORY_MIB.get(target, 700)}", f"-artifact_prefix={corpus}/", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *limits, f"-dict={WORDS}", str(corpus / "inputs")], one_input)
    atheris.Fuzz()


def with_hypothesis(target: str, corpus: Path, folder: Path, seconds: float) -> None:
    from fuzz_shapes import SHAPES
    from hypothesis import HealthCheck, Phase, given, settings

    count, end = 0, time.monotonic() + seconds
    megabytes = MEMORY_MIB.get(target, 700) + (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    checks = [*HealthCheck]  # of hypothesis itself: a slow or picky strategy is fine here

    @settings(max_examples=500, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=checks)
    @given(data=SHAPES[target])
    def one_round(data: bytes) -> None:
        nonlocal count
        if time.monotonic() > end:
            return
        count += 1
        finding = judge(TARGETS[target], data, folder)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > megabytes << 10:
            finding = Finding("memory", f"memory above {megabytes} MiB")
        if finding:
            keep(finding, data, corpus)

    while time.monotonic() < end:
        one_round()
    print(f"number_of_executed_units: {count}", flush=True)


if __name__ == "__main__":
    main()
