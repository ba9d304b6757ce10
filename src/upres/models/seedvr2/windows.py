"""Which tokens of the transformer see each other. Knows nothing of tensors' values, only of their places."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from upres.models.kernels.heads import Turns
from upres.models.seedvr2.spans import Grid, Span, window_spans


@dataclass(frozen=True, slots=True)
class Axis:
    """For each coordinate of one axis, its place within its window."""

    local: Tensor  # 0, 1, 2 … from the window's start
    centred: Tensor  # -1 … 1 from the window's first to its last coordinate, -1 if it has only one

    @classmethod
    def of(cls, spans: list[Span], device: torch.device) -> Axis:
        sizes = [stop - start for start, stop in spans]
        local = torch.cat([torch.arange(size) for size in sizes])
        centred = torch.cat([torch.linspace(-1, 1, size) for size in sizes])
        return cls(local.to(device), centred.to(device))


@dataclass(frozen=True, slots=True)
class Layout:
    """How video and text tokens are packed into one sequence per window: the window's tokens, then all of the text.

    Windows are sorted by length, so that equal ones lie side by side for the attention kernel.
    """

    grid: Grid
    axes: tuple[Axis, Axis, Axis]
    lengths: tuple[int, ...]  # of each sequence, text included
    pack: Tensor  # for each packed row: its row in (video tokens, text tokens)
    video_rows: Tensor  # for each video token: its packed row
    text_rows: Tensor  # (windows, text length): the packed rows of the text's copies
    places: Tensor  # for each packed row: its row as in `pack`, and where Rope.angles has its t, h and w; int32
    seen: Tensor  # for each row of (video tokens, text tokens): a packed row of it
    turns: dict[nn.Module, Turns] = field(default_factory=dict, compare=False)  # what Ropes have computed for it

    @classmethod
    def of(cls, spans: tuple[list[Span], list[Span], list[Span]], text_length: int, device: torch.device) -> Layout:
        sizes = [[stop - start for start, stop in axis] for axis in spans]
        grid = (sum(sizes[0]), sum(sizes[1]), sum(sizes[2]))
        volumes = [t * h * w for t in sizes[0] for h in sizes[1] for w in sizes[2]]
        order = sorted(range(len(volumes)), key=volumes.__getitem__)
        lengths = tuple(volumes[window] + text_length for window in order)

        rank = torch.tensor(order, device=device).argsort()  # of each window, in sorted order
        token_rank = rank[_window_of_token(sizes, device)]
        by_window = token_rank.argsort(stable=True)
        tokens, text = (torch.arange(n, device=device) for n in (math.prod(grid), text_length))

        video_rows = torch.empty_like(tokens)
        video_rows[by_window] = tokens + token_rank[by_window] * text_length
        ends = torch.tensor(lengths, device=device).cumsum(0)
        text_rows = rearrange(ends - text_length, "windows -> windows 1") + text
        pack = torch.empty(sum(lengths), dtype=torch.long, device=device)
        pack[video_rows] = tokens
        pack[text_rows] = len(tokens) + text

        t, h, w = (Axis.of(axis, device) for axis in spans)
        places = torch.cat((pack[:, None], _places(grid, text)[pack]), dim=1).int()
        seen = torch.cat((video_rows, text_rows[0]))
        return cls(grid, (t, h, w), lengths, pack, video_rows, text_rows, places, seen)


def window_layout(grid: Grid, text_length: int, device: torch.device, *, shifted: bool) -> Layout:
    return Layout.of(window_spans(grid, shifted), text_length, device)


def _places(grid: Grid, text: Tensor) -> Tensor:
    """For video tokens and then the text's: the rows of a table of t, h, w and text positions, one after the other."""
    t, h, w = (torch.arange(n, device=text.device) for n in grid)
    video = torch.cartesian_prod(t, h + len(t), w + len(t) + len(h))
    return torch.cat((video, (text + sum(grid))[:, None].expand(-1, 3)))


def _window_of_token(sizes: list[list[int]], device: torch.device) -> Tensor:
    """(t h w): the number of each token's window, windows counted row-major."""
    t, h, w = (
        torch.tensor([index for index, size in enumerate(axis) for _ in range(size)], device=device) for axis in sizes
    )
    rows, columns = len(sizes[1]), len(sizes[2])
    shape = {"t": len(t), "h": len(h), "w": len(w)}
    frame = repeat(t, "t -> (t h w)", **shape) * rows * columns
    return frame + repeat(h, "h -> (t h w)", **shape) * columns + repeat(w, "w -> (t h w)", **shape)
