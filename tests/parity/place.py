"""Where recordings of networks are computed again, in which type, and how near that must come.

Recorded is float32 of a CPU. There the tolerances are each file's own. A GPU sums in another order, and fused kernels
in yet another: ten times as much. Half types keep 8 bits: they are held to the size of the whole error, not to that of
the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .recording import Check, NotUnderstood, distance

CPU = torch.device("cpu")
GPU_FACTOR = 10
HALF_ERROR = 0.05  # norm of the error over that of what was recorded


@dataclass(frozen=True, slots=True)
class Place:
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    @property
    def recorded(self) -> bool:
        """Whether it is the recordings' own."""
        return self == Place()

    def put(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype if x.is_floating_point() else None)

    def network(self, net: nn.Module) -> nn.Module:
        return net.to(self.device, self.dtype)

    def near(self, what: str, ours: Tensor, recorded: Tensor, tolerance: float) -> Check:
        ours = ours.float().cpu()
        if self.dtype == torch.float32:
            return distance(what, ours, recorded, tolerance if self.recorded else GPU_FACTOR * tolerance)
        if ours.squeeze().shape != recorded.squeeze().shape:
            raise NotUnderstood(f"{what}: ours is {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
        error = (ours.squeeze() - recorded.squeeze()).norm() / recorded.norm()
        return Check(what, float(error), HALF_ERROR)


HERE = Place()


def go(place: Place) -> None:
    """From now on, in this process."""
    global HERE
    HERE = place


def here() -> Place:
    return HERE
