"""SeedVR2's causal video autoencoder in tensors: 8 x in space, 4 x in time. Knows nothing of files or diffusion.

Parameter names are those of the published checkpoint. Shapes and quirks follow ByteDance-Seed/SeedVR 673b563
(models/video_vae_v3). Every clip is computed in slices, usually of one latent frame, so that it gives the same bits in
whatever portions it is pushed. Where a slice has fewer frames than a latent frame, the levels of few channels and many
pixels are passed depth first in parts of so many frames: memory decides between parts and time.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.attention import attend_in_frames
from upres.models.kernels.frame_norm import total
from upres.models.kernels.switch import fused
from upres.models.seedvr2.causal import CausalConv3d, Memory
from upres.models.seedvr2.config import SCALE, SEEDVR2_VAE, TIME_SCALE, VaeConfig
from upres.models.seedvr2.norm import FrameNorm
from upres.models.seedvr2.tiles import Tiling
from upres.models.seedvr2.tiling import Passage, decoding_tiles, encoding_tiles
from upres.models.seedvr2.upsample import Upsample

NORM_EPS = 1e-6


class VideoVae(nn.Module):
    """Video: B 3 4n+1 H W, [-1, 1], sides multiples of 8. Latents: B 16 n+1 H/8 W/8, unscaled."""

    def __init__(self, config: VaeConfig = SEEDVR2_VAE) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.config = config

    def merge(self) -> None:
        """Makes the same cheaper once the weights are in: see Upsample.merge and CausalConv3d.merge. Best before they
        are rounded."""
        for module in self.modules():
            if isinstance(module, Upsample | CausalConv3d):
                module.merge()

    def encode(self, video: Tensor, tiling: Tiling | None = None, slice_frames: int = TIME_SCALE) -> Tensor:
        """The mean of the posterior. slice_frames: see Memory."""
        height, width = video.shape[-2:]
        return self.encoding(height, width, tiling, slice_frames).push(video, last=True)

    def decode(self, latents: Tensor, tiling: Tiling | None = None, slice_frames: int = TIME_SCALE) -> Tensor:
        """About [-1, 1]; not clamped."""
        height, width = latents.shape[-2:]
        return self.decoding(height * SCALE, width * SCALE, tiling, slice_frames).push(latents, last=True)

    def encoding(self, height: int, width: int, tiling: Tiling | None = None,
                 slice_frames: int = TIME_SCALE) -> Passage:  # fmt: skip
        """Encodes one clip of H x W pixels and any length, portion by portion."""
        tiles = encoding_tiles(height, width, tiling)
        return Passage(self._posterior_mean, tiles, TIME_SCALE, self.config.latent_channels, slice_frames)

    def decoding(self, height: int, width: int, tiling: Tiling | None = None,
                 slice_frames: int = TIME_SCALE) -> Passage:  # fmt: skip
        """Decodes one clip of H x W pixels and any length, portion by portion."""
        return Passage(self.decoder, decoding_tiles(height, width, tiling), 1, 3, slice_frames)

    def _posterior_mean(self, video: Tensor, memory: Memory) -> Tensor:
        moments: Tensor = self.encoder(video, memory)
        return moments.chunk(2, dim=1)[0]


class Encoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        fine, middle, coarse, deep = config.channels
        self.conv_in = CausalConv3d(3, fine)
        self.down_blocks = nn.ModuleList([
            DownBlock(config, fine, fine, Downsample(fine, time_kernel=1, time_stride=1)),
            DownBlock(config, fine, middle, Downsample(middle, time_kernel=3, time_stride=2)),
            DownBlock(config, middle, coarse, Downsample(coarse, time_kernel=3, time_stride=2)),
            DownBlock(config, coarse, deep, None),
        ])  # fmt: skip
        self.mid_block = MidBlock(config, deep)
        self.conv_norm_out = FrameNorm(config.norm_groups, deep, NORM_EPS)
        self.conv_out = CausalConv3d(deep, 2 * config.latent_channels)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """B 3 T H W -> B (mean, log variance) T/4 H/8 W/8."""
        x = self._down(0, x, memory.slice_frames, memory)
        x = self._down(1, x, max(2, memory.slice_frames), memory)  # its two frames become one
        for block in self.down_blocks[2:]:
            x = block(x, memory)
        x = self.mid_block(x, memory)
        out: Tensor = self.conv_out(x, memory, self.conv_norm_out.activate)
        return out

    def _down(self, level: int, x: Tensor, frames: int, memory: Memory) -> Tensor:
        closing, made = memory.closing, []
        parts = deque(torch.split(x, frames, dim=2) if memory.parted else (x,))
        while parts:
            part = parts.popleft()
            memory.closing = closing and not parts
            part = part if level else self.conv_in(part, memory)
            made.append(self.down_blocks[level](part, memory))
        return joined(made)


class Decoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        fine, middle, coarse, deep = config.channels
        self.conv_in = CausalConv3d(config.latent_channels, deep)
        self.mid_block = MidBlock(config, deep)
        self.up_blocks = nn.ModuleList([
            UpBlock(config, deep, deep, Upsample(deep, time_factor=2)),
            UpBlock(config, deep, coarse, Upsample(coarse, time_factor=2)),
            UpBlock(config, coarse, middle, Upsample(middle, time_factor=1)),
            UpBlock(config, middle, fine, None),
        ])  # fmt: skip
        self.conv_norm_out = FrameNorm(config.norm_groups, fine, NORM_EPS)
        self.conv_out = CausalConv3d(fine, 3)

    def forward(self, z: Tensor, memory: Memory) -> Tensor:
        """B 16 T H W -> B 3 4T 8H 8W; in the first slice of a clip 4T - 3 frames."""
        memory.rolling = memory.closing and memory.parted
        frames = self._up(0, [self.mid_block(self.conv_in(z, memory), memory)], memory)
        memory.rolling = False
        return frames

    def _up(self, level: int, given: list[Tensor], memory: Memory) -> Tensor:
        """Depth first. given: one tensor, which is taken out, so that what has been used of it is free."""
        if level == len(self.up_blocks):
            out: Tensor = self.conv_out(given[0], memory, self.conv_norm_out.activate)
            return out
        closing, made = memory.closing, []
        whole = memory.rolling or not memory.parted
        parts = deque(given) if whole else _parts(given, max(1, memory.slice_frames >> max(0, 2 - level)))
        given.clear()
        while parts:
            memory.closing = closing and len(parts) == 1
            finer = [self.up_blocks[level]([parts.popleft()], memory)]
            made.append(self._up(level + 1, finer, memory))
        return joined(made)


def _parts(given: list[Tensor], frames: int) -> deque[Tensor]:
    """Of so many frames, each with memory of its own."""
    x = given.pop()
    if x.shape[2] <= frames:
        return deque((x,))
    return deque(part.clone() for part in torch.split(x, frames, dim=2))


def joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


class DownBlock(nn.Module):
    def __init__(self, config: VaeConfig, channels: int, out_channels: int, downsample: Downsample | None) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * config.resnets
        self.resnets = nn.ModuleList(ResnetBlock(config, *pair) for pair in pairwise(widths))
        self.downsamplers = nn.ModuleList([downsample] if downsample else [])

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x, memory)
        return x


class Downsample(nn.Module):
    """Halves height and width, and time if `time_stride` is 2. Pads at the right and bottom only."""

    def __init__(self, channels: int, time_kernel: int, time_stride: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (time_kernel, 3, 3), (time_stride, 2, 2), padding=0,
                                 border=1)  # fmt: skip

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        out: Tensor = self.conv(x, memory)
        return out


class MidBlock(nn.Module):
    def __init__(self, config: VaeConfig, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(config, channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([FrameAttention(config, channels)])

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        x = self.resnets[0](x, memory)
        x = self.attentions[0](x)
        out: Tensor = self.resnets[1](x, memory)
        return out


class UpBlock(nn.Module):
    def __init__(self, config: VaeConfig, channels: int, out_channels: int, upsample: Upsample | None) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * (config.resnets + 1)
        self.resnets = nn.ModuleList(ResnetBlock(config, *pair) for pair in pairwise(widths))
        self.upsamplers = nn.ModuleList([upsample] if upsample else [])

    def forward(self, given: list[Tensor], memory: Memory) -> Tensor:
        """given: one tensor, which is taken out: see Decoder."""
        x = given.pop()
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, memory)
        return x


class ResnetBlock(nn.Module):
    def __init__(self, config: VaeConfig, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(config.norm_groups, channels, NORM_EPS)
        self.conv1 = CausalConv3d(channels, out_channels)
        self.norm2 = FrameNorm(config.norm_groups, out_channels, NORM_EPS)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.conv_shortcut = nn.Conv3d(channels, out_channels, kernel_size=1) if channels != out_channels else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Fused, and where values are rounded, the convolutions leave their biases to the passes that follow anyway."""
        late = fused(x) or x.dtype.itemsize == 2
        h: Tensor = self.conv1(x, memory, self.norm1.activate, biased=not late)
        h = self.conv2(h, memory, self.norm2.activated_with(self.conv1.bias if late else None), biased=not late)
        if self.conv_shortcut is None:
            return total(h, x, self.conv2.bias if late else None)
        if not late:
            return total(h, self.conv_shortcut(x), None)
        biases = torch.stack([conv.bias for conv in (self.conv2, self.conv_shortcut) if conv.bias is not None])
        return total(h, F.conv3d(x, self.conv_shortcut.weight), biases.sum(dim=0))


class FrameAttention(nn.Module):
    """Every pixel of a frame attends to all pixels of that frame; one head."""

    def __init__(self, config: VaeConfig, channels: int) -> None:
        super().__init__()
        self.group_norm = FrameNorm(config.norm_groups, channels, NORM_EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.group_norm(x), "b c t h w -> (b t) (h w) c")
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        out: Tensor = self.to_out[0](attend_in_frames(q, k, v))
        return x + rearrange(out, "(b t) (h w) c -> b c t h w", b=x.shape[0], h=x.shape[3])
