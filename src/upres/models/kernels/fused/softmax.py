"""Kernel of softmax.py: one program a row, which is read twice, the second time mostly from the cache."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched

BLOCK = 4096


@triton.jit
def _softmax(scores, out, columns, scale, B: tl.constexpr):
    """The largest and the sum are kept for each lane and joined at the end."""
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, B)
    scores += row * columns
    out += row * columns
    top = tl.full((B,), -float("inf"), tl.float32)
    total = tl.zeros((B,), tl.float32)
    for start in range(0, columns, B):
        v = tl.load(scores + start + c, mask=start + c < columns, other=-float("inf")).to(tl.float32) * scale
        higher = tl.maximum(top, v)
        # a lane that has seen nothing yet: -inf less -inf is no number
        seen = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp(top - seen) + tl.exp(v - seen)
        top = higher
    highest = tl.max(top, axis=0)
    part = 1.0 / tl.sum(total * tl.exp(top - highest), axis=0)
    for start in range(0, columns, B):
        mask = start + c < columns
        v = tl.load(scores + start + c, mask=mask, other=0.0).to(tl.float32) * scale
        tl.store(out + start + c, (tl.exp(v - highest) * part).to(out.dtype.element_ty), mask=mask)


@launched
def softmax(scores: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    rows, columns = scores.shape
    out = torch.empty(rows, columns, dtype=dtype, device=scores.device)
    _softmax[(rows,)](scores, out, columns, scale, B=min(BLOCK, triton.next_power_of_2(columns)), num_warps=8)
    return out
