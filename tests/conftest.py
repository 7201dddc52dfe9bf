"""What every test needs: the same examples in every run, and torch on one thread beside the other test processes."""

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: pytest-xdist already has a process on each core
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # else torch.compile tries out each of the processor's, for 7 s

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as by a shell's `&`; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from bench.execution.local import set_environment

gc.disable()  # until all tests are known: nothing that a module defines is garbage, and each look for it takes longer
set_environment()
settings.register_profile("same", derandomize=True, deadline=None)  # a search for new examples is a job of its own
settings.load_profile("same")


@pytest.fixture
def native_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor has bfloat16 and float16 of its own, so that no mode is left out for want of them."""
    monkeypatch.setattr("bench.system.device.emulated", lambda dtype: False)


@pytest.fixture(autouse=True, scope="session")
def power_stays() -> Iterator[None]:
    """No power cut takes what a test has written, so nobody waits for the disk, but processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which finds a wrong descriptor, too
        yield


def pytest_runtest_teardown() -> None:
    """What tests after it in this process would have from a trial of several threads, or from a worker, is undone."""
    gc.enable()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: the tests of limits, gates and servers sleep for a good part."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What is loaded by now is for good."""
    gc.freeze()
    gc.enable()
    frozen[0] = len(sys.modules)


frozen = [0]  # modules that no collection of garbage walks through


def pytest_runtest_logfinish() -> None:
    """Each trial collects garbage more than once, which takes half a second among all that tests load as they go."""
    if len(sys.modules) > frozen[0] + 100:
        gc.collect()
        gc.freeze()
        frozen[0] = len(sys.modules)
