"""Which windows a window looks at: near ones only, and of these the most alike. Knows nothing of how it then looks.

Rules of OpenImagingLab/FlashVSR ccac0ac (diffsynth/models/wan_video_dit.py), the local window of its later fix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.windows import PATCH, SIDE
from upres.models.kernels.choice import threshold

WINDOW_PIXELS = 8 * PATCH * SIDE  # a window's side; the latents are 1/8 of the frame
TUNED_PIXELS = 768 * 1280  # the frame size for which sparse_ratio is a share of the windows of a time slice, in 60s


@dataclass(frozen=True, slots=True)
class Locality:
    """The same for all layers and steps of a clip."""

    rows: int  # of windows in a time slice
    columns: int
    near: Tensor  # (rows columns) (rows columns), bool: which window may see which other, in every time slice
    top: int  # pairs of windows that are kept, of each head and time slice of queries

    @property
    def windows(self) -> int:
        return self.rows * self.columns

    @classmethod
    def of(cls, height: int, width: int, sparse_ratio: float, local_range: int, device: torch.device) -> Locality:
        """For frames of this size, multiples of 128."""
        rows, columns = height // WINDOW_PIXELS, width // WINDOW_PIXELS
        near = neighbours(rows, columns, local_range, device)
        return cls(rows, columns, near, pairs_kept(rows * columns, sparse_ratio * TUNED_PIXELS / (height * width)))


def pairs_kept(windows: int, ratio: float) -> int:
    """Rounded down, in the reference's order of operations: on the edge of an integer the last bit decides."""
    return int(windows * windows * ratio) - 1


def neighbours(rows: int, columns: int, local_range: int, device: torch.device) -> Tensor:
    """A square of `local_range` windows around each, cut off at the border; an even one reaches further up and left."""

    def along(count: int) -> Tensor:
        index = torch.arange(count, device=device)
        first = index[:, None] - local_range // 2
        return (index >= first) & (index < first + local_range)

    near = along(rows)[:, None, :, None] & along(columns)[None, :, None, :]
    return rearrange(near, "r c s d -> (r c) (s d)")


class Choice(nn.Module):
    """A module, without weights, so that its choices can be watched."""

    def forward(self, queries: Tensor, keys: Tensor, near: Tensor, top: int) -> Tensor:
        """Means of windows, (windows, heads, head_dim), float32 -> heads, windows of queries, of keys, bool.

        Of each head and time slice of queries all pairs compete, whatever their rows: those are kept whose weight is
        above the weight of the first pair that is not, so equals of that one fall with it. A window may end up alone.
        """
        scores = torch.einsum("q h d, k h d -> h q k", queries, keys) / math.sqrt(queries.shape[-1])
        scores = rearrange(scores, "h (t q) (s k) -> h t q s k", q=len(near), k=len(near))
        scores = scores.masked_fill(~near[:, None], -math.inf)
        weights = scores.flatten(3).softmax(dim=-1)
        pairs = weights.flatten(2)
        kept = min(pairs.shape[-1] - 1, top)
        return (weights > threshold(pairs, kept)[..., None]).flatten(1, 2)
