"""Rotary positions over time, rows and columns, for a clip of any length. Knows nothing of attention."""

from __future__ import annotations

import torch
from torch import Tensor

from upres.models.flashvsr.windows import FRAMES, SIDE, to_windows

THETA = 10_000.0


def turns(head_dim: int, start: int, slices: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """The rotation of every token of these windows: tokens head_dim/2, complex64.

    Latent frame `start` is the first one; positions are computed, so there is no last one. Rows and columns each have
    head_dim // 3 elements, time has the rest; angles are float64 until they become rotations (Wan-Video/Wan2.1).
    """
    side = head_dim // 3
    axes = (
        _angles(start, slices * FRAMES, head_dim - 2 * side, device)[:, None, None],
        _angles(0, rows * SIDE, side, device)[None, :, None],
        _angles(0, columns * SIDE, side, device)[None, None, :],
    )
    grid = (slices * FRAMES, rows * SIDE, columns * SIDE)
    angles = torch.cat([axis.expand(*grid, axis.shape[-1]) for axis in axes], dim=-1)
    return to_windows(torch.polar(torch.ones_like(angles), angles).to(torch.complex64))


def _angles(start: int, count: int, size: int, device: torch.device) -> Tensor:
    """count size/2, float64."""
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=device)[: size // 2] / size
    positions = torch.arange(start, start + count, dtype=torch.float64, device=device)
    return torch.outer(positions, THETA**-exponents)
