"""Stream mode: each shot passes the autoencoder once, however long it is. Knows nothing of files or colour.

The encoder and the decoder carry their causal memory from slice to slice; between them the transformer sees overlapping
windows of latents, which are cross-faded before they are decoded. A shot is restored as if it were a clip of its own.
Where the memory of whole shots has no room, the autoencoder takes them in portions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from upres.models.seedvr2.config import TIME_SCALE
from upres.models.seedvr2.cuts import Cuts
from upres.models.seedvr2.fill import extended, on_grid
from upres.models.seedvr2.latents import LatentWindows
from upres.models.seedvr2.parts import Parts, from_latents, to_clip, to_frames, to_latents
from upres.models.seedvr2.portions import Portions
from upres.models.seedvr2.tiles import Tiling
from upres.models.seedvr2.tiling import Passage


class ShotStream:
    """Cuts the clip into shots and sends one after the other through its own `open_shot()`."""

    def __init__(self, open_shot: Callable[[], Shot], lead_in: int = 0) -> None:
        """lead_in: so many frames only tell the cuts after them; the frame that follows begins a shot."""
        self._open_shot = open_shot
        self._lead_in = lead_in
        self.fresh = 0  # the number of the current shot's first frame
        self._sent = 0
        self._shot = open_shot()
        self._cuts = Cuts()

    @torch.inference_mode()
    def push(self, frames: Tensor) -> Iterator[Tensor]:
        yield from self._through(self._cuts.push(frames))

    @torch.inference_mode()
    def flush(self) -> Iterator[Tensor]:
        yield from self._through(self._cuts.flush())
        yield from self._shot.close()

    def _through(self, frames: Iterable[tuple[Tensor, bool]]) -> Iterator[Tensor]:
        for frame, begins in frames:
            if self._lead_in:
                self._lead_in -= 1
                continue
            if begins and self._sent:
                yield from self._shot.close()
                self._shot, self.fresh = self._open_shot(), self._sent
            self._sent += 1
            yield from self._shot.push(frame[None])


class Shot:
    """Gives frames back a latent frame's worth at a time, however they were pushed: what is done to the frames of one
    piece together, colour correction for one, is then always the same."""

    def __init__(self, parts: Parts, size: tuple[int, int], window: int, tiling: Tiling | None, seed: int, *,
                 carried: bool = True, slice_frames: int = TIME_SCALE) -> None:  # fmt: skip
        """size: height and width in pixels; window: frames; carried: the autoencoder remembers the shot's course, or
        takes it in portions; slice_frames: of it at a time."""
        self._parts, way = parts, (*size, tiling, slice_frames)
        self._encoding: Passage | Portions = parts.vae.encoding(*way)
        self._decoding: Passage | Portions = parts.vae.decoding(*way)
        if not carried:
            self._encoding = Portions(lambda: parts.vae.encoding(*way), step=TIME_SCALE, made=1)
            self._decoding = Portions(lambda: parts.vae.decoding(*way), step=1, made=TIME_SCALE)
        self._windows = LatentWindows(parts, (on_grid(window) - 1) // TIME_SCALE + 1, seed)
        self._last: deque[Tensor] = deque(maxlen=TIME_SCALE)  # C H W; what an end amid a latent frame is filled from
        self._pushed = self._given_back = 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        self._last.extend(frames)
        self._pushed += len(frames)
        yield from self._decoded(self._windows.push(self._encoded(frames, last=False)))

    def close(self) -> Iterator[Tensor]:
        if self._pushed == 0:
            return
        kept = len(self._last)
        numbers = extended(kept, kept + on_grid(self._pushed) - self._pushed)[kept:]
        filling = torch.stack([self._last[i] for i in numbers]) if numbers else self._last[0][None][:0]
        latents = torch.cat((*self._windows.push(self._encoded(filling, last=True)), *self._windows.close()))
        yield from self._decoded((latents,))
        yield from self._pieces(self._decoding.push(from_latents(latents[:0]), last=True))

    def _encoded(self, frames: Tensor, *, last: bool) -> Tensor:
        return to_latents(self._encoding.push(to_clip(frames.to(self._parts.dtype)), last=last))

    def _decoded(self, restored: Iterable[Tensor]) -> Iterator[Tensor]:
        for latent in (latent for latents in restored for latent in torch.split(latents, 1) if len(latents)):
            yield from self._pieces(self._decoding.push(from_latents(latent)))

    def _pieces(self, clip: Tensor) -> Iterator[Tensor]:
        """The first frame by itself, then four at a time: a latent frame's worth, and no more than were pushed."""
        frames = to_frames(clip)[: self._pushed - self._given_back]
        while len(frames):
            piece, frames = frames.tensor_split([1 if self._given_back == 0 else TIME_SCALE])
            self._given_back += len(piece)
            yield piece.to(torch.float32, copy=True)  # a view would keep the whole portion alive
