"""The tiny conditional decoder: from latents and the enlarged source frames to frames, four for each latent frame.

Knows nothing of the transformer. A TAEHV decoder (madebyollin/taehv) with the source as a condition, as in
OpenImagingLab/FlashVSR ccac0ac; numbers of layers are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.causal import laid_out
from upres.models.kernels.frame_convolution import convolved, doubled, last_two, merged, paired, takes

FRAMES = 4  # for each latent frame
SCALE = 8
CONDITION = 3 * FRAMES * SCALE**2
LEAD = FRAMES - 1  # frames that the first latent frame of a clip makes and that are none of it
MEMORY_BLOCKS = 3  # of each width
GROWTH = (1, 2, 2)  # how many frames each further width makes of one
SLICE_BYTES = 2 << 30  # of one layer's output at most, unless a single frame is larger


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    channels: tuple[int, int, int, int] = (512, 256, 128, 128)
    latent_channels: int = 16


class DecoderMemory:
    """The last frame that each memory block of the decoder saw of one clip."""

    def __init__(self) -> None:
        self._last: dict[nn.Module, Tensor] = {}
        self.merged: tuple[Tensor, ...] = ()  # what the fused way makes of the decoder's weights

    @property
    def fresh(self) -> bool:
        return not self._last

    @property
    def nbytes(self) -> int:
        return sum(x.untyped_storage().nbytes() for x in self._last.values())

    def before(self, block: nn.Module, x: Tensor) -> Tensor:
        """The frame before those of `x`, zeros before a clip; the last of `x` is remembered."""
        last = self._last[block] if block in self._last else torch.zeros_like(x[:1])
        self._last[block] = x[-1:].clone()
        return last


class TinyDecoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        widths = config.channels
        layers: dict[str, nn.Module] = {"1": _conv(CONDITION + config.latent_channels, widths[0], bias=True),
                                        "3": _conv(widths[0], widths[0])}  # fmt: skip
        for level, (width, following, growth) in enumerate(zip(widths, widths[1:], GROWTH, strict=False)):
            first = 5 + 6 * level
            layers |= {str(first + n): MemoryBlock(width) for n in range(MEMORY_BLOCKS)}
            layers |= {str(first + 4): Grow(width, growth), str(first + 5): _conv(width, following)}
        layers |= {"24": _conv(widths[3], widths[3]), "26": _conv(widths[3], 3, bias=True)}
        self.decoder = nn.ModuleDict(layers)
        self.config = config

    def open(self) -> DecoderMemory:
        return DecoderMemory()

    def forward(self, latents: Tensor, frames: Tensor, memory: DecoderMemory) -> Tensor:
        """latents: c t H/8 W/8; frames: T C H W, [-1, 1], T = 4t, and 4t-3 at the start of a clip -> frames like these.

        A latent frame or more at a time, however many fit into memory: each sees those before it only.
        """
        lead = frames[:1].expand(-len(frames) % FRAMES, -1, -1, -1)
        condition = rearrange(torch.cat((lead, frames)), "(t a) c (h y) (w x) -> t (c a y x) h w",
                              a=FRAMES, y=SCALE, x=SCALE)  # fmt: skip
        x = torch.cat((condition, rearrange(latents, "c t h w -> t c h w")), dim=1)
        x = laid_out(torch.tanh(x / 3) * 3)
        dropped = LEAD if memory.fresh else 0
        out = torch.cat([frame for part in self._split(x, 1, FRAMES // 2) for frame in self._decode(part, memory)])
        return out[dropped:].mul_(2).sub_(1)

    def _decode(self, x: Tensor, memory: DecoderMemory) -> Iterator[Tensor]:
        fast = takes(x[:, :0], *(self._conv(name).weight for name in (10, 16, 22, 24)))
        if fast and not memory.merged:
            memory.merged = tuple(merged(self._conv(n).weight, self._conv(n + 1).weight) for n in (9, 15, 21))
        x = convolved(x, self._conv(1).weight, self._conv(1).bias)
        x = convolved(x, self._conv(3).weight)
        for level, first in enumerate((5, 11, 17)):
            for number in range(first, first + MEMORY_BLOCKS):
                x = self.decoder[str(number)](x, memory)
            if first < 17:
                x = doubled(x, memory.merged[level]) if fast else self._conv(first + 5)(self._doubled(x, first + 4))
        for part in self._split(x, 2, GROWTH[-1]):  # from here on each frame stands for itself
            if fast:
                whole = doubled(part, memory.merged[-1], relu=True)
            else:
                whole = convolved(self._doubled(part, 21), self._conv(22).weight)
            last = self._conv(26)
            assert last.bias is not None
            yield last_two(whole, self._conv(24).weight, last.weight, last.bias)

    def _doubled(self, x: Tensor, grow: int) -> Tensor:
        """Doubling the size and a 1x1 convolution may change places: the convolution is done where it is cheap."""
        return F.interpolate(self.decoder[str(grow)](x), scale_factor=2.0, mode="nearest")

    def _conv(self, number: int) -> nn.Conv2d:
        layer = self.decoder[str(number)]
        conv = layer.conv if isinstance(layer, Grow) else layer
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _split(self, x: Tensor, scale: int, frames: int) -> tuple[Tensor, ...]:
        """Into parts whose widest layer, `frames` frames for each of `x` and `scale` or more times its size, fits."""
        grown = (SCALE // 2) if scale == 1 else scale
        frame_bytes = frames * max(self.config.channels[2:]) * x[0, 0].numel() * grown**2 * x.element_size()
        return torch.split(x, max(1, SLICE_BYTES // frame_bytes))


class MemoryBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(2 * channels, channels, bias=True), nn.ReLU(),
                                  _conv(channels, channels, bias=True), nn.ReLU(),
                                  _conv(channels, channels, bias=True))  # fmt: skip

    def forward(self, x: Tensor, memory: DecoderMemory) -> Tensor:
        first, second, third = (part for part in self.conv if isinstance(part, nn.Conv2d))
        change = convolved(paired(x, memory.before(self, x)), first.weight, first.bias)
        return convolved(convolved(change, second.weight, second.bias), third.weight, third.bias, x)


class Grow(nn.Module):
    """Each frame becomes `times` frames. T C H W"""

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, times * channels, 1, bias=False)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        return laid_out(rearrange(self.conv(x), "t (n c) h w -> (t n) c h w", n=self.times))


def _conv(channels: int, out_channels: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias)
