"""One clip through one half of the autoencoder, tile by tile and slice by slice. Knows nothing of what is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from upres.models.seedvr2.causal import Memory
from upres.models.seedvr2.config import SCALE, TIME_SCALE
from upres.models.seedvr2.tiles import Tiling, cut, shared


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: where it reads, where it writes, and how much each written line weighs."""

    read: slice
    write: slice
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Tiles:
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        return ((row, column) for row in self.rows for column in self.columns)


def encoding_tiles(height: int, width: int, tiling: Tiling | None) -> Tiles:
    """Read pixels, write latents. Sizes in pixels; one tile where `tiling` is None."""
    return _tiles(height, width, tiling, decoding=False)


def decoding_tiles(height: int, width: int, tiling: Tiling | None) -> Tiles:
    """Read latents, write pixels."""
    return _tiles(height, width, tiling, decoding=True)


def _tiles(height: int, width: int, tiling: Tiling | None, *, decoding: bool) -> Tiles:
    if height % SCALE or width % SCALE:
        raise ValueError(f"{width}x{height} pixels do not divide by {SCALE}; pad the frames")
    if tiling is None:
        tiling = Tiling((height, width), (0, 0))
    (tile_h, tile_w), (overlap_h, overlap_w) = tiling.tile, tiling.overlap
    return Tiles(_spans(height, tile_h, overlap_h, decoding), _spans(width, tile_w, overlap_w, decoding))


def _spans(pixels: int, tile_pixels: int, overlap_pixels: int, decoding: bool) -> tuple[Span, ...]:
    read = cut(pixels, tile_pixels, overlap_pixels)
    write = [slice(s.start * SCALE, s.stop * SCALE) for s in read]
    if not decoding:
        read, write = write, read
    overlap = shared(tile_pixels, overlap_pixels)
    ramp = overlap_pixels if decoding else overlap
    weights = _weights(write, ramp if overlap else 0)
    return tuple(map(Span, read, write, weights))


def _weights(spans: list[slice], ramp: int) -> list[Tensor]:
    """Half a cosine wave over the `ramp` lines that neighbours share; the weights of every line add up to 1."""
    total = torch.zeros(spans[-1].stop)
    weights = []
    for index, span in enumerate(spans):
        length = span.stop - span.start
        lines = min(ramp, length - 1)
        rising = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(lines) / max(1, lines - 1))
        line = torch.ones(length)
        if index > 0:
            line[:lines] = rising
        if index < len(spans) - 1:
            line[length - lines :] = 1 - rising
        total[span] += line
        weights.append(line)
    return [line / total[span].clamp(min=1e-6) for span, line in zip(spans, weights, strict=True)]


class Passage:
    """The way of one clip through `net`, which gets slices `B C T H W`: one frame first, then `step` frames each time,
    or several times as many where `slice_frames` asks for slices of several latent frames.

    All that is remembered of the clip lives here, and is freed with the last portion.
    """

    def __init__(self, net: Callable[[Tensor, Memory], Tensor], tiles: Tiles, step: int, channels: int,
                 slice_frames: int = TIME_SCALE) -> None:  # fmt: skip
        self._net = net
        self._tiles = tuple((row, column, Memory(slice_frames)) for row, column in tiles)
        self._out = (channels, tiles.rows[-1].write.stop, tiles.columns[-1].write.stop)
        self._least = step  # frames of a slice at a clip's end
        self._step = step * max(1, slice_frames // TIME_SCALE)
        self._next = 1  # frames of the next slice
        self._waiting: Tensor | None = None  # fewer frames than that

    @property
    def nbytes(self) -> int:
        """What the clip occupies between two portions."""
        waiting = 0 if self._waiting is None else self._waiting.untyped_storage().nbytes()
        return waiting + sum(memory.nbytes for _, _, memory in self._tiles)

    def push(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """All frames that these complete, perhaps none. Raises ValueError if the clip ends amid a slice."""
        slices = self._cut(frames)
        if last and self._waiting is not None:
            if odd := self._waiting.shape[2] % self._least:
                raise ValueError(f"the clip ends {odd} frames into a slice of {self._least}; pad it")
            slices.append(self._waiting)
            self._waiting = None
        if not slices:
            channels, height, width = self._out
            return frames.new_empty(frames.shape[0], channels, 0, height, width)
        if len(self._tiles) == 1:
            return self._through(slices, self._tiles[0][2], last)
        canvas = torch.zeros((), device=frames.device)
        for row, column, memory in self._tiles:
            tile = self._through([x[..., row.read, column.read] for x in slices], memory, last)
            if not canvas.ndim:  # only the net knows how many frames these slices make
                canvas = canvas.new_zeros(*tile.shape[:3], *self._out[1:])
            weights = torch.outer(row.weights, column.weights).to(tile.device)
            canvas[..., row.write, column.write] += tile * weights
        return canvas.to(frames.dtype)

    def _through(self, slices: list[Tensor], memory: Memory, last: bool) -> Tensor:
        out = []
        for index, x in enumerate(slices):
            memory.closing = last and index == len(slices) - 1
            out.append(self._net(x, memory))
        return torch.cat(out, dim=2)  # a copy even of one: it has no gaps

    def _cut(self, frames: Tensor) -> list[Tensor]:
        if self._waiting is not None:
            frames = torch.cat((self._waiting, frames), dim=2)
        slices = []
        while frames.shape[2] >= self._next:
            slices.append(frames[:, :, : self._next])
            frames = frames[:, :, self._next :]
            self._next = self._step
        self._waiting = frames.clone() if frames.shape[2] else None
        return slices
