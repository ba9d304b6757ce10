"""From frames of any size to what SeedVR2's autoencoder takes. Knows nothing of clips, windows or colour.

The rules of numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1, by which the recorded pipelines were made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

GRID = 16  # pixels: 8 to a latent, 2 latents to a token


@dataclass(frozen=True, slots=True)
class Geometry:
    """(height, width) in pixels, in the order in which they are reached; the result is cropped to `true`."""

    steps: tuple[tuple[int, int], ...]  # one or two resizes
    padded: tuple[int, int]
    true: tuple[int, int]  # even, as 4:2:0 needs


def geometry(height: int, width: int, resolution: int, max_resolution: int = 0) -> Geometry:
    """The short side becomes `resolution`; then, unless `max_resolution` is 0, all shrinks until no side exceeds it."""
    short = min(height, width)
    steps = [(resolution * height // short, resolution * width // short)]
    longest = max(steps[0])
    if 0 < max_resolution < longest:
        scale = max_resolution / longest
        steps.append((round(steps[0][0] * scale), round(steps[0][1] * scale)))
    h, w = steps[-1]
    return Geometry(tuple(steps), (-(-h // GRID) * GRID, -(-w // GRID) * GRID), (h // 2 * 2, w // 2 * 2))


def to_video(frames: Tensor, sizes: Geometry) -> Tensor:
    """T C H W, [0, 1] -> C T H W, [-1, 1], black below and at the right of the picture."""
    for size in sizes.steps:
        if size != frames.shape[-2:]:
            resized = F.interpolate(frames.float(), size=size, mode="bicubic", antialias=True)
            frames = resized.to(frames.dtype)
    height, width = sizes.padded
    frames = F.pad(frames.clamp(0, 1), (0, width - frames.shape[-1], 0, height - frames.shape[-2]))
    return rearrange((frames - 0.5) / 0.5, "t c h w -> c t h w")
