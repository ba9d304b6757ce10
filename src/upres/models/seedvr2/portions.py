"""A shot through one half of the autoencoder in portions that begin anew, where its whole memory has no room.

Its convolutions remember two frames of every layer and place: for all tiles of a frame that is more than one tile takes
to be computed. So here a portion is computed tile after tile and forgotten, and the next one begins a little before its
own first frame, as if a shot began there; what it makes of frames that were made before is thrown away. Knows nothing
of what is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from upres.models.seedvr2.config import LEAD_SLICES, PORTION_SLICES
from upres.models.seedvr2.tiling import Passage


class Portions:
    """Takes and gives the frames (or latents) that a Passage would, as many as it; the values differ a little."""

    def __init__(
        self, open_passage: Callable[[], Passage], step: int, made: int, lead_slices: int = LEAD_SLICES
    ) -> None:
        """step: frames of a slice after the first, which is a single one; made: frames that such a slice becomes;
        lead_slices: made again before a portion. As many as there are before it: as if nothing were forgotten."""
        self._open = open_passage
        self._step, self._made = step, made
        self._led = 1 + lead_slices * step
        self._lead: Tensor | None = None  # frames, from the second portion on
        self._given: list[Tensor] = []
        self._fresh = 0  # frames in these

    def push(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """B C T H W. Raises ValueError if the clip ends amid a slice."""
        self._given.extend(torch.split(frames, 1, dim=2) if frames.shape[2] else ())
        self._fresh += frames.shape[2]
        out = []
        while self._fresh >= self._size():
            out.append(self._portion(self._size()))
        if last and self._fresh:
            out.append(self._portion(self._fresh))
        return torch.cat(out, dim=2) if out else self._open().push(frames[:, :, :0])

    def _size(self) -> int:
        return PORTION_SLICES * self._step + (1 if self._lead is None else 0)

    def _portion(self, count: int) -> Tensor:
        before = [] if self._lead is None else [self._lead]
        whole = torch.cat([*before, *self._given[:count]], dim=2)
        del self._given[:count]
        self._fresh -= count
        made = self._open().push(whole, last=True)
        if self._lead is not None:
            made = made[:, :, made.shape[2] - count // self._step * self._made :]
        self._lead = whole[:, :, -self._led :].clone()
        return made
