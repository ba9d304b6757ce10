"""Which tokens of the transformer see each other. Knows nothing of tensors' values, only of their places.

A grid is (t, h, w): latent frames, and latent rows and columns in patches of 2 x 2. Tokens stand in row-major order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from upres.models.kernels.heads import Turns

Grid = tuple[int, int, int]
Span = tuple[int, int]  # start, stop

# SeedVR 673b563, models/dit_v2/window.py: windows are sized as if the frame had the tokens of 1280 x 720 pixels.
NOMINAL_TOKENS = 45 * 80
SPATIAL_WINDOWS = 3
TEMPORAL_WINDOWS = 4
LONGEST_CLIP = 30  # latent frames; a longer clip gets more windows, not longer ones


def window_size(grid: Grid) -> Grid:
    """Depends on the frame's aspect ratio and the clip's length, not on the resolution. 720p, 1 frame: (1, 15, 27)."""
    frames, height, width = grid
    scale = math.sqrt(NOMINAL_TOKENS / (height * width))
    return (
        math.ceil(min(frames, LONGEST_CLIP) / TEMPORAL_WINDOWS),
        math.ceil(round(height * scale) / SPATIAL_WINDOWS),
        math.ceil(round(width * scale) / SPATIAL_WINDOWS),
    )


def axis_spans(length: int, window: int, shifted: bool) -> list[Span]:
    """Cut an axis at multiples of the window, or half a window off them. Pieces at the border are smaller, not wrapped.

    A shifted axis that fits into one window is not cut.
    """
    if shifted and window < length:
        inner = [int((i - 0.5) * window) for i in range(1, length // window + 2)]
    else:
        inner = list(range(window, length, window))
    edges = [0, *(edge for edge in inner if 0 < edge < length), length]
    return list(pairwise(edges))


def window_spans(grid: Grid, shifted: bool) -> tuple[list[Span], list[Span], list[Span]]:
    """The windows are all combinations of one span of each axis."""
    t, h, w = (axis_spans(n, size, shifted) for n, size in zip(grid, window_size(grid), strict=True))
    return t, h, w


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
        return cls(grid, (t, h, w), lengths, pack, video_rows, text_rows, places)


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
