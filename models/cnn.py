"""Residual CNN baseline: "Deep Residual Learning for Image Recognition" (He et al. 2016), made small.

Shape letters: B batch, C channels, H W image, W0 width, K classes.
"""

import math

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_MAP = 4  # pixels: a stage that would leave a smaller feature map than this isn't opened


class CNNConfig(BaseModel):
    """Settings of a CNN; `image_size`, `in_channels` and `num_classes` come from the dataset.

    `depth` makes it deeper, `width` makes it wider, and nothing else needs to change with either. `growth` is the finer
    setting: with whole widths alone, no two families have equal parameters to within 2%.

    Raises:
        ValueError: an even `kernel_size`, which has no middle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    depth: int = Field(2, ge=1, le=1000, description="number of residual blocks, spread evenly over the stages")
    width: int = Field(24, ge=1, description="channels of the first stage")
    growth: float = Field(2.0, ge=1, le=8, description="channels of a stage over those of the stage before; rounded")
    kernel_size: int = Field(3, ge=3, description="side of the kernels, pixels; odd; 2 more in the stem")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the head")

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> "CNNConfig":
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} is even; it has to be odd")
        return self


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalisation. Shape: (B, Cin, H, W) -> (B, Cout, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class ConvBlock(nn.Module):
    """Two convolutions around a shortcut (He et al. 2016, figure 2).

    Where shapes differ, the shortcut has no weights: it takes means over squares of the map and fills up with channels
    of zeros (He et al.'s option A, but with means where they leave pixels out).

    Shape: (B, Cin, H, W) -> (B, Cout, H/stride, W/stride), Cout >= Cin.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, kernel_size, stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel_size)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        return F.relu(y + self.shortcut(x), inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # as many pixels as a padded convolution leaves
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return x


class CNN(nn.Module):
    """Stem, residual blocks in stages, mean and maximum over the map, head.

    Every stage after the first halves the map and has `growth` times the channels (twice as many, unless told
    otherwise); there are as many stages as leave a map of at least 4 pixels, and never more than blocks.

    Shape: (B, C, H, W) -> logits (B, K).
    """

    def __init__(self, config: CNNConfig, image_size: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        stages = max(1, min(config.depth, int(math.log2(image_size / SMALLEST_MAP))))
        channels = config.width
        # Two pixels wider than the rest: with stride 2, a 3x3 kernel would see a quarter of the pixels only once.
        self.stem = ConvNorm(in_channels, channels, config.kernel_size + 2, stride=2)
        blocks = []
        for index in range(config.depth):
            stage, before = index * stages // config.depth, (index - 1) * stages // config.depth
            opens = index > 0 and stage != before
            out_channels = round(config.width * config.growth**stage)
            blocks.append(ConvBlock(channels, out_channels, config.kernel_size, stride=2 if opens else 1))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * channels, num_classes)
        self.init_weights()

    def init_weights(self) -> None:
        """Uniform within 1 / sqrt(fan in) for convolutions and head, as LeCun et al. 1998 and torch; biases zero.

        He et al.'s start (2015), 2.4 times as large, learns more slowly: behind a normalisation only direction counts,
        and steps of one size turn a longer weight less.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        x = self.blocks(x)  # (B, round(W0 * growth**(stages-1)), H', W')
        # The mean says how much of a feature there is, the maximum whether it is there at all; with both, fewer epochs
        # are needed than with the mean alone (results/reference/recipes.md).
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.head(self.drop(x))  # (B, K)
