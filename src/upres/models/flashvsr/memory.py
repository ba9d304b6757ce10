"""What one block of the transformer remembers of a clip: keys and values of the last time slices, never more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_SLICES = 3  # what the first step of a clip brings; every other step brings one


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step may see, slice after slice as they lie; keys and values with room for those not there yet."""

    keys: Tensor  # tokens heads head_dim
    values: Tensor
    means: Tensor  # windows heads head_dim, without room
    slots: tuple[int, ...]  # where the slices lie, in order of time

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
        self._held: tuple[Tensor, Tensor, Tensor] | None = None  # keys, values, means, slot after slot
        self._new: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        return 0 if self._held is None else sum(x.untyped_storage().nbytes() for x in self._held)

    def room(self, slices: int, shape: tuple[int, int, int], windows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where keys and values of the next slices go, (tokens, heads, head_dim) = shape, of so many windows."""
        tokens, heads, dim = shape
        if self._held is None:
            keys, values = (like.new_zeros((self.capacity * tokens // slices, heads, dim)) for _ in range(2))
            means = like.new_zeros((self.capacity * windows // slices, heads, dim), dtype=torch.float32)
            self._held = keys, values, means
        free = [slot for slot in range(self.capacity) if slot not in self._slots]
        self._new = free[:slices]
        if len(self._new) < slices or self._new != list(range(free[0], free[0] + slices)):
            raise ValueError(f"{slices} slices at once after the first step; there is room for one")
        keys, values, _ = (self._of(x, self._new) for x in self._held)
        return keys, values

    def see(self, means: Tensor) -> Seen:
        """What this step may see: what was remembered, and the new slices, whose keys have these means."""
        if self._held is None:
            raise ValueError("nothing has been written yet: ask for room first")
        keys, values, all_means = self._held
        self._of(all_means, self._new).copy_(means)
        self._slots += self._new
        self._new = []
        seen = Seen(keys, values, self._of(all_means, range(len(self._slots))), tuple(self._slots))
        if len(self._slots) > self.kept:
            del self._slots[0]
        return seen

    def keys(self) -> Tensor:
        return self._in_time(0)

    def values(self) -> Tensor:
        return self._in_time(1)

    def _in_time(self, number: int) -> Tensor:
        held = self._held
        return torch.empty(0) if held is None else torch.cat([self._of(held[number], [slot]) for slot in self._slots])

    def _of(self, x: Tensor, slots: list[int] | range) -> Tensor:
        size = len(x) // self.capacity
        return x[slots[0] * size : (slots[-1] + 1) * size]
