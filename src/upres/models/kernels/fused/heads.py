"""Kernel of heads.py: one program a packed row, all heads of its query, key and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched

if TYPE_CHECKING:
    from upres.models.kernels.heads import Source, Turns


@triton.jit
def _turned(v, weight, cos, sin, eps, DIM: tl.constexpr, BH: tl.constexpr):
    """v: BH DIM. RMS norm, then neighbours (a, b) become (a cos - b sin, a sin + b cos)."""
    v *= tl.rsqrt(tl.sum(v * v, axis=1) / DIM + eps)[:, None]
    v *= weight[None, :]
    a, b = tl.split(tl.reshape(v, (BH, DIM // 2, 2)))
    return tl.reshape(tl.join(a * cos[None, :] - b * sin[None, :], a * sin[None, :] + b * cos[None, :]), (BH, DIM))


@triton.jit
def _packed(first, second, first_q, first_k, second_q, second_k, at, table, q, k, v, first_rows, first_stride,
            second_stride, eps, HEADS: tl.constexpr, BH: tl.constexpr, DIM: tl.constexpr,
            FREQUENCIES: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at += row * 4
    source = tl.load(at).to(tl.int64)
    h, d = tl.arange(0, BH), tl.arange(0, DIM)
    pair = tl.arange(0, DIM // 2)
    axis, frequency = pair // FREQUENCIES, pair % FREQUENCIES
    turns = axis < 3  # of a head's pairs; the last ones stay
    place = tl.load(at + 1 + axis, mask=turns, other=0)
    angle = table + (place * FREQUENCIES + frequency) * 2
    cos = tl.load(angle, mask=turns, other=1.0)
    sin = tl.load(angle + 1, mask=turns, other=0.0)
    base = first + source * first_stride
    weight_q = tl.load(first_q + d).to(tl.float32)
    weight_k = tl.load(first_k + d).to(tl.float32)
    if source >= first_rows:
        base = second + (source - first_rows) * second_stride
        weight_q = tl.load(second_q + d).to(tl.float32)
        weight_k = tl.load(second_k + d).to(tl.float32)
    mask = (h < HEADS)[:, None] & (d < DIM)[None, :]
    tile = h[:, None] * DIM + d[None, :]
    out = row * HEADS * DIM + tile
    x = tl.load(base + tile, mask=mask, other=0.0).to(tl.float32)
    x = _turned(x, weight_q, cos, sin, eps, DIM, BH)
    tl.store(q + out, x.to(q.dtype.element_ty), mask=mask)
    x = tl.load(base + HEADS * DIM + tile, mask=mask, other=0.0).to(tl.float32)
    x = _turned(x, weight_k, cos, sin, eps, DIM, BH)
    tl.store(k + out, x.to(k.dtype.element_ty), mask=mask)
    tl.store(v + out, tl.load(base + 2 * HEADS * DIM + tile, mask=mask, other=0.0), mask=mask)


@launched
def packed_heads(first: Source, second: Source, turns: Turns, heads: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """head_dim: a power of two."""
    rows, dim = len(turns.at), first.qkv.shape[1] // (3 * heads)
    q, k, v = (torch.empty(rows, heads, dim, dtype=first.qkv.dtype, device=first.qkv.device) for _ in range(3))
    _packed[(rows,)](
        first.qkv, second.qkv, first.norm_q, first.norm_k, second.norm_q, second.norm_k, turns.at, turns.table, q, k, v,
        len(first.qkv), first.qkv.stride(0), second.qkv.stride(0), eps,
        HEADS=heads, BH=triton.next_power_of_2(heads), DIM=dim, FREQUENCIES=turns.table.shape[1], num_warps=4,
    )  # fmt: skip
    return q, k, v
