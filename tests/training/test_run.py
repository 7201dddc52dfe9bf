"""One trial from seed to result, on real digits."""

import base64
import csv
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.config.recipes import RECIPES
from bench.data.dataset import evaluation_batches, load_dataset
from bench.measure.stopwatch import Stopwatch
from bench.result import Result
from bench.system.device import CPU
from bench.system.precision import DTYPES
from bench.training import run as run_module
from bench.training import trial_setup
from bench.training.compilation import lacks_compiler
from bench.training.loop import Learner, Score, evaluate
from bench.training.run import evaluation_stops, run_trial
from bench.trial import Match, Trial
from models import MODELS, build_model

SMALL = {"vit": {"patch_size": 4, "depth": 1, "embed_dim": 16, "num_heads": 2}, "cnn": {"depth": 1, "width": 4}}


def trial(
    family: str = "vit",
    seed: int = 0,
    dtype: str = "fp32",
    targets: tuple[float, ...] = (0.3,),
    axes: dict[str, object] | None = None,
    **training: object,
) -> Trial:
    settings = MODELS[family][0](**SMALL[family]).model_dump()
    recipe = RECIPES[family].model_copy(update={"epochs": 2, "batch_size": 50, "evaluations_per_epoch": 3, **training})
    return Trial(
        suite="x", dataset="digits", model=family, settings=settings, recipe=family, training=recipe,
        dtype=dtype, device="cpu", seed=seed, targets=targets, **{"instrument_seconds": 0.0, **(axes or {})},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No speed is looked at here, so a machine that never settles need not be waited for."""
    monkeypatch.setattr("bench.measure.stopwatch.WARM_UP_BLOCK_SECONDS", 0.005)


@pytest.mark.parametrize(("asked", "expected"), [(None, 2), (3, 3)])
def test_default_threads_follow_a_containers_quota_and_a_number_of_threads_does_not(
    asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.system.environment.cpu_quota", lambda: 2.5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        trial_setup.set_up(trial(axes={"num_threads": asked}), None, Stopwatch())
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def losses(result: Result) -> list[tuple[float, float]]:
    assert result.status == "ok", result.error
    return [(row["train_loss"], row["val_loss"]) for row in result.evaluations]


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(name, marks=() if name in ("fp32", "amp-bf16") else pytest.mark.slow)
        for name in DTYPES
        if not DTYPES[name].tf32
    ],
)
def test_a_trial_fills_its_row(family: str, dtype: str) -> None:
    result = run_trial(trial(family, dtype=dtype, axes={"instrument_seconds": 0.1}))
    assert result.status == "ok", result.error
    row = result.row()
    missing = {key for key, value in row.items() if value is None}
    unknown = {
        "git_commit",
        "git_dirty",
        "error",
        "data_wait_seconds",
        "source",
        "match",
        "matched_to",
        "mismatch",
        "compile_seconds",
        *("global_batch", "node", "node_cpu", "node_cores"),  # of several processes, of a cluster
        *("load", "seal"),  # of the sweep and of the store
    }
    unmetered = set() if CPU().energy_joules() else {"train_joules", "joules_per_epoch", "joules_to_accuracy"}
    other_family = {"width"} if family == "vit" else {"patch_size", "embed_dim", "num_heads", "attention"}
    unscaled = set() if DTYPES[dtype].scale_gradients else {"skipped_steps"}
    # a peak this small may be less than what the allocator kept of trials before it in this process
    lucky = {"latency_p99_seconds", "activation_bytes", "peak_memory_bytes", "time_to_accuracy_seconds"}
    alone = {"images_per_second_low", "images_per_second_high", "throughput_spread"}  # one block has no interval
    expected = unknown | unmetered | other_family | unscaled | {"peak_memory_reserved_bytes"}
    assert missing - lucky - alone == expected
    assert row["test_accuracy"] > 0.2
    assert [e["step"] for e in result.evaluations] == [8, 17, 25, 33, 42, 50]


def test_where_a_steps_time_goes_and_inference_are_measured_after_training_without_changing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.training.profiling.INFERENCE_BATCHES", (8, 297, 512))
    looked_at = run_trial(trial(axes={"instrument_seconds": 0.3}), tmp_path / "a")
    plain = run_trial(trial(), tmp_path / "b")
    assert losses(looked_at) == losses(plain)
    assert looked_at.test_accuracy == plain.test_accuracy
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert plain.latency_p50_seconds is plain.forward_seconds is plain.flops_share is None
    assert plain.num_flops == looked_at.num_flops
    sizes = Counter(block["batch_size"] for block in looked_at.inference_blocks)
    assert sizes == {8: 1, 50: 4, 297: 1}  # of its own batch there is an interval; 512 are more than there are
    own = [block for block in looked_at.inference_blocks if block["batch_size"] == 50]
    rates = [block["images"] / block["seconds"] for block in own]
    assert min(rates) <= (looked_at.inference_images_per_second or 0) <= max(rates)
    assert (looked_at.instrument_seconds or 0) < (looked_at.setup_seconds or 0)
    assert looked_at.flops_per_second == pytest.approx(
        (looked_at.images_per_second or 0) * (looked_at.num_train_flops or 0)
    )


@pytest.mark.slow
def test_a_share_of_the_data_trains_as_many_steps() -> None:
    result = run_trial(trial(axes={"train_fraction": 0.08}))
    assert result.num_train_images == 100
    assert result.evaluations[-1]["step"] == 50


@pytest.mark.slow
def test_a_layout_with_channels_innermost_learns_the_same() -> None:
    plain, turned = run_trial(trial("cnn")), run_trial(trial("cnn", axes={"channels_last": True}))
    for (loss, val_loss), (other, other_val) in zip(losses(plain), losses(turned), strict=True):
        assert (loss, val_loss) == (pytest.approx(other, rel=1e-2), pytest.approx(other_val, rel=1e-2))


@pytest.mark.slow
def test_a_matched_trial_says_what_is_left_of_the_difference() -> None:
    for by, own in (("params", "num_params"), ("flops", "num_flops")):
        result = run_trial(trial("cnn", axes={"match": Match(by=by, to="x", target=1000.0)}))
        assert (result.match, result.matched_to) == (by, "x")
        assert result.mismatch == pytest.approx(getattr(result, own) / 1000 - 1)


@pytest.mark.skipif(lacks_compiler(CPU()) is not None, reason=str(lacks_compiler(CPU())))
@pytest.mark.slow
def test_a_compiled_trial_learns_the_same_and_says_what_compiling_took() -> None:
    torch.compiler.reset()
    plain = losses(run_trial(trial("cnn")))
    result = run_trial(trial("cnn", axes={"compile": "default"}))
    for (loss, val_loss), (other, other_val) in zip(losses(result), plain, strict=True):
        assert (loss, val_loss) == (pytest.approx(other, rel=1e-2), pytest.approx(other_val, rel=1e-2))
    assert 0 < (result.compile_seconds or 0) < (result.first_step_seconds or 0) < (result.setup_seconds or 0)


@pytest.mark.skipif(lacks_compiler(CPU()) is not None, reason=str(lacks_compiler(CPU())))
@pytest.mark.slow
def test_a_model_that_would_compile_again_while_it_is_timed_fails_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()

    class Restless(nn.Module):
        """After the warm-up its forward asks something new of the compiler."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)
            self.scale = float(built[0])

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1)) * self.scale

    built = [0]

    def build(*_: object) -> nn.Module:
        built[0] += 1
        return Restless()

    monkeypatch.setattr(trial_setup, "build_model", build)
    result = run_trial(trial(axes={"compile": "default"}))
    assert result.status == "failed"
    assert "recompil" in (result.error or "")


