"""Cross-fades what two windows made of the same frames or latents. Knows only tensors whose first axis is time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cross_fade(previous: Tensor, current: Tensor) -> Tensor:
    """Both `T ...`, of one shape. The dtype of `current`; neither is changed."""
    weights = torch.tensor(fade_out(len(current)), device=current.device).view(-1, *[1] * (current.ndim - 1))
    return torch.lerp(current.float(), previous.float(), weights).to(current.dtype)


def fade_out(frames: int) -> list[float]:
    """How much the previous window counts in each shared frame: 1 in the first third, 0 in the last, a half cosine
    wave between them. The rule of numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1.
    """
    if frames == 1:
        return [1.0]
    along = (min(max(3 * i / (frames - 1) - 1, 0.0), 1.0) for i in range(frames))
    return [0.5 + 0.5 * math.cos(math.pi * x) for x in along]
