"""Kernels of choice.py: one program a head and window of queries, all windows of keys in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched


@triton.jit
def _weighed(scores, near, scale, keys, windows, B: tl.constexpr):
    """Softmax over near windows, in place. A window is near itself, so there is one."""
    query, head, k = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.arange(0, B)
    scores += (head * tl.num_programs(0) + query) * keys
    seen = tl.load(near + query % windows * windows + k % windows, mask=k < keys, other=0) != 0
    v = tl.load(scores + k, mask=seen, other=-float("inf")) * scale
    v = tl.exp(v - tl.max(v, axis=0))
    tl.store(scores + k, v / tl.sum(v, axis=0), mask=k < keys)


@triton.jit
def _listed(weights, thresholds, numbers, counts, keys, windows, B: tl.constexpr):
    query, head, k = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.arange(0, B)
    row = head * tl.num_programs(0) + query
    least = tl.load(thresholds + head * (tl.num_programs(0) // windows) + query // windows)
    kept = (tl.load(weights + row * keys + k, mask=k < keys, other=0.0) > least).to(tl.int32)
    tl.store(numbers + row * keys + tl.cumsum(kept, axis=0) - 1, k, mask=kept != 0)
    count = tl.sum(kept, axis=0)
    tl.store(numbers + row * keys + k, 0, mask=(k >= count) & (k < keys))  # loads that run ahead find a block there
    tl.store(counts + row, count)


@launched
def weighed(scores: Tensor, near: Tensor, scale: float) -> Tensor:
    heads, queries, keys = scores.shape
    _weighed[(queries, heads)](scores, near.view(torch.uint8), scale, keys, len(near), B=triton.next_power_of_2(keys),
                               num_warps=4)  # fmt: skip
    return scores


@launched
def listed(weights: Tensor, thresholds: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    heads, queries, keys = weights.shape
    numbers = torch.empty(heads, queries, keys, dtype=torch.int32, device=weights.device)
    counts = torch.empty(heads, queries, dtype=torch.int32, device=weights.device)
    _listed[(queries, heads)](weights, thresholds, numbers, counts, keys, windows, B=triton.next_power_of_2(keys),
                              num_warps=4)  # fmt: skip
    return numbers, counts
