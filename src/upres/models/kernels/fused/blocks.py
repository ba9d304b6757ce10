"""Kernel of blocks.py: one program a head and block of queries, which walks along the list of its key blocks.

Weights are not divided until the end; the largest score so far is kept and what was summed is scaled when it grows
(online softmax: Dao et al. 2022, FlashAttention).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.blocks import AMPERE, BLOCK, HOPPER, Tuning
from upres.models.kernels.switch import launched

LOG2_E = 1.4426950408889634


@triton.jit
def _attend(q, k, v, numbers, counts, out, query_blocks, listed, stride, key_stride, value_stride, scale,
            DIM: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    block, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    rows, columns, d = tl.arange(0, BLOCK), tl.arange(0, KEYS), tl.arange(0, DIM)
    parts: tl.constexpr = BLOCK // KEYS
    count = tl.load(counts + head * query_blocks + block)
    numbers += (head * query_blocks + block) * listed
    queries = tl.load(q + (block * BLOCK + rows)[:, None] * stride + head * DIM + d[None, :])
    k += head * DIM + columns[None, :] * key_stride + d[:, None]
    v += head * DIM + columns[:, None] * value_stride + d[None, :]
    top = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    sums = tl.zeros((BLOCK, DIM), tl.float32)
    for step in range(count * parts):
        first = tl.load(numbers + step // parts).to(tl.int64) * BLOCK + (step % parts) * KEYS
        scores = tl.dot(queries, tl.load(k + first * key_stride))
        higher = tl.maximum(top, tl.max(scores, axis=1) * scale)
        weights = tl.exp2(scores * scale - higher[:, None])
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(weights, axis=1)
        sums = tl.dot(weights.to(v.dtype.element_ty), tl.load(v + first * value_stride), sums * shrink[:, None])
        top = higher
    sums = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    at = (block * BLOCK + rows)[:, None] * (tl.num_programs(1) * DIM) + head * DIM + d[None, :]
    tl.store(out + at, sums.to(out.dtype.element_ty))


@launched
def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, numbers: Tensor, counts: Tensor,
                     tuning: Tuning | None = None) -> Tensor:  # fmt: skip
    """Heads of a row lie side by side; rows may have gaps."""
    queries, heads, dim = q.shape
    if tuning is None:
        tuning = HOPPER if q.is_cuda and torch.cuda.get_device_capability(q.device)[0] == 9 else AMPERE
    out = torch.empty(queries, heads, dim, dtype=q.dtype, device=q.device)
    _attend[(queries // BLOCK, heads)](
        q, k, v, numbers, counts, out, queries // BLOCK, numbers.shape[-1], q.stride(0), k.stride(0), v.stride(0),
        dim**-0.5 * LOG2_E, DIM=dim, KEYS=tuning.keys, BLOCK=BLOCK, num_warps=tuning.warps, num_stages=tuning.stages,
    )  # fmt: skip
    return out
