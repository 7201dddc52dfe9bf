"""torch.compile as an axis: real tracing of a tiny model, breaks and recompilations that fail loudly."""

import os
import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bench.system.device import CPU, CUDA
from bench.training.compilation import cold_cache, compiled, lacks_compiler, no_recompilation


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled so far, and no C++ of these tiny functions: test_run.py compiles a whole trial."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def total(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).sum()


def test_no_mode_is_the_function_itself() -> None:
    assert compiled(total, False) is total


def test_torch_is_told_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr(torch, "compile", lambda function, **options: told.update(options) or function)
    assert compiled(total, "max-autotune") is total
    assert told["mode"] == "max-autotune"


def test_a_machine_without_a_compiler_says_so_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "C++ compiler" in (lacks_compiler(CPU()) or "")


def test_a_gpu_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)

    class Fake(CUDA):
        name = "Fake GPU"

    assert "Triton" in (lacks_compiler(Fake()) or "")


def test_a_python_that_torch_compile_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 15))
    assert "3.15" in (lacks_compiler(CPU()) or "")


class Version(tuple[int, int]):
    def __new__(cls, major: int, minor: int) -> "Version":
        return super().__new__(cls, (major, minor))

    major = property(lambda self: self[0])
    minor = property(lambda self: self[1])


def test_another_model_of_the_same_shape_takes_the_code_that_is_there() -> None:
    function = compiled(total, "default")
    images = torch.randn(4, 6)
    first, second = nn.Linear(6, 2), nn.Linear(6, 2)
    torch.testing.assert_close(function(first, images), total(first, images))
    with no_recompilation("default"):
        torch.testing.assert_close(function(second, images), total(second, images))


def test_a_new_shape_in_the_timed_part_fails() -> None:
    function = compiled(total, "default")
    model = nn.Linear(6, 2)
    function(model, torch.randn(4, 6))
    with pytest.raises(Exception, match="recompil"), no_recompilation("default"):
        function(model, torch.randn(5, 6))
    function(model, torch.randn(5, 6))  # outside it compiles anew


def test_a_graph_break_is_an_error_and_no_silent_slowness() -> None:
    class Prints(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return images

    with pytest.raises(Exception, match="graph_break"):
        compiled(total, "default")(Prints(), torch.randn(4, 6))


def test_cold_cache_is_empty_and_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere/else")
    with cold_cache("default"):
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        assert os.listdir(folder) == []
    assert not os.path.exists(folder)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/somewhere/else"
    with cold_cache(False):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/somewhere/else"
