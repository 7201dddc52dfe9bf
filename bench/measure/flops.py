"""FLOPs of any network that takes images, counted from its shapes.

A multiply-add is two FLOPs. Counted are matrix products, convolutions (taps that fall on the padding too) and
attention's two products. Elementwise work isn't: biases, norms, softmax, activations, pooling, sums; nor are FFTs,
nn.Bilinear and kernels that torch has no formula for.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.system.device import CPU
from bench.system.precision import Precision

# What a network may raise when it is run on shapes alone: it looks at values, holds a device's name, calls numpy.
NEEDS_NUMBERS = (RuntimeError, TypeError, ValueError, AttributeError)
# Of the largest image and network that are counted with their numbers at once where they lie on a CPU: kernels take
# microseconds then, and torch's functions of shapes alone, which are of Python, four times as long in all.
MOST_PIXELS, MOST_NUMBERS = 32 * 32, 500_000


class Flops(NamedTuple):
    """FLOPs of one image."""

    forward: int
    training: int  # forward and backward


def count_flops(network: nn.Module, images: Tensor) -> Flops:
    """FLOPs of one image in a forward pass (evaluation mode) and in training, both counted.

    The backward pass is seldom exactly two forward passes: the first layer needs no gradient of the image, frozen
    weights need none at all. Attention's backward is four products on every device; that a fused kernel computes the
    scores a second time is its own affair ("PaLM", Chowdhery et al. 2022, appendix B, counts alike).

    Args:
        network: weights, gradients, buffers, modes and torch's random numbers are left as they are.
        images: (B, C, H, W), in the network's type and on its device; only the first is used.
    """
    image = images[:1].detach()
    pair = torch.cat([image, image])  # batch normalisation can't learn from one
    return Flops(_count(network, image, backward=False), _count(network, pair, backward=True))


def forward_flops(network: nn.Module, image_shape: Sequence[int]) -> int:
    """FLOPs of one image in a forward pass; `image_shape` is (C, H, W). A network on the meta device will do."""
    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return _count(network, torch.zeros(1, *image_shape, device=device, dtype=dtypes[0] if dtypes else None), False)


def is_small(tensors: Iterable[Tensor], image_shape: Sequence[int]) -> bool:
    """Whether a network of these tensors takes hardly any time on a CPU for an image (C, H, W)."""
    return math.prod(image_shape[1:]) <= MOST_PIXELS and sum(tensor.numel() for tensor in tensors) <= MOST_NUMBERS


def flop_counter() -> FlopCounterMode:
    """torch's counter, with the formulas that it lacks and those that it has wrong."""
    return FlopCounterMode(display=False, custom_mapping=ADDED_FORMULAS | REPLACED_FORMULAS)


def _count(network: nn.Module, images: Tensor, backward: bool) -> int:
    """FLOPs of one of the images, from shapes without numbers: the same on every device, and quick for a large one.

    A network that looks at numbers runs where it is instead, with copies in place of its tensors; so does a small one
    on a CPU, since that is quicker.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps: a compiled kernel can't be counted
    held = dict([*network.named_parameters(), *network.named_buffers()])
    modes = [(module, module.training) for module in network.modules()]
    gpus = [images.device] if images.device.type in ("cuda", "xpu") else []
    with torch.random.fork_rng(gpus, device_type=images.device.type if gpus else "cuda"):
        try:
            network.train(backward)
            if not (
                images.device.type == "cpu"
                and images.dtype == torch.float32
                and is_small(held.values(), images.shape[1:])
            ):
                with suppress(*NEEDS_NUMBERS):
                    return _run(network, held, images, backward, torch.device("meta")) // len(images)
            return _run(network, held, images, backward, images.device) // len(images)
        finally:
            for module, mode in modes:
                module.training = mode


def _run(network: nn.Module, held: Mapping[str, Tensor], images: Tensor, backward: bool, device: torch.device) -> int:
    state = {
        name: value.detach().to(device, copy=True).requires_grad_(value.requires_grad) for name, value in held.items()
    }
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole encoder layer, with no formula
    try:
        with torch.set_grad_enabled(backward), flop_counter() as counter:
            outputs = functional_call(network, state, images.to(device, copy=True))
            learned = [leaf.sum() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
            if backward and learned:
                torch.stack(learned).sum().backward()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


# Formulas see shapes where the operators see tensors. Letters: M K N of a product (M, K) x (K, N).


def _product(a: Sequence[int], b: Sequence[int], *_: object, **__: object) -> int:
    """(..., M, K) x (..., K, N), (M, K) x (K,) or (K,) x (K,)."""
    return 2 * math.prod(a) * (b[-1] if len(b) > 1 else 1)


def _add_product(_added: Sequence[int], a: Sequence[int], b: Sequence[int], *_: object, **__: object) -> int:
    return _product(a, b)


def _linear(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(x) * weight[0]


def _linear_backward(x: Sequence[int], _grad: Sequence[int], weight: Sequence[int], *rest: Any, **_: object) -> int:
    wanted = rest[0]  # gradients of: x, weight, bias
    return sum(wanted[:2]) * _linear(x, weight)


def _attention(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object) -> int:
    """Q K^T, then weights times V: (..., N, d) each, masked or not."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward(_grad: Sequence[int], *qkv: Any, **_: object) -> int:
    """Two products for each of the forward's; torch's formula adds the kernel's second run of Q K^T."""
    return 2 * _attention(*qkv)


