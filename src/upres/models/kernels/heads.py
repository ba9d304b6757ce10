"""Queries, keys and values on their way into windows: norm of each head, rotation, packing. Knows no networks.

Two sources, one after the other, are packed by one list of places, so that a window's tokens lie together however often
a row of the second source is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from upres.models.kernels.switch import fused


@dataclass(frozen=True, slots=True)
class Source:
    qkv: Tensor  # rows, (3 heads head_dim)
    norm_q: Tensor  # head_dim, weights of the RMS norm of each head
    norm_k: Tensor


@dataclass(frozen=True, slots=True)
class Turns:
    """Rotations of the leading pairs of each head: a third of them by each of three axes.

    `at` names for each packed row its source row (the second source's counted on) and three rows of the table.
    """

    table: Tensor  # places, frequencies, (cos, sin), float32
    at: Tensor  # packed rows, 4, int32
    seen: Tensor  # for each source row, a packed row of it

    def rotations(self, sources: slice) -> Tensor:
        """Of these source rows: rows, 1 for all heads, pairs, complex64."""
        places = self.at[self.seen[sources], 1:].long()
        return torch.view_as_complex(self.table)[places].flatten(1)[:, None]


def packed_heads(first: Source, second: Source, turns: Turns, heads: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """-> q, k, v: packed rows, heads, head_dim, in the type of the sources."""
    if fused(first.qkv):
        from upres.models.kernels.fused.heads import packed_heads as kernel

        return kernel(first, second, turns, heads, eps)
    count = len(first.qkv)
    both = (
        _normed_and_turned(first, turns.rotations(slice(count)), heads, eps),
        _normed_and_turned(second, turns.rotations(slice(count, None)), heads, eps),
    )
    rows = turns.at[:, 0].long()
    q, k, v = (torch.cat(part)[rows] for part in zip(*both, strict=True))
    return q, k, v


def turned(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotates the first pairs (x0 x1), (x2 x3) … of each head. x: rows heads dim, float32, contiguous; written over."""
    planes = torch.view_as_complex(rearrange(x, "rows heads (pairs two) -> rows heads pairs two", two=2))
    planes[..., : rotations.shape[-1]] *= rotations
    return x


def _normed_and_turned(source: Source, rotations: Tensor, heads: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = rearrange(source.qkv, "rows (three h d) -> three rows h d", three=3, h=heads)
    q, k = (turned(F.rms_norm(x.float(), x.shape[-1:], eps=eps) * w.float(), rotations).to(v.dtype)
            for x, w in ((q, source.norm_q), (k, source.norm_k)))  # fmt: skip
    return q, k, v
