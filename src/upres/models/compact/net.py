"""The embedded network in tensors: twice the size, one frame at a time. Knows nothing of files, tiles or clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 2  # one pass doubles height and width; the restorer applies it as often as it must
KERNEL = 3


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """`channels` wide, `depth` convolutions between the first and the last; every second one closes a skip."""

    channels: int = 48
    depth: int = 6

    def __post_init__(self) -> None:
        if self.channels < 1 or self.depth < 2 or self.depth % 2:
            raise ValueError(f"channels={self.channels}, depth={self.depth}: depth must be even and at least 2")

    @property
    def reach(self) -> int:
        """How many input pixels away a pixel can still change an output pixel (bicubic alone reaches 2)."""
        return (self.depth + 2) * (KERNEL // 2)


class CompactNet(nn.Module):
    """Bicubic enlargement plus what 3x3 convolutions add to it. B 3 H+2r W+2r, float, [-1, 1] -> B 3 2H 2W.

    No convolution pads: the network is given r = `config.reach` pixels on every side beyond those it answers for, so a
    tile comes out as it would within the whole frame, and at a frame's edge nothing black or grey seeps in (`widen`).
    All convolutions run at input size; the last yields the SCALE * SCALE sub-pixels of each colour (sub-pixel
    convolution: Shi et al. 2016, arXiv:1609.05158). The sum is float32 whatever the convolutions' dtype, so that half
    precision touches the added detail only, never the picture itself.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.head = convolution(3, config.channels)
        self.body = nn.ModuleList(SkipPair(config.channels) for _ in range(config.depth // 2))
        self.tail = convolution(config.channels, 3 * SCALE * SCALE)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = inner(enlarge(x), SCALE * self.config.reach) + self.detail(x).float()
        return output

    def detail(self, x: Tensor) -> Tensor:
        """The residual over bicubic, in the dtype of the weights. B 3 H+2r W+2r -> B 3 2H 2W."""
        x = functional.relu(self.head(x.to(self.head.weight.dtype)))
        for pair in self.body:
            x = pair(x)
        return functional.pixel_shuffle(self.tail(x), SCALE)  # b (c dy dx) h w -> b c (h dy) (w dx)


class SkipPair(nn.Module):
    """Two convolutions with a skip around them. B C H W -> B C H-4 W-4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(inner(x, 2 * (KERNEL // 2)) + self.second(functional.relu(self.first(x))))


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, KERNEL)


def inner(x: Tensor, margin: int) -> Tensor:
    """Without `margin` pixels on every side."""
    return x[..., margin:-margin, margin:-margin]


def widen(x: Tensor, margin: int) -> Tensor:
    """`margin` more pixels on every side, copies of the nearest one of the edge."""
    return functional.pad(x, (margin, margin, margin, margin), mode="replicate")


def enlarge(x: Tensor) -> Tensor:
    """Bicubic x2 (torch: a = -0.75), always in float32."""
    return functional.interpolate(x.float(), scale_factor=float(SCALE), mode="bicubic", align_corners=False)


def resample(x: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic (a = -0.5) to any size. B C H W, float32; the same tensor if it already has that size."""
    if x.shape[-2:] == torch.Size((height, width)):
        return x
    return functional.interpolate(x, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
