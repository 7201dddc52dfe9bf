"""Several processes that train one model: the same losses as one, one clock for all, and no failure but the trial's."""

import errno
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import run_bench
from bench.config.inventory import HERE
from bench.config.recipes import RECIPES
from bench.execution.local import start_fork_server
from bench.execution.worker_process import WorkerProcess
from bench.report import figures
from bench.result import Result
from bench.training import data_parallel as replicas
from bench.training import launcher
from bench.training.data_parallel import Replicas, lacks_company
from bench.training.launcher import train_together
from bench.training.loop import Score
from bench.training.run import run_trial
from bench.trial import Training, Trial
from models import MODELS

SMALL = {"patch_size": 4, "depth": 1, "embed_dim": 16, "num_heads": 2}
SAME = 1e-5  # relative; measured over two epochs: 5e-8 in training losses, 1e-7 in validation losses

# A factory of models that are like any other, but not for the second of two processes.
FAULTY = """
import os, signal
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, num_classes, fault):
        super().__init__()
        self.head, self.fault, self.calls = nn.Linear(64, num_classes), fault, 0

    def forward(self, images):
        self.calls += 1
        if os.environ.get("RANK") == "1" and self.calls == 20:
            self.fault()
        return self.head(images.flatten(1))

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def complain():
    raise ValueError("no luck")

def killed(num_classes): return Odd(num_classes, kill)
def raising(num_classes): return Odd(num_classes, complain)
"""

SUITE = """
description: a few seconds
dataset: digits
models:
  - {model: "faulty:killed", world_size: 2}
  - {model: "faulty:raising", world_size: 2}
  - {model: vit, patch_size: 4, depth: 1, embed_dim: 16, world_size: [1, 2]}
batch_size: 50
num_threads: 1
timing: whole
instrument_seconds: 0.05
epochs: 1
evaluations_per_epoch: 3
targets: [0.2]
"""


def trial(world_size: int, **more: Any) -> Trial:
    training = {key: more.pop(key) for key in [*more] if key in Training.model_fields}
    few = {"epochs": 2, "batch_size": 50, "evaluations_per_epoch": 3, "augment": {}}  # stops within an epoch, too
    return Trial(
        suite="x", dataset="digits", model="vit", settings=MODELS["vit"][0](**SMALL).model_dump(), recipe="vit",
        training=RECIPES["vit"].model_copy(update=few | training), dtype="fp32", device="cpu", targets=(0.3,),
        **{"world_size": world_size, "num_threads": 1, "instrument_seconds": 0.05, **more},
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("alone")
    return run_trial(trial(1), folder), folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("both")
    told: list[dict[str, Any]] = []
    return run_trial(trial(2), folder, report=told.append), folder, told


def assert_same_losses(one: Result, other: Result) -> None:
    assert (one.status, other.status) == ("ok", "ok"), other.error
    assert [row["step"] for row in one.evaluations] == [row["step"] for row in other.evaluations]
    for a, b in zip(one.evaluations, other.evaluations, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=SAME)
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=SAME)


@pytest.mark.slow
def test_two_processes_have_the_losses_and_predictions_of_one_with_the_same_batch(
    alone: tuple[Result, Path], both: tuple[Result, Path, list[dict[str, Any]]]
) -> None:
    (one, its_folder), (two, folder, _) = alone, both
    assert_same_losses(one, two)
    assert two.test_accuracy == one.test_accuracy
    weights, others = (load_file(place / "model.safetensors") for place in (its_folder, folder))
    assert weights.keys() == others.keys()
    # Not weight by weight: a bias of the keys changes no output, so its gradient is rounding, which Adam scales up.
    one_says, two_say = (pd.read_csv(place / "predictions.csv") for place in (its_folder, folder))
    assert (one_says.prediction == two_say.prediction).all()
    assert (one_says.confidence - two_say.confidence).abs().max() < 1e-4


