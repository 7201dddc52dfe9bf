"""What a made-up trial has measured: curves, timed blocks, and what the passes after training find."""

import math
import random

from bench.result import Result

IMAGES_PER_EPOCH = 55_000
MATMUL = 8e10  # FLOP/s
BATCHES = (1, 16, 128, 512)


def look_closer(result: Result, noise: random.Random, joules: bool) -> None:
    """What the passes after training find: inference, latency, the split of a step and of memory, energy."""
    speed, memory = result.images_per_second or math.nan, result.peak_memory_bytes or 0
    batch_size, num_params = result.batch_size or 0, result.num_params or 0
    step = batch_size / speed
    compiled = result.compile != "false"
    result.first_step_seconds = 21.0 * math.exp(noise.gauss(0, 0.05)) if compiled else 0.08
    result.compile_seconds = result.first_step_seconds - step if compiled else None
    result.warm_up_seconds, result.untimed_steps, result.instrument_seconds = result.first_step_seconds + 0.4, 40, 2.0
    result.step_seconds = step
    parts = zip(("data", "forward", "backward", "optimizer"), (0.05, 0.3, 0.52, 0.11), strict=True)
    for part, share in parts:
        setattr(result, f"{part}_seconds", step * share * math.exp(noise.gauss(0, 0.02)))
    result.inference_images_per_second = 3.1 * speed
    result.inference_images_per_second_low, result.inference_images_per_second_high = 3.05 * speed, 3.15 * speed
    for percentile, factor in ((50, 1.0), (95, 1.2), (99, 1.6)):
        setattr(result, f"latency_p{percentile}_seconds", factor * (4e-4 + 4 / speed))
    for batch in BATCHES:
        rate = 3.3 * speed * batch / (batch + 24)
        for block in range(4):
            images = max(1, round(rate * 0.05 / batch)) * batch
            seconds = images / rate * math.exp(noise.gauss(0, 0.01))
            result.inference_blocks.append({"batch_size": batch, "block": block, "images": images, "seconds": seconds})
    result.flops_per_second = speed * (result.num_train_flops or 0)
    result.matmul_flops_per_second = MATMUL
    result.flops_share = result.flops_per_second / MATMUL
    result.param_bytes = result.gradient_bytes = 4 * num_params
    result.optimizer_bytes = 8 * num_params
    result.activation_bytes = memory - 16 * num_params
    if joules:
        result.train_joules = 40 * (result.train_seconds or 0)
        result.joules_per_epoch = result.train_joules / (result.epochs or 1)
        result.joules_to_accuracy = 0.4 * result.train_joules


def measure(result: Result, error: float, speed: float, memory: float, noise: random.Random) -> None:
    """Fill in what a finished trial has measured, its learning curve and its timed blocks."""
    assert result.epochs
    curve, points = [], 5
    for point in range(1, result.epochs * points + 1):
        share = point / (result.epochs * points)
        loss = (0.55 * math.exp(-8 * share) + error * (1.15 - 0.15 * share)) * math.exp(noise.gauss(0, 0.06))
        curve.append((point / points, min(loss, 0.9)))
    for epoch, wrong in curve:
        row = {"epoch": epoch, "step": round(epoch * 429), "train_seconds": epoch * IMAGES_PER_EPOCH / speed}
        result.evaluations.append(row | {"train_loss": 4 * wrong, "val_loss": 3.6 * wrong, "val_accuracy": 1 - wrong})
    for block in range(8):
        seconds = 0.25 * math.exp(noise.gauss(0, 0.015))
        result.blocks.append({"block": block, "steps": 20, "images": round(speed * 0.25), "seconds": seconds})
    result.train_seconds = result.epochs * IMAGES_PER_EPOCH / speed
    result.eval_seconds, result.setup_seconds = 0.1 * result.train_seconds, 0.9
    result.wall_seconds = result.train_seconds + result.eval_seconds + result.setup_seconds
    result.images_per_second, result.throughput_spread = speed, 0.03
    result.images_per_second_low, result.images_per_second_high = 0.985 * speed, 1.015 * speed
    result.peak_memory_bytes = round(memory * math.exp(noise.gauss(0, 0.01)))
    result.evaluation_interval_seconds = IMAGES_PER_EPOCH / speed / points
    result.val_accuracy = result.val_accuracy_best = 1 - curve[-1][1]
    result.test_accuracy = result.test_accuracy_best = 1 - error * math.exp(noise.gauss(0, 0.04))
