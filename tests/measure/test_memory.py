"""The split of a peak: exact bytes for known models and optimisers, and a known allocation in a process of its own."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from bench.config.recipes import RECIPES
from bench.measure.memory import MemorySplit, split_memory
from bench.training.optim import build_optimizer
from bench.trial import Training
from models import build_model

ROOT = Path(__file__).parents[2]
MIB = 2**20
STEP = 4  # bytes of a step count, float32


def learner(make: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[nn.Module, optim.Optimizer]:
    """A linear layer of 100 weights and no bias, and its optimiser, after a step."""
    network = nn.Linear(20, 5, bias=False).to(dtype)
    optimizer = make(network.parameters(), lr=0.1, **settings)
    network(torch.ones(2, 20, dtype=dtype)).sum().backward()
    optimizer.step()
    return network, optimizer


@pytest.mark.parametrize(
    ("make", "settings", "dtype", "expected"),
    [
        (optim.Adam, {}, torch.float32, (400, 400, 2 * 400 + STEP)),
        (optim.AdamW, {"fused": True}, torch.float32, (400, 400, 2 * 400 + STEP)),
        (optim.AdamW, {"amsgrad": True}, torch.float32, (400, 400, 3 * 400 + STEP)),
        (optim.SGD, {"momentum": 0.9}, torch.float32, (400, 400, 400)),
        (optim.SGD, {}, torch.float32, (400, 400, 0)),
        (optim.SGD, {"momentum": 0.9}, torch.bfloat16, (200, 200, 200)),
        (optim.Adam, {}, torch.bfloat16, (200, 200, 2 * 200 + STEP)),
    ],
)
def test_parts_of_a_known_learner_are_exact(
    make: Any, settings: dict[str, Any], dtype: torch.dtype, expected: tuple[int, int, int]
) -> None:
    split = split_memory(*learner(make, dtype, **settings), peak_bytes=10_000)
    assert split == MemorySplit(*expected, activation_bytes=10_000 - sum(expected))


@pytest.mark.parametrize(("optimizer", "moments"), [("adam", 2), ("adamw", 2), ("sgd", 1)])
@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_our_own_optimisers_state_is_found_wherever_it_is_kept(family: str, optimizer: str, moments: int) -> None:
    network = build_model(family, {}, 28, 1, 10)
    settings = RECIPES["notebook"].model_dump() | {"optimizer": optimizer, "beta1": 0.9}
    updater = build_optimizer(network, Training(**settings))
    network(torch.zeros(2, 1, 28, 28)).sum().backward()
    updater.step()
    weights = 4 * sum(p.numel() for p in network.parameters())
    buffers = sum(b.numel() * b.element_size() for b in network.buffers())

    split = split_memory(network, updater, peak_bytes=None)
    assert split.param_bytes == weights + buffers
    assert split.gradient_bytes == weights
    counts = split.optimizer_bytes - moments * weights
    assert 0 <= counts <= STEP * len(list(network.parameters()))
    assert (counts > 0) == (moments == 2)
    assert split.activation_bytes is None


def test_gradients_that_were_let_go_are_counted_by_their_weights_and_frozen_weights_have_none() -> None:
    network, optimizer = learner(optim.SGD)
    optimizer.zero_grad()
    assert split_memory(network, optimizer, None).gradient_bytes == 400
    network.requires_grad_(False)
    assert split_memory(network, optimizer, None).gradient_bytes == 0


def test_tensors_that_share_storage_count_once() -> None:
    layers = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
    weight = layers[1].weight = layers[0].weight
    network = nn.Sequential(*layers)
    flat = torch.zeros(100)
    optimizer = optim.SGD(network.parameters(), lr=0.1)
    vars(optimizer)["views"] = {"all": flat, "halves": (flat[:50], flat[50:]), "weights": [weight.detach()]}
    vars(optimizer)["inner"] = optim.SGD([{"params": [weight], "lr": torch.tensor(0.1)}])
    vars(optimizer)["outer"] = optimizer  # a circle
    split = split_memory(network, optimizer, None)
    assert (split.param_bytes, split.gradient_bytes, split.optimizer_bytes) == (400, 400, 400 + 4)


def test_peak_below_its_parts_leaves_activations_unknown() -> None:
    network, optimizer = learner(optim.SGD)
    assert split_memory(network, optimizer, 800).activation_bytes == 0
    assert split_memory(network, optimizer, 799).activation_bytes is None


class Known(nn.Module):
    """A network whose one activation that lasts is the 200 MiB between a frozen layer and a learning one.

    Nothing asks for that activation's own gradient. The 16 MiB of `spare` have a gradient and a state of that size.
    """

    BATCH, WIDTH = 12_800, 4_096
    ACTIVATION_BYTES = 4 * BATCH * WIDTH

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.up = nn.Linear(8, width).requires_grad_(False)
        self.down = nn.Linear(width, 1)
        self.spare = nn.Parameter(torch.ones(4 * MIB))
        self.register_buffer("table", torch.ones(2 * MIB))  # 8 MiB

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x)).sum() + self.spare.sum()


def measure_known_activation() -> dict[str, int | None]:
    """Run in a fresh process: the split of three steps' peak on the CPU."""
    from bench.system.device import open_device

    device = open_device("cpu")

    def train(width: int, batch: int, steps: int) -> tuple[nn.Module, optim.Optimizer]:
        network, images = Known(width), torch.ones(batch, 8)
        optimizer = optim.Adam([p for p in network.parameters() if p.requires_grad], fused=True)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=False)
            network(images).backward()
            optimizer.step()
        return network, optimizer

    train(8, 8, steps=2)  # libraries that load at their first use are no activation
    device.reset_peak_memory()
    split = split_memory(*train(Known.WIDTH, Known.BATCH, steps=3), device.peak_memory_bytes())
    return vars(split)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak can't be reset")
