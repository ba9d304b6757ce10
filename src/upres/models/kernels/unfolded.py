"""A convolution over time and space as a matrix product: what each output sees, gathered into a row. Knows no networks.

For convolutions whose kernels for channels last reach half of what products of the same size reach.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.fp8 import LARGEST, Rows, product
from upres.models.kernels.rows import kept
from upres.models.kernels.switch import fp8, fused

SIDE = 3  # taps along rows, and along columns
ROW_BYTES = 2 << 30  # of all rows gathered at once


def bordered(x: Tensor) -> Tensor:
    """The border repeated once, in space only. B C T H W"""
    x = torch.cat((x[..., :1], x, x[..., -1:]), dim=-1)
    return torch.cat((x[..., :1, :], x, x[..., -1:, :]), dim=-2)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, stride: int, factor: float) -> Tensor:
    """B C T H W -> B C' T' H W: every `stride` frames; around a frame its border is repeated.

    weight: C' C t 3 3. As 8-bit floats values are multiplied by `factor` before, and cut off where they are too large.
    """
    if fused(x):
        return torch.cat([_by_product(clip, weight, bias, stride, factor) for clip in x])
    wide = bordered(x)
    wide = wide.contiguous(memory_format=torch.channels_last_3d) if x.is_cuda else wide
    return F.conv3d(wide, weight, bias, stride=(stride, 1, 1))


def _by_product(x: Tensor, weight: Tensor, bias: Tensor, stride: int, factor: float) -> Tensor:
    """C T H W -> 1 C' T' H W, channels last."""
    from upres.models.kernels.fused.unfolded import gathered

    eight = fp8(x)
    taps, (_, entry, height, width) = weight.shape[2], x.shape
    frames = (entry - taps) // stride + 1
    x = x.permute(1, 2, 3, 0)
    x = ((x * factor).clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn) if eight else x).contiguous()
    flat = weight.permute(0, 2, 3, 4, 1).flatten(1)
    narrow = kept(weight) if eight else None
    out = weight.new_empty(frames * height * width, len(weight))
    most = max(1, ROW_BYTES // (flat.shape[1] * x.element_size()))
    for start in range(0, len(out), most):
        rows = slice(start, min(start + most, len(out)))
        seen = gathered(x, taps, stride, rows)
        if narrow is None:
            torch.addmm(bias, seen, flat.t(), out=out[rows])
        else:
            scales = torch.full((len(seen), 1), 1 / factor, device=x.device)
            out[rows] = product(Rows(seen, scales, out.dtype), narrow, bias)
    return out.view(1, frames, height, width, -1).permute(0, 4, 1, 2, 3)
