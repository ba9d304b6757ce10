"""The order in which the transformer keeps its tokens: windows of 2 frames x 8 rows x 8 columns, one after the other.

Time slices first, then rows and columns of windows, then the tokens of a window. Attention looks at whole windows, all
else at single tokens, so this order is taken once at the entry and given up at the exit.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

FRAMES, SIDE = 2, 8  # latent frames of a time slice; tokens along each side of a window
TOKENS = FRAMES * SIDE * SIDE
PATCH = 2  # latent rows and columns that make one token


def to_windows(grid: Tensor) -> Tensor:
    """t h w c -> tokens c."""
    return rearrange(grid, "(t a) (h b) (w d) c -> (t h w a b d) c", a=FRAMES, b=SIDE, d=SIDE)


def patches_in(latents: Tensor) -> Tensor:
    """c t H W -> tokens (c p q)."""
    return rearrange(latents, "c (t a) (h b p) (w d q) -> (t h w a b d) (c p q)",
                     a=FRAMES, b=SIDE, d=SIDE, p=PATCH, q=PATCH)  # fmt: skip


def patches_out(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """tokens (p q c) -> c t H W, of `rows` x `columns` windows."""
    return rearrange(tokens, "(t h w a b d) (p q c) -> c (t a) (h b p) (w d q)", h=rows, w=columns,
                     a=FRAMES, b=SIDE, d=SIDE, p=PATCH, q=PATCH)  # fmt: skip
