"""Matrix products of 8-bit floats (e4m3) with a scale for each row of both sides. Knows no networks.

Hopper's and Ada's tensor cores multiply them at twice the rate of half types. What is lost: 3 bits of mantissa are left
of each factor, about 4 % of relative error a product of random numbers, so it is off until it has been judged on real
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 448.0  # of e4m3
STEP = 16  # _scaled_mm takes inner and outer sizes in multiples of it


@dataclass(frozen=True, slots=True)
class Rows:
    """rows x columns, float8_e4m3fn, to be multiplied by a scale for each row. `dtype` is what they were."""

    values: Tensor
    scales: Tensor  # (rows, 1), float32
    dtype: torch.dtype

    def widened(self) -> Tensor:
        return (self.values.float() * self.scales).to(self.dtype)


def rounded(x: Tensor) -> Rows:
    """The largest value of each row becomes the largest there is. A row of zeros stays one."""
    wide = x.float()
    scales = wide.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / LARGEST
    return Rows((wide / scales).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scales, x.dtype)


def product(x: Rows, weight: Rows, bias: Tensor | None) -> Tensor:
    """x @ weight^T + bias, in the type that x was made from. weight: out x in."""
    if x.values.is_cuda:
        out: Tensor = torch._scaled_mm(x.values, weight.values.t(), x.scales, weight.scales.t(), bias=bias,
                                       out_dtype=x.dtype, use_fast_accum=True)  # fmt: skip
        return out
    wide = (x.values.float() @ weight.values.float().t()) * x.scales * weight.scales.t()
    return (wide if bias is None else wide + bias.float()).to(x.dtype)


def takes(out_features: int, in_features: int) -> bool:
    return out_features % STEP == 0 and in_features % STEP == 0
