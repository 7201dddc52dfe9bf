"""The loop: what is on the clock and what isn't, what is yielded when, what divergence does."""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.measure.stopwatch import Stopwatch
from bench.system.device import CPU
from bench.system.precision import DTYPES
from bench.training.loop import DivergedError, Evaluation, Learner, Score, evaluate, train


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


STEP, EVALUATION, BETWEEN = 0.5, 100.0, 1000.0  # seconds, told apart by their size


def batches(clock: FakeClock, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        clock.time += STEP
        images = torch.randn(size, 4, generator=generator)
        yield images, (images[:, 0] > 0).long()


def learner(learning_rate: float = 0.1, **more: Any) -> Learner:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    return Learner(model, optimizer, lambda step: learning_rate, DTYPES["fp32"], CPU(), **more)


def run(
    clock: FakeClock, student: Learner, stops: list[int], block_steps: int = 4
) -> tuple[list[Evaluation], Stopwatch]:
    watch = Stopwatch(now=clock)

    def look() -> Score:
        clock.time += EVALUATION
        return Score(0.5, 0.75, torch.zeros(1), torch.zeros(1))

    found = []
    for evaluation in train(student, batches(clock), look, stops, 10, block_steps, 20.0, watch):
        clock.time += BETWEEN
        found.append(evaluation)
    return found, watch


def test_evaluation_time_is_not_counted_as_training() -> None:
    found, watch = run(FakeClock(), learner(), [10, 15, 20])
    assert [e.train_seconds for e in found] == [5.0, 7.5, 10.0]
    assert watch.seconds == {"train": 10.0, "eval": 300.0}


def test_evaluations_come_at_the_stops_with_steps_counted_from_one_when_done() -> None:
    student = learner()
    found, _ = run(FakeClock(), student, [3, 10, 20])
    assert [(e.step, e.epoch) for e in found] == [(3, 0.3), (10, 1.0), (20, 2.0)]
    assert student.steps == 20


def test_blocks_never_reach_over_an_evaluation_and_hold_every_step() -> None:
    _, watch = run(FakeClock(), learner(), [10, 15], block_steps=4)
    assert [b.steps for b in watch.blocks] == [4, 4, 2, 4, 1]
    assert all(b.images == 8 * b.steps and b.seconds == STEP * b.steps for b in watch.blocks)


def test_length_of_a_block_changes_no_weight() -> None:
    one, many = learner(), learner()
    run(FakeClock(), one, [20], block_steps=1)
    run(FakeClock(), many, [7, 20], block_steps=6)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), many.model.parameters(), strict=True))


def test_training_loss_is_the_mean_since_the_last_stop() -> None:
    student, twin = learner(), learner()
    clock = FakeClock()
    source = batches(clock)
    losses = [float(twin.step(*next(source))) for _ in range(20)]
    found, _ = run(FakeClock(), student, [12, 20])
    assert found[0].train_loss == pytest.approx(sum(losses[:12]) / 12, rel=1e-6)
    assert found[1].train_loss == pytest.approx(sum(losses[12:]) / 8, rel=1e-6)


@pytest.mark.parametrize("learning_rate", [math.nan, 1e30])
def test_divergence_ends_training_after_its_evaluation_was_told(learning_rate: float) -> None:
    clock, told = FakeClock(), []
    score = Score(0.5, 0.5, torch.zeros(1), torch.zeros(1))
    loop = train(learner(learning_rate), batches(clock), lambda: score, [5, 10], 10, 5, 20.0, Stopwatch(now=clock))
    with pytest.raises(DivergedError, match="at step 5"):
        for evaluation in loop:
            told.append(evaluation.step)
    assert told == [5]


def test_gradient_is_clipped_to_its_norm() -> None:
    free, clipped = learner(1.0), learner(1.0, clip_norm=1e-3)
    before = torch.nn.utils.parameters_to_vector(free.model.parameters()).detach()
    images, labels = next(batches(FakeClock()))
    free.step(images, labels)
    clipped.step(images, labels)

    def moved(student: Learner) -> float:
        return float((torch.nn.utils.parameters_to_vector(student.model.parameters()).detach() - before).norm())

    assert moved(clipped) == pytest.approx(1e-3, rel=1e-3)
    assert moved(free) > 0.05


def test_scaler_skips_an_overflowing_step_and_counts_it() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    student = Learner(model, optimizer, lambda step: 0.1, DTYPES["amp-fp16"], CPU(), clip_norm=1.0)
    images, labels = next(batches(FakeClock()))
    student.step(images, labels)
    assert student.skipped_steps == 0
    weights = model.weight.clone()
    student.step(images * math.inf, labels)
    assert student.skipped_steps == 1
    assert torch.equal(model.weight, weights)
    student.step(images, labels)
    assert student.skipped_steps == 1
    assert not torch.equal(model.weight, weights)


def test_evaluate_equals_a_plain_computation_and_leaves_the_model_training() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    images, labels = torch.randn(10, 4), torch.randint(3, (10,))
    model.train()
    parts = list(zip(images.split(4), labels.split(4), strict=True))  # the last one is smaller
    score = evaluate(model, parts, DTYPES["fp32"].context(CPU()))
    assert model.training
    model.eval()
    logits = model(images).detach()
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert score.accuracy == float((logits.argmax(1) == labels).float().mean())
    assert torch.equal(score.predictions, logits.argmax(1))
    assert torch.allclose(score.confidences, logits.softmax(1).amax(1))


def test_energy_of_an_evaluation_is_that_of_the_training_before_it() -> None:
    clock, meter = FakeClock(), [0.0]

    def read() -> float:
        return meter[0]

    def look() -> Score:
        meter[0] += 1e9
        return Score(0.5, 0.75, torch.zeros(1), torch.zeros(1))

    def metered() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(clock):
            meter[0] += 3.0
            yield batch

    watch = Stopwatch(now=clock, energy=read)
    found = list(train(learner(), metered(), look, [4, 10], 10, 3, 20.0, watch))
    assert [e.train_joules for e in found] == [12.0, 30.0]


@pytest.mark.slow
def test_throughput_equals_that_of_a_stopwatch_outside() -> None:
    """Within 1%: blocks leave no time between them out that isn't an evaluation's."""
    nothing, gaps = Score(0.5, 0.75, torch.zeros(1), torch.zeros(1)), []
    clock = time.process_time  # which stands still while a busy machine has something else to do
    for _ in range(5):  # Python may collect garbage between two readings, but not five times
        watch, student = Stopwatch(now=clock), learner()
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4096, 4, generator=generator)
        feed = itertools.repeat((images, (images[:, 0] > 0).long()))
        start = clock()
        for _ in train(student, feed, lambda: nothing, [800], 800, 80, 9.0, watch):
            outside = clock() - start
        inside = sum(block.images for block in watch.blocks) / sum(block.seconds for block in watch.blocks)
        gaps.append(abs(inside / (800 * 4096 / outside) - 1))
    assert min(gaps) < 0.01
