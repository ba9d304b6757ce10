"""3-D convolutions of few channels in, or few out: 3x3 taps in space, three in time, channels last. Knows no networks.

Libraries' kernels for them take many times what their memory takes: they fill tiles of 64 channels, most of them with
zeros, and read a pixel again for each tap. Time is never padded; around each frame are zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.frame_norm import dense_frames
from upres.models.kernels.switch import fused

FEW = 3
KERNEL = (3, 3, 3)
LEAST = 16  # of the many: a power of two


def fits(weight: Tensor, stride: tuple[int, ...], padding: int) -> bool:
    """Whether there are fused kernels of this shape. padding: in space."""
    many = max(weight.shape[:2])
    shape = min(weight.shape[:2]) == FEW and many >= LEAST and many & (many - 1) == 0
    return shape and weight.shape[2:] == KERNEL and set(stride) == {1} and padding == 1


def takes(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: int) -> bool:
    """Whether they shall and can convolve x, B C T H W. A GPU would round 32 bits to 19."""
    exact = x.element_size() == 2 or not x.is_cuda
    return fits(weight, stride, padding) and exact and fused(x) and x.dtype == weight.dtype and dense_frames(x)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """B C T H W -> B C' T-2 H W; channels last where they are many."""
    if not takes(x, weight, (1, 1, 1), 1):
        return F.conv3d(x, weight, bias, padding=(0, 1, 1))
    from upres.models.kernels.fused import few_channels as kernels

    run = kernels.entered if weight.shape[1] == FEW else kernels.left
    made = [run(clip[None], weight, bias) for clip in x]
    return made[0] if len(made) == 1 else torch.cat(made)
