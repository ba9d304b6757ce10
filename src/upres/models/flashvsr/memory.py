"""What one block of the transformer remembers of a clip: keys and values of the last time slices, never more."""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_SLICES = 3  # what the first step of a clip brings; every other step brings one


class SliceMemory:
    """After each step the oldest time slice is dropped if there are more than `kept`; only one, as in the reference,
    so no fewer than two stay.

    What is handed out always has room for `capacity` slices, those not there yet are zeros: kernels see one size.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.capacity = max(FIRST_SLICES, kept + 1)
        self._slices: list[tuple[Tensor, Tensor, Tensor]] = []  # keys, values, means of the keys' windows

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def nbytes(self) -> int:
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for part in self._slices for x in part}
        return sum(storages.values())

    def extend(self, k: Tensor, v: Tensor, means: Tensor, slices: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the new slices; (tokens, heads, head_dim), means (windows, heads, head_dim). -> the same of all slices
        that this step may see, in order of time; the means without room.
        """
        self._slices += zip(*(_apart(x, slices) for x in (k, v, means)), strict=True)
        keys, values, all_means = zip(*self._slices, strict=True)
        room = k.new_zeros(((self.capacity - len(keys)) * len(keys[0]), *k.shape[1:]))
        joined = torch.cat((*keys, room)), torch.cat((*values, room)), torch.cat(all_means)
        if len(self._slices) > self.kept:
            del self._slices[0]
        return joined

    def keys(self) -> Tensor:
        return torch.cat([part[0] for part in self._slices])

    def values(self) -> Tensor:
        return torch.cat([part[1] for part in self._slices])


def _apart(x: Tensor, count: int) -> list[Tensor]:
    """Pieces that can be let go one by one; views would keep each other alive."""
    return [x] if count == 1 else [part.clone() for part in x.chunk(count)]
