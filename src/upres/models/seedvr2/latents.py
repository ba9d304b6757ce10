"""The latents of one shot through the transformer, in overlapping windows. Knows nothing of pixels or shots' ends.

Noise belongs to a latent, not to a window: where windows overlap both start from the same, and so agree. Latent for
latent it is what the reference's batches of that size start from, one after the other: a window's worth, repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.sampler import draw_noise


class LatentWindows:
    """Latents are T H W 16, scaled. Remembered is one window, its noise, and what the next one fades in from."""

    def __init__(self, parts: Parts, size: int, seed: int) -> None:
        self._parts, self._size, self._seed = parts, size, seed
        self._overlap = overlap(size)
        self._given: list[Tensor] = []  # 1 H W 16 each, from the next window's first on
        self._first = 0  # the number of that one in the shot
        self._noise: tuple[Tensor, Tensor] | None = None  # of the shot's first window
        self._fading: Tensor | None = None  # the last window's version of the next one's first latents

    def push(self, latents: Tensor) -> Iterator[Tensor]:
        self._given.extend(torch.split(latents, 1) if len(latents) else ())
        step = self._size - self._overlap
        while len(self._given) >= self._size:
            restored = self._restore(self._size)
            self._fading = restored[step:]
            del self._given[:step]
            self._first += step
            yield restored[:step]

    def close(self) -> Iterator[Tensor]:
        if self._fading is None or len(self._given) > self._overlap:
            yield self._restore(len(self._given))
        else:
            yield self._fading

    def _restore(self, count: int) -> Tensor:
        latents = torch.cat(self._given[:count])
        restored = self._parts.restore_latents(latents, self._noise_for(latents))
        if self._fading is None:
            return restored
        shared = len(self._fading)
        return torch.cat((fade(self._fading, restored[:shared]), restored[shared:]))

    def _noise_for(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if self._noise is None:
            self._noise = draw_noise(latents, self._seed)
        start, second = self._noise
        numbers = (torch.arange(len(latents), device=latents.device) + self._first) % len(start)
        return start[numbers], second[numbers]


def overlap(size: int) -> int:
    """Latents that a window of so many shares with the one before."""
    return max(1, size // 4) if size > 1 else 0


def fade(previous: Tensor, current: Tensor) -> Tensor:
    """In even steps, so that a single shared latent is the mean of its two versions."""
    shared = len(current)
    weights = torch.arange(1, shared + 1, device=current.device) / (shared + 1)
    return torch.lerp(previous.float(), current.float(), weights.view(-1, 1, 1, 1)).to(current.dtype)
