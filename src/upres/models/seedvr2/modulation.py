"""Norms and the time embedding's shift, scale and gate. Norms and modulation run in float32 whatever the tokens are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upres.models.kernels.fp8 import Rows
from upres.models.kernels.rows import gated, gated_then_modulated, modulated

NORM_EPS = 1e-5
MODULATION_NAMES = ("attn_shift", "attn_scale", "attn_gate", "mlp_shift", "mlp_scale", "mlp_gate")


def rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=NORM_EPS)


def enter(x: Tensor, modulation: Tensor) -> Tensor | Rows:
    """What a sublayer gets to see. modulation: (shift, scale, gate) dim; the scale is around 1 by itself."""
    shift, scale, _ = modulation
    return modulated(x, shift, scale, NORM_EPS)


def leave(x: Tensor, change: Tensor, modulation: Tensor) -> Tensor:
    """What a sublayer adds."""
    return gated(x, change, modulation[2])


def leave_and_enter(x: Tensor, change: Tensor, left: Tensor, entered: Tensor) -> tuple[Tensor, Tensor | Rows]:
    """From one sublayer to the next: what is there now, and what the next one gets to see."""
    shift, scale, _ = entered
    return gated_then_modulated(x, change, left[2], shift, scale, NORM_EPS)


class RmsNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms(x) * self.weight.float()


class Modulation(nn.Module):
    """The block's own part of its modulation, added to the time embedding's."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name in MODULATION_NAMES:
            self.register_parameter(name, nn.Parameter(torch.empty(dim)))
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, emb: Tensor) -> Tensor:
        """emb, and what comes back: (attention, mlp) (shift, scale, gate) dim. Computed once for the same tensor."""
        if self._last is None or self._last[0] is not emb:
            own = torch.stack([self.get_parameter(name).float() for name in MODULATION_NAMES])  # files mix types
            self._last = emb, (emb.float() + own.view_as(emb)).contiguous()
        return self._last[1]


class OutputModulation(nn.Module):
    """Uses the attention's shift and scale of the time embedding, as the reference does: its cache hands them out for
    the output's too (SeedVR 673b563, models/dit_v2/modulation.py), and the weights were trained with that."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_shift = nn.Parameter(torch.empty(dim))
        self.out_scale = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        shift, scale, _ = emb[0].float()
        return torch.addcmul(shift + self.out_shift.float(), x, scale + self.out_scale.float())
