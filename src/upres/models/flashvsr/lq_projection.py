"""From the enlarged source frames to what is added to the transformer's tokens. Knows nothing of the transformer.

OpenImagingLab/FlashVSR ccac0ac (v1, "Buffer") and zji996/FlashVSR-app 781f95d (v1.1, "Causal"): the same weights' names
and shapes, another use of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.causal import ChannelNorm
from upres.models.kernels.unfolded import convolved

TOKEN_PIXELS = 16  # a token's side in the frame
CLIP = 4  # frames that make one latent frame
STEPS = CLIP // 2  # what the first convolution makes of them
STRIDE = 2  # of both convolutions, in time
PIXEL_FACTOR = 256.0  # to fill 8-bit floats with what is at most one
HIDDEN_FACTOR = 16.0  # and with what has been normed, of the order of one
KEPT = 2  # time steps of a convolution's input that the next clip sees again


@dataclass(frozen=True, slots=True)
class LqConfig:
    hidden: tuple[int, int] = (2048, 3072)
    dim: int = 1536
    layers: int = 1  # blocks of the transformer that are given something


class LqMemory:
    """The end of what both convolutions have seen of one clip; None before its first frame."""

    def __init__(self) -> None:
        self.pixels: Tensor | None = None
        self.hidden: Tensor | None = None


class LqProjection(nn.Module):
    """`causal` is v1.1, which remembers earlier frames; v1 sees the four frames of a latent only."""

    def __init__(self, config: LqConfig, *, causal: bool) -> None:
        super().__init__()
        first, second = config.hidden
        self.conv1 = nn.Conv3d(3 * TOKEN_PIXELS**2, first, (CLIP, 3, 3), stride=(STRIDE, 1, 1))
        self.norm1 = ChannelNorm(first, 3)
        self.conv2 = nn.Conv3d(first, second, (CLIP, 3, 3), stride=(STRIDE, 1, 1))
        self.norm2 = ChannelNorm(second, 3)
        self.linear_layers = nn.ModuleList(nn.Linear(second, config.dim) for _ in range(config.layers))
        self.causal = causal
        self.config = config

    def forward(self, frames: Tensor, memory: LqMemory) -> list[Tensor]:
        """T C H W, [-1, 1]; T is 4n, and 4n+1 for the first frames of a clip -> for each layer n H/16 W/16 dim."""
        pixels = rearrange(frames, "t c (h y) (w x) -> 1 (c y x) t h w", y=TOKEN_PIXELS, x=TOKEN_PIXELS)
        features = self._causal(pixels, memory) if self.causal else self._clip_by_clip(pixels)
        tokens = rearrange(features, "1 c t h w -> t h w c")
        return [layer(tokens) for layer in self.linear_layers]

    def _causal(self, pixels: Tensor, memory: LqMemory) -> Tensor:
        """The first frame stands for a clip of four and for the two before them."""
        if memory.pixels is None:
            pixels = torch.cat((pixels[:, :, :1].expand(-1, -1, KEPT + CLIP - 1, -1, -1), pixels), dim=2)
        else:
            pixels = torch.cat((memory.pixels, pixels), dim=2)
        hidden = self._first(pixels)
        if memory.hidden is not None:  # else what the first frame gave is only looked back at
            hidden = torch.cat((memory.hidden, hidden), dim=2)
        memory.pixels, memory.hidden = pixels[:, :, -KEPT:].clone(), hidden[:, :, -KEPT:].clone()
        return self._second(hidden)

    def _clip_by_clip(self, pixels: Tensor) -> Tensor:
        """Before its own frames each clip sees the last two of them, once more. The first frame comes into none."""
        clips = rearrange(pixels[:, :, pixels.shape[2] % CLIP :], "1 c (n t) h w -> n c t h w", t=CLIP)
        hidden = self._first(torch.cat((clips[:, :, -KEPT:], clips), dim=2))
        features = self._second(torch.cat((hidden[:, :, -KEPT:], hidden), dim=2))
        return rearrange(features, "n c 1 h w -> 1 c n h w")

    def _first(self, x: Tensor) -> Tensor:
        return F.silu(self.norm1(_convolved(self.conv1, x, PIXEL_FACTOR)))

    def _second(self, x: Tensor) -> Tensor:
        return F.silu(self.norm2(_convolved(self.conv2, x, HIDDEN_FACTOR)))


def _convolved(conv: nn.Conv3d, x: Tensor, factor: float) -> Tensor:
    assert conv.bias is not None
    return convolved(x, conv.weight, conv.bias, STRIDE, factor)
