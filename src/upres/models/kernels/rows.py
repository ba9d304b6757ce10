"""What a transformer does to single tokens between two products. Rows are tokens; norms run in float32. No networks.

A fused pass may also turn its result into 8-bit floats, which is what the next product then takes (fp8.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from upres.models.kernels.fp8 import Rows, product, rounded
from upres.models.kernels.switch import fp8, fused

ROWS = 1 << 11  # that are in float32 at a time

_kept = WeakTensorKeyDictionary()


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor | Rows:
    """RMS norm of each row without weights, times scale, plus shift; both one value a column, float32."""
    if fused(x):
        from upres.models.kernels.fused.rows import modulated as kernel

        return kernel(x, None, None, shift, scale, eps, fp8(x))[1]
    return torch.addcmul(shift, F.rms_norm(x.float(), x.shape[-1:], eps=eps), scale).to(x.dtype)


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """x + change * gate; one gate a column, float32."""
    if fused(x):
        from upres.models.kernels.fused.rows import gated as kernel

        return kernel(x, change, gate)
    return (change * gate).add_(x).to(x.dtype)


def gated_then_modulated(x: Tensor, change: Tensor, gate: Tensor, shift: Tensor, scale: Tensor,
                         eps: float) -> tuple[Tensor, Tensor | Rows]:  # fmt: skip
    """`gated`, and that `modulated`: both are needed."""
    if fused(x):
        from upres.models.kernels.fused.rows import modulated as kernel

        return kernel(x, change, gate, shift, scale, eps, fp8(x))
    x = gated(x, change, gate)
    return x, modulated(x, shift, scale, eps)


def changed_then_normed(x: Tensor, change: Tensor | None, gate: Tensor | None, scale: Tensor, shift: Tensor,
                        eps: float) -> tuple[Tensor, Tensor | Rows]:  # fmt: skip
    """x + change * gate, and the layer norm of that, times scale, plus shift; each of a type with x. No gate is one."""
    if fused(x):
        from upres.models.kernels.fused.rows import modulated as kernel

        return kernel(x, change, gate, shift, scale, eps, fp8(x), centred=True)
    if change is not None:
        x = x + change if gate is None else torch.addcmul(x, gate, change)
    return x, F.layer_norm(x, x.shape[-1:], scale, shift, eps)


def linear(x: Tensor | Rows, weight: Tensor, bias: Tensor) -> Tensor:
    """Of 8-bit rows with the weight rounded likewise."""
    return product(x, kept(weight), bias) if isinstance(x, Rows) else F.linear(x, weight, bias)


def kept(weight: Tensor) -> Rows:
    """The weight's rows, in the order of its memory, as 8-bit floats; remembered as long as the weight is there."""
    if weight not in _kept:
        last = torch.channels_last_3d if weight.ndim == 5 else torch.contiguous_format
        dense = weight.contiguous(memory_format=last)
        _kept[weight] = quantised(dense.permute(0, 2, 3, 4, 1).flatten(1) if weight.ndim == 5 else dense)
    rows: Rows = _kept[weight]
    return rows


def linear_gelu(x: Tensor | Rows, weight: Tensor, bias: Tensor) -> Tensor | Rows:
    """tanh's approximation of the product, which cuBLAS computes while it writes."""
    if isinstance(x, Tensor) and x.is_cuda and fused(x):
        return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)
    return gelu(linear(x, weight, bias))


def narrowed(x: Tensor) -> Tensor | Rows:
    """What `linear` shall take: 8-bit floats where these are wanted."""
    return quantised(x) if fp8(x) else x


def swiglu(gate: Tensor, x: Tensor) -> Tensor | Rows:
    """silu(gate) * x; may be written over the gate."""
    if fused(x):
        from upres.models.kernels.fused.rows import swiglu as kernel

        return kernel(gate, x, fp8(x))
    if x.dtype.itemsize == 4:
        return F.silu(gate).mul_(x)
    for into, rows in zip(torch.split(gate, ROWS), torch.split(x, ROWS), strict=True):  # rounded once
        into.copy_(F.silu(into.float()).mul_(rows))
    return gate


def gelu(x: Tensor) -> Tensor | Rows:
    """tanh's approximation."""
    if fp8(x):
        from upres.models.kernels.fused.rows import gelu as kernel

        return kernel(x)
    return F.gelu(x, approximate="tanh")


def taken(x: Tensor, rows: Tensor) -> Tensor | Rows:
    """These rows of x."""
    if fp8(x):
        from upres.models.kernels.fused.rows import taken as kernel

        return kernel(x, rows)
    return x[rows]


def quantised(x: Tensor) -> Rows:
    """All rows of x, as 8-bit floats."""
    if fused(x):
        from upres.models.kernels.fused.rows import quantised as kernel

        return kernel(x)
    return rounded(x)
