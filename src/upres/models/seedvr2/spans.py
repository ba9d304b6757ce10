"""Where the transformer's windows lie, as numbers. Knows no tensors: planners count windows without torch.

A grid is (t, h, w): latent frames, and latent rows and columns in patches of 2 x 2. Tokens stand in row-major order.
"""

from __future__ import annotations

import math
from itertools import pairwise

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
