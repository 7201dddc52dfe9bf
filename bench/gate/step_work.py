"""What one step does, counted instead of timed: equal code gives equal counts, however busy the machine is."""

import copy
import gc
import logging
import warnings
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.measure.flops import NEEDS_NUMBERS, flop_counter
from bench.speed.cells import Cell
from bench.training.trial_setup import TrialSetup

LOSS_STEPS = 8  # enough that a wrong update shows in the next loss; they warm the cell up too


def count_work(cell: Cell) -> dict[str, Any]:
    """What a step of a freshly opened cell does; for JSON. Weights and batches move on by some steps.

    Timing belongs into another process: torch's compiler, which tells the graph breaks, leaves this one's memory
    otherwise than it was.

    Returns:
        `work`, `parameters`, `batch` (images a step), `flops` (of a step), `operators` ("aten.mm.default float32" ->
        calls a step, views and the batch's making included), `peak_bytes` (see `_peak_bytes`), `loss` (as hex, after
        8 steps; of inference the sum of logits), `graph_breaks` (of the forward pass, in training with the loss; None
        with `graph_breaks_reason`), and `note` where the counts are of something else than what is timed.
    """
    trial, device, model = cell.setup.trial, cell.setup.device, cell.learner.model
    gpus = [device.torch_device] if device.type in ("cuda", "xpu") else []
    with torch.random.fork_rng(gpus, device_type=device.type if gpus else "cuda"), _no_collection():
        torch.manual_seed(trial.seed)  # cells opened before this one have drawn numbers, not the same in every tree
        loss = _fingerprint(cell)
        # A compiled kernel can't be counted: what was compiled runs here as it is written.
        with torch.compiler.set_stance("force_eager") if trial.compile else nullcontext():
            flops = _flops(cell)
            held = _held(cell)
            with StepCounter(held, _dataset(cell.setup)) as counter:
                cell.step()
        peak_bytes = _peak_bytes(cell, held, counter)
        breaks = _graph_breaks(cell)
    note = {"note": "operators and FLOPs, on a CPU memory too, are those before compilation"}
    return {
        "work": cell.work,
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": cell.images,
        "flops": flops,
        "operators": dict(sorted(counter.operators.items())),
        "peak_bytes": peak_bytes,
        "loss": loss,
        **breaks,
        **(note if trial.compile else {}),
    }


class StepCounter(TorchDispatchMode):
    """Counts operators, and the bytes of tensors that are alive, while it is on.

    Args:
        held: storages that live already, counted from the start.
        ignored: storages that don't count.

    Attributes:
        operators: "operator.overload dtype" -> calls. The dtype is that of the first tensor that comes out, or goes in
            where none comes out; a copy between devices says so: "aten._to_copy.default float32 cuda to cpu".
        peak: most bytes alive at once; memory that a kernel takes and gives back unseen isn't in it.
        found: storages that weren't made inside.
    """

    def __init__(self, held: Iterable[torch.UntypedStorage] = (), ignored: Iterable[torch.UntypedStorage] = ()) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.live = self.peak = 0
        self.found: list[weakref.ref[torch.UntypedStorage]] = []
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for storage in ignored:
            self._born(storage, 0)
        for storage in held:
            self._born(storage, storage.nbytes())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload):
            with self:  # inference mode hands over whole compounds: what a reshape copies would stay unseen
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._see(given, made_here=False)
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self._see(made, made_here=True)
        if func.namespace != "profiler":  # marks that optimisers leave for a profiler
            self.operators[_kind(func, given, made)] += 1
        return out

    def _see(self, tensors: list[Tensor], made_here: bool) -> None:
        for tensor in tensors:
            try:
                storage = tensor.untyped_storage()
            except (NotImplementedError, RuntimeError):
                continue  # sparse, or of a library: no storage to look at
            if storage._cdata not in self._alive:
                self._born(storage, storage.nbytes())
                if not made_here:
                    self.found.append(weakref.ref(storage))

    def _born(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata  # an address: free for another storage once this one is gone
        if key in self._alive:
            return

        def gone(_: object) -> None:
            self.live -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _kind(func: Any, given: list[Tensor], made: list[Tensor]) -> str:
    first = next(iter([*made, *given]), None)
    kind = f"{func} {'none' if first is None else str(first.dtype).removeprefix('torch.')}"
    name = str(func).split(".")[1:2]
    if name in (["_to_copy"], ["copy_"]) and given and made:
        source = given[0 if name == ["_to_copy"] else -1].device.type
        if source != made[0].device.type:
            kind += f" {source} to {made[0].device.type}"
    return kind


def _fingerprint(cell: Cell) -> str | None:
    for _ in range(LOSS_STEPS):
        cell.step()
    leaves = [leaf for leaf in tree_leaves(cell.step()) if isinstance(leaf, Tensor)]
    return float(sum(float(leaf.detach().double().sum()) for leaf in leaves)).hex() if leaves else None


def _flops(cell: Cell) -> int:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole encoder layer, with no formula
    try:
        with flop_counter() as counter:
            cell.step()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


def _held(cell: Cell) -> list[torch.UntypedStorage]:
    """What lives between steps: weights, and all that a step finds (the optimiser's moments); not the dataset."""
    model = cell.learner.model
    with StepCounter(ignored=_dataset(cell.setup)) as counter:
        cell.step()
    found = [storage for storage in (ref() for ref in counter.found) if storage is not None]
    return [*(t.untyped_storage() for t in (*model.parameters(), *model.buffers())), *found]


def _peak_bytes(cell: Cell, held: list[torch.UntypedStorage], counter: StepCounter) -> int:
    """Most bytes alive at once in a step: what lives between steps, and what the step adds.

    A GPU's allocator knows the second itself, kernels' workspace and its own rounding included.
    """
    device = cell.setup.device
    if device.type not in ("cuda", "xpu"):
        return counter.peak
    device.reset_peak_memory()
    cell.step()
    device.synchronize()
    sizes = {storage._cdata: storage.nbytes() for storage in held}
    return sum(sizes.values()) + (device.peak_memory_bytes() or 0)


def _dataset(setup: TrialSetup) -> list[torch.UntypedStorage]:
    splits = (setup.data.train, setup.data.val, setup.data.test)
    return [tensor.untyped_storage() for split in splits for tensor in split.resident]


def _graph_breaks(cell: Cell) -> dict[str, Any]:
    """How often torch.compile would have to leave off and start again, from a copy of the model."""
    if cell.setup.trial.compile:
        return {"graph_breaks": None, "graph_breaks_reason": "compiled: there a graph break is an error"}
    images, labels = next(iter(cell.setup.batches))
    try:
        from torch._dynamo import explain
        from torch._dynamo.convert_frame import input_codes

        if input_codes.seen:  # `explain` forgets all that was compiled: it would be compiled again while timed
            return {"graph_breaks": None, "graph_breaks_reason": "this process has compiled something already"}
        twin = copy.deepcopy(cell.learner.model)
        train, learner = cell.work == "train", cell.learner
        called = (twin, images[:2], labels[:2], learner.label_smoothing) if train else (images[:2],)
        with _quiet(), learner.context, torch.set_grad_enabled(train):
            told = explain(learner.loss if train else twin)(*called)
    except (*NEEDS_NUMBERS, ImportError, NotImplementedError) as error:
        return {"graph_breaks": None, "graph_breaks_reason": f"torch.compile can't tell: {type(error).__name__}"}
    return {"graph_breaks": max(0, told.graph_break_count)}


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection in the middle of a step would free tensors at a moment that no two runs share."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _quiet() -> Iterator[None]:
    """A break that is counted needn't be logged."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
