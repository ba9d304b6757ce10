"""Rotary positions inside a window, in the two kinds that SeedVR2 has. Knows nothing of attention.

The frequencies are part of every checkpoint, in the checkpoint's type, and angles are rounded to that type: the
published half-precision files were always run so, and the 7B's angles (up to 402 rad) move visibly with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from upres.models.seedvr2.windows import Axis, Layout

PIXEL_FREQUENCY = 256  # highest frequency of the 7B's rotations, in half turns per window: SeedVR 673b563, rope "pixel"


class Frequencies(nn.Module):
    freqs: Tensor

    def __init__(self, freqs: Tensor) -> None:
        super().__init__()
        self.register_buffer("freqs", freqs)

    def angles(self, positions: Tensor) -> Tensor:
        """(n) -> (n, frequencies), float32 holding values rounded to the type of the checkpoint's frequencies."""
        freqs = self.freqs if self.freqs.dtype.itemsize > 1 else self.freqs.bfloat16()  # fp8 has no 61
        return (positions.to(freqs.dtype)[:, None] * freqs).float()


class Rope(nn.Module, ABC):
    """Turns the leading pairs of each head, a third of them for each of time, height and width."""

    def __init__(self, freqs: Tensor) -> None:
        super().__init__()
        self.rope = Frequencies(freqs)  # the checkpoints say rope.rope.freqs

    def video_angles(self, layout: Layout, text_length: int) -> Tensor:
        """((t h w), pairs), in row-major token order."""
        t, h, w = (self.rope.angles(x) for x in self.positions(layout.axes, text_length))
        frames, rows, columns = layout.grid
        return torch.cat(
            (
                repeat(t, "t f -> (t h w) f", h=rows, w=columns),
                repeat(h, "h f -> (t h w) f", t=frames, w=columns),
                repeat(w, "w f -> (t h w) f", t=frames, h=rows),
            ),
            dim=-1,
        )

    @abstractmethod
    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the coordinates of each axis."""

    @abstractmethod
    def text_angles(self, text_length: int) -> Tensor | None:
        """(text length, pairs), or None where text is not turned."""


class CountedRope(Rope):
    """3B: positions count 0, 1, 2 … and the text comes before the video's first frame."""

    def __init__(self, rope_dim: int) -> None:
        axis_dim = rope_dim // 3
        steps = torch.arange(0, axis_dim, 2)[: axis_dim // 2]
        super().__init__(10_000 ** (-steps / axis_dim))

    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        t, h, w = axes
        return t.local + text_length, h.local, w.local

    def text_angles(self, text_length: int) -> Tensor:
        return self.rope.angles(torch.arange(text_length, device=self.rope.freqs.device)).repeat(1, 3)


class CentredRope(Rope):
    """7B: every window spans -1 … 1 on each axis, and text has no position."""

    def __init__(self, rope_dim: int) -> None:
        super().__init__(math.pi * torch.linspace(1, PIXEL_FREQUENCY / 2, rope_dim // 3 // 2))

    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        t, h, w = axes
        return t.centred, h.centred, w.centred

    def text_angles(self, text_length: int) -> None:
        return None


def turn_(heads: Tensor, angles: Tensor) -> Tensor:
    """Rotates the first pairs (x0 x1), (x2 x3) … of each head, in place. heads: rows heads dim, float32, contiguous."""
    planes = torch.view_as_complex(rearrange(heads, "rows heads (pairs two) -> rows heads pairs two", two=2))
    planes[..., : angles.shape[-1]] *= torch.polar(torch.ones_like(angles), angles)[:, None]
    return heads
