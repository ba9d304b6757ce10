"""The decoder of Wan 2.1's autoencoder, one latent frame at a time. Knows nothing of FlashVSR's other parts.

Wan-Video/Wan2.1, wan/modules/vae.py; parameter names are those of Wan2.1_VAE.pth, whose encoder is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.causal import ChannelNorm, laid_out

SCALE = 8
KEPT = 2  # frames of a convolution's input that its next call sees again
WIDTHS = (4, 4, 4, 2, 1)  # in units of the finest; the first is the entry's
RES_BLOCKS = 3  # of each width
# What the latents were normalised with (wan/modules/vae.py)
MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
       3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WanConfig:
    width: int = 96  # channels at full size


class WanMemory:
    """The last input frames of each convolution over time, of one clip."""

    def __init__(self) -> None:
        self._tails: dict[nn.Module, Tensor] = {}
        self.started = False  # has the first latent frame been decoded?

    @property
    def nbytes(self) -> int:
        return sum(tail.untyped_storage().nbytes() for tail in self._tails.values())

    def preceded(self, conv: nn.Module, x: Tensor) -> Tensor:
        """`x` after what the convolution saw before it; before a clip there is nothing. B C T H W"""
        if conv not in self._tails:
            self._tails[conv] = torch.zeros_like(x[:, :, :1]).expand(-1, -1, KEPT, -1, -1)
        x = torch.cat((self._tails[conv], x), dim=2)
        self._tails[conv] = x[:, :, -KEPT:].clone()
        return x


class CausalConv3d(nn.Conv3d):
    """Three frames, of which the last is the current one."""

    def __init__(self, channels: int, out_channels: int, side: int = 3) -> None:
        super().__init__(channels, out_channels, (KEPT + 1, side, side), padding=(0, side // 2, side // 2))

    def forward(self, x: Tensor, memory: WanMemory) -> Tensor:  # type: ignore[override]
        return super().forward(memory.preceded(self, x))


class WanDecoder(nn.Module):
    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.conv2 = nn.Conv3d(len(MEAN), len(MEAN), 1)
        self.decoder = Decoder(config.width)
        self.config = config

    def open(self) -> WanMemory:
        return WanMemory()

    def forward(self, latents: Tensor, frames: Tensor, memory: WanMemory) -> Tensor:
        """c t H/8 W/8 -> T C H W, [-1, 1]: four for each latent frame, one for the first of a clip.

        `frames`, which the tiny decoder looks at, has no effect.
        """
        return self.decode(latents, memory).clamp_(-1, 1)

    def decode(self, latents: Tensor, memory: WanMemory) -> Tensor:
        """As `forward`, unclamped."""
        mean, std = (latents.new_tensor(values)[:, None, None, None] for values in (MEAN, STD))
        x = self.conv2((latents * std + mean)[None])
        parts = [self.decoder(laid_out(frame), memory) for frame in x.split(1, dim=2)]
        return rearrange(torch.cat(parts, dim=2), "1 c t h w -> t c h w")


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * n for n in WIDTHS]
        self.conv1 = CausalConv3d(len(MEAN), widths[0])
        self.middle = nn.ModuleList([ResBlock(widths[0], widths[0]), FrameAttention(widths[0]),
                                     ResBlock(widths[0], widths[0])])  # fmt: skip
        self.upsamples = nn.ModuleList()
        entry = widths[0]
        for level, channels in enumerate(widths[1:]):
            for _ in range(RES_BLOCKS):
                self.upsamples.append(ResBlock(entry, channels))
                entry = channels
            if level < 3:
                self.upsamples.append(Double(channels, over_time=level < 2))
                entry = channels // 2
        self.head = nn.ModuleDict({"0": ChannelNorm(entry, 3), "2": CausalConv3d(entry, 3)})

    def forward(self, x: Tensor, memory: WanMemory) -> Tensor:
        """B C 1 H/8 W/8 -> B 3 T H W."""
        x = self.conv1(x, memory)
        for block in (*self.middle, *self.upsamples):
            x = block(x, memory)
        x = self.head["2"](F.silu(self.head["0"](x)), memory)
        memory.started = True
        return x


class ResBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict({
            "0": ChannelNorm(channels, 3), "2": CausalConv3d(channels, out_channels),
            "3": ChannelNorm(out_channels, 3), "6": CausalConv3d(out_channels, out_channels),
        })  # fmt: skip
        self.shortcut = nn.Conv3d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, memory: WanMemory) -> Tensor:
        part = self.residual
        change = part["2"](F.silu(part["0"](x)), memory)
        change = part["6"](F.silu(part["3"](change)), memory)
        out: Tensor = self.shortcut(x) + change
        return out


class FrameAttention(nn.Module):
    """One head, each frame by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, memory: WanMemory) -> Tensor:
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        qkv = rearrange(self.to_qkv(self.norm(frames)), "n (three c) h w -> three n 1 (h w) c", three=3)
        out = F.scaled_dot_product_attention(*qkv.contiguous())
        out = self.proj(rearrange(out, "n 1 (h w) c -> n c h w", h=x.shape[-2]))
        changed: Tensor = x + rearrange(out, "(b t) c h w -> b c t h w", b=len(x))
        return changed


class Double(nn.Module):
    """Twice the size, half the channels; if `over_time` twice the frames too, but for the first frame of a clip."""

    def __init__(self, channels: int, *, over_time: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels // 2, 3, padding=1)})
        self.time_conv = CausalConv3d(channels, 2 * channels, side=1) if over_time else None

    def forward(self, x: Tensor, memory: WanMemory) -> Tensor:
        if self.time_conv is not None and memory.started:
            x = rearrange(self.time_conv(x, memory), "b (n c) t h w -> b c (t n) h w", n=2)
        frames = F.interpolate(rearrange(x, "b c t h w -> (b t) c h w"), scale_factor=2.0, mode="nearest")
        out: Tensor = rearrange(self.resample["1"](laid_out(frames)), "(b t) c h w -> b c t h w", b=len(x))
        return out
