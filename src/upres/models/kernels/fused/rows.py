"""Kernels of rows.py: one program a row, the whole row in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.fp8 import Rows
from upres.models.kernels.switch import launched

LARGEST = tl.constexpr(448.0)  # of e4m3


@triton.jit
def _stored(v, out, scales, row, columns, c, FP8: tl.constexpr):
    """Writes a row, as it is or as 8-bit floats and their scale."""
    mask = c < columns
    if FP8:
        scale = tl.maximum(tl.max(tl.where(mask, tl.abs(v), 0.0), axis=0), 1e-12) / LARGEST
        tl.store(scales + row, scale)
        v = tl.minimum(tl.maximum(v / scale, -LARGEST), LARGEST)
    tl.store(out + row * columns + c, v.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _modulated(x, change, gate, shift, scale, summed, out, scales, stride, change_stride, eps, columns: tl.constexpr,
               BC: tl.constexpr, CHANGED: tl.constexpr, GATED: tl.constexpr, CENTRED: tl.constexpr,
               FP8: tl.constexpr):  # fmt: skip
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    mask = c < columns
    v = tl.load(x + row * stride + c, mask=mask, other=0.0).to(tl.float32)
    if CHANGED:
        more = tl.load(change + row * change_stride + c, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            more *= tl.load(gate + c, mask=mask, other=0.0).to(tl.float32)
        v += more
        narrow = v.to(summed.dtype.element_ty)
        tl.store(summed + row * columns + c, narrow, mask=mask)
        v = narrow.to(tl.float32)
    if CENTRED:
        v = tl.where(mask, v - tl.sum(v, axis=0) / columns, 0.0)
    v *= tl.rsqrt(tl.sum(v * v, axis=0) / columns + eps)
    by = tl.load(scale + c, mask=mask, other=0.0).to(tl.float32)
    v = v * by + tl.load(shift + c, mask=mask, other=0.0).to(tl.float32)
    _stored(v, out, scales, row, columns, c, FP8)


@triton.jit
def _gated(x, change, gate, out, stride, change_stride, columns: tl.constexpr, BC: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    mask = c < columns
    v = tl.load(x + row * stride + c, mask=mask, other=0.0).to(tl.float32)
    by = tl.load(gate + c, mask=mask, other=0.0)
    v += tl.load(change + row * change_stride + c, mask=mask, other=0.0).to(tl.float32) * by
    tl.store(out + row * columns + c, v.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _swiglu(gate, x, out, scales, gate_stride, stride, columns: tl.constexpr, BC: tl.constexpr, FP8: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    mask = c < columns
    g = tl.load(gate + row * gate_stride + c, mask=mask, other=0.0).to(tl.float32)
    v = tl.load(x + row * stride + c, mask=mask, other=0.0).to(tl.float32)
    _stored(g * tl.sigmoid(g) * v, out, scales, row, columns, c, FP8)


@triton.jit
def _gelu(x, out, scales, stride, columns: tl.constexpr, BC: tl.constexpr, FP8: tl.constexpr):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), and 0.5 (1 + tanh(y)) is sigmoid(2 y)."""
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    v = tl.load(x + row * stride + c, mask=c < columns, other=0.0).to(tl.float32)
    v = v * tl.sigmoid(1.5957691216057308 * (v + 0.044715 * v * v * v))
    _stored(v, out, scales, row, columns, c, FP8)


@triton.jit
def _quantised(x, out, scales, stride, columns: tl.constexpr, BC: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    v = tl.load(x + row * stride + c, mask=c < columns, other=0.0).to(tl.float32)
    _stored(v, out, scales, row, columns, c, True)


@triton.jit
def _taken(x, rows, out, scales, stride, columns: tl.constexpr, BC: tl.constexpr, FP8: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC)
    v = tl.load(x + tl.load(rows + row) * stride + c, mask=c < columns, other=0.0).to(tl.float32)
    _stored(v, out, scales, row, columns, c, FP8)


@launched
def modulated(x: Tensor, change: Tensor | None, gate: Tensor | None, shift: Tensor, scale: Tensor, eps: float,
              fp8: bool, centred: bool = False) -> tuple[Tensor, Tensor | Rows]:  # fmt: skip
    """(x + change * gate, that modulated); without a change, (x, x modulated)."""
    rows, columns = x.shape
    out, scales = _results(x, rows, columns, fp8)
    summed = x if change is None else torch.empty_like(x, memory_format=torch.contiguous_format)
    more = x if change is None else change
    _modulated[(rows,)](x, more, shift if gate is None else gate.contiguous(), shift.contiguous(), scale.contiguous(),
                        summed, out, scales, x.stride(0), more.stride(0), eps, CHANGED=change is not None,
                        GATED=gate is not None, CENTRED=centred, FP8=fp8, **_sizes(columns))  # fmt: skip
    return summed, _given(out, scales, x, fp8)


@launched
def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _gated[(len(x),)](x, change, gate.contiguous(), out, x.stride(0), change.stride(0), **_sizes(x.shape[1]))
    return out


@launched
def swiglu(gate: Tensor, x: Tensor, fp8: bool) -> Tensor | Rows:
    out, scales = _results(x, len(x), x.shape[1], fp8)
    _swiglu[(len(x),)](gate, x, out, scales, gate.stride(0), x.stride(0), FP8=fp8, **_sizes(x.shape[1]))
    return _given(out, scales, x, fp8)


@launched
def gelu(x: Tensor, fp8: bool = True) -> Tensor | Rows:
    out, scales = _results(x, len(x), x.shape[1], fp8)
    _gelu[(len(x),)](x, out, scales, x.stride(0), FP8=fp8, **_sizes(x.shape[1]))
    return _given(out, scales, x, fp8)


@launched
def quantised(x: Tensor) -> Rows:
    out, scales = _results(x, len(x), x.shape[1], True)
    _quantised[(len(x),)](x, out, scales, x.stride(0), **_sizes(x.shape[1]))
    return Rows(out, scales, x.dtype)


@launched
def taken(x: Tensor, rows: Tensor, fp8: bool = True) -> Tensor | Rows:
    out, scales = _results(x, len(rows), x.shape[1], fp8)
    _taken[(len(rows),)](x, rows, out, scales, x.stride(0), FP8=fp8, **_sizes(x.shape[1]))
    return _given(out, scales, x, fp8)


def _results(x: Tensor, rows: int, columns: int, fp8: bool) -> tuple[Tensor, Tensor]:
    dtype = torch.float8_e4m3fn if fp8 else x.dtype
    scales = torch.empty((rows, 1) if fp8 else (1, 1), dtype=torch.float32, device=x.device)
    return torch.empty(rows, columns, dtype=dtype, device=x.device), scales


def _given(out: Tensor, scales: Tensor, x: Tensor, fp8: bool) -> Tensor | Rows:
    return Rows(out, scales, x.dtype) if fp8 else out


def _sizes(columns: int) -> dict[str, int]:
    block = triton.next_power_of_2(columns)
    return {"columns": columns, "BC": block, "num_warps": min(16, max(1, block // 512))}