def test_every_second_of_a_trial_is_of_training_evaluation_or_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, updates = 0.0, 0
    update = Learner.update

    def counted(learner: Learner) -> None:
        nonlocal updates
        updates += 1
        update(learner)

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **options: Any) -> Any:
            nonlocal clock
            clock += seconds
            return function(*args, **options)

        return slow

    monkeypatch.setattr(run_module, "set_up", taking(100.0, run_module.set_up))
    monkeypatch.setattr(run_module, "profile", taking(40.0, run_module.profile))
    monkeypatch.setattr(run_module, "save_trial", taking(5.0, run_module.save_trial))
    monkeypatch.setattr(trial_setup, "evaluate", taking(3.0, evaluate))
    monkeypatch.setattr(Learner, "step", taking(1.0, Learner.step))
    monkeypatch.setattr(Learner, "update", counted)
    monkeypatch.setattr("bench.measure.stopwatch.WARM_UP_BLOCK_SECONDS", 1e-6)  # the clock stands still in a warm-up
    result = run_trial(trial(epochs=4), tmp_path, now=lambda: clock)
    scores = [row["val_accuracy"] for row in result.evaluations]
    test_passes = (
        1 if scores.index(max(scores)) == len(scores) - 1 else 2
    )  # of the best weights, where they aren't the last
    assert result.train_seconds == 4 * 25
    assert result.eval_seconds == 3 * (len(scores) + test_passes)
    assert result.setup_seconds == 145
    assert result.untimed_steps == updates - 4 * 25
    assert sum(block["seconds"] for block in result.blocks) == result.train_seconds
    assert sum(block["images"] for block in result.blocks) == 4 * 25 * 50
    assert result.train_seconds + result.eval_seconds + result.setup_seconds == result.wall_seconds


