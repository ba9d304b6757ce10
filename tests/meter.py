"""A card that is none: counts the bytes of living tensors as they are made, and runs out of memory when told to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """Inside the `with`, every tensor that an operation makes counts from then until nothing holds its storage.

    What existed before does not count, so weights made outside lie "on the host". `held_bytes` are counted as if they
    were there all the time. Beyond `limit_bytes` operations raise torch.OutOfMemoryError, as CUDA's allocator does.
    """

    def __init__(self, limit_bytes: int | None = None, held_bytes: int = 0) -> None:
        super().__init__()
        self.limit_bytes, self.live_bytes, self.peak_bytes = limit_bytes, held_bytes, held_bytes
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Sequence[type], args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = operation(*args, **(kwargs if kwargs is not None else {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf, before)
        return result

    def _count(self, tensor: Tensor, before: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in before or key in self._known:
            return
        if self.limit_bytes is not None and self.live_bytes + storage.nbytes() > self.limit_bytes:
            raise torch.OutOfMemoryError(f"Meter out of memory. Tried to allocate {storage.nbytes()} bytes")
        self._known[key] = storage.nbytes()
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._known.pop(key)
