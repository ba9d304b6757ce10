"""Convolution over time that never looks ahead, and what it remembers. Knows nothing of the networks built from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axes = tuple[int, int, int]  # time, height, width


class Memory:
    """What the convolutions of one network remember of one clip: the last input frames of each, from slice to slice.

    Empty before the first slice of a clip. Set `closing` before the last one, and it is empty afterwards.
    """

    def __init__(self) -> None:
        self._tails: dict[nn.Module, Tensor] = {}
        self.closing = False

    def __contains__(self, conv: nn.Module) -> bool:
        return conv in self._tails

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def nbytes(self) -> int:
        return sum(tail.untyped_storage().nbytes() for tail in self._tails.values())

    def recall(self, conv: nn.Module) -> Tensor | None:
        return self._tails.pop(conv, None)

    def keep(self, conv: nn.Module, tail: Tensor) -> None:
        if not self.closing:
            self._tails[conv] = tail.clone()  # a view would keep the whole slice alive


class CausalConv3d(nn.Conv3d):
    """Before the first frame of a clip the convolution sees that frame again; at the end it sees nothing."""

    def __init__(self, channels: int, out_channels: int, kernel: Axes = (3, 3, 3), stride: Axes = (1, 1, 1),
                 padding: int = 1) -> None:  # fmt: skip
        super().__init__(channels, out_channels, kernel, stride, padding=(0, padding, padding))
        self.lead = kernel[0] - 1  # frames put before the first one
        self.overlap = kernel[0] - stride[0]  # frames of a slice that the next slice needs again

    def forward(self, x: Tensor, memory: Memory) -> Tensor:  # type: ignore[override]
        """B C T H W -> B C' T/stride H' W'; stride * n frames, and one more in the first slice of a clip."""
        if self.lead:
            x = torch.cat((*self._before(x, memory), x), dim=2)
            memory.keep(self, x[:, :, x.shape[2] - self.overlap :])
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding)

    def _before(self, x: Tensor, memory: Memory) -> list[Tensor]:
        tail = memory.recall(self)
        return [x[:, :, :1]] * self.lead if tail is None else [tail]


def laid_out(x: Tensor) -> Tensor:
    """B C T H W in the memory order that convolutions are fastest in: on CUDA channels last, where they take 2/3 of the
    time and 1/3 of the memory; on a CPU channels first. What follows keeps the order.
    """
    return x.contiguous(memory_format=torch.channels_last_3d if x.is_cuda else torch.contiguous_format)
