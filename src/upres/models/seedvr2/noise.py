"""Where a batch's random numbers come from. Knows nothing of what is done with them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from upres.models.seedvr2.sampler import draw_noise

PIXEL_SEED_OFFSET = 1_000_000  # numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1: seeds the encoding phase


class Noise(Protocol):
    """Asked once for each batch, in order."""

    def pixels(self, video: Tensor) -> Tensor:
        """Like `video`, T C H W."""

    def latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Two draws like `latents`, T H W 16: the start, and one for the condition."""


class SeededNoise:
    """Equal batches start from equal noise, as in the reference; the noise of pixels goes on from batch to batch."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generator = torch.Generator(device).manual_seed(seed + PIXEL_SEED_OFFSET)

    def pixels(self, video: Tensor) -> Tensor:
        return torch.empty_like(video).normal_(generator=self._generator)

    def latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return draw_noise(latents, self._seed)
