"""Attention over chosen blocks of keys with queries, keys and values of 8-bit floats (e4m3). Knows no networks.

A block of 128 tokens of one head has one scale. Off unless 8-bit products are wanted (switch.py), and for Hopper alone:
its kernel also rounds the weights that values are multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from upres.models.kernels.blocks import BLOCK, attend_in_lists, suits_hopper
from upres.models.kernels.fp8 import LARGEST
from upres.models.kernels.switch import fp8, fused

LEAST = 1e-12  # what a block of zeros is taken to reach


@dataclass(frozen=True, slots=True)
class Queries:
    values: Tensor  # tokens heads head_dim, float8_e4m3fn
    scales: Tensor  # blocks heads, float32
    dtype: torch.dtype  # what they were


@dataclass(frozen=True, slots=True)
class Keys:
    """Values are turned, as 8-bit factors want them; `order` tells where a block's tokens are then."""

    keys: Tensor  # tokens heads head_dim, float8_e4m3fn
    values: Tensor  # blocks heads head_dim 128, float8_e4m3fn
    key_scales: Tensor  # blocks heads, float32
    value_scales: Tensor


def takes(qkv: Tensor, head_dim: int) -> bool:
    """Whether attention of the heads in this product shall and can be done in 8 bits."""
    return fp8(qkv) and suits_hopper(qkv, head_dim)


def order(device: torch.device) -> Tensor:
    """Which token of a block lies at each place of turned values.

    Tensor cores give a thread scores 2j and 2j+1 of every 8 keys and want weights 4j to 4j+3 of every 16 from it: with
    values in this order a thread has what it must give.
    """
    return rearrange(torch.arange(BLOCK, device=device), "(g lo j b) -> (g j lo b)", lo=2, j=4, b=2)


def rounded_keys(x: Tensor, out: Tensor, scales: Tensor) -> Tensor:
    """x: tokens heads head_dim. Writes them and their scales -> means of the blocks of x, blocks heads head_dim."""
    if fused(x):
        from upres.models.kernels.fused.eights import rounded_keys as kernel

        return kernel(x, out, scales)
    blocks = rearrange(x.float(), "(n s) h d -> n h s d", s=BLOCK)
    out.copy_(rearrange(_rounded(blocks, scales), "n h s d -> (n s) h d"))
    return blocks.mean(dim=2)


def rounded_queries(x: Tensor) -> tuple[Queries, Tensor]:
    """x: tokens heads head_dim -> and the means of its blocks."""
    scales = x.new_empty((len(x) // BLOCK, x.shape[1]), dtype=torch.float32)
    queries = Queries(torch.empty_like(x, dtype=torch.float8_e4m3fn), scales, x.dtype)
    return queries, rounded_keys(x, queries.values, scales)


def turned_values(x: Tensor, out: Tensor, scales: Tensor) -> None:
    """x: tokens heads head_dim, rows with or without gaps. Writes them turned, and their scales."""
    if fused(x):
        from upres.models.kernels.fused.eights import turned_values as kernel

        return kernel(x, out, scales)
    blocks = rearrange(x.float(), "(n s) h d -> n h d s", s=BLOCK)
    out.copy_(_rounded(blocks, scales)[..., order(x.device)])
    return None


def attend_in_eights(q: Queries, seen: Keys, numbers: Tensor, counts: Tensor) -> Tensor:
    """Lists as of `blocks.key_lists` -> (tokens, heads, head_dim) in the type that queries were."""
    if q.values.is_cuda:
        from upres.models.kernels.fused.hopper_eights import attend_in_eights as kernel

        return kernel(q, seen, numbers, counts)
    return attend_in_lists(*widened(q, seen), numbers, counts)


def widened(q: Queries, seen: Keys) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, tokens heads head_dim, in the type that queries were."""
    queries, keys = (x.float() * scales.repeat_interleave(BLOCK, dim=0)[..., None]
                     for x, scales in ((q.values, q.scales), (seen.keys, seen.key_scales)))  # fmt: skip
    turned = seen.values.float() * seen.value_scales[..., None, None]
    values = rearrange(turned[..., order(turned.device).argsort()], "n h d s -> (n s) h d")
    return queries.to(q.dtype), keys.to(q.dtype), values.to(q.dtype)


def _rounded(blocks: Tensor, scales: Tensor) -> Tensor:
    """The largest of each block, the last two axes, becomes the largest there is."""
    scales.copy_(blocks.abs().amax(dim=(-2, -1)).clamp(min=LEAST) / LARGEST)
    return (blocks / scales[..., None, None]).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
