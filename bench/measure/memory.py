"""What a training's peak memory is made of: weights, gradients, the optimiser's state and, the rest, activations."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn, optim


@dataclass(frozen=True)
class MemorySplit:
    """Parts of a peak, bytes.

    Attributes:
        param_bytes: weights and buffers.
        gradient_bytes: gradients of the weights.
        optimizer_bytes: moments, momenta, step counts: every tensor that the optimiser holds besides those above.
        activation_bytes: the rest of the peak: activations, their gradients, workspace, images; None: not known.
    """

    param_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None


def split_memory(network: nn.Module, optimizer: optim.Optimizer, peak_bytes: int | None) -> MemorySplit:
    """The parts of `peak_bytes`, after a training step at least, when the optimiser holds what it will hold.

    Storage that several tensors share counts once. Where a gradient has been let go since, the weight tells its size.

    Args:
        peak_bytes: highest memory in use, watched since before the network was built; None: not measured.
    """
    params, buffers = list(network.parameters()), list(network.buffers())
    gradients = [p.grad for p in params if p.grad is not None]
    let_go = sum(p.numel() * p.element_size() for p in params if p.grad is None and p.requires_grad)

    weights, grads, held = _storages([*params, *buffers]), _storages(gradients), _storages(_tensors(optimizer, set()))
    param_bytes = sum(weights.values())
    gradient_bytes = sum(grads.values()) + let_go
    optimizer_bytes = sum(size for storage, size in held.items() if storage not in weights and storage not in grads)

    rest = None if peak_bytes is None else peak_bytes - param_bytes - gradient_bytes - optimizer_bytes
    return MemorySplit(
        param_bytes, gradient_bytes, optimizer_bytes, activation_bytes=None if rest is None or rest < 0 else rest
    )


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Identity of each storage -> its bytes."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {storage._cdata: storage.nbytes() for storage in storages}


def _tensors(held: object, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor in an optimiser of any class: in its attributes, and in containers and optimisers among them."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, optim.Optimizer | Mapping | list | tuple | set | frozenset) and id(held) not in seen:
        seen.add(id(held))
        inside = vars(held) if isinstance(held, optim.Optimizer) else held
        for item in inside.values() if isinstance(inside, Mapping) else inside:
            yield from _tensors(item, seen)
