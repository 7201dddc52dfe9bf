"""What every test needs: the same examples in every run, and torch on one thread beside the other test processes."""

import gc
import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: pytest-xdist already has a process on each core
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # else torch.compile tries out each of the processor's, for 7 s

from bench.execution.local import set_environment

set_environment()
settings.register_profile("same", derandomize=True, deadline=None)  # a search for new examples is a job of its own
settings.load_profile("same")


@pytest.fixture
def native_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor has bfloat16 and float16 of its own, so that no mode is left out for want of them."""
    monkeypatch.setattr("bench.system.device.emulated", lambda dtype: False)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: the tests of limits, gates and servers sleep for a good part."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Each trial collects garbage more than once, which takes half a second among all that the tests have loaded."""
    gc.freeze()