@pytest.mark.slow
def test_same_trial_twice_gives_bit_identical_losses() -> None:
    for family in SMALL:
        assert losses(run_trial(trial(family, epochs=1))) == losses(run_trial(trial(family, epochs=1)))


@pytest.mark.slow
def test_another_seed_gives_other_losses() -> None:
    assert losses(run_trial(trial(seed=0))) != losses(run_trial(trial(seed=1)))


@pytest.mark.slow
def test_losses_depend_neither_on_what_ran_before_nor_on_the_length_of_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = SMALL["vit"] | {"dropout": 0.3}  # dropout draws random numbers in every step
    noisy = trial().model_copy(update={"settings": settings})
    alone = losses(run_trial(noisy))
    torch.rand(1000)
    run_trial(trial("cnn", seed=3))
    real = run_module.warm_up
    monkeypatch.setattr(run_module, "warm_up", lambda step, *rest: (step(), step(), step(), real(step, *rest))[-1])
    assert losses(run_trial(noisy)) == alone


def test_saved_weights_give_the_accuracies_and_predictions_that_were_stored(tmp_path: Path) -> None:
    asked = trial("cnn", epochs=4, learning_rate=0.05)
    result = run_trial(asked, tmp_path / "trial")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial"]
    assert Trial(**json.loads((tmp_path / "trial" / "trial.json").read_text())) == asked
    data = load_dataset("digits")
    best = max(result.evaluations, key=lambda row: row["val_accuracy"])
    model = build_model("cnn", asked.settings, 8, 1, 10)
    rows = list(csv.DictReader((tmp_path / "trial" / "predictions.csv").read_text().splitlines()))
    assert [int(row["label"]) for row in rows] == data.test.labels.tolist()
    for name, column, test_accuracy, val_accuracy in (
        ("model", "prediction", result.test_accuracy, result.val_accuracy),
        ("model_best", "prediction_best", result.test_accuracy_best, best["val_accuracy"]),
    ):
        model.load_state_dict(load_file(tmp_path / "trial" / f"{name}.safetensors"))
        score = evaluate(model, evaluation_batches(data, data.test, 500), DTYPES["fp32"].context(CPU()))
        assert score.accuracy == test_accuracy
        assert score.predictions.tolist() == [int(row[column]) for row in rows]
        validation = evaluate(model, evaluation_batches(data, data.val, 500), DTYPES["fp32"].context(CPU()))
        assert validation.accuracy == val_accuracy


def test_time_to_accuracy_is_the_training_time_of_the_first_evaluation_at_the_target() -> None:
    result = run_trial(trial(epochs=6, targets=(0.3, 0.5, 0.999)))
    assert result.target_accuracy == 0.5
    first = next(row for row in result.evaluations if row["val_accuracy"] >= 0.5)
    assert result.time_to_accuracy_seconds == first["train_seconds"]

    assert result.images_to_accuracy == first["step"] * 50


def test_images_to_accuracy_are_known_of_a_trial_that_is_not_timed_and_are_those_of_the_timed_one() -> None:
    timed, beside = (
        run_trial(trial("cnn", epochs=4, axes={"timed": timed, "num_threads": 1})) for timed in (True, False)
    )
    first = next(row for row in beside.evaluations if row["val_accuracy"] >= (beside.target_accuracy or 0))
    assert beside.images_to_accuracy == timed.images_to_accuracy == 50 * first["step"]
    assert beside.time_to_accuracy_seconds is None


@pytest.mark.slow
def test_pauses_of_training_with_one_thread_are_counted_and_those_of_several_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, slept = Learner.update, 0.0
    # What a thread runs is the only time that passes, unless it sleeps: nothing that a busy machine does counts.
    clocks = SimpleNamespace(perf_counter=lambda: time.thread_time() + slept, thread_time=time.thread_time)
    monkeypatch.setattr("bench.system.contention.time", clocks)

    def sleepy(self: Learner) -> None:
        nonlocal slept
        slept += 1e6
        plain(self)

    one: dict[str, object] = {"timed": False, "num_threads": 1}
    awake = run_trial(trial("cnn", epochs=1, axes=one)).pause_share
    monkeypatch.setattr(Learner, "update", sleepy)
    asleep = run_trial(trial("cnn", epochs=1, axes=one)).pause_share
    assert awake is not None
    assert asleep is not None
    assert awake < 0.99 < asleep
    monkeypatch.undo()
    assert run_trial(trial("cnn", epochs=1, batch_size=625, axes={"num_threads": 2})).pause_share is None


