"""The whole program, as a person runs it: real processes, real digits, a killed run that goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.results import COLUMNS, TABLES

ROOT = Path(__file__).parent.parent

TINY = """
description: a few seconds
dataset: digits
models:
  - {model: vit, patch_size: [2, 4], depth: 1, embed_dim: 16}
  - {model: cnn, depth: 1, width: 4}
batch_size: 50
num_threads: 1
instrument_seconds: 0.05
epochs: 2
evaluations_per_epoch: 2
seeds: 2
targets: [0.2, 0.5, 0.9999]
"""


FEW = ("--set", "models.vit.patch_size=4", "--epochs", "1")  # 2 configurations


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "run_bench.py"), *map(str, arguments)]


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, dict[str, object]]:
    process = run(folder, "--suite", "tiny.yaml", "--json")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    return folder / str(summary["run"]), summary


def whole(run_dir: Path) -> pd.DataFrame:
    """The trials of a finished run, after a look at every file: each trial once, all readable, nothing foreign."""
    trials = pd.read_csv(run_dir / "trials.csv")
    plan = json.loads((run_dir / "run.json").read_text())["plan"]
    assert sorted(trials.trial_id) == sorted(plan)
    for name, columns in TABLES.items():
        table = pd.read_csv(run_dir / name)
        assert list(table.columns) == list(columns)
        assert set(table.trial_id) == set(plan)
    assert not pd.read_csv(run_dir / "evaluations.csv").duplicated(["trial_id", "step"]).any()
    assert sorted(path.name for path in (run_dir / "trials").iterdir()) == sorted(plan)
    return trials


def test_a_run_leaves_its_tables_report_plots_weights_and_predictions(finished: tuple[Path, dict[str, object]]) -> None:
    run_dir, summary = finished
    trials = whole(run_dir)
    assert list(trials.columns) == list(COLUMNS)
    assert (trials.status == "ok").all()
    assert len(trials) == 6
    assert summary["trials"] == {"ok": 6}
    for name in ("summary.csv", "report.md", "report.html", "run.json"):
        assert (run_dir / name).stat().st_size > 500
    assert len(list((run_dir / "plots").glob("*.png"))) >= 4
    for trial_id in trials.trial_id:
        for name in ("model.safetensors", "model_best.safetensors", "predictions.csv", "trial.json"):
            assert (run_dir / "trials" / trial_id / name).is_file()
        assert len(pd.read_csv(run_dir / "trials" / trial_id / "predictions.csv")) == 297
    assert (run_dir.parent / "latest").resolve() == run_dir.resolve()


def test_seeds_vary_slowest_on_disk(finished: tuple[Path, dict[str, object]]) -> None:
    trials = pd.read_csv(finished[0] / "trials.csv")
    assert trials.seed.is_monotonic_increasing
    first, second = (trials[trials.seed == seed].config_id.tolist() for seed in (0, 1))
    assert first == second


def test_time_to_accuracy_is_empty_where_the_target_was_missed(finished: tuple[Path, dict[str, object]]) -> None:
    trials = pd.read_csv(finished[0] / "trials.csv")
    reached = trials.val_accuracy_best >= 0.5
    assert (trials.time_to_accuracy_seconds.notna() == reached).all()


def test_report_is_built_again_without_torch(finished: tuple[Path, dict[str, object]]) -> None:
    run_dir = finished[0]
    (run_dir / "report.html").unlink()
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ImportError(name + " is not installed")
sys.meta_path.insert(0, NoTorch())
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["run_bench.py", "report", {str(run_dir)!r}]
import run_bench
sys.exit(run_bench.main())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert (run_dir / "report.html").is_file()


def test_resuming_a_finished_run_runs_nothing(folder: Path, finished: tuple[Path, dict[str, object]]) -> None:
    run_dir = finished[0]
    before = (run_dir / "trials.csv").read_bytes()
    process = run(folder, "--resume", run_dir)
    assert process.returncode == 0, process.stderr
    assert (run_dir / "trials.csv").read_bytes() == before


def test_fewer_seeds_than_a_run_has_are_refused(folder: Path, finished: tuple[Path, dict[str, object]]) -> None:
    process = run(folder, "--resume", finished[0], "--seeds", "1")
    assert process.returncode == 2
    assert "start a new run" in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_budget_leaves_out_trials_and_says_so_and_more_seeds_extend_the_run(folder: Path) -> None:
    process = run(folder, "--suite", "tiny.yaml", "--out", "short", "--budget", "1s", *FEW)
    assert process.returncode == 0, process.stderr
    first = pd.read_csv(folder / "short" / "trials.csv")
    assert 1 <= len(first) < 4
    assert "budget" in (folder / "short" / "report.md").read_text()
    process = run(folder, "--resume", "short", "--seeds", "3")
    assert process.returncode == 0, process.stderr
    trials = whole(folder / "short")
    assert trials.seed.tolist() == [0, 0, 1, 1, 2, 2]
    assert trials.trial_id[: len(first)].equals(first.trial_id)


def test_a_diverged_trial_is_a_row_and_the_exit_status_says_so(folder: Path) -> None:
    extreme = ("--set", "models.cnn.learning_rate=1e20", "--set", "models.cnn.optimizer=sgd", *FEW, "--seeds", "1")
    process = run(folder, "--suite", "tiny.yaml", "--out", "wild", *extreme)
    assert process.returncode == 1, process.stderr
    trials = pd.read_csv(folder / "wild" / "trials.csv")
    assert trials[trials.model == "cnn"].status.tolist() == ["diverged"]
    assert trials[trials.model == "vit"].status.tolist() == ["ok"]
    assert "diverged" in (folder / "wild" / "report.md").read_text()


def test_an_interrupted_run_keeps_what_is_done_reports_it_and_goes_on(folder: Path) -> None:
    out = folder / "stopped"
    arguments: tuple[str | Path, ...] = ("--suite", "tiny.yaml", "--out", out, *FEW, "--seeds", "4")
    for rows, number in ((1, signal.SIGINT), (3, signal.SIGTERM)):
        process = subprocess.Popen(command(*arguments), cwd=folder, start_new_session=True)
        wait_for_rows(out, rows)
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
        assert process.wait(60) == 130
        assert rows <= len(pd.read_csv(out / "trials.csv")) < 8
        assert "interrupted" in (out / "report.md").read_text()
        arguments = ("--resume", out)


def test_kill_of_the_whole_group_at_a_random_moment_loses_and_repeats_nothing(folder: Path) -> None:
    out, delay = folder / "killed", random.Random(0).uniform(0.0, 0.5)
    process = subprocess.Popen(
        command("--suite", "tiny.yaml", "--out", out, *FEW),
        cwd=folder,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    wait_for_rows(out, 1)
    time.sleep(delay)  # tests/benchmarks/kill_and_resume.py does it at as many moments as you like
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seen = pd.read_csv(out / "trials.csv", on_bad_lines="skip").trial_id.tolist()
    final = run(folder, "--resume", out)
    assert final.returncode == 0, final.stderr
    assert whole(out).trial_id.tolist()[: len(seen)] == seen


def wait_for_rows(run_dir: Path, count: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    path = run_dir / "trials.csv"
    while not path.is_file() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, f"no {count} rows within {seconds} s"
        time.sleep(0.05)
