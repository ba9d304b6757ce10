"""Rotary positions inside a window, in the two kinds that SeedVR2 has. Knows nothing of attention.

The frequencies are part of every checkpoint, in the checkpoint's type, and angles are rounded to that type: the
published half-precision files were always run so, and the 7B's angles (up to 402 rad) move visibly with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from upres.models.kernels.heads import Turns
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

    def turns(self, layout: Layout) -> Turns:
        """Computed once for a layout, and kept with it."""
        if self not in layout.turns:
            angles = self.angles(layout)
            layout.turns[self] = Turns(torch.stack((angles.cos(), angles.sin()), dim=-1), layout.places, layout.seen)
        return layout.turns[self]

    def angles(self, layout: Layout) -> Tensor:
        """A row for each place that `layout.places` names: (t + h + w + text length, frequencies)."""
        text_length = layout.text_rows.shape[1]
        positions = self.positions(layout.axes, text_length)
        text = self.text_positions(torch.arange(text_length, device=self.rope.freqs.device))
        return torch.cat([self.rope.angles(x) for x in (*positions, text)])

    @abstractmethod
    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the coordinates of each axis."""

    @abstractmethod
    def text_positions(self, count: Tensor) -> Tensor:
        """Of the text, the same on all axes. count: 0, 1, 2 …"""


class CountedRope(Rope):
    """3B: positions count 0, 1, 2 … and the text comes before the video's first frame."""

    def __init__(self, rope_dim: int) -> None:
        axis_dim = rope_dim // 3
        steps = torch.arange(0, axis_dim, 2)[: axis_dim // 2]
        super().__init__(10_000 ** (-steps / axis_dim))

    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        t, h, w = axes
        return t.local + text_length, h.local, w.local

    def text_positions(self, count: Tensor) -> Tensor:
        return count


class CentredRope(Rope):
    """7B: every window spans -1 … 1 on each axis, and text is not turned."""

    def __init__(self, rope_dim: int) -> None:
        super().__init__(math.pi * torch.linspace(1, PIXEL_FREQUENCY / 2, rope_dim // 3 // 2))

    def positions(self, axes: tuple[Axis, Axis, Axis], text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        t, h, w = axes
        return t.centred, h.centred, w.centred

    def text_positions(self, count: Tensor) -> Tensor:
        return torch.zeros_like(count)