@pytest.mark.slow
def test_activations_of_a_known_size_are_found_in_the_peak() -> None:
    code = "import json, test_memory; print(json.dumps(test_memory.measure_known_activation()))"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests/measure', 'tests', '.']; {code}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    split = json.loads(run.stdout.splitlines()[-1])
    learned = 4 * (4 * MIB + Known.WIDTH + 1)
    assert split["param_bytes"] == learned + 4 * 2 * MIB + 4 * (8 * Known.WIDTH + Known.WIDTH)
    assert split["gradient_bytes"] == learned
    assert split["optimizer_bytes"] == 2 * learned + 3 * STEP
    assert split["activation_bytes"] == pytest.approx(Known.ACTIVATION_BYTES, rel=0.02)


def measure_against_live_tensors(family: str, batch_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Run in a fresh process: of each batch size a trial's peak, and the most bytes of tensors that lived at once."""
    import torch.profiler
    from torch._C._profiler import _EventType

    from bench.config.recipes import RECIPES
    from bench.measure.stopwatch import Stopwatch
    from bench.result import Result
    from bench.training import run
    from bench.training.trial_setup import new_learner, set_up
    from bench.trial import Trial
    from models import MODELS

    found = []
    for batch_size in batch_sizes:
        recipe = RECIPES[family].model_copy(update={"batch_size": batch_size})
        settings = MODELS[family][0](**SETTINGS[family]).model_dump()
        trial = Trial(
            suite="x", dataset="digits", model=family, settings=settings, recipe=family, training=recipe,
            dtype="fp32", device="cpu", seed=0, targets=(), instrument_seconds=0.0, timed=False,
        )  # fmt: skip
        result, setup = Result(), set_up(trial, None, Stopwatch())
        run._warm_up(setup, result)
        with torch.profiler.profile(profile_memory=True) as profile:
            learner, source = new_learner(setup), iter(setup.batches)
            for _ in range(3):
                learner.step(*next(source))
        events, sizes = list(profile.profiler.kineto_results.experimental_event_tree()), []
        while events:
            event = events.pop()
            events += event.children
            if event.tag == _EventType.Allocation:
                sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
        live = itertools.accumulate(size for _, size in sorted(sizes))
        found.append((result.peak_memory_bytes or 0, max(live)))
        del learner, source
    return found


# Convolutions have workspace of their own besides tensors, up to 2.5 MiB here and more with more channels.
SETTINGS = {"vit": {"patch_size": 1, "depth": 3}, "cnn": {"depth": 2, "width": 16}}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak can't be reset")
@pytest.mark.slow
@pytest.mark.parametrize("family", SETTINGS)
def test_a_trials_peak_is_that_of_its_live_tensors_at_every_batch_size(family: str) -> None:
    asked = f"t.measure_against_live_tensors('{family}', [256, 512, 1024])"
    code = f"import json, test_memory as t; print(json.dumps({asked}))"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests/measure', 'tests', '.']; {code}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for peak, live in json.loads(run.stdout.splitlines()[-1]):
        assert live > 3 * MIB
        assert peak == pytest.approx(live, rel=0.05, abs=3 * MIB)
