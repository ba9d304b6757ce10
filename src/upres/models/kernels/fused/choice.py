"""Kernels of choice.py: one program a head and window of queries, all windows of keys in registers.

The threshold is found from above, eight bits of its number at a time: what is not negative is ordered as its bits are.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched

BITS = tl.constexpr(8)
DIGITS = tl.constexpr(256)  # of so many bits
SHIFTS = (24, 16, 8, 0)  # where digits start
PART = 2048  # values that a program counts


@triton.jit
def _found(counts, rows, row, rank, LEVELS: tl.constexpr):
    """The first digits, put together, of the value of this rank, 1 for the largest."""
    digit = tl.arange(0, DIGITS)
    prefix = 0
    for level in tl.static_range(LEVELS):
        count = tl.load(counts + (level * rows + row) * DIGITS + digit)
        reaching = tl.sum(count, axis=0) - tl.cumsum(count, axis=0) + count  # values with this digit or a larger one
        mine = tl.sum((reaching >= rank).to(tl.int32), axis=0) - 1
        rank -= tl.sum(tl.where(digit > mine, count, 0), axis=0)
        prefix = prefix * DIGITS + mine
    return prefix


@triton.jit
def _counted(values, counts, columns, rank, LEVEL: tl.constexpr, SHIFT: tl.constexpr, B: tl.constexpr):
    """Of values that begin as the one of this rank does: how many have which next digit."""
    row, rows = tl.program_id(1), tl.num_programs(1)
    c = tl.program_id(0) * B + tl.arange(0, B)
    bits = tl.load(values + row.to(tl.int64) * columns + c, mask=c < columns, other=0.0).to(tl.int32, bitcast=True)
    digits = bits >> SHIFT
    like = (c < columns) & (digits >> BITS == _found(counts, rows, row, rank, LEVEL))
    digit = tl.arange(0, DIGITS)
    found = tl.histogram(digits & (DIGITS - 1), DIGITS, mask=like)
    tl.atomic_add(counts + (LEVEL * rows + row) * DIGITS + digit, found, mask=found > 0, sem="relaxed")


@triton.jit
def _threshold(counts, thresholds, rank, LEVELS: tl.constexpr):
    row = tl.program_id(0)
    bits = _found(counts, tl.num_programs(0), row, rank, LEVELS)
    tl.store(thresholds + row, bits.to(tl.float32, bitcast=True))


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
def threshold(pairs: Tensor, kept: int) -> Tensor:
    """rows values, none negative -> rows 1: of each the largest but `kept`."""
    rows, columns = pairs.shape
    counts = torch.zeros(len(SHIFTS), rows, DIGITS.value, dtype=torch.int32, device=pairs.device)
    thresholds = torch.empty(rows, 1, dtype=torch.float32, device=pairs.device)
    for level, shift in enumerate(SHIFTS):
        _counted[(triton.cdiv(columns, PART), rows)](pairs, counts, columns, kept + 1, LEVEL=level, SHIFT=shift, B=PART,
                                                     num_warps=8)  # fmt: skip
    _threshold[(rows,)](counts, thresholds, kept + 1, LEVELS=len(SHIFTS), num_warps=4)
    return thresholds


@launched
def listed(weights: Tensor, thresholds: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    heads, queries, keys = weights.shape
    numbers = torch.empty(heads, queries, keys, dtype=torch.int32, device=weights.device)
    counts = torch.empty(heads, queries, dtype=torch.int32, device=weights.device)
    _listed[(queries, heads)](weights, thresholds, numbers, counts, keys, windows, B=triton.next_power_of_2(keys),
                              num_warps=4)  # fmt: skip
    return numbers, counts
