"""What one block of the transformer remembers of a clip: keys and values of the last time slices, never more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upres.models.kernels.blocks import BLOCK
from upres.models.kernels.eights import Keys

FIRST_SLICES = 3  # what the first step of a clip brings; every other step brings one


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step may see, slice after slice as they lie; keys and values with room for those not there yet."""

    keys: Tensor  # tokens heads head_dim
    values: Tensor
    means: Tensor  # windows heads head_dim, without room
    slots: tuple[int, ...]  # where the slices lie, in order of time
    scales: tuple[Tensor, ...]  # of 8-bit keys and values; else none

    @property
    def eights(self) -> Keys:
        return Keys(self.keys, self.values, *self.scales)

    def in_time(self, x: Tensor) -> Tensor:
        """The slices of the first axis of x, in order of time."""
        parts = x.chunk(len(self.slots))
        return x if sorted(self.slots) == list(self.slots) else torch.cat([parts[slot] for slot in self.slots])

    def as_they_lie(self, mask: Tensor, room: int) -> Tensor:
        """The last axis of a mask in order of time, put where the slices are; nothing is seen in the room."""
        parts = mask.chunk(len(self.slots), dim=-1)
        ordered = [parts[self.slots.index(slot)] for slot in range(len(self.slots))]
        return torch.cat((*ordered, mask.new_zeros((*mask.shape[:-1], room - mask.shape[-1]))), dim=-1)


class SliceMemory:
    """After each step the oldest time slice is dropped if there are more than `kept`; only one, as in the reference,
    so no fewer than two stay.

    Slices are never moved: a new one is written where the last one dropped was. There is room for `capacity` slices,
    those not there yet are zeros, and kernels always see all of it.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.capacity = max(FIRST_SLICES, kept + 1)
        self._slots: list[int] = []  # in order of time
        self._held: tuple[Tensor, ...] = ()  # means, keys, values, and scales of 8-bit ones; slot after slot
        self._new: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        return sum(x.untyped_storage().nbytes() for x in self._held)

    def room(self, slices: int, shape: tuple[int, int, int], windows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where keys and values of the next slices go, (tokens, heads, head_dim) = shape, of so many windows."""
        if not self._held:
            tokens, windows = (self.capacity * count // slices for count in (shape[0], windows))
            self._held = (like.new_zeros((windows, *shape[1:]), dtype=torch.float32),
                          *(like.new_zeros((tokens, *shape[1:])) for _ in range(2)))  # fmt: skip
        _, keys, values = self._of_next(slices)
        return keys, values

    def room_of_8_bits(self, slices: int, shape: tuple[int, int, int], like: Tensor) -> Keys:
        """Likewise; a window is a block of keys."""
        if not self._held:
            tokens, (heads, dim) = self.capacity * shape[0] // slices, shape[1:]
            sizes = (tokens, heads, dim), (tokens // BLOCK, heads, dim, BLOCK)
            self._held = (like.new_zeros((tokens // BLOCK, heads, dim), dtype=torch.float32),
                          *(like.new_zeros(size, dtype=torch.float8_e4m3fn) for size in sizes),
                          *(like.new_zeros((tokens // BLOCK, heads), dtype=torch.float32) for _ in sizes))  # fmt: skip
        return Keys(*self._of_next(slices)[1:])

    def _of_next(self, slices: int) -> list[Tensor]:
        free = [slot for slot in range(self.capacity) if slot not in self._slots]
        self._new = free[:slices]
        if len(self._new) < slices or self._new != list(range(free[0], free[0] + slices)):
            raise ValueError(f"{slices} slices at once after the first step; there is room for one")
        return [self._of(x, self._new) for x in self._held]

    def see(self, means: Tensor) -> Seen:
        """What this step may see: what was remembered, and the new slices, whose keys have these means."""
        if not self._held:
            raise ValueError("nothing has been written yet: ask for room first")
        all_means, keys, values, *scales = self._held
        self._of(all_means, self._new).copy_(means)
        self._slots += self._new
        self._new = []
        present = self._of(all_means, range(len(self._slots)))
        seen = Seen(keys, values, present, tuple(self._slots), tuple(scales))
        if len(self._slots) > self.kept:
            del self._slots[0]
        return seen

    def keys(self) -> Tensor:
        return self._in_time(1)

    def values(self) -> Tensor:
        return self._in_time(2)

    def _in_time(self, number: int) -> Tensor:
        held = self._held
        return torch.cat([self._of(held[number], [slot]) for slot in self._slots]) if held else torch.empty(0)

    def _of(self, x: Tensor, slots: list[int] | range) -> Tensor:
        size = len(x) // self.capacity
        return x[slots[0] * size : (slots[-1] + 1) * size]
