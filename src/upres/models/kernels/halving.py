"""3x3 convolution of every second pixel, zeros at the right and below, none in time: B C T H W. Knows no networks.

Fused, frames are read where they lie. Libraries want the zeros in memory, so that a frame is copied first, and
reach a quarter of what they reach where no pixel is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.frame_norm import dense_frames
from upres.models.kernels.switch import fused

CHANNELS = 16  # in and out are multiples of it, better of 128


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether fused kernels shall and can do it. weight: C' C t 3 3. A GPU would round 32 bits to 19."""
    exact = x.element_size() == 2 or not x.is_cuda
    shape = weight.shape[3:] == (3, 3) and not any(size % CHANNELS for size in weight.shape[:2])
    return shape and exact and fused(x) and x.dtype == weight.dtype and dense_frames(x)


def halved(x: Tensor, weight: Tensor, bias: Tensor | None, step: int = 1) -> Tensor:
    """-> B C' T' H/2 W/2, every `step` frames, the order of memory kept. Sides are even."""
    if not takes(x, weight):
        return F.conv3d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=(step, 2, 2))
    from upres.models.kernels.fused.halving import halved as kernel

    made = [kernel(clip[None], weight, bias, step) for clip in x]
    return made[0] if len(made) == 1 else torch.cat(made)
