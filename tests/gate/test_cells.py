"""Cells of this tree: what the gate's worker may ask of them."""

import pytest
import torch

from bench.config.suite_file import find_suite, read_suite
from bench.errors import UserError
from bench.gate.launch import PROTOCOL as OF_THE_GATE
from bench.gate.request import configurations
from bench.speed.cells import PROTOCOL, Work, open_cell

CONTENT = {"dataset": "digits", "models": [{"model": "vit", "patch_size": 4, "depth": 1, "batch_size": 32}]}


def test_tree_and_gate_speak_the_same_protocol() -> None:
    assert PROTOCOL == OF_THE_GATE


def test_a_training_step_learns() -> None:
    cell = open_cell(CONTENT, "train", 1)
    before = [p.detach().clone() for p in cell.learner.model.parameters()]
    losses = [float(cell.step()) for _ in range(60)]
    assert any(not torch.equal(p, old) for p, old in zip(cell.learner.model.parameters(), before, strict=True))
    assert sum(losses[-5:]) < sum(losses[:5])
    assert cell.images == 32


def test_inference_changes_nothing_and_keeps_no_graph() -> None:
    cell = open_cell(CONTENT, "infer", 1)
    logits = cell.step()
    assert logits.shape == (32, 10)
    assert not logits.requires_grad
    assert not cell.learner.model.training
    assert torch.equal(logits, cell.step())


def test_it_may_be_stepped_for_ever_without_its_rate_running_out() -> None:
    cell = open_cell({**CONTENT, "epochs": 1}, "train", 1)
    for _ in range(100):
        loss = cell.step()
    assert torch.isfinite(loss)
    assert cell.learner.learning_rate(1_000_000) > 0


def test_threads_are_the_gates() -> None:
    before = torch.get_num_threads()
    try:
        open_cell({**CONTENT, "models": [{"model": "cnn", "num_threads": 2}]}, "infer", 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("work", ["train", "infer"])
def test_every_cell_of_the_gates_own_suite_opens(work: Work) -> None:
    for _, content in configurations(read_suite(find_suite("gate"))):
        assert torch.isfinite(open_cell(content, work, 1).step()).all()


@pytest.mark.parametrize(
    "model",
    [{"model": "vti"}, {"model": "vit", "patch_size": 3}, {"model": "vit", "sparkle": 1}, {"model": "no.such:net"}],
)
def test_a_cell_that_this_tree_does_not_know_is_a_persons_mistake(model: dict[str, object]) -> None:
    with pytest.raises(UserError):
        open_cell({"dataset": "digits", "models": [model]}, "train", 1)
