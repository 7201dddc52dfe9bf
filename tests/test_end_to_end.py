"""The whole program, as a person runs it: real processes, real digits, a killed run that goes on.

Where neither processes nor pictures are the promise, the program runs in this process and draws no pictures: loading
torch takes seconds, and so do all pictures of a report.
"""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from report_page import PICTURES

import run_bench
from bench.measure.speed_stats import is_clean
from bench.report import figures
from bench.result import COLUMNS, TABLES
from bench.session import Request, run_session
from bench.store.tables import read_launches

ROOT = Path(__file__).parent.parent

TINY = """
description: a few seconds
dataset: digits
models:
  - {model: vit, patch_size: [4], depth: 1, embed_dim: 16}
  - {model: cnn, depth: 1, width: 4}
batch_size: 50
num_threads: 1
timing: whole
instrument_seconds: 0.05
epochs: 2
evaluations_per_epoch: 2
seeds: 2
targets: [0.2, 0.5, 0.9999]
"""

FEW = ("--epochs", "1")

PLAIN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from bench.report import figures
for name in {PICTURES!r}:
    setattr(figures, name, ())
import run_bench
sys.exit(run_bench.main())
"""

Typed = Callable[..., tuple[int, str]]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "run_bench.py"), *map(str, arguments)]


def without_pictures(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", PLAIN, *map(str, arguments)]


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    own = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False, env=os.environ | own
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a person works: their suite, a `models` of their own, and a taste in plots that nothing here may follow."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("")
    (folder / "matplotlibrc").write_text("text.usetex: True\nfigure.dpi: 3\nsavefig.transparent: True\n")
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, dict[str, object]]:
    process = run(folder, "--suite", "tiny.yaml", "--seeds", "1", "--json")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    return folder / str(summary["run"]), summary


@pytest.fixture
def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    """The program in this process and without pictures: words -> exit status, standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("bench.execution.local.start_fork_server", lambda: None)
    for name in PICTURES:
        monkeypatch.setattr(figures, name, ())

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["run_bench.py", *map(str, words), "--executor", "in-process"])
        return run_bench.main(), capsys.readouterr().err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


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


@pytest.mark.slow
def test_a_run_leaves_its_tables_report_plots_weights_and_predictions(finished: tuple[Path, dict[str, object]]) -> None:
    run_dir, summary = finished
    trials = whole(run_dir)
    assert list(trials.columns) == list(COLUMNS)
    assert (trials.status == "ok").all()
    assert sorted(trials.model) == ["cnn", "vit"]
    assert summary["trials"] == {"ok": 2}
    for name in ("summary.csv", "report.md", "report.html", "run.json"):
        assert (run_dir / name).stat().st_size > 500
    assert len(list((run_dir / "plots").glob("*.png"))) >= 4
    for trial_id in trials.trial_id:
        for name in ("model.safetensors", "model_best.safetensors", "predictions.csv", "trial.json"):
            assert (run_dir / "trials" / trial_id / name).is_file()
        assert len(pd.read_csv(run_dir / "trials" / trial_id / "predictions.csv")) == 297
    assert (run_dir.parent / "latest").resolve() == run_dir.resolve()