@pytest.mark.slow
def test_the_row_is_of_all_processes_and_says_how_many(both: tuple[Result, Path, list[dict[str, Any]]]) -> None:
    two, _, told = both
    assert (two.world_size, two.global_batch, two.batch_size, two.num_threads) == (2, "fixed", 50, 1)
    assert all(block["images"] == 50 * block["steps"] for block in two.blocks)
    assert sum(block["steps"] for block in two.blocks) == 50
    assert [message["step"] for message in told] == [8, 17, 25, 33, 42, 50]
    accounted = (two.train_seconds or 0) + (two.eval_seconds or 0) + (two.setup_seconds or 0)
    assert 0 < accounted <= (two.wall_seconds or 0)  # the rest passes at edges, where both wait for each other
    assert two.flops_per_second == pytest.approx((two.images_per_second or 0) * (two.num_train_flops or 0))
    assert two.latency_p50_seconds is two.inference_images_per_second is two.flops_share is two.forward_seconds is None
    assert two.trial_id == trial(2).trial_id
    assert "x2 processes" in trial(2).label
    assert len({trial(size).trial_id for size in (1, 2, 4)}) == 3


@pytest.mark.slow
def test_a_scaled_batch_is_that_of_each_process(alone: tuple[Result, Path]) -> None:
    two = run_trial(trial(2, batch_size=25, global_batch="scaled"))
    assert (two.batch_size, two.global_batch) == (50, "scaled")
    assert_same_losses(alone[0], two)


@pytest.mark.slow
def test_training_that_diverges_does_so_in_all_processes() -> None:
    result = run_trial(trial(2, learning_rate=1e30))
    assert (result.status, result.error) == ("diverged", "training loss nan at step 8, limit 23")
    assert len(result.evaluations) == 1


def _look_around(asked: Trial, *_: object, replicas: Replicas) -> Result:
    """What each process finds, as the mean over both: equal to what the first should find only if both find it."""
    readings = iter([1.5, 2.5] if replicas.rank == 0 else [70.0, 80.0])
    clock = replicas.clock(lambda: next(readings))

    def mean(value: float) -> float:
        return replicas.mean(torch.tensor(value))

    score = replicas.first(lambda: Score(float("inf") if replicas.rank else 0.25, 0.5, torch.ones(1), torch.ones(1)))
    found = {"first": mean(clock()), "loss": mean(score.loss), "accuracy": mean(score.accuracy)}
    try:
        raise RuntimeError
    except RuntimeError:  # a process that fails reads its own clock, since the others no longer answer
        found["failing"] = mean(clock())
    replicas.draw_apart(7)
    found["drawn"] = mean(float(torch.rand(())))
    found["threads"] = mean(float(replicas.num_threads(None) or 0))
    return Result(**asked.row(), status="ok", evaluations=[found])


