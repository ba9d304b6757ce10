"""A linear layer that computes in the type of its input, whatever type its weight is stored in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upres.models.kernels.fp8 import Rows, product, takes
from upres.models.kernels.rows import quantised
from upres.models.weights.quantised import Quantised


class Linear(nn.Linear):
    """Half-precision, fp8 and quantised weights are widened on the device, one layer at a time, at each use."""

    quantised: Quantised | None = None  # how `weight` is to be read, if it holds a checkpoint's packed bytes

    def forward(self, x: Tensor | Rows) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if isinstance(x, Rows):
            if takes(self.out_features, self.in_features):
                return product(x, self._in_eight_bits(x.dtype), bias)
            x = x.widened()
        return F.linear(x, self.dense_weight(x.dtype), bias)

    def _in_eight_bits(self, dtype: torch.dtype) -> Rows:
        """An fp8 checkpoint's weight as it is; any other is rounded at each use, in one pass over it."""
        if self.weight.dtype == torch.float8_e4m3fn:
            return Rows(self.weight, torch.ones(self.out_features, 1, device=self.weight.device), dtype)
        return quantised(self.dense_weight(dtype))

    def dense_weight(self, dtype: torch.dtype) -> Tensor:
        if self.quantised is None:
            return self.weight.to(dtype)
        return self.quantised.unpack(self.weight, dtype)

    def hold(self, packed: Tensor, quantised: Quantised) -> None:
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.quantised = quantised

    def settle(self, dtype: torch.dtype) -> None:
        """Widen or round once what would otherwise be cast at every use; what is stored smaller stays as it is."""
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.is_floating_point() and parameter.dtype.itemsize >= dtype.itemsize:
                setattr(self, name, nn.Parameter(parameter.data.to(dtype), requires_grad=False))

    if TYPE_CHECKING:

        def __call__(self, x: Tensor | Rows) -> Tensor: ...
