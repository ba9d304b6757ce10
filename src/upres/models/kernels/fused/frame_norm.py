"""Kernels of frame_norm.py. Tiles are rows (pixels of a frame) by all channels, channels side by side in memory.

Sums are taken of values less the frame's first pixel, per channel, and joined about the group's own mean: nothing is
lost where a mean is large. Every frame is read by many blocks, so that a single one fills the chip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched

TILE = 8192  # values
HALF_TILE = 4096  # where two are read, one is written and sums are kept
BLOCKS = 528  # that sum: four for each of an H100's 132 multiprocessors
WARPS = 8


@triton.jit
def _sums(x, partial, rows, per_block, batch_stride, frame_stride, frames, C: tl.constexpr, BC: tl.constexpr,
          BR: tl.constexpr):  # fmt: skip
    frame, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += (frame // frames) * batch_stride + (frame % frames) * frame_stride
    c, r = tl.arange(0, BC), tl.arange(0, BR)
    pivot = tl.load(x + c, mask=c < C, other=0.0).to(tl.float32)
    first = block * per_block
    last = tl.minimum(first + per_block, rows)
    ones = tl.zeros((BR, BC), tl.float32)
    squares = tl.zeros((BR, BC), tl.float32)
    for start in range(first, last, BR):
        row = start + r
        mask = (row < last)[:, None] & (c < C)[None, :]
        v = tl.load(x + row.to(tl.int64)[:, None] * C + c[None, :], mask=mask, other=0.0).to(tl.float32)
        v = tl.where(mask, v - pivot[None, :], 0.0)
        ones += v
        squares += v * v
    partial += (frame * tl.num_programs(1) + block) * 2 * C
    tl.store(partial + c, tl.sum(ones, axis=0), mask=c < C)
    tl.store(partial + C + c, tl.sum(squares, axis=0), mask=c < C)


@triton.jit
def _affine(pivots, partial, weight, bias, before, affine, rows, blocks, eps, batch_stride, frame_stride, frames,
            C: tl.constexpr, SIZE: tl.constexpr, BS: tl.constexpr, BB: tl.constexpr, BEFORE: tl.constexpr):  # fmt: skip
    """SIZE: channels of a group. affine: frames, (scale, shift), C: normalised is x * scale + shift."""
    frame, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pivots += (frame // frames) * batch_stride + (frame % frames) * frame_stride
    partial += frame * blocks * 2 * C
    k = tl.arange(0, BS)
    own = k < SIZE
    c = group * SIZE + k
    b = tl.arange(0, BB)
    ones = tl.zeros((BB, BS), tl.float32)
    squares = tl.zeros((BB, BS), tl.float32)
    for start in range(0, blocks, BB):
        at = (start + b)[:, None] * 2 * C + c[None, :]
        mask = (start + b < blocks)[:, None] & own[None, :]
        ones += tl.load(partial + at, mask=mask, other=0.0)
        squares += tl.load(partial + at + C, mask=mask, other=0.0)
    offset = tl.sum(ones, axis=0) / rows
    spread = tl.sum(squares, axis=0) - offset * offset * rows
    add = tl.zeros((BS,), tl.float32)
    if BEFORE:
        add = tl.load(before + c, mask=own, other=0.0).to(tl.float32)
    means = tl.load(pivots + c, mask=own, other=0.0).to(tl.float32) + offset + add
    mean = tl.sum(tl.where(own, means, 0.0)) / SIZE
    apart = tl.where(own, means - mean, 0.0)
    variance = (tl.sum(tl.where(own, spread, 0.0)) / rows + tl.sum(apart * apart)) / SIZE
    scale = tl.load(weight + c, mask=own, other=0.0).to(tl.float32) / tl.sqrt(tl.maximum(variance, 0.0) + eps)
    shift = tl.load(bias + c, mask=own, other=0.0).to(tl.float32) + (add - mean) * scale
    affine += frame * 2 * C
    tl.store(affine + c, scale, mask=own)
    tl.store(affine + C + c, shift, mask=own)


@triton.jit
def _apply(x, affine, out, rows, factor, batch_stride, frame_stride, out_batch_stride, out_frame_stride, frames,
           C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, SILU: tl.constexpr, FP8: tl.constexpr):  # fmt: skip
    frame, block = tl.program_id(1).to(tl.int64), tl.program_id(0)
    x += (frame // frames) * batch_stride + (frame % frames) * frame_stride
    out += (frame // frames) * out_batch_stride + (frame % frames) * out_frame_stride
    affine += frame * 2 * C
    c = tl.arange(0, BC)
    row = (block * BR + tl.arange(0, BR)).to(tl.int64)
    mask = (row < rows)[:, None] & (c < C)[None, :]
    at = row[:, None] * C + c[None, :]
    scale = tl.load(affine + c, mask=c < C, other=0.0)
    shift = tl.load(affine + C + c, mask=c < C, other=0.0)
    v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if SILU:
        v = v * tl.sigmoid(v)
    if FP8:
        v = tl.minimum(tl.maximum(v * factor, -448.0), 448.0)
    tl.store(out + at, v.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _total(h, x, bias, partial, pivots, rows, per_block, C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr):
    """Sums as `_sums` would take them of the result."""
    frame, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    h += frame * rows * C
    x += frame * rows * C
    c, r = tl.arange(0, BC), tl.arange(0, BR)
    own = c < C
    add = tl.load(bias + c, mask=own, other=0.0).to(tl.float32)
    pivot = tl.load(pivots + frame * C + c, mask=own, other=0.0)
    first = block * per_block
    last = tl.minimum(first + per_block, rows)
    ones = tl.zeros((BR, BC), tl.float32)
    squares = tl.zeros((BR, BC), tl.float32)
    for start in range(first, last, BR):
        row = start + r
        mask = (row < last)[:, None] & own[None, :]
        at = row.to(tl.int64)[:, None] * C + c[None, :]
        v = tl.load(h + at, mask=mask, other=0.0).to(tl.float32) + tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        narrow = (v + add[None, :]).to(h.dtype.element_ty)
        tl.store(h + at, narrow, mask=mask)
        v = tl.where(mask, narrow.to(tl.float32) - pivot[None, :], 0.0)
        ones += v
        squares += v * v
    partial += (frame * tl.num_programs(1) + block) * 2 * C
    tl.store(partial + c, tl.sum(ones, axis=0), mask=own)
    tl.store(partial + C + c, tl.sum(squares, axis=0), mask=own)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of each frame, block of rows and channel: of values, and of their squares, less the frame's pivots."""

    partial: Tensor  # frames, blocks, 2, channels
    pivots: Tensor  # of any type: the frame's own first pixel, or else
    strides: tuple[int, int]  # of the pivots: from clip to clip, from frame to frame


