"""Attention over packed sequences, the one place where a kernel is chosen. Knows nothing of windows or of any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# q, k, v: (rows, heads, head_dim), the sequences one after the other; lengths of the sequences, adding up to rows.
Kernel = Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Full softmax attention inside each sequence, scale 1/sqrt(head_dim); rows stay where they are.

    A kernel for variable lengths takes the rows as they are. Ours calls SDPA once for each run of equal lengths, so
    whoever packs the rows does well to sort the sequences by length.
    """
    if sum(lengths) != q.shape[0]:
        raise ValueError(f"sequences of {sum(lengths)} rows in all, but {q.shape[0]} rows")
    return KERNEL(q, k, v, lengths)


def sdpa_by_length(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    out, start = [], 0
    for length, run in groupby(lengths):
        count = sum(1 for _ in run)
        rows = slice(start, start + length * count)
        batch_q, batch_k, batch_v = (rearrange(x[rows], "(b s) h d -> b h s d", b=count) for x in (q, k, v))
        answers = F.scaled_dot_product_attention(batch_q, batch_k, batch_v)
        out.append(rearrange(answers, "b h s d -> (b s) h d"))
        start = rows.stop
    return torch.cat(out)


KERNEL: Kernel = sdpa_by_length
