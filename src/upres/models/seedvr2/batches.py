"""Batch mode: so many frames at a time are encoded, restored and decoded by themselves, as the reference does it.

Knows nothing of shots, files or colour. Rules: numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from upres.models.seedvr2.blend import cross_fade
from upres.models.seedvr2.config import TIME_SCALE
from upres.models.seedvr2.fill import extended, on_grid
from upres.models.seedvr2.noise import Noise
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.tiles import Tiling

PIXEL_NOISE = 0.05 / 2  # of a standard normal, at input_noise = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the reference can be asked for and our public APIs do not offer. The defaults are its own."""

    overlap: int = 0  # frames that a batch shares with the one before, cross-faded; no step forward left: none
    uniform: bool = False  # a short last batch is filled to the full size, not only to 4n+1
    input_noise: float = 0.0  # 0 … 1
    latent_noise: float = 0.0  # 0 … 1


class BatchStream:
    """Gives the frames of a batch once the next one has been blended into them; each batch's share in one piece."""

    def __init__(self, parts: Parts, size: int, tiling: Tiling | None, noise: Noise, recipe: Recipe,
                 slice_frames: int = TIME_SCALE) -> None:  # fmt: skip
        self._parts, self._noise, self._recipe = parts, noise, recipe
        self._way = tiling, slice_frames  # through the autoencoder
        self._size = size
        self._overlap = recipe.overlap if recipe.overlap < size else 0
        self._given: list[Tensor] = []  # C H W, from the next batch's first frame on
        self._restored: Tensor | None = None  # T C H W, not yet given back
        self._shares: list[int] = []  # how many of these each batch brought

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        self._given.extend(frames.to(self._parts.dtype))
        del frames  # perhaps the last to hold them
        while len(self._given) >= self._size:
            batch = self._given[: self._size]
            del self._given[: self._size - self._overlap]
            self._restore(batch)
            yield from self._settled(self._overlap)

    def flush(self) -> Iterator[Tensor]:
        if len(self._given) > (0 if self._restored is None else self._overlap):
            batch, self._given = self._given, []
            self._restore(batch)
        self._given = []
        yield from self._settled(0)

    @torch.inference_mode()
    def _restore(self, frames: list[Tensor]) -> None:
        """frames: emptied, once they are encoded."""
        fresh = self._through(frames)
        if self._restored is None:
            self._restored = fresh
        else:
            before, shared = self._restored.tensor_split([len(self._restored) - self._overlap])
            faded = cross_fade(shared, fresh[: self._overlap])
            fresh = fresh[self._overlap :]
            self._restored = torch.cat((before, faded, fresh))
        self._shares.append(len(fresh))

    def _through(self, frames: list[Tensor]) -> Tensor:
        """As many frames back, whatever the batch had to be filled up to."""
        count = len(frames)
        latents = self._encoded(frames)
        latents = self._parts.restore_latents(latents, self._noise.latents(latents), self._recipe.latent_noise)
        return self._parts.decode(latents, *self._way)[:count]

    def _encoded(self, frames: list[Tensor]) -> Tensor:
        numbers = extended(len(frames), self._size) if self._recipe.uniform else list(range(len(frames)))
        numbers = [numbers[i] for i in extended(len(numbers), on_grid(len(numbers)))]
        video = torch.stack([frames[i] for i in numbers])
        if self._recipe.input_noise > 0:
            video = video + PIXEL_NOISE * self._recipe.input_noise * self._noise.pixels(video)
        frames.clear()
        return self._parts.encode(video, *self._way)

    def _settled(self, keep: int) -> Iterator[Tensor]:
        while self._restored is not None and self._shares and len(self._restored) - self._shares[0] >= keep:
            share, self._restored = self._restored.tensor_split([self._shares.pop(0)])
            yield share.float()
