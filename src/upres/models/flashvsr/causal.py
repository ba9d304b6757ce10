"""What the convolutional networks share: a norm over channels and how tensors lie in memory. Knows nothing of clips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Every position's channels get length sqrt(channels), then a gain each. B C ... of `axes` further axes."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels, *(1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.normalize(x, dim=1) * (x.shape[1] ** 0.5 * self.gamma)
        return out


def laid_out(x: Tensor) -> Tensor:
    """In the memory order in which convolutions are fastest: on CUDA channels last, on a CPU channels first."""
    if not x.is_cuda:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.channels_last)


def lay_out_weights(net: nn.Module) -> None:
    """The weights of its convolutions likewise, once."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.weight.data = laid_out(module.weight.data)
