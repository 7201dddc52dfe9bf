"""What a step does is counted: exactly, the same in every process, and without a trace."""

import gc
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_cells import CELLS, opened
from torch import Tensor, nn

from bench.gate.step_work import StepCounter, count_work
from bench.measure.flops import count_flops
from bench.training import trial_setup
from models.vit import MLP

ELSEWHERE = """
import json, sys
sys.path[:0] = [".", "tests"]
from bench.gate import step_work as invariants
from bench.gate.step_work import count_work
from small_cells import CELLS, opened
invariants._graph_breaks = lambda cell: {}
json.dump([count_work(opened(*cell)) for cell in CELLS], sys.stdout)
"""


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch.compiler.reset()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the rest: graph breaks take most of the time."""
    monkeypatch.setattr("bench.gate.step_work._graph_breaks", lambda cell: {})


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_another_process_counts_the_same() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=Path(__file__).parents[2], capture_output=True, check=True, text=True
    )
    assert json.loads(answer.stdout) == [count_work(opened(*cell)) for cell in CELLS]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("family", "work"), CELLS)
def test_flops_and_parameters_are_those_of_the_model(family: str, work: str) -> None:
    cell = opened(family, work)
    counts = count_work(cell)
    images, _ = next(iter(cell.setup.batches))
    flops = count_flops(cell.learner.model, images)
    assert counts["flops"] == 50 * (flops.training if work == "train" else flops.forward)
    assert counts["parameters"] == sum(p.numel() for p in cell.learner.model.parameters())
    assert counts["batch"] == 50


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["explicit", "fused"])
def test_attention_is_in_the_flops(kind: str) -> None:
    counts = count_work(opened("vit", "infer", settings={"attention": kind}))
    qkv, scores, rest = 3 * 16 * 16, 2 * 4 * 16, 16 * 16 + 2 * 4 * 16 * 16
    assert counts["flops"] == 2 * 50 * (4 * (16 * 16 + qkv + scores + rest) + 16 * 10)


@pytest.mark.usefixtures("quick")
def test_the_loss_is_that_after_eight_updates() -> None:
    cell = opened("vit", "train")
    batches = iter(cell.setup.batches)
    for _ in range(8):
        cell.learner.step(*next(batches))
    expected = float(cell.learner.forward(*next(batches)).detach())
    assert float.fromhex(count_work(opened("vit", "train"))["loss"]) == expected


@pytest.mark.usefixtures("quick")
def test_dropout_draws_the_same_numbers_whatever_was_drawn_before() -> None:
    counts = []
    for draws in (0, 7):
        cell = opened("cnn", "train", settings={"dropout": 0.5})
        torch.rand(draws)
        before = torch.get_rng_state()
        counts.append(count_work(cell))
        assert torch.equal(torch.get_rng_state(), before)
    assert counts[0] == counts[1]


def test_operators_are_counted_by_kind_and_dtype() -> None:
    with StepCounter() as counter:
        x = torch.ones(2, 3)
        (x.double() @ x.double().T).sum().item()
        x.to("meta")
    assert dict(counter.operators) == {
        "aten.ones.default float32": 1,
        "aten._to_copy.default float64": 2,
        "aten.permute.default float64": 1,
        "aten.mm.default float64": 1,
        "aten.sum.default float64": 1,
        "aten._local_scalar_dense.default float64": 1,
        "aten._to_copy.default float32 cpu to meta": 1,
    }


def test_inference_mode_hides_no_copy() -> None:
    def work() -> None:
        x = torch.ones(2, 3).T
        x.reshape(6).sum().item()
        x.contiguous()

    with StepCounter() as plain:
        work()
    with torch.inference_mode(), StepCounter() as inference:
        work()
    for counter in (plain, inference):
        assert counter.operators["aten.clone.default float32"] == 2
        assert counter.operators["aten._local_scalar_dense.default float32"] == 1
        assert not {kind for kind in counter.operators if "reshape" in kind or "item" in kind}


def test_the_peak_is_of_what_lives_at_once() -> None:
    with StepCounter() as counter:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1
        view = b[:10]
        del a, b  # the view keeps one of them
        c = torch.zeros(500)
        del view, c
        torch.zeros(2500, dtype=torch.uint8)
    assert (counter.peak, counter.live) == (8000, 0)


def test_what_backward_will_need_lives_until_then() -> None:
    weight = torch.ones(100, requires_grad=True)
    with StepCounter([weight.untyped_storage()]) as counter:
        y = weight.exp().exp().exp().sum()  # each result is saved
        assert counter.live == 4 * (100 + 300 + 1)
        y.backward()
        del y
    assert counter.live == 4 * (100 + 100)  # the weight and its gradient
    assert counter.found == []


def test_what_a_step_finds_is_told_apart_from_what_it_makes() -> None:
    held, ignored = torch.ones(10), torch.ones(1000)
    with StepCounter(ignored=[ignored.untyped_storage()]) as counter:
        made = held + 1
        ignored.add_(1)
    assert [ref() for ref in counter.found] == [held.untyped_storage()]
    assert counter.peak == made.nbytes + held.nbytes


@pytest.mark.usefixtures("quick")
def test_the_optimisers_state_is_in_the_peak_and_the_dataset_is_not() -> None:
    plain, moments = (count_work(opened("vit", "train", optimizer=name)) for name in ("sgd", "adamw"))
    assert moments["peak_bytes"] - plain["peak_bytes"] == pytest.approx(4 * plain["parameters"], abs=64)
    cell = opened("cnn", "infer")
    assert count_work(cell)["peak_bytes"] < cell.setup.data.train.resident[0].nbytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "work"), [pytest.param(*cell, marks=pytest.mark.slow if cell[1] == "train" else ()) for cell in CELLS]
)
def test_our_models_have_no_graph_breaks(family: str, work: str) -> None:
    counts = count_work(opened(family, work))
    assert counts["graph_breaks"] == 0
    assert "graph_breaks_reason" not in counts


@pytest.mark.parametrize("work", ["train", "infer"])
@pytest.mark.slow
def test_graph_breaks_are_counted(monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    original = MLP.forward

    def broken(self: MLP, x: Tensor) -> Tensor:
        return original(self, x) * (1 + 0 * x.sum().item())

    monkeypatch.setattr(MLP, "forward", broken)
    assert count_work(opened("vit", work))["graph_breaks"] > 0


def test_a_model_that_cannot_be_copied_has_no_graph_breaks_and_a_reason() -> None:
    cell = opened("cnn", "infer")
    cell.learner.model.held = torch.ones(1, requires_grad=True) * 2
    counts = count_work(cell)
    assert counts["graph_breaks"] is None
    assert "RuntimeError" in counts["graph_breaks_reason"]


def test_looking_for_graph_breaks_changes_neither_the_model_nor_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Tensor]] = []
    settings = lambda: (  # noqa: E731 - one list of settings, asked twice
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(),
        torch.backends.mha.get_fastpath_enabled(), gc.isenabled(), logging.root.manager.disable,
        torch.get_num_threads(), torch._C._len_torch_dispatch_stack(),
    )  # fmt: skip
    explain = torch._dynamo.explain

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        found.append({name: value.clone() for name, value in cell.learner.model.state_dict().items()})
        return explain(function)

    monkeypatch.setattr("torch._dynamo.explain", watched)
    cell, before = opened("cnn", "train"), settings()
    count_work(cell)
    state = cell.learner.model.state_dict()
    assert all(torch.equal(found[0][name], value) for name, value in state.items())
    assert cell.learner.model.training
    assert settings() == before


@pytest.mark.usefixtures("quick")
def test_a_step_that_fails_leaves_no_mode_behind() -> None:
    cell, steps = opened("cnn", "train"), iter(range(100))
    step = cell.step

    def failing() -> Any:
        if next(steps) == 11:  # the one that is counted
            raise ValueError("broken")
        return step()

    cell.step = failing
    with pytest.raises(ValueError, match="broken"):
        count_work(cell)
    assert torch._C._len_torch_dispatch_stack() == 0
    assert gc.isenabled()


def test_a_compiled_cell_is_counted_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bench.gate.step_work._graph_breaks", lambda cell: {})
        plain = count_work(opened("cnn", "train"))
    monkeypatch.setattr(trial_setup, "compiled", lambda function, mode: torch.compile(function, backend="eager"))
    counts = count_work(opened("cnn", "train", compile="default"))
    for key in ("parameters", "flops", "operators", "peak_bytes"):
        assert counts[key] == plain[key]
    assert counts["graph_breaks"] is None
    assert "compil" in counts["note"]
    assert "note" not in plain
    assert count_work(opened("cnn", "train"))["graph_breaks"] is None, "what was compiled would have been forgotten"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dtype", ["amp-bf16", "bf16"])
def test_numeric_modes_show_in_the_operators(dtype: str) -> None:
    operators = count_work(opened("vit", "train", dtype=dtype))["operators"]
    assert operators["aten.addmm.default bfloat16"] > 0
    assert "aten.addmm.default float32" not in operators


@pytest.mark.usefixtures("quick")
def test_a_model_of_somebody_else_is_counted() -> None:
    cell = opened("cnn", "infer")
    layer = nn.TransformerEncoderLayer(64, 2, 64, batch_first=True)
    cell.learner.model = nn.Sequential(nn.Flatten(2), layer, nn.Flatten(), nn.Linear(64, 10)).eval()
    counts = count_work(cell)
    assert counts["flops"] == 2 * 50 * (4 * 64 * 64 + 2 * 64 + 2 * 64 * 64 + 64 * 10)  # fast path or not
