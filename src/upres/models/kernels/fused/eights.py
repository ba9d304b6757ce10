"""Kernel of eights.py: one program a block of tokens and head."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.blocks import BLOCK
from upres.models.kernels.switch import launched

LARGEST = tl.constexpr(448.0)  # of e4m3
LEAST = tl.constexpr(1e-12)


@triton.jit
def _rounded(x, out, scales, means, stride, TOKENS: tl.constexpr, DIM: tl.constexpr, TURNED: tl.constexpr):
    block, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    at = block * heads + head
    place, d = tl.arange(0, TOKENS), tl.arange(0, DIM)
    token = place
    if TURNED:  # of a place's bits, of 16, 8, 4, 2, 1: 16, 2, 8, 4, 1
        token = place // 16 * 16 + place // 2 % 2 * 8 + place // 4 % 4 * 2 + place % 2
    tile = tl.load(x + (block * TOKENS + token)[:, None] * stride + head * DIM + d[None, :]).to(tl.float32)
    scale = tl.maximum(tl.max(tl.max(tl.abs(tile), axis=1), axis=0), LEAST) / LARGEST
    tl.store(scales + at, scale)
    narrow = tl.minimum(tl.maximum(tile / scale, -LARGEST), LARGEST).to(out.dtype.element_ty)
    if TURNED:
        tl.store(out + at * DIM * TOKENS + d[:, None] * TOKENS + place[None, :], tl.trans(narrow))
    else:
        tl.store(means + at * DIM + d, tl.sum(tile, axis=0) / TOKENS)
        tl.store(out + ((block * TOKENS + token)[:, None] * heads + head) * DIM + d[None, :], narrow)


@launched
def rounded_keys(x: Tensor, out: Tensor, scales: Tensor) -> Tensor:
    """head_dim: a power of two. out without gaps."""
    blocks, heads, dim = len(x) // BLOCK, *x.shape[1:]
    means = torch.empty(blocks, heads, dim, dtype=torch.float32, device=x.device)
    _rounded[(blocks, heads)](x, out, scales, means, x.stride(0), TOKENS=BLOCK, DIM=dim, TURNED=False, num_warps=8)
    return means


@launched
def turned_values(x: Tensor, out: Tensor, scales: Tensor) -> None:
    """head_dim: a power of two. out without gaps; heads of a row of x lie side by side."""
    blocks, heads, dim = len(x) // BLOCK, *x.shape[1:]
    _rounded[(blocks, heads)](x, out, scales, scales, x.stride(0), TOKENS=BLOCK, DIM=dim, TURNED=True, num_warps=8)
