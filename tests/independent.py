"""A second opinion: IDX files, saved weights, both models and their costs, in NumPy and float64, from their papers.

Nothing here comes from bench or models, nor from torch: what they agree on was worked out twice. Images are
(N, C, H, W); weights are a dictionary by the names that a trial's model.safetensors has.
"""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]
Weights = dict[str, Array]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # what is saved and isn't learned


def read_idx(path: Path) -> NDArray[np.uint8]:
    """http://yann.lecun.com/exdb/mnist: two zeros, the type, the number of sides, the sides, the bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert content[:3] == b"\0\0\x08", "unsigned bytes"
    sides = [int.from_bytes(content[4 * n : 4 * n + 4], "big") for n in range(1, content[3] + 1)]
    return np.frombuffer(content[4 * len(sides) + 4 :], np.uint8).reshape(sides)


def read_weights(path: Path) -> Weights:
    """https://github.com/huggingface/safetensors: eight bytes of length, a header in JSON, the numbers."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, about in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in about["data_offsets"])
            dtype = {"F32": "<f4", "I64": "<i8"}[about["dtype"]]
            found[name] = np.frombuffer(content[first:last], dtype).reshape(about["shape"]).astype(float)
    return found


def num_params(weights: Weights) -> int:
    return sum(weight.size for name, weight in weights.items() if not name.endswith(BUFFERS))


class Net:
    """Layers on `weights`; `flops` is what its products took so far, a multiply-add counted as two."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.flops = 0

    def linear(self, x: Array, name: str) -> Array:
        weight = self.weights[f"{name}.weight"]
        self.flops += 2 * x.size * len(weight)
        return x @ weight.T + self.weights[f"{name}.bias"]

    def product(self, a: Array, b: Array) -> Array:
        found: Array = a @ b
        self.flops += 2 * found.size * a.shape[-1]
        return found

    def layer_norm(self, x: Array, name: str) -> Array:
        apart = x - x.mean(-1, keepdims=True)
        apart /= np.sqrt((apart**2).mean(-1, keepdims=True) + 1e-6)
        return apart * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def conv_norm(self, x: Array, name: str, stride: int = 1) -> Array:
        """A convolution around each pixel, or every second one; then batch normalisation by what training saw."""
        kernel, norm = self.weights[f"{name}.0.weight"], f"{name}.1"
        reach, side = kernel.shape[-1] // 2, kernel.shape[-1]
        padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))[:, :, ::stride, ::stride]
        y = np.einsum("nchwij,kcij->nkhw", windows, kernel, optimize=True)
        self.flops += 2 * y.size * kernel[0].size
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + 1e-5)
        shift = self.weights[f"{norm}.bias"] - scale * self.weights[f"{norm}.running_mean"]
        return y * scale[:, None, None] + shift[:, None, None]


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def vit(net: Net, settings: dict[str, Any], images: Array) -> Array:
    """Dosovitskiy et al. 2021, with the norm before each branch; logits (N, K)."""
    N, C, H, W = images.shape
    P, heads = settings["patch_size"], settings["num_heads"]
    patches = images.reshape(N, C, H // P, P, W // P, P).transpose(0, 2, 4, 1, 3, 5).reshape(N, -1, C * P * P)
    x = net.linear(patches, "patch_embed.proj")
    pooled = settings["pool"] == "class"
    if pooled:
        x = np.concatenate([np.broadcast_to(net.weights["cls_token"], (N, 1, x.shape[-1])), x], axis=1)
    x = x + net.weights["pos_embed"]
    for block in range(settings["depth"]):
        name = f"blocks.{block}"
        # Of the last block only the class token's row is ever looked at.
        asking = slice(1) if pooled and block == settings["depth"] - 1 else slice(None)
        parts = net.linear(net.layer_norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        q, k, v = (part.reshape(N, x.shape[1], heads, -1).transpose(0, 2, 1, 3) for part in np.split(parts, 3, axis=-1))
        scores = net.product(q[:, :, asking], k.transpose(0, 1, 3, 2)) / math.sqrt(q.shape[-1])
        seen = net.product(softmax(scores), v).transpose(0, 2, 1, 3)
        x = x[:, asking] + net.linear(seen.reshape(N, seen.shape[1], -1), f"{name}.attn.proj")
        hidden = net.linear(net.layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        x = x + net.linear(hidden * (1 + erf(hidden / math.sqrt(2))) / 2, f"{name}.mlp.fc2")
    return net.linear(net.layer_norm(x, "norm").mean(1), "head")


def cnn(net: Net, settings: dict[str, Any], images: Array) -> Array:
    """He et al. 2016, with shortcuts that have no weights; logits (N, K)."""
    depth = settings["depth"]
    stages = max(1, min(depth, int(math.log2(images.shape[-1] / 4))))  # maps of at least 4 pixels
    x = np.maximum(net.conv_norm(images, "stem", stride=2), 0)
    for block in range(depth):
        opens = block > 0 and block * stages // depth > (block - 1) * stages // depth
        y = np.maximum(net.conv_norm(x, f"blocks.{block}.conv1", stride=2 if opens else 1), 0)
        y = net.conv_norm(y, f"blocks.{block}.conv2")
        if opens:  # means over squares
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5))
        x = np.pad(x, ((0, 0), (0, y.shape[1] - x.shape[1]), (0, 0), (0, 0)))
        x = np.maximum(y + x, 0)
    return net.linear(np.concatenate([x.mean((2, 3)), x.max((2, 3))], axis=1), "head")


MODELS = {"vit": vit, "cnn": cnn}


def logits_of(folder: Path, images: NDArray[np.uint8], weights: str = "model.safetensors") -> tuple[Array, Net]:
    """What a trial's folder makes of grey levels (N, H, W), and the net with what that took."""
    trial, inputs = (json.loads((folder / name).read_text()) for name in ("trial.json", "data.json"))
    net = Net(read_weights(folder / weights))
    normalised = (images[:, None] - inputs["mean"][0]) / inputs["std"][0]
    return MODELS[trial["model"]](net, trial["settings"], normalised), net


def calibration_error(confidences: list[float], right: list[bool]) -> float:
    """ECE_sweep as the paper's algorithm reads: add bins while accuracy rises with confidence."""
    pairs = sorted(zip(confidences, right, strict=True), key=lambda pair: pair[0])
    best = 0.0
    for bins in range(1, len(pairs) + 1):
        cut = [pairs[i * len(pairs) // bins : (i + 1) * len(pairs) // bins] for i in range(bins)]
        accuracies = [sum(hit for _, hit in part) / len(part) for part in cut]
        if accuracies != sorted(accuracies):
            break
        sure = [sum(confidence for confidence, _ in part) / len(part) for part in cut]
        gaps = [len(part) * abs(a - s) for part, a, s in zip(cut, accuracies, sure, strict=True)]
        best = sum(gaps) / len(pairs)
    return best
