"""3x3 convolution of every second pixel of single frames, zeros at the right and below: B C T H W. Knows no networks.

Fused, frames are read where they lie. Libraries want the zeros in memory, so that a frame is copied first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.frame_norm import channels_last
from upres.models.kernels.switch import fused

CHANNELS = 16  # in and out are multiples of it, better of 128


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether fused kernels shall and can do it. weight: C' C 1 3 3. A GPU would round 32 bits to 19."""
    exact = x.element_size() == 2 or not x.is_cuda
    shape = weight.shape[2:] == (1, 3, 3) and not any(size % CHANNELS for size in weight.shape[:2])
    return shape and exact and fused(x) and x.dtype == weight.dtype and channels_last(x)


def halved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """-> B C' T H/2 W/2, the order of memory kept. Sides are even."""
    if not takes(x, weight):
        return F.conv3d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=(1, 2, 2))
    from upres.models.kernels.fused.halving import halved as kernel

    return torch.cat([kernel(clip[None], weight, bias) for clip in x]) if len(x) > 1 else kernel(x, weight, bias)