def test_the_wait_for_data_is_that_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter([5.0, 12.0, 12.0])  # before training, and after it
    monkeypatch.setattr("bench.data.dataset.TrainingBatches.waited_seconds", property(lambda _: next(waited)))
    assert run_trial(trial("cnn", epochs=1)).data_wait_seconds == 7.0


def test_target_never_reached_is_empty() -> None:
    result = run_trial(trial(epochs=1, targets=(1.0,)))
    assert result.status == "ok"
    assert result.time_to_accuracy_seconds is result.images_to_accuracy is None


@pytest.mark.parametrize("family", SMALL)
def test_a_trial_that_is_not_timed_learns_and_finds_what_the_timed_one_does_to_the_last_digit(family: str) -> None:
    timed, beside = (run_trial(trial(family, axes={"timed": timed, "num_threads": 1})) for timed in (True, False))
    assert losses(beside) == losses(timed)
    same = (
        *("test_accuracy", "test_accuracy_best", "val_accuracy_best", "correct", "num_flops", "num_train_flops"),
        *("param_bytes", "gradient_bytes", "optimizer_bytes"),
    )
    assert [getattr(beside, name) for name in same] == [getattr(timed, name) for name in same]
    assert None not in [getattr(beside, name) for name in same]
    assert (beside.peak_memory_bytes or 0) > 0
    assert beside.untimed_steps == run_module.FEWEST_STEPS + run_module.MEMORY_STEPS


def test_what_the_final_weights_got_right_is_a_bit_an_image_in_the_order_of_the_test_split(tmp_path: Path) -> None:
    result = run_trial(trial("cnn"), tmp_path / "trial")
    rows = csv.DictReader((tmp_path / "trial" / "predictions.csv").read_text().splitlines())
    right = [row["prediction"] == row["label"] for row in rows]
    packed = np.frombuffer(zlib.decompress(base64.b64decode(result.correct or "")), dtype=np.uint8)
    assert np.unpackbits(packed, count=len(right)).astype(bool).tolist() == right
    assert sum(right) / len(right) == result.test_accuracy


def test_of_evaluations_that_are_alike_the_first_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []

    def alike(setup: trial_setup.TrialSetup, learner: Learner, split: str) -> Callable[[], Score]:
        look = trial_setup.evaluator(setup, learner, split)

        def score() -> Score:
            seen.append({name: value.clone() for name, value in learner.model.state_dict().items()})
            return replace(look(), accuracy=0.5)

        return score

    monkeypatch.setattr(run_module, "evaluator", alike)
    run_trial(trial("cnn", epochs=1), tmp_path)
    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("model_best", "model"))
    assert all(torch.equal(value, seen[0][name]) for name, value in best.items())
    assert not all(torch.equal(value, last[name]) for name, value in best.items())


def test_divergence_is_a_status_and_keeps_the_evaluations() -> None:
    result = run_trial(trial("cnn", learning_rate=1e20, optimizer="sgd"))
    assert result.status == "diverged"
    assert "training loss" in (result.error or "")
    assert result.evaluations
    assert result.test_accuracy is None
    assert result.train_seconds is not None


def test_a_failure_in_the_model_is_a_status_with_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(trial_setup, "build_model", broken)
    result = run_trial(trial())
    assert (result.status, result.error) == ("failed", "RuntimeError: no such kernel")
    assert result.images_per_second is None
    assert result.wall_seconds is not None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_is_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def greedy(*_: object) -> None:
        raise error

    monkeypatch.setattr(trial_setup, "build_model", greedy)
    assert run_trial(trial()).status == "oom"


def test_stops_are_even_and_end_each_epoch() -> None:
    asked = trial(epochs=2, evaluations_per_epoch=4)
    assert evaluation_stops(asked, 10) == [2, 5, 8, 10, 12, 15, 18, 20]
    assert evaluation_stops(asked, 2) == [1, 2, 3, 4]  # never more often than there are steps


@pytest.mark.slow
def test_progress_is_told_of_each_evaluation() -> None:
    told: list[dict[str, float]] = []
    run_trial(trial(), report=told.append)
    assert [message["step"] for message in told] == [8, 17, 25, 33, 42, 50]
    assert all(message["images_per_second"] > 0 for message in told)
