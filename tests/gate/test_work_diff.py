"""Planted faults are named by the right word; equal code gives no change."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_cells import CELLS, opened
from torch import Tensor

from bench.data.dataset import ImageFormat
from bench.gate.step_work import count_work
from bench.gate.work_diff import ROUNDING, VIEWS, WorkChange, compare_work
from bench.training import loop, optim
from bench.training.loop import Learner
from models.vit import MLP, Attention, ViT

Counts = dict[str, Any]


@pytest.fixture(autouse=True)
def _without_graph_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time; tests/gate/test_step_work.py counts them."""
    monkeypatch.setattr("bench.gate.step_work._graph_breaks", lambda cell: {"graph_breaks": 0})


def counts(**cell: Any) -> Counts:
    """What the gate's journal would hold of a small ViT."""
    return json.loads(json.dumps(count_work(opened(**{"family": "vit", "work": "train", **cell}))))


def changes(base: Counts, head: Counts) -> dict[str, WorkChange]:
    found = compare_work("a cell", base, head)
    assert all(change.cell == "a cell" for change in found)
    assert len({change.what for change in found}) == len(found)
    return {change.what: change for change in found}


def after(change: Callable[..., Any], method: str, owner: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what `owner.method` returns go through `change`."""
    original = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda self, *args: change(original(self, *args)))


@pytest.mark.parametrize(("family", "work"), CELLS)
def test_equal_code_does_equal_work(family: str, work: str) -> None:
    assert changes(counts(family=family, work=work), counts(family=family, work=work)) == {}


def test_an_extra_clone_in_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()
    after(torch.clone, "forward", Attention, monkeypatch)
    found = changes(base, counts())
    assert found.keys() <= {"operators", "peak memory"}
    assert found["operators"].direction == "more"
    assert found["operators"].detail == "1 more aten.clone (float32) a step"
    assert int(found["operators"].head) == int(found["operators"].base) + 1


def test_a_cast_to_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()
    after(lambda x: x.double().exp().log().float(), "forward", MLP, monkeypatch)
    found = changes(base, counts())
    cast = "float64 operators: 6 a step, base has none; 2 more aten._to_copy (float32) a step"
    assert found["operators"].detail == cast
    assert found["operators"].direction == "more"
    assert found["peak memory"].direction == "more"
    back = changes(counts(), base)["operators"]
    assert back.detail.startswith("float64 operators: none, base has 6 a step; ")
    assert back.direction == "less"


def test_a_doubled_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()
    original = Learner.forward

    def doubled(self: Learner, images: Tensor, labels: Tensor) -> Tensor:
        original(self, images, labels)
        return original(self, images, labels)

    monkeypatch.setattr(Learner, "forward", doubled)
    found = changes(base, counts())
    assert found["FLOPs"].direction == found["operators"].direction == "more"
    assert found["FLOPs"].detail.endswith(" 1.34 times")
    assert found["operators"].detail.count(";") == 4
    assert found["operators"].detail.endswith(" more kinds")
    assert "loss" not in found


def test_a_value_asked_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()

    def asked(loss: Tensor) -> Tensor:
        loss.item()
        return loss

    after(asked, "step", Learner, monkeypatch)
    found = changes(base, counts())
    assert list(found) == ["operators"]
    assert found["operators"].detail == "new: aten._local_scalar_dense (float32), 1 a step: it waits for the device"
    assert found["operators"].direction == "more"


def test_more_width() -> None:
    found = changes(counts(), counts(settings={"embed_dim": 18}))
    assert [found[what].direction for what in ("parameters", "FLOPs", "peak memory")] == ["more"] * 3
    assert (found["parameters"].base, found["parameters"].head) == ("3,818", "4,726")
    assert found["parameters"].detail == "908 more, 1.24 times"
    assert found["loss"].direction == "other"
    assert "not the same computation" in found["loss"].detail


def test_an_optimiser_that_is_no_longer_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()

    def slow(groups: list[dict[str, Any]], training: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=training.learning_rate, foreach=False, fused=False)

    monkeypatch.setitem(optim.OPTIMIZERS, "adamw", slow)
    found = changes(base, counts())
    assert found["operators"].direction == "more"
    assert int(found["operators"].head) > 2 * int(found["operators"].base)
    assert "aten._local_scalar_dense" in found["operators"].detail, "its step counts are read each step"


def test_an_added_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()
    after(lambda images: images.to(torch.float32, copy=True), "of", ImageFormat, monkeypatch)
    found = changes(base, counts())
    assert found["operators"].detail == "1 more aten._to_copy (float32) a step"


@pytest.mark.parametrize("work", ["train", "infer"])
def test_a_copy_between_devices(monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    base = counts(work=work)

    def sent(x: Tensor) -> Tensor:
        x.detach().to("meta")
        return x

    after(sent, "forward", ViT, monkeypatch)
    expected = "new: aten._to_copy (float32, cpu to meta), 1 a step: it copies between devices"
    assert changes(base, counts(work=work))["operators"].detail == expected


def test_another_view_is_no_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts(work="infer")
    after(lambda x: x.view(x.shape), "forward", MLP, monkeypatch)
    found = changes(base, counts(work="infer"))
    assert list(found) == ["operators"]
    assert found["operators"].direction == "other"
    assert found["operators"].detail == "1 more aten.view (float32) a step: views, for which no kernel runs"


def test_a_changed_loss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    base = counts()
    original = loop.cross_entropy
    monkeypatch.setattr("bench.training.trial_setup.cross_entropy", lambda *args: original(*args) * 1.5)
    loss = changes(base, counts())["loss"]
    assert loss.direction == "other"
    assert loss.detail == "after 8 steps: not the same computation"
    assert float(loss.head) > 1.2 * float(loss.base)


def test_every_view_of_our_models_is_known_as_one() -> None:
    kinds = {kind for family, work in CELLS for kind in counts(family=family, work=work)["operators"]}
    for operator in {kind.partition(" ")[0] for kind in kinds}:
        _, name, overload = operator.split(".")
        is_view = getattr(getattr(torch.ops.aten, name), overload).is_view
        assert (name in VIEWS) == (is_view or name == "_unsafe_view"), operator


def test_what_one_arm_has_not_counted_is_left_out() -> None:
    base = counts()
    assert compare_work("a cell", {}, base) == compare_work("a cell", base, {}) == []
    assert compare_work("a cell", base, {**base, "graph_breaks": None, "note": "x", "flops": None}) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"batch": 50}, {"batch": 64}, ("batch", "50", "64", "other")),
        ({"graph_breaks": 0}, {"graph_breaks": 2}, ("graph breaks", "0", "2", "more")),
        ({"flops": 400}, {"flops": 300}, ("FLOPs", "400", "300", "less")),
        ({"parameters": 0}, {"parameters": 7}, ("parameters", "0", "7", "more")),
        ({"flops": 7}, {"flops": 0}, ("FLOPs", "7", "0", "less")),
        ({"peak_bytes": 0}, {"peak_bytes": 2 << 20}, ("peak memory", "0 MiB", "2.00 MiB", "more")),
        ({"operators": {}}, {"operators": {"aten.add.Tensor float32": 3}}, ("operators", "0", "3", "more")),
        ({"loss": 0.0.hex()}, {"loss": 2.0.hex()}, ("loss", "0", "2", "other")),
        ({"peak_bytes": 10 << 20}, {"peak_bytes": 12 << 20}, ("peak memory", "10.0 MiB", "12.0 MiB", "more")),
        ({"peak_bytes": 10 << 20}, {"peak_bytes": (10 << 20) + 1024},
         ("peak memory", "10,485,760 bytes", "10,486,784 bytes", "more")),
        ({"operators": {"aten.add.Tensor float32": 3}}, {"operators": {"aten.mul.Tensor float32": 3}},
         ("operators", "3", "3", "other")),
        ({"loss": 2.0.hex()}, {"loss": (2.0 + 2**-40).hex()}, ("loss", "2", "2.0000000000009095", "other")),
        ({"loss": 2.0.hex()}, {"loss": "nan"}, ("loss", "2", "nan", "other")),
    ],
)  # fmt: skip
def test_a_difference_reads_well(before: Counts, after: Counts, expected: tuple[str, ...]) -> None:
    (change,) = compare_work("a cell", before, after)
    assert (change.what, change.base, change.head, change.direction) == expected


def test_a_wait_is_more_work_even_where_operators_became_fewer() -> None:
    base = {"operators": {"aten.add.Tensor float32": 9}}
    head = {"operators": {"aten.add.Tensor float32": 3, "aten.nonzero.default int64": 1}}
    (change,) = compare_work("a cell", base, head)
    assert change.direction == "more"
    assert change.detail == (
        "new: aten.nonzero (int64), 1 a step: it waits for the device; 6 fewer aten.add.Tensor (float32) a step"
    )


def test_a_few_bytes_are_no_difference() -> None:
    assert compare_work("a cell", {"peak_bytes": 10_000}, {"peak_bytes": 11_023}) == []


def test_zero_is_zero_with_either_sign() -> None:
    assert compare_work("a cell", {"loss": (0.0).hex()}, {"loss": (-0.0).hex()}) == []


def test_sums_in_another_order_are_suggested_only_where_losses_nearly_agree() -> None:
    for share, said in ((0.05, True), (0.99, True), (1.01, False), (50, False)):  # of a loss's rounding
        (found,) = compare_work("a cell", {"loss": (2.0).hex()}, {"loss": (2 * (1 - share * ROUNDING)).hex()})
        assert ("another order" in found.detail) is said


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (0, 7, "7 more"),
        (7, 0, "7 fewer, 0.00 times"),
        (1000, 1004, "4 more, +0.4%"),
        (1000, 1006, "6 more, 1.01 times"),
        (1000, 996, "4 fewer, -0.4%"),
    ],
)
def test_a_small_change_of_a_count_is_told_in_percent_and_one_from_nothing_without(
    before: int, after: int, detail: str
) -> None:
    (found,) = compare_work("a cell", {"parameters": before}, {"parameters": after})
    assert found.detail == detail


@pytest.mark.parametrize(
    ("kinds", "end"), [(4, "d (float32), 1 a step"), (5, "; and 1 more kind"), (6, "; and 2 more kinds")]
)
def test_four_kinds_of_operators_are_named_and_the_rest_counted(kinds: int, end: str) -> None:
    head = {"operators": {f"aten.{name}.default float32": 1 for name in "abcdef"[:kinds]}}
    (found,) = compare_work("a cell", {"operators": {}}, head)
    assert found.detail.endswith(end)
    assert found.detail.count("new: ") == 4


NUMBERS = st.none() | st.integers(0, 2**62)
KINDS = st.sampled_from(
    ["aten.add.Tensor float32", "aten.view.default float64", "aten.mm.default float64", "a.library's none", "a to b"]
)
ODD = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("parameters", "flops", "batch", "graph_breaks", "peak_bytes"), NUMBERS),
        "work": st.sampled_from(["train", "infer"]),
        "operators": st.dictionaries(KINDS, st.integers(1, 3)),
        "loss": st.none() | st.floats().map(float.hex),
    },
)


@given(ODD, ODD)
def test_whatever_was_counted_is_compared_without_an_error(base: Counts, head: Counts) -> None:
    assert compare_work("a cell", base, copy.deepcopy(base)) == []
    there, back = compare_work("a cell", base, head), compare_work("a cell", head, base)
    assert [change.what for change in there] == [change.what for change in back]
    for change in there:
        assert change.base != change.head or change.what == "operators"
        assert len(change.detail) < 500