def _convolution(x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    return 2 * x[0] * math.prod(out_shape[2:]) * math.prod(weight)


def _convolution_backward(grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **_: object) -> int:
    """As much for the image's gradient, and for the weight's, as forward; torch's takes `groups` times the latter."""
    transposed, wanted = rest[4], rest[7]  # gradients of: x, weight, bias
    return sum(wanted[:2]) * 2 * x[0] * math.prod((x if transposed else grad)[2:]) * math.prod(weight)


def _of_this_torch(formulas: dict[str, Callable[..., int]]) -> dict[Any, Callable[..., int]]:
    return {getattr(torch.ops.aten, name): f for name, f in formulas.items() if hasattr(torch.ops.aten, name)}


# Operators of CPU, MPS, XPU and others that torch counts as nothing.
_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_ANY_ATTENTION = "_scaled_dot_product_fused_attention_overrideable"
_ADDED_PRODUCTS = ("addmv", "addmv_", "addmm_", "addbmm", "addbmm_", "baddbmm_", "_addmm_activation")
_ADDED: dict[str, Callable[..., int]] = (
    dict.fromkeys((_CPU_ATTENTION, _ANY_ATTENTION, "_scaled_dot_product_attention_math_for_mps"), _attention)
    | dict.fromkeys((f"{_CPU_ATTENTION}_backward", f"{_ANY_ATTENTION}_backward"), _attention_backward)
    | dict.fromkeys(("linear", "mkldnn_linear"), _linear)
    | dict.fromkeys(("mv", "dot", "vdot", "_int_mm"), _product)
    | dict.fromkeys(_ADDED_PRODUCTS, _add_product)
    | {"linear_backward": _linear_backward, "mkldnn_convolution": _convolution}
)
_REPLACED: dict[str, Callable[..., int]] = {
    f"_scaled_dot_product_{kind}_attention_backward": _attention_backward for kind in ("flash", "efficient", "cudnn")
} | {"convolution_backward": _convolution_backward}
FORMULAS = (*_ADDED, *_REPLACED)  # names of operators, those that this torch lacks included
ADDED_FORMULAS, REPLACED_FORMULAS = _of_this_torch(_ADDED), _of_this_torch(_REPLACED)


# The device's fastest matrix product in a numeric mode: what achieved FLOP/s are held against.
PRODUCT_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # sides of the square matrices; large ones only on fast devices
PRODUCT_BLOCKS = 3
PRODUCT_BLOCK_SECONDS = 5e-3


def matmul_peak(
    device: CPU, precision: Precision, seconds: float = 0.3, now: Callable[[], float] = time.perf_counter
) -> float | None:
    """FLOP/s of this device's fastest square matrix product in a numeric mode, measured now.

    The matrices are in the type that the mode computes in before the clock starts: autocast would otherwise cast them
    for every product, and the peak would be that of the cast. Threads and TF32 are as they were set for the trial.

    Args:
        seconds: about how long it may take.
        now: a monotonic clock, seconds.

    Returns:
        The highest median over sizes from 256 up; None where the device has no product of that type.
    """
    random = torch.Generator(device.torch_device).manual_seed(0)  # its own: the trial's numbers stay as they are
    side = PRODUCT_SIZES[0]
    tile = torch.randn(side, side, generator=random, device=device.torch_device).to(precision.compute_dtype)

    factors: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def product_seconds(size: int, repeats: int) -> float:
        if size not in factors:
            a, b = tile.repeat(size // side, size // side), tile.t().repeat(size // side, size // side)
            factors[size] = a, b, torch.empty_like(a)
        a, b, out = factors[size]
        device.synchronize()
        start = now()
        for _ in range(repeats):
            torch.mm(a, b, out=out)  # into memory that is there: pages from the system would be timed too
        device.synchronize()
        return now() - start

    try:
        with torch.no_grad(), precision.context(device):
            return fastest_product(product_seconds, seconds)
    except NotImplementedError:
        return None


def fastest_product(product_seconds: Callable[[int, int], float], seconds: float) -> float | None:
    """Highest median FLOP/s over sizes; what time is left then goes to the best size, for a steadier median.

    Args:
        product_seconds: (size, repeats) -> seconds that so many products of that size took.
        seconds: stop before a size that wouldn't fit into the rest of this time.

    Returns:
        None where a product takes no time that the clock can tell.
    """
    rates: dict[int, list[float]] = {}
    repeats: dict[int, int] = {}
    spent = once = 0.0

    def timed(size: int, count: int) -> float:
        nonlocal spent
        taken = product_seconds(size, count)
        spent += taken
        return taken

    def rate(size: int) -> float:
        return 2 * size**3 * repeats[size] / timed(size, repeats[size])

    for size in PRODUCT_SIZES:
        if spent + once * 8 * (2 + PRODUCT_BLOCKS) > seconds and rates:  # twice the side, eight times the work
            break
        timed(size, 1)  # chooses a kernel, touches the memory
        once = timed(size, 1)
        if once <= 0:
            return None  # a clock too coarse to tell
        repeats[size] = math.ceil(PRODUCT_BLOCK_SECONDS / once)
        rates[size] = [rate(size) for _ in range(PRODUCT_BLOCKS)]
    best = max(rates, key=lambda size: median(rates[size]))
    while spent + PRODUCT_BLOCK_SECONDS <= seconds:
        rates[best].append(rate(best))
    return median(rates[best])
