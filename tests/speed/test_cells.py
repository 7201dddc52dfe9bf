"""Cells of this tree: what a worker may ask of them, for the gate and for speed rounds."""

import json
from pathlib import Path

import pytest
import torch
from made_up_data import write_png_folder

from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.data.splits import Split, StreamedSplit
from bench.errors import UserError
from bench.gate.launch import PROTOCOL as OF_THE_GATE
from bench.gate.request import configurations
from bench.speed.cells import PROTOCOL, Work, open_cell, open_data, open_trial
from bench.trial import Trial

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


def trial_on(data: dict[str, object] | str, folder: Path) -> Trial:
    suite = folder / "own.yaml"
    suite.write_text(f"dataset: {json.dumps(data)}\nmodels: [{{model: cnn, depth: 1, width: 4}}]\nbatch_size: 16\n")
    return load_plan(read_suite(suite)).trials[0]


def test_a_trials_cells_train_and_infer_with_the_same_weights_and_enter_undoes_what_others_set(tmp_path: Path) -> None:
    trial = trial_on("digits", tmp_path)
    train, one, own, larger = open_trial(trial, None, open_data(trial, None), [1, 16, 64, 100_000])
    assert [(cell.work, cell.images) for cell in (train, one, own, larger)] == [
        ("train", 16), ("infer", 1), ("infer", 16), ("infer", 64),
    ]  # fmt: skip
    assert train.learner is own.learner
    before = own.step()
    own.enter(1)
    assert not own.learner.model.training
    train.enter(2)
    assert train.learner.model.training
    assert torch.get_num_threads() == 2
    for _ in range(5):
        train.step()
    own.enter(1)
    assert not torch.equal(own.step(), before)
    assert one.step().shape == (1, 10)
    assert train.loop is None


@pytest.mark.slow
def test_of_streamed_images_a_sample_is_timed_and_the_stream_is_the_loops(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "digits", 300)
    trial = trial_on(
        {"path": str(tmp_path / "digits"), "image_size": 8, "stream": True, "test_fraction": 0.2}, tmp_path
    )
    sample, stream = open_data(trial, None)
    assert isinstance(sample.train, Split)
    assert stream is not None
    assert isinstance(stream.train, StreamedSplit)
    train, *infer = open_trial(trial, None, (sample, stream), [1, 16, 512])
    assert [cell.images for cell in infer] == [1, 16, 512]  # a sample's images come again
    assert isinstance(train.setup.data.train, Split)
    train.step()
    assert stream.train.waited_seconds == 0
    assert train.loop
    train.loop()
    train.loop()
    assert stream.train.waited_seconds > 0
