"""Kernels of few_channels.py. Few in: what a pixel's outputs see is gathered into a row, one product for each frame of
it. Few out: every pixel is read once and multiplied for all taps; the taps in time are summed on the way, the nine in
space afterwards, out of planes of float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.fused.frame_convolution import ROWS, _summed
from upres.models.kernels.switch import launched

PIXELS = 64  # of a program
TAPS = 9
WIDE = 32  # 9 taps of 3 channels, filled up


@triton.jit
def _entered(x, weight, bias, out, pixels, height, width, FEW: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
             BIASED: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """x: frames + 2, height, width, FEW; weight: 3, K, N, the K being (row, column, channel); pixels: of `out`."""
    pixel = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    k, n = tl.arange(0, K), tl.arange(0, N)
    w = (pixel % width).to(tl.int32)
    h = (pixel // width % height).to(tl.int32)
    dy, dx = k // (3 * FEW) - 1, k // FEW % 3 - 1
    row, column = h[:, None] + dy[None, :], w[:, None] + dx[None, :]
    seen = (pixel < pixels)[:, None] & (k < 9 * FEW)[None, :]
    seen &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = pixel[:, None] * FEW + ((dy * width + dx) * FEW + k % FEW)[None, :]
    frame = (height * width).to(tl.int64) * FEW
    sums = tl.zeros((BM, N), tl.float32)
    for t in tl.static_range(3):
        tile = tl.load(x + t * frame + at, mask=seen, other=0.0)
        sums = tl.dot(tile, tl.load(weight + ((t * K + k)[:, None] * N + n[None, :])), sums)
    if BIASED:  # as libraries do it: added to what is rounded
        sums = sums.to(out.dtype.element_ty).to(tl.float32) + tl.load(bias + n).to(tl.float32)[None, :]
    tl.store(out + pixel[:, None] * N + n[None, :], sums.to(out.dtype.element_ty), mask=(pixel < pixels)[:, None])


@triton.jit
def _left(x, weight, planes, entries, size, C: tl.constexpr, WIDE: tl.constexpr, USED: tl.constexpr,
          BM: tl.constexpr):  # fmt: skip
    """x: entries size C, size being the pixels of a frame; weight: 3, C, WIDE; planes: USED, entries - 2, size."""
    pixel = tl.program_id(0) * BM + tl.arange(0, BM)
    c, j = tl.arange(0, C), tl.arange(0, WIDE)
    tile = c[:, None] * WIDE + j[None, :]
    first = tl.load(weight + tile)
    second = tl.load(weight + C * WIDE + tile)
    third = tl.load(weight + 2 * C * WIDE + tile)
    inside = (pixel < size)[:, None]
    a = x + pixel.to(tl.int64)[:, None] * C + c[None, :]
    out = planes + j.to(tl.int64)[None, :] * ((entries - 2) * size.to(tl.int64)) + pixel[:, None]
    older = tl.zeros((BM, WIDE), tl.float32)  # what will be the frame two entries back
    newer = tl.zeros((BM, WIDE), tl.float32)
    for entry in range(entries):
        v = tl.load(a + entry * size.to(tl.int64) * C, mask=inside, other=0.0)
        whole = tl.dot(v, third, older)
        tl.store(out + (entry - 2) * size.to(tl.int64), whole, mask=inside & (j < USED)[None, :] & (entry >= 2))
        older = tl.dot(v, second, newer)
        newer = tl.dot(v, first)


@launched
def entered(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1 FEW T H W -> 1 N T-2 H W, channels last."""
    _, few, entries, height, width = x.shape
    outputs, pixels = len(weight), (entries - 2) * height * width
    rows = torch.zeros(3, WIDE, outputs, dtype=x.dtype, device=x.device)
    rows[:, : TAPS * few] = weight.permute(2, 3, 4, 1, 0).flatten(1, 3)
    out = torch.empty((1, outputs, entries - 2, height, width), dtype=x.dtype, device=x.device,
                      memory_format=torch.channels_last_3d)  # fmt: skip
    _entered[(triton.cdiv(pixels, PIXELS),)](x, rows, rows if bias is None else bias, out, pixels, height, width,
                                             FEW=few, N=outputs, K=WIDE, BIASED=bias is not None, BM=PIXELS,
                                             num_warps=4)  # fmt: skip
    return out


@launched
def left(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1 C T H W -> 1 FEW T-2 H W, in memory frame by frame and plane by plane."""
    _, channels, entries, height, width = x.shape
    few, frames, size = len(weight), entries - 2, height * width
    rows = torch.zeros(3, channels, WIDE, dtype=x.dtype, device=x.device)
    rows[..., : TAPS * few] = weight.permute(2, 1, 3, 4, 0).flatten(2)
    planes = torch.empty(TAPS * few, frames, size, dtype=torch.float32, device=x.device)
    _left[(triton.cdiv(size, PIXELS),)](x, rows, planes, entries, size, C=channels, WIDE=WIDE, USED=TAPS * few,
                                        BM=PIXELS, num_warps=4, num_stages=3)  # fmt: skip
    out = torch.empty(frames, few, height, width, dtype=x.dtype, device=x.device)
    none = torch.zeros(few, dtype=x.dtype, device=x.device)
    _summed[(triton.cdiv(frames * size, ROWS), few)](planes, none, out, frames * size, height, width, OUTPUTS=few,
                                                     B=ROWS, num_warps=4)  # fmt: skip
    if bias is not None:
        out += bias.view(-1, 1, 1)  # to what is rounded, as libraries do it
    return out.transpose(0, 1)[None]
