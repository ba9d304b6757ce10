"""Group norm of single frames. Knows nothing of the networks built from it."""

from __future__ import annotations

from torch import Tensor, nn

from upres.models.kernels.frame_norm import frame_norm
from upres.models.seedvr2.causal import Fill


class FrameNorm(nn.GroupNorm):
    """Normalises every frame by itself: time is mixed by convolutions only."""

    def forward(self, x: Tensor) -> Tensor:
        return frame_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def activate(self, x: Tensor, room: Tensor) -> Tensor:
        """SiLU of the normalised x, written into `room`."""
        return frame_norm(x, self.num_groups, self.weight, self.bias, self.eps, silu=True, room=room)

    def activated_with(self, bias: Tensor | None) -> Fill:
        """`activate` for an x that still lacks a value of each channel."""

        def fill(x: Tensor, room: Tensor) -> Tensor:
            return frame_norm(x, self.num_groups, self.weight, self.bias, self.eps, silu=True, before=bias, room=room)

        return fill
