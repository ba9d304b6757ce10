"""Queries, keys and values normed over all heads at once, rotated and put where attention reads them. No networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from upres.models.kernels.switch import fused


@dataclass(frozen=True, slots=True)
class Norms:
    q: Tensor  # weights, heads * head_dim
    k: Tensor
    eps: float


def placed(qkv: Tensor, norms: Norms, rotation: Tensor, keys: Tensor, values: Tensor | None) -> Tensor:
    """qkv: tokens (3 heads head_dim); rotation: tokens head_dim/2, complex64, of neighbouring elements.

    Writes keys and values, if these are wanted, (tokens, heads, head_dim), and gives the queries, likewise.
    """
    if 2 * rotation.shape[-1] != keys.shape[-1]:
        raise ValueError(f"rotations of {rotation.shape[-1]} pairs do not fit heads of {keys.shape[-1]} elements")
    if fused(qkv):
        from upres.models.kernels.fused.whole_heads import placed as kernel

        return kernel(qkv, norms, rotation, keys, values)
    q, k, v = qkv.chunk(3, dim=-1)
    q, k = (turned(F.rms_norm(x, x.shape[-1:], weight, norms.eps).view(keys.shape), rotation)
            for x, weight in ((q, norms.q), (k, norms.k)))  # fmt: skip
    keys.copy_(k)
    if values is not None:
        values.copy_(v.view(values.shape))
    return q


def turned(x: Tensor, rotation: Tensor) -> Tensor:
    """tokens heads head_dim; neighbouring elements are the two parts of a complex number."""
    pairs = torch.view_as_complex(rearrange(x.float(), "s h (d two) -> s h d two", two=2))
    return torch.view_as_real(pairs * rotation[:, None]).flatten(-2).to(x.dtype)


def window_means(x: Tensor, tokens: int) -> Tensor:
    """Of windows of so many tokens: tokens heads head_dim -> windows heads head_dim, float32."""
    if fused(x):
        from upres.models.kernels.fused.whole_heads import window_means as kernel

        return kernel(x, tokens)
    return rearrange(x, "(n s) h d -> n s h d", s=tokens).mean(dim=1, dtype=torch.float32)
