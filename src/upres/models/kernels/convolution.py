"""3-D convolution of 8-bit floats, channels last, with a scale for each output channel. Knows no networks.

Its input is what a frame norm wrote as 8-bit floats (frame_norm.py), times FACTOR: normalised and past a SiLU, values
are of the order of one, and from -448/FACTOR to 448/FACTOR nothing is cut off.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.fp8 import Rows
from upres.models.kernels.rows import quantised
from upres.models.kernels.switch import fused

FACTOR = 16.0
CHANNELS = 128  # in and out are multiples of it
# Tensor cores keep 14 bits of a sum of 8-bit products, and what is cut off is cut off to one side: of 27 taps of 512
# channels trained nets showed it as a change of colour, of half as many not.
MOST_SUMMED = 27 * 256


def packed(weight: Tensor) -> Rows:
    """out in t h w -> out, (t h w in)."""
    return quantised(weight.permute(0, 2, 3, 4, 1).flatten(1))


def takes(weight: Tensor, stride: tuple[int, ...]) -> bool:
    out, entry = weight.shape[:2]
    return out % CHANNELS == 0 and entry % CHANNELS == 0 and set(stride) == {1} and weight[0].numel() <= MOST_SUMMED


def convolved(x: Tensor, weight: Rows, bias: Tensor | None, kernel: tuple[int, ...], padding: int,
              dtype: torch.dtype) -> Tensor:  # fmt: skip
    """x: B C T H W, float8_e4m3fn, times FACTOR, channels last; zeros around each frame, none in time."""
    if fused(x):
        from upres.models.kernels.fused.convolution import convolved as run

        return run(x, weight, bias, kernel, padding, dtype, 1 / FACTOR)
    wide = (weight.values.float() * weight.scales).view(len(weight.values), *kernel, -1).permute(0, 4, 1, 2, 3)
    out = F.conv3d(x.float() / FACTOR, wide, None if bias is None else bias.float(), padding=(0, padding, padding))
    return out.to(dtype)
