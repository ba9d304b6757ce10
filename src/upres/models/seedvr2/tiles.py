"""Where frames are cut into tiles, in whole latents. Numbers only: no torch."""

from __future__ import annotations

from dataclasses import dataclass

from upres.models.seedvr2.config import SCALE


@dataclass(frozen=True, slots=True)
class Tiling:
    """Pixels: (height, width) of a tile, and of what it shares with each neighbour.

    Tiles are cut at whole latents, rounded down; decoded ones fade over the overlap as given, as in the reference.
    """

    tile: tuple[int, int]
    overlap: tuple[int, int]

    @classmethod
    def square(cls, tile: int, overlap: int) -> Tiling:
        return cls((tile, tile), (overlap, overlap))


def cut(pixels: int, tile_pixels: int, overlap_pixels: int) -> list[slice]:
    """The latents of each tile along one axis; the last one ends with the axis, however short it is."""
    size, tile = pixels // SCALE, max(1, tile_pixels // SCALE)
    overlap = shared(tile_pixels, overlap_pixels)
    starts = [start for start in range(0, size, tile - overlap) if start == 0 or size - start > overlap]
    return [slice(start, min(start + tile, size)) for start in starts]


def shared(tile_pixels: int, overlap_pixels: int) -> int:
    """Latents that neighbouring tiles share."""
    return min(overlap_pixels // SCALE, max(1, tile_pixels // SCALE) - 1)
