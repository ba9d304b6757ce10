"""Kernel of unfolded.py: one program an output, a time step and a line of its taps."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched


@triton.jit
def _gathered(x, out, first, height, width, stride, C: tl.constexpr, BC: tl.constexpr, TAPS: tl.constexpr):
    row, tap = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pixel = first + row
    w, h, t = pixel % width, pixel // width % height, pixel // width // height * stride
    line = tl.minimum(tl.maximum(h + tap % 3 - 1, 0), height - 1)
    side, c = tl.arange(0, 4), tl.arange(0, BC)
    column = tl.minimum(tl.maximum(w + side - 1, 0), width - 1)
    mask = (side < 3)[:, None] & (c < C)[None, :]
    place = ((t + tap // 3) * height + line) * width + column
    v = tl.load(x + place[:, None] * C + c[None, :], mask=mask)
    at = (row * (3 * TAPS) + tap) * 3 + side
    tl.store(out + at[:, None] * C + c[None, :], v, mask=mask)


@launched
def gathered(x: Tensor, taps: int, stride: int, outputs: slice) -> Tensor:
    """x: T H W C without gaps; outputs: numbers of T' H W -> of each, (t 3 3 C)."""
    _, height, width, channels = x.shape
    count = outputs.stop - outputs.start
    out = torch.empty(count, taps * 9 * channels, dtype=x.dtype, device=x.device)
    wide = triton.next_power_of_2(channels)
    _gathered[(count, 3 * taps)](x, out, outputs.start, height, width, stride, C=channels, BC=wide, TAPS=taps,
                                 num_warps=4)  # fmt: skip
    return out
