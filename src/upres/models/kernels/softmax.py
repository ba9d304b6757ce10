"""Softmax of long rows, from wide scores to narrow weights. Knows no networks."""

from __future__ import annotations

import torch
from torch import Tensor

from upres.models.kernels.switch import fused


def softmax(scores: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Of each row of scores * scale, as `dtype`. The scores, float32 or wider, may be written over."""
    if fused(scores) and scores.is_contiguous():
        from upres.models.kernels.fused.softmax import softmax as kernel

        return kernel(scores, scale, dtype)
    return scores.mul_(scale).softmax(dim=-1).to(dtype)