@pytest.mark.slow
def test_time_to_accuracy_is_empty_where_the_target_was_missed(finished: tuple[Path, dict[str, object]]) -> None:
    trials = pd.read_csv(finished[0] / "trials.csv")
    reached = trials.val_accuracy_best >= 0.5
    assert (trials.time_to_accuracy_seconds.notna() == reached).all()


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    """A finished run of two seeds, for tests of what comes after one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("bench.inference.gallery.collect", lambda *_: False)
        patch.setattr("bench.measure.stopwatch.WARM_UP_BLOCK_SECONDS", 0.005)  # no speed is looked at
        for name in PICTURES:
            patch.setattr(figures, name, ())
        few = ["instrument_seconds=0", "epochs=1"]
        run_session(Request("tiny.yaml", out=folder / "small", settings=few, executor="in-process", quiet=True))
    return folder / "small"


@pytest.mark.slow
def test_seeds_vary_slowest_on_disk(small: Path) -> None:
    trials = pd.read_csv(small / "trials.csv")
    assert trials.seed.is_monotonic_increasing
    first, second = (trials[trials.seed == seed].config_id.tolist() for seed in (0, 1))
    assert first == second
    assert len(first) == 2


def test_resuming_a_finished_run_runs_nothing(small: Path, typed: Typed, tmp_path: Path) -> None:
    run_dir = shutil.copytree(small, tmp_path / "run")
    (run_dir / "report.html").unlink()
    before = (run_dir / "trials.csv").read_bytes()
    status, err = typed("--resume", run_dir)
    assert status == 0, err
    assert (run_dir / "trials.csv").read_bytes() == before
    assert (run_dir / "report.html").is_file()


@pytest.mark.slow
def test_a_run_with_speed_rounds_has_speeds_without_a_timed_trial_and_goes_on_without_measuring_again(
    folder: Path, typed: Typed
) -> None:
    rounds = ("--set", "timing=rounds", "--set", "speed_seconds=0.1", *FEW)
    status, err = typed("--suite", "tiny.yaml", "--out", "rounds", *rounds)
    assert status == 0, err
    trials = pd.read_csv(folder / "rounds" / "trials.csv")
    assert trials[["images_per_second", "train_seconds", "latency_p50_seconds"]].isna().all(axis=None)
    assert (trials.peak_memory_bytes > 0).all()
    slices = pd.read_csv(folder / "rounds" / "throughput.csv")
    assert set(slices.config_id) == set(trials.config_id)
    assert slices.trial_id.isna().all()
    launches = slices.launch.nunique()
    assert launches == 1  # which spent the time that there is
    assert "launch 1" in err
    assert len([line for line in err.splitlines() if line.startswith("so far: On one seed")]) == 1
    summary = pd.read_csv(folder / "rounds" / "summary.csv")
    (launch,) = read_launches(folder / "rounds")
    undisturbed = {
        (piece["config_id"], piece["num_threads"])
        for piece in launch.slices
        if piece["work"] == "train" and is_clean(piece)
    }  # beside other programs there may be none
    for row in summary[summary.n_launches > 0].itertuples():
        assert row.n_launches == 1
        assert (row.config_id, row.speed_threads) in undisturbed
    assert bool(undisturbed) == (summary.n_launches.sum() > 0)
    assert "too noisy to call" in (folder / "rounds" / "report.md").read_text()
    status, err = typed("--resume", folder / "rounds", "--seeds", "3")
    assert status == 0, err
    again = pd.read_csv(folder / "rounds" / "throughput.csv")
    assert again.equals(slices)
    assert len(pd.read_csv(folder / "rounds" / "trials.csv")) == len(trials) + 2


def test_a_plan_of_which_nothing_can_run_here_is_refused(folder: Path, typed: Typed) -> None:
    for words in ((), ("--dry-run",)):
        status, err = typed(
            "--suite", "tiny.yaml", "--out", "nothing", "--set", "dtype=tf32", "--device", "cpu", *words
        )
        assert status == 2
        assert "trials can run here: a CPU has no TF32; --set dtype=fp32 runs everywhere" in err
        assert len(err.splitlines()) == 1
    assert not (folder / "nothing").exists()


def test_fewer_seeds_than_a_run_has_are_refused(small: Path, typed: Typed) -> None:
    status, err = typed("--resume", small, "--seeds", "1")
    assert status == 2
    assert "start a new run" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_budget_leaves_out_trials_and_says_so_and_more_seeds_extend_the_run(folder: Path, typed: Typed) -> None:
    status, err = typed("--suite", "tiny.yaml", "--out", "short", "--budget", "0.01s", *FEW)
    assert status == 0, err
    first = pd.read_csv(folder / "short" / "trials.csv")
    assert 1 <= len(first) < 4
    assert "budget" in (folder / "short" / "report.md").read_text()
    status, err = typed("--resume", "short", "--seeds", "3")
    assert status == 0, err
    trials = whole(folder / "short")
    assert trials.seed.tolist() == [0, 0, 1, 1, 2, 2]
    assert trials.trial_id[: len(first)].equals(first.trial_id)


@pytest.mark.slow
def test_a_diverged_trial_is_a_row_and_the_exit_status_says_so(folder: Path, typed: Typed) -> None:
    extreme = ("--set", "models.cnn.learning_rate=1e20", "--set", "models.cnn.optimizer=sgd", *FEW, "--seeds", "1")
    status, err = typed("--suite", "tiny.yaml", "--out", "wild", *extreme)
    assert status == 1, err
    trials = pd.read_csv(folder / "wild" / "trials.csv")
    assert trials[trials.model == "cnn"].status.tolist() == ["diverged"]
    assert trials[trials.model == "vit"].status.tolist() == ["ok"]
    assert "diverged" in (folder / "wild" / "report.md").read_text()


@pytest.mark.slow
def test_an_interrupted_run_keeps_what_is_done_reports_it_and_goes_on(folder: Path) -> None:
    out = folder / "stopped"
    begin = without_pictures("--suite", "tiny.yaml", "--out", out, *FEW, "--seeds", "4")
    go_on = without_pictures("--resume", out)
    for words, rows, number in ((begin, 1, signal.SIGINT), (go_on, 3, signal.SIGTERM)):
        process = subprocess.Popen(words, cwd=folder, start_new_session=True, stderr=subprocess.PIPE, text=True)
        wait_for_rows(out, rows)
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 130
        assert f"go on with: run_bench.py --resume {out}" in said
        assert rows <= len(pd.read_csv(out / "trials.csv")) < 8
        assert "interrupted" in (out / "report.md").read_text()
        (out / "report.md").unlink()


@pytest.mark.slow
def test_ctrl_c_while_recipes_are_tuned_keeps_those_that_were_tried(folder: Path, typed: Typed) -> None:
    out = folder / "tuned"
    begin = without_pictures("--suite", "tiny.yaml", "--out", out, "--seeds", "1", "--tune", "4")
    process = subprocess.Popen(begin, cwd=folder, start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_for_rows(out / "tuning", 1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert f"go on with: run_bench.py --resume {out}" in said
    tried = pd.read_csv(out / "tuning" / "trials.csv", dtype=str)
    status, err = typed("--resume", out)
    assert status == 0, err
    assert set(whole(out).model) == {"vit", "cnn"}
    after = pd.read_csv(out / "tuning" / "trials.csv", dtype=str)
    assert 1 <= len(tried) < len(after)
    assert after[: len(tried)].equals(tried)  # none of them again


@pytest.mark.slow
def test_a_tuning_that_a_budget_cut_goes_on_while_nothing_was_trained_with_its_outcome(
    folder: Path, typed: Typed
) -> None:
    out = folder / "cut"
    status, err = typed("--suite", "tiny.yaml", "--out", out, "--seeds", "1", "--tune", "4", "--budget", "0.01s")
    assert status == 0, err
    assert "the budget ended tuning" in err
    assert json.loads((out / "run.json").read_text())["tuned"] == "cut"
    tried = len(pd.read_csv(out / "tuning.csv"))
    assert len(pd.read_csv(out / "trials.csv")) == 0
    status, err = typed("--resume", out)
    assert status == 0, err
    assert json.loads((out / "run.json").read_text())["tuned"] == "whole"
    assert len(pd.read_csv(out / "tuning.csv")) > tried
    assert len(whole(out)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_costs_nothing(folder: Path, closed: str) -> None:
    out = folder / f"closed{len(closed)}"
    words = without_pictures("--suite", "tiny.yaml", "--out", out, *FEW, "--seeds", "1")
    process = subprocess.run(["sh", "-c", f"{shlex.join(map(str, words))} {closed}"], cwd=folder, check=False)
    assert process.returncode == 0
    assert set(pd.read_csv(out / "trials.csv").status) == {"ok"}
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_kill_of_the_whole_group_at_a_random_moment_loses_and_repeats_nothing(folder: Path, typed: Typed) -> None:
    out, delay = folder / "killed", random.Random(0).uniform(0.0, 0.5)
    process = subprocess.Popen(
        command("--suite", "tiny.yaml", "--out", out, *FEW),
        cwd=folder,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    wait_for_rows(out, 1)
    time.sleep(delay)  # tests/benchmarks/faults.py does it at as many moments as you like
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seen = pd.read_csv(out / "trials.csv", on_bad_lines="skip").trial_id.tolist()
    status, err = typed("--resume", out)
    assert status == 0, err
    assert whole(out).trial_id.tolist()[: len(seen)] == seen


def wait_for_rows(run_dir: Path, count: int, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    path = run_dir / "trials.csv"
    while not path.is_file() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, f"no {count} rows within {seconds} s"
        time.sleep(0.05)
