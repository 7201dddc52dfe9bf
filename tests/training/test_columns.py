"""From instrument to column: made-up numbers, all different, go in; the row is compared as a whole."""

import base64
import zlib
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.measure.memory import MemorySplit
from bench.measure.stopwatch import Block, Stopwatch, WarmUp
from bench.result import Result
from bench.training import metrics, profiling
from bench.training.loop import Evaluation, Score


def filled(result: Result) -> dict[str, Any]:
    """The columns that hold something."""
    return {name: value for name, value in vars(result).items() if value not in (None, [], False)}


def test_setup_tells_threads_images_and_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    spec, chosen = SimpleNamespace(checksum="abc"), range(1234)
    setup: Any = SimpleNamespace(
        data=SimpleNamespace(spec=spec), batches=SimpleNamespace(chosen=chosen), device=SimpleNamespace(name="a CPU")
    )
    warm = WarmUp(first_step_seconds=5.5, step_seconds=0.25, seconds=8.75, steps=13, block_steps=99, settled=True)
    result = Result(dtype="bf16", compile="default")
    metrics.record_setup(result, setup, nn.Linear(3, 4), warm)
    assert filled(result) == {
        "dtype": "bf16",
        "eval_dtype": "bf16",
        "compile": "default",
        "num_params": 16,
        "num_threads": 7,
        "dataset_checksum": "abc",
        "num_train_images": 1234,
        "device_name": "a CPU",
        "first_step_seconds": 5.5,
        "warm_up_seconds": 8.75,
        "untimed_steps": 13,
        "compile_seconds": 5.25,  # the first step less a usual one
    }


def test_memory_has_each_part_in_its_own_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "split_memory", lambda *_: MemorySplit(11, 22, 33, 44))
    device = SimpleNamespace(peak_memory_bytes=lambda: 110, peak_memory_reserved_bytes=lambda: 220)
    result, learner = Result(), SimpleNamespace(model=None, optimizer=None)
    metrics.record_memory(result, SimpleNamespace(device=device), learner)  # type: ignore[arg-type]
    assert filled(result) == {
        "peak_memory_bytes": 110,
        "peak_memory_reserved_bytes": 220,
        "param_bytes": 11,
        "gradient_bytes": 22,
        "optimizer_bytes": 33,
        "activation_bytes": 44,
    }


def evaluations(accuracies: list[float]) -> list[dict[str, Any]]:
    """After 10, 20 ... steps, at 2, 5, 9, 14 ... seconds and ten times as many joules."""
    seconds = [2.0, 5.0, 9.0, 14.0]
    return [
        asdict(Evaluation(0.5 * (i + 1), 10 * (i + 1), seconds[i], 10 * seconds[i], 3.5 - i, 0.5 + i, accuracy))
        for i, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (0.8, {"images_to_accuracy": 128, "time_to_accuracy_seconds": 5.0, "joules_to_accuracy": 50.0}),  # exactly
        (0.80001, {"images_to_accuracy": 192, "time_to_accuracy_seconds": 9.0, "joules_to_accuracy": 90.0}),
        (0.95, {}),
    ],
)
def test_training_tells_the_first_evaluation_at_the_target_and_rates(target: float, reached: dict[str, Any]) -> None:
    watch = Stopwatch(blocks=[Block(10, 640, 2.0), Block(10, 640, 4.0), Block(10, 640, 8.0)], joules=140.0)
    result = Result(target_accuracy=target, batch_size=64, timed=True)
    result.evaluations = evaluations([0.5, 0.8, 0.9, 0.85])
    for row in result.evaluations:
        row["step"] //= 10  # steps 1, 2, 3, 4 of 64 images
    metrics.record_training(result, watch, 0.9)
    found = filled(result)
    assert {key: found.get(key) for key in reached} == reached
    assert ("images_to_accuracy" in found) == bool(reached)
    assert {key: found[key] for key in ("train_loss", "val_accuracy", "val_accuracy_best")} == {
        "train_loss": 0.5,
        "val_accuracy": 0.85,
        "val_accuracy_best": 0.9,
    }
    assert found["evaluation_interval_seconds"] == 3.5  # the median of 2, 3, 4 and 5, not the largest
    assert (found["train_joules"], found["joules_per_epoch"]) == (140.0, 70.0)
    assert found["images_per_second"] == 160.0
    assert found["step_seconds"] == 64 / 160
    assert found["images_per_second_low"] < 160.0 < found["images_per_second_high"]
    assert found["throughput_spread"] == pytest.approx((240 - 120) / 160)


