"""One clip through FlashVSR, eight frames at a time. Knows nothing of files, sizes or colour.

The reference (OpenImagingLab/FlashVSR ccac0ac) gives 21 frames at its first step and 8 at each further one, and looks
four frames ahead: of N frames, 21 or more, it gives the largest 8n-3. These are the same here; the rest comes from one
more step, for which the last frame is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from upres.models.flashvsr.dit import Conditioning, Dit
from upres.models.flashvsr.locality import Locality
from upres.models.flashvsr.lq_projection import LqMemory, LqProjection
from upres.models.flashvsr.memory import SliceMemory
from upres.models.flashvsr.noise import Noise
from upres.models.flashvsr.windows import to_windows
from upres.models.restorer import StreamSpec

FIRST_FRAMES, FIRST_LATENTS = 21, 6
STEP_FRAMES, STEP_LATENTS = 8, 2
AHEAD = 4  # frames that a step sees after those it gives
LATENT_SCALE = 8


class Decoder(Protocol):
    """Latents c t H/8 W/8 and the frames T C H W, [-1, 1], that they belong to -> as many frames, about [-1, 1]."""

    def open(self) -> Any:
        """What it remembers of one clip."""

    def __call__(self, latents: Tensor, frames: Tensor, memory: Any) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Parts:
    dit: Dit
    projection: LqProjection
    decoder: Decoder
    conditioning: Conditioning
    dtype: torch.dtype  # what all of it computes in


class FlashVsrStream:
    """Memory does not grow with the clip: the transformer keeps `int(kv_ratio)` time slices, no fewer than two, of 2
    latent frames each; the convolutions keep two frames, and up to 24 frames wait for a step.
    """

    def __init__(self, parts: Parts, spec: StreamSpec, noise: Noise, device: torch.device) -> None:
        self._parts, self._noise = parts, noise
        self._size = (3, spec.input_height, spec.input_width)
        self._locality = Locality.of(*self._size[1:], spec.sparse_ratio, spec.local_range, device)
        self.slices = [SliceMemory(int(spec.kv_ratio)) for _ in range(parts.dit.config.layers)]
        self._projected = LqMemory()
        self._decoded = parts.decoder.open()
        self._frames = torch.empty((0, *self._size), dtype=parts.dtype, device=device)  # from the next to be given on
        self._step = 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """T C H W, float, [-1, 1] -> float32; in steps of 21, then 8 frames."""
        if tuple(frames.shape[1:]) != self._size:
            raise ValueError(f"frames are {tuple(frames.shape)}, opened for T {' '.join(map(str, self._size))}")
        self._frames = torch.cat((self._frames, frames.to(self._frames)))
        while len(self._frames) >= self._due + AHEAD:
            yield self._restore()

    def flush(self) -> Iterator[Tensor]:
        while len(self._frames):
            left = min(len(self._frames), self._due)
            missing = max(0, self._due + AHEAD - len(self._frames))
            self._frames = torch.cat((self._frames, self._frames[-1:].expand(missing, -1, -1, -1)))
            yield self._restore()[:left]
            self._frames = self._frames[: max(0, len(self._frames) - missing)]

    @property
    def _due(self) -> int:
        """Frames that the next step gives."""
        return STEP_FRAMES if self._step else FIRST_FRAMES

    @torch.inference_mode()
    def _restore(self) -> Tensor:
        parts, due, step = self._parts, self._due, self._step
        latents, start = (STEP_LATENTS, FIRST_LATENTS - STEP_LATENTS + STEP_LATENTS * step) if step else (
            FIRST_LATENTS, 0)  # fmt: skip
        ahead = self._frames[AHEAD if step else 0 : due + AHEAD]
        conditions = [to_windows(x) for x in parts.projection(ahead, self._projected)]
        height, width = (side // LATENT_SCALE for side in self._size[1:])
        noise = self._noise.draw(step, (parts.dit.config.latent_channels, latents, height, width))
        velocity = parts.dit(noise, conditions, start, self.slices, self._locality, parts.conditioning)
        out = parts.decoder(noise - velocity, self._frames[:due], self._decoded)
        self._frames, self._step = self._frames[due:].clone(), step + 1
        return out.float()
