"""Kernels of whole_heads.py: one program a token, all its heads; and one a window and head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched

if TYPE_CHECKING:
    from upres.models.kernels.whole_heads import Norms


@triton.jit
def _turned(v, weight, cos, sin, eps, COLUMNS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr):
    """v: heads by head_dim. RMS norm of all of it, then neighbours (a, b) become (a cos - b sin, a sin + b cos)."""
    v = v * tl.rsqrt(tl.sum(tl.sum(v * v, axis=1), axis=0) / COLUMNS + eps) * weight
    a, b = tl.split(tl.reshape(v, (HEADS, HALF, 2)))
    return tl.reshape(tl.join(a * cos[None, :] - b * sin[None, :], a * sin[None, :] + b * cos[None, :]),
                      (HEADS, 2 * HALF))  # fmt: skip


@triton.jit
def _placed(qkv, norm_q, norm_k, rotation, q, k, v, stride, eps, HEADS: tl.constexpr, BH: tl.constexpr,
            DIM: tl.constexpr, VALUES: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    h, d, pair = tl.arange(0, BH), tl.arange(0, DIM), tl.arange(0, DIM // 2)
    columns: tl.constexpr = HEADS * DIM
    rotation += row * DIM + 2 * pair
    cos, sin = tl.load(rotation), tl.load(rotation + 1)
    tile = h[:, None] * DIM + d[None, :]
    mask = (h < HEADS)[:, None] & (d < DIM)[None, :]
    qkv += row * stride
    at = row * columns + tile
    x = tl.load(qkv + tile, mask=mask, other=0.0).to(tl.float32)
    x = _turned(x, tl.load(norm_q + tile, mask=mask, other=0.0).to(tl.float32), cos, sin, eps, columns, BH, DIM // 2)
    tl.store(q + at, x.to(q.dtype.element_ty), mask=mask)
    x = tl.load(qkv + columns + tile, mask=mask, other=0.0).to(tl.float32)
    x = _turned(x, tl.load(norm_k + tile, mask=mask, other=0.0).to(tl.float32), cos, sin, eps, columns, BH, DIM // 2)
    tl.store(k + at, x.to(k.dtype.element_ty), mask=mask)
    if VALUES:
        tl.store(v + at, tl.load(qkv + 2 * columns + tile, mask=mask, other=0.0), mask=mask)


@triton.jit
def _means(x, out, TOKENS: tl.constexpr, DIM: tl.constexpr):
    window, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = window * TOKENS + tl.arange(0, TOKENS)
    d = tl.arange(0, DIM)
    tile = tl.load(x + (row[:, None] * tl.num_programs(1) + head) * DIM + d[None, :]).to(tl.float32)
    tl.store(out + (window * tl.num_programs(1) + head) * DIM + d, tl.sum(tile, axis=0) / TOKENS)


@launched
def placed(qkv: Tensor, norms: Norms, rotation: Tensor, keys: Tensor, values: Tensor | None) -> Tensor:
    """head_dim: a power of two. keys and values without gaps."""
    tokens, heads, dim = keys.shape
    q = torch.empty_like(keys)
    _placed[(tokens,)](qkv, norms.q, norms.k, torch.view_as_real(rotation), q, keys, keys if values is None else values,
                       qkv.stride(0), norms.eps, HEADS=heads, BH=triton.next_power_of_2(heads), DIM=dim,
                       VALUES=values is not None, num_warps=4)  # fmt: skip
    return q


@launched
def window_means(x: Tensor, tokens: int) -> Tensor:
    """tokens and head_dim: powers of two. Without gaps."""
    count, heads, dim = x.shape
    out = torch.empty(count // tokens, heads, dim, dtype=torch.float32, device=x.device)
    _means[(count // tokens, heads)](x, out, TOKENS=tokens, DIM=dim, num_warps=4)
    return out
