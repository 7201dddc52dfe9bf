"""Residual CNN baseline: "Deep Residual Learning for Image Recognition" (He et al. 2016), made small.

Shape letters: B batch, C channels, H W image, W0 width, K classes.
"""

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_MAP = 4  # pixels: a stage that would leave a smaller feature map than this isn't opened


class CNNConfig(BaseModel):
    """Settings of a CNN; `image_size`, `in_channels` and `num_classes` come from the dataset.

    `depth` makes it deeper, `width` makes it wider, and nothing else needs to change with either.

    Raises:
        ValueError: an even `kernel_size`, which has no middle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    depth: int = Field(2, ge=1, le=1000, description="number of residual blocks, spread evenly over the stages")
    width: int = Field(24, ge=1, description="channels of the first stage; each further stage doubles them")
    kernel_size: int = Field(3, ge=3, description="side of the kernels, pixels; odd")
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
    """Two convolutions around a shortcut (He et al. 2016, figure 2); the shortcut is projected where shapes differ.

    Shape: (B, Cin, H, W) -> (B, Cout, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, kernel_size, stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel_size)
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x), inplace=True)
        return F.relu(self.conv2(y) + self.shortcut(x), inplace=True)


class CNN(nn.Module):
    """Stem, residual blocks in stages, mean over the map, head.

    Every stage halves the map and, after the first, doubles the channels; there are as many stages as leave a map
    of at least 4 pixels, and never more than blocks.

    Shape: (B, C, H, W) -> logits (B, K).
    """

    def __init__(self, config: CNNConfig, image_size: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        stages = max(1, min(config.depth, int(math.log2(image_size / SMALLEST_MAP))))
        channels = config.width
        self.stem = ConvNorm(in_channels, channels, config.kernel_size, stride=2)
        blocks = []
        for index in range(config.depth):
            stage, before = index * stages // config.depth, (index - 1) * stages // config.depth
            opens = index > 0 and stage != before
            out_channels = config.width * 2**stage
            blocks.append(ConvBlock(channels, out_channels, config.kernel_size, stride=2 if opens else 1))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(channels, num_classes)
        self.init_weights()

    def init_weights(self) -> None:
        """He initialisation for convolutions ("Delving Deep into Rectifiers", 2015); torch's for the head."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        x = self.blocks(x)  # (B, W0 * 2**(stages-1), H', W')
        x = x.mean(dim=(2, 3))
        return self.head(self.drop(x))  # (B, K)
