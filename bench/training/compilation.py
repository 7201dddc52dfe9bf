"""Compilation: torch.compile as an axis of a suite, without surprises in the timed part."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, cast
from unittest.mock import patch

import torch

from bench.system.device import CPU
from bench.trial import Compile

Function = TypeVar("Function", bound=Callable[..., Any])

CXX_COMPILERS = ("g++", "clang++", "c++") if sys.platform != "win32" else ("cl",)


def lacks_compiler(device: CPU) -> str | None:
    """Why torch.compile can't run for `device` on this machine, or None if it can."""
    if sys.version_info >= (3, 15):
        return f"torch.compile doesn't know Python {sys.version_info.major}.{sys.version_info.minor} yet"
    if device.type == "cpu":
        named = os.environ.get("CXX")
        if not any(shutil.which(name) for name in ([named] if named else CXX_COMPILERS)):
            return f"torch.compile needs a C++ compiler ({named or ', '.join(CXX_COMPILERS)}) on a CPU; none was found"
    elif device.type in ("cuda", "xpu"):
        from torch.utils._triton import has_triton

        if not has_triton():
            return f"torch.compile needs Triton on {device.type}; it isn't installed or doesn't know {device.name}"
    return None


def compiled(function: Function, mode: Compile) -> Function:
    """`function` under torch.compile in `mode`; itself if there is none.

    A graph break is an error, since what runs between the parts would be neither the one nor the other. Sizes are
    fixed: every new shape compiles anew, instead of once and slower for all.
    """
    if mode is False:
        return function
    return cast(Function, torch.compile(function, mode=mode, fullgraph=True, dynamic=False))


def no_recompilation(mode: Compile) -> AbstractContextManager[object]:
    """Inside, whatever would compile again fails instead: its seconds would be counted as training."""
    return nullcontext() if mode is False else torch.compiler.set_stance("fail_on_recompile")


@contextmanager
def cold_cache(mode: Compile) -> Iterator[None]:
    """Inside, compilation starts from nothing, so that its seconds don't depend on what ran before."""
    if mode is False:
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="vit-cnn-bench-", ignore_cleanup_errors=True) as folder,
        patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
    ):
        yield
