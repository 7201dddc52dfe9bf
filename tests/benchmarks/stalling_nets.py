"""Networks whose training loses time beyond its steps, for speed_proof.py: by sleep, and by litter to be collected."""

import time

from torch import Tensor, nn


class Stalling(nn.Sequential):
    """A small convolutional network; of its training steps each so many sleep, or all leave lists to be collected."""

    def __init__(self, in_channels: int, num_classes: int, sleep_every: int = 0, litter: int = 0) -> None:
        pooled = nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 16, num_classes)
        super().__init__(nn.Conv2d(in_channels, 16, 3, padding=1), nn.ReLU(), *pooled)
        self.sleep_every, self.litter, self.steps = sleep_every, litter, 0

    def forward(self, images: Tensor) -> Tensor:
        if self.training and images.device.type != "meta":
            self.steps += 1
            if self.sleep_every and self.steps % self.sleep_every == 0:
                time.sleep(0.05)
            for _ in range(self.litter):
                knot: list[object] = []
                knot.append(knot)
        return super().forward(images)


def plain(in_channels: int, num_classes: int) -> nn.Module:
    return Stalling(in_channels, num_classes)


def sleepy(in_channels: int, num_classes: int) -> nn.Module:
    """Each 50th step sleeps for 50 ms."""
    return Stalling(in_channels, num_classes, sleep_every=50)


def littering(in_channels: int, num_classes: int) -> nn.Module:
    """Each step leaves 20,000 lists that hold themselves, which only a collection frees."""
    return Stalling(in_channels, num_classes, litter=20_000)