def test_test_scores_are_those_of_the_last_and_of_the_chosen_weights() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    last = Score(0.1, 0.75, torch.tensor([0, 0, 1, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6]))
    best = Score(0.2, 0.5, torch.tensor([1, 0, 1, 1]), torch.ones(4))
    result = Result()
    metrics.record_test(result, labels, last, best, ["a", "b"])
    found = filled(result)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(found.pop("correct"))), np.uint8), count=4)
    assert bits.tolist() == [1, 1, 0, 1]
    assert found == {
        "test_accuracy": 0.75,
        "test_accuracy_best": 0.5,
        "test_balanced_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "test_loss": 0.1,
        "calibration_error": pytest.approx(0.15),  # sure of 0.65 and right in a half, sure of 0.85 and right in all
        "accuracy_at_90_coverage": 0.75,
        "commonest_class": "a",
        "commonest_share": 0.75,
    }


def test_inference_fills_columns_from_the_trials_own_batch_alone() -> None:
    result = Result(batch_size=64)
    for size, seconds in ((8, 1.0), (64, 2.0), (512, 4.0)):
        metrics.record_inference(result, size, [Block(1, size, seconds)])
    assert result.inference_images_per_second == 32.0
    assert result.inference_blocks == [
        {"batch_size": 8, "block": 0, "images": 8, "seconds": 1.0},
        {"batch_size": 64, "block": 0, "images": 64, "seconds": 2.0},
        {"batch_size": 512, "block": 0, "images": 512, "seconds": 4.0},
    ]


def test_efficiency_is_work_over_the_peak() -> None:
    result = Result(images_per_second=10.0, num_train_flops=30, num_flops=7, matmul_flops_per_second=1200.0)
    metrics.record_efficiency(result)
    assert (result.flops_per_second, result.flops_share) == (300.0, 0.25)


@pytest.mark.parametrize("timed", [True, False])
def test_seconds_go_to_their_phase_and_only_the_wall_is_left_of_a_shared_clock(timed: bool) -> None:
    watch = Stopwatch(seconds={"train": 3.0, "eval": 2.0})
    result = Result(timed=timed, time_to_accuracy_seconds=1.5, images_to_accuracy=9, images_per_second=5.0, load=0.5)
    result.evaluations = evaluations([0.5])
    metrics.record_seconds(result, watch, 7.0)
    shared = {"timed", "wall_seconds", "images_to_accuracy", "load", "evaluations"}
    clocked = {"train_seconds", "eval_seconds", "setup_seconds", "time_to_accuracy_seconds", "images_per_second"}
    assert set(filled(result)) | {"timed"} == shared | (clocked if timed else set())
    assert result.wall_seconds == 7.0
    if timed:
        assert (result.train_seconds, result.eval_seconds, result.setup_seconds) == (3.0, 2.0, 2.0)
    assert result.evaluations[0]["train_seconds"] == (2.0 if timed else None)


class Clock:
    """Tells the times that it was given, one after the other."""

    def __init__(self, times: list[float]) -> None:
        self.times = iter(times)

    def __call__(self) -> float:
        return next(self.times)


def test_a_steps_parts_are_in_the_order_in_which_they_run() -> None:
    done: list[str] = []
    learner: Any = SimpleNamespace(
        forward=lambda *_: done.append("forward"),
        backward=lambda _: done.append("backward"),
        update=lambda: done.append("update"),
    )
    one = [0.0, 1.0, 3.0, 7.0, 15.0]  # data 1, forward 2, backward 4, optimiser 8
    source: Any = iter([(None, None)] * 3)
    found = profiling.split_step(learner, source, Clock([0.0, *one, *one, *one]), 0.0)
    assert found == {"data_seconds": 1, "forward_seconds": 2, "backward_seconds": 4, "optimizer_seconds": 8}
    assert done[:3] == ["forward", "backward", "update"]


def test_latency_percentiles_are_those_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1, 201))
    monkeypatch.setattr(profiling, "_calls_in", lambda *_: 100)
    monkeypatch.setattr(profiling, "_seconds", lambda *_: float(next(times)))
    found = profiling.latency(lambda x: x, torch.zeros(1), lambda: 0.0, 0.25)
    assert found == {
        "latency_p50_seconds": pytest.approx(100.5),
        "latency_p95_seconds": pytest.approx(190.05),
        "latency_p99_seconds": pytest.approx(198.01),
    }