@launched
def frame_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool, before: Tensor | None,
               out: Tensor, factor: float, sums: Sums | None = None) -> None:  # fmt: skip
    """out may be float8_e4m3fn; it then holds values times `factor`, what is too large for it cut off."""
    batch, channels, frames, height, width = x.shape
    rows, size, all_frames = height * width, channels // groups, batch * frames
    wide, tall = _tile(channels)
    strides = (x.stride(0), x.stride(2))
    known = _summed(x) if sums is None else sums
    affine = torch.empty(all_frames, 2, channels, dtype=torch.float32, device=x.device)
    _affine[(all_frames, groups)](known.pivots, known.partial, weight, bias, weight if before is None else before,
                                  affine, rows, known.partial.shape[1], eps, *known.strides, frames, C=channels,
                                  SIZE=size, BS=triton.next_power_of_2(size), BB=64, BEFORE=before is not None,
                                  num_warps=4)  # fmt: skip
    _apply[(triton.cdiv(rows, tall), all_frames)](x, affine, out, rows, factor, *strides, out.stride(0), out.stride(2),
                                                  frames, C=channels, BC=wide, BR=tall, SILU=silu,
                                                  FP8=out.dtype.itemsize == 1, num_warps=WARPS)  # fmt: skip


def _summed(x: Tensor) -> Sums:
    _, channels, frames, height, width = x.shape
    wide, tall = _tile(channels)
    per_block, partial = _partial(x, tall, BLOCKS)
    strides = (x.stride(0), x.stride(2))
    _sums[partial.shape[:2]](x, partial, height * width, per_block, *strides, frames, C=channels, BC=wide, BR=tall,
                             num_warps=WARPS)  # fmt: skip
    return Sums(partial, x, strides)


def _partial(x: Tensor, tall: int, blocks: int) -> tuple[int, Tensor]:
    """Rows of a block, and room for its sums."""
    batch, channels, frames, height, width = x.shape
    most = max(1, blocks // (batch * frames))
    per_block = triton.cdiv(triton.cdiv(height * width, most), tall) * tall
    shape = batch * frames, triton.cdiv(height * width, per_block), 2, channels
    return per_block, torch.empty(shape, dtype=torch.float32, device=x.device)


@launched
def total(h: Tensor, x: Tensor, bias: Tensor) -> Sums:
    """Into h. Both without gaps in memory, channels last."""
    _, channels, frames, height, width = h.shape
    wide = triton.next_power_of_2(channels)
    tall = max(1, HALF_TILE // wide)
    per_block, partial = _partial(h, tall, 2 * BLOCKS)
    first = (h[..., 0, 0].float() + x[..., 0, 0]).transpose(1, 2)  # read before it is written over
    pivots = (first + bias).contiguous()
    _total[partial.shape[:2]](h, x, bias, partial, pivots, height * width, per_block, C=channels, BC=wide, BR=tall,
                              num_warps=WARPS)  # fmt: skip
    return Sums(partial, pivots, (frames * channels, channels))


def _tile(channels: int) -> tuple[int, int]:
    wide = triton.next_power_of_2(channels)
    return wide, max(1, TILE // wide)