@pytest.mark.slow
def test_processes_share_a_clock_a_score_and_a_mean_but_no_random_numbers() -> None:
    torch.manual_seed(7)
    result = train_together(_look_around, trial(2), None, None, lambda message: None)
    assert result.status == "ok", result.error
    (found,) = result.evaluations
    assert (found["first"], found["loss"], found["accuracy"]) == (1.5, 0.25, 0.5)
    assert found["failing"] == (2.5 + 80.0) / 2
    assert found["drawn"] != float(torch.rand(()))
    assert found["threads"] == max(1, replicas.usable_cores() // 2)


def _run_out(asked: Trial, *_: object, replicas: Replicas) -> Result:
    if replicas.rank == 1:
        return Result(**asked.row(), status="oom", error="OutOfMemoryError: CUDA out of memory", trace="here")
    replicas.mean(torch.ones(()))  # waits for the other
    raise AssertionError("not reached")


def _crash(asked: Trial, *_: object, replicas: Replicas) -> Result:
    if replicas.rank == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    replicas.mean(torch.ones(()))
    raise AssertionError("not reached")


@pytest.mark.slow
def test_out_of_memory_in_one_process_is_the_trials() -> None:
    result = train_together(_run_out, trial(2), None, None, lambda message: None)
    assert (result.status, result.trace) == ("oom", "here")
    assert result.error == "rank 1 of 2: OutOfMemoryError: CUDA out of memory"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.slow
def test_the_stack_of_a_process_that_crashed_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    result = train_together(_crash, trial(2), None, None, lambda message: None)
    assert (result.status, result.error) == ("failed", "rank 1 of 2: died of SIGSEGV")
    assert "in _crash" in (result.trace or "")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_process_that_dies_fails_its_trial_and_not_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "scaling.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.execution.local.start_fork_server", lambda: None)
    for name in ("RUN_PLOTS", "GALLERY_PLOTS"):
        monkeypatch.setattr(figures, name, ())
    monkeypatch.setattr(sys, "argv", ["run_bench.py", "--suite", "scaling.yaml", "--executor", "in-process"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run_bench.main() == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    (path,) = (tmp_path / "results").glob("scaling/2*/trials.csv")
    killed, raising, one, two = (row for _, row in pd.read_csv(path).iterrows())
    assert killed.status in ("oom", "failed")
    assert killed.error.startswith("rank 1 of 2: killed by SIGKILL")
    assert (raising.status, raising.error) == ("failed", "rank 1 of 2: ValueError: no luck")
    assert [(row.status, row.world_size, row.batch_size) for row in (one, two)] == [("ok", 1, 50), ("ok", 2, 50)]
    assert two.train_loss == pytest.approx(one.train_loss, rel=SAME)
    assert one.config_id != two.config_id
    assert "Traceback" not in capfd.readouterr().err


def _stay(asked: Trial, folder: Path | None, data_dir: Path, *_: object, replicas: Replicas) -> Result:
    (data_dir / f"rank-{replicas.rank}.part").write_text(str(os.getpid()))
    (data_dir / f"rank-{replicas.rank}.part").rename(data_dir / f"rank-{replicas.rank}")
    if replicas.rank == 0:
        replicas.mean(torch.ones(()))  # waits for the other, in C
    time.sleep(600)
    raise AssertionError("not reached")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which processes live")
@pytest.mark.slow
def test_no_process_outlives_its_trial(tmp_path: Path) -> None:
    arguments = (_stay, trial(2), None, tmp_path, _silent)
    process = multiprocessing.get_context("forkserver").Process(target=train_together, args=arguments)
    process.start()
    files = [tmp_path / "rank-0", tmp_path / "rank-1"]
    _await(lambda: all(file.exists() for file in files))
    ranks = [int(file.read_text()) for file in files]
    assert all(map(_lives, ranks))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    _await(lambda: not any(map(_lives, ranks)))


class OfRanks(Trial):
    """Each rank tells who it is; the second does as it was told, while the first waits for it."""

    place: str  # a folder
    deed: str

    def row(self) -> dict[str, Any]:
        if rank := os.environ.get("RANK"):
            part = Path(self.place, f"rank-{rank}.part")
            part.write_text(str(os.getpid()))
            part.rename(part.with_suffix(""))
            if rank == "0":
                torch.distributed.all_reduce(torch.ones(()))  # waits for the other, in C
            else:
                {"hang": _hang_deaf, "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP)}[self.deed]()
        return super().row()


def _hang_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


@pytest.fixture
def hanging(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[WorkerProcess, list[int]]]:
    """A trial in a process of its own, and its ranks; the second hangs. At the end none lives."""
    asked = OfRanks(**trial(2).model_dump(), place=str(tmp_path), deed=getattr(request, "param", "hang"))
    start_fork_server()
    worker = WorkerProcess(multiprocessing.get_context("forkserver"), asked, None, None, math.inf)
    files = [tmp_path / "rank-0", tmp_path / "rank-1"]
    ranks: list[int] = []
    try:
        _await(lambda: all(file.exists() for file in files))
        ranks = [int(file.read_text()) for file in files]
        assert all(map(_lives, ranks))
        yield worker, ranks
    finally:
        worker.stop()
        _await(lambda: not any(map(_lives, ranks)))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which processes live")
@pytest.mark.slow
@pytest.mark.parametrize("hanging", ["hang", "stop"], indirect=True)
def test_a_rank_that_hangs_costs_its_trials_time_and_leaves_all_ranks_stacks(
    hanging: tuple[WorkerProcess, list[int]],
) -> None:
    worker, ranks = hanging
    assert worker.result(_silent) is None  # within its time
    worker.timeout_seconds = 0.0
    result = worker.result(_silent)
    assert result is not None
    assert result.status == "timeout"
    trace = result.trace or ""
    for rank, pid in enumerate(ranks):
        assert f"process {pid} is rank {rank} of 2" in trace
        assert "Thread" in trace.partition(f"Stacks of process {pid}:")[2].partition("Stacks of")[0]
    assert "in row" in trace.partition(f"Stacks of process {ranks[1]}:")[2]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which processes live")
@pytest.mark.slow
def test_the_ranks_of_a_trial_whose_process_is_killed_die_with_it(
    hanging: tuple[WorkerProcess, list[int]],
) -> None:
    worker, ranks = hanging
    os.kill(worker.process.pid, signal.SIGKILL)
    _await(lambda: not any(map(_lives, ranks)))
    result = None
    while result is None:
        assert wait(worker.waitables(), 60)
        result = worker.result(_silent)
    assert "SIGKILL" in (result.error or "")
    assert result.trace is None


def _silent(message: dict[str, Any]) -> None:
    pass


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.05)


def test_processes_that_cannot_be_started_fail_the_trial_and_what_cannot_be_cleared_away_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("bench.training.launcher.file_of_stacks", refused)
    monkeypatch.setattr(os, "rmdir", refused)  # as where a killed process still writes, or has a file open
    result = train_together(_look_around, trial(2), None, None, _silent)
    assert (result.status, result.world_size) == ("failed", 2)
    assert result.error == "its processes couldn't be started: OSError: [Errno 24] Too many open files"
    assert "in _start" in (result.trace or "")


class Ended:
    """A process that has ended, or hasn't yet."""

    def __init__(self, exitcode: int | None) -> None:
        self.exitcode = exitcode

    def kill(self) -> None:
        pass

    def join(self, seconds: float) -> None:
        pass


@pytest.mark.parametrize(
    ("kills", "status", "words"),
    [((3, 4), "oom", "because memory ran out"), ((3, 3), "failed", "which somebody sent")],
)
def test_of_processes_that_died_the_first_is_named_with_what_the_kernel_did_since_the_start(
    kills: tuple[int, int], status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(ranks: list[Any], *rest: Any) -> None:
        for rank, code in enumerate((None, -signal.SIGKILL, -signal.SIGSEGV)):
            launcher._stack_file(rest[-1], rank).write_text(f"stack of {rank}")
            receiver, sender = multiprocessing.Pipe(duplex=False)
            sender.close()
            ranks.append((Ended(code), receiver))

    counts = iter(kills)
    monkeypatch.setattr(launcher, "memory_kills", lambda: next(counts))
    monkeypatch.setattr(launcher, "_start", start)
    result = train_together(_look_around, trial(3), None, None, _silent)
    assert (result.status, result.trace) == (status, "stack of 1")
    assert (result.error or "").startswith("rank 1 of 3: killed by SIGKILL")
    assert words in (result.error or "")


def test_a_plan_says_which_devices_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacks_company("mps", 1) is lacks_company("cpu", 64) is HERE.lacks(trial(4)) is None
    assert "nothing to carry gradients" in (lacks_company("mps", 2) or "")
    monkeypatch.setattr(replicas.distributed, "is_backend_available", lambda name: False)
    assert lacks_company("cuda", 2) == "world_size 2 needs torch with nccl, which this one was built without"
    monkeypatch.setattr(replicas.distributed, "is_backend_available", lambda name: True)
    monkeypatch.setattr(replicas.DEVICES["cuda"], "count", lambda: 2)
    assert lacks_company("cuda", 2) is None
    assert lacks_company("cuda", 4) == "world_size 4 needs 4 devices of kind cuda, here are 2"
    assert "cuda:1 names one" in (lacks_company("cuda:1", 2) or "")
