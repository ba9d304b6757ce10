"""Operations and bytes of a computation, counted on the meta device: nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Work:
    """`flops`: of products and convolutions, 2 a multiplication. `bytes`: each reads and writes its tensors once."""

    flops: float
    bytes: float

    def floor(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Seconds that no program can do with fewer."""
        return max(self.flops / flops_per_s, self.bytes / bytes_per_s)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops = self.bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs if kwargs is not None else {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.flops += counted(*args, **(kwargs if kwargs is not None else {}), out_val=out)
            if func._overloadpacket is torch.ops.aten.bmm:
                return out  # attention's, taken apart: its scores need never be in memory
            tensors = [x for x in tree_leaves((args, out)) if isinstance(x, Tensor)]
            self.bytes += sum(math.prod(x.shape) * x.element_size() for x in tensors)
        return out


def count(run: Callable[[], object]) -> Work:
    counter = _Counter()
    with torch.no_grad(), counter:
        run()
    return Work(counter.flops, counter.bytes)
