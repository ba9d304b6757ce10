"""Which pairs of windows are kept: the most alike of near ones, as lists for block-sparse attention. Knows no networks.

Its twin is models/flashvsr/locality.py: Choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 1 << 16  # pairs up to which CUDA's kthvalue, a single multiprocessor's work, takes less time than its topk


def threshold(pairs: Tensor, kept: int) -> Tensor:
    """The largest of each row but the first `kept`, in the last axis of one; nothing is read back from the device."""
    if pairs.shape[-1] <= FEW:
        return pairs.kthvalue(pairs.shape[-1] - kept, dim=-1, keepdim=True).values
    return pairs.topk(kept + 1, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)


def chosen(queries: Tensor, keys: Tensor, near: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Means of windows, (windows, heads, head_dim), float32; near: of a time slice's windows each by each, bool.

    -> for each head and window of queries the numbers of those of keys that it sees, ascending, and their count; int32.
    """
    from upres.models.kernels.fused.choice import listed, weighed

    scores = torch.einsum("q h d, k h d -> h q k", queries, keys).contiguous()
    weights = weighed(scores, near, queries.shape[-1] ** -0.5)
    pairs = weights.view(len(weights), len(queries) // len(near), -1)
    return listed(weights, threshold(pairs, min(pairs.shape[-1] - 1, top)), len(near))
