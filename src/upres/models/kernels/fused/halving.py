"""Kernel of halving.py: an implicit matrix product, pixels by outputs, summed over taps and channels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.fused.convolution import Tile
from upres.models.kernels.switch import launched

SQUARE = Tile(128, 128, 64, 8, 3)


@triton.jit
def _halved(x, weight, bias, out, pixels, height, width, C: tl.constexpr, N: tl.constexpr, KT: tl.constexpr,
            STEP: tl.constexpr, BIASED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
            BK: tl.constexpr):  # fmt: skip
    """x: frames, height, width, C; weight: N KT 9 C; pixels, height and width: of `out`; STEP: frames to the next."""
    tiles: tl.constexpr = N // BN
    chunks: tl.constexpr = C // BK
    program = tl.program_id(0)
    pixel = (program // tiles).to(tl.int64) * BM + tl.arange(0, BM)
    n = program % tiles * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    w = (pixel % width).to(tl.int32)
    h = (pixel // width % height).to(tl.int32)
    inside = pixel < pixels
    line = 2 * width
    size = line * (2 * height)
    corner = (pixel // width // height * STEP * size + 2 * h * line + 2 * w) * C
    a = x + corner[:, None] + k[None, :]
    b = weight + n[None, :] * (KT * 9 * C) + k[:, None]
    sums = tl.zeros((BM, BN), tl.float32)
    for step in range(KT * 9 * chunks):
        tap, chunk = step // chunks, step % chunks
        dy, dx = tap // 3 % 3, tap % 3
        seen = inside & (2 * h + dy < 2 * height) & (2 * w + dx < line)
        there = (tap // 9 * size + dy * line + dx).to(tl.int64) * C + chunk * BK
        tile = tl.load(a + there, mask=seen[:, None], other=0.0)
        sums = tl.dot(tile, tl.load(b + step * BK), sums)
    if BIASED:  # as libraries do it: added to what is rounded
        sums = sums.to(out.dtype.element_ty).to(tl.float32) + tl.load(bias + n).to(tl.float32)[None, :]
    tl.store(out + pixel[:, None] * N + n[None, :], sums.to(out.dtype.element_ty), mask=inside[:, None])


@launched
def halved(x: Tensor, weight: Tensor, bias: Tensor | None, step: int, tile: Tile | None = None) -> Tensor:
    """1 C T H W -> 1 N T' H/2 W/2, channels last."""
    _, channels, entries, height, width = x.shape
    outputs, height, width, taps = len(weight), height // 2, width // 2, weight.shape[2]
    frames = (entries - taps) // step + 1
    rows = weight.permute(0, 2, 3, 4, 1).contiguous()
    out = torch.empty((1, outputs, frames, height, width), dtype=x.dtype, device=x.device,
                      memory_format=torch.channels_last_3d)  # fmt: skip
    t = _tile(x, channels, outputs) if tile is None else tile
    pixels = frames * height * width
    _halved[(triton.cdiv(pixels, t.pixels) * (outputs // t.outputs),)](
        x, rows, rows if bias is None else bias, out, pixels, height, width, C=channels, N=outputs,
        KT=taps, STEP=step, BIASED=bias is not None, BM=t.pixels, BN=t.outputs, BK=t.inputs, num_warps=t.warps,
        num_stages=t.stages,
    )  # fmt: skip
    return out


def _tile(x: Tensor, channels: int, outputs: int) -> Tile:
    wide = next(size for size in (SQUARE.outputs, 64, 32, 16) if outputs % size == 0)
    deep = next(size for size in (SQUARE.inputs, 32, 16) if channels % size == 0)
    return Tile(SQUARE.pixels if x.is_cuda else 32, wide, deep, SQUARE.warps, SQUARE.stages)
