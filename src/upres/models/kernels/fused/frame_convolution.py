"""Kernels of frame_convolution.py: implicit matrix products, pixels by outputs, summed over taps and channels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.fused.convolution import Tile
from upres.models.kernels.switch import launched

SQUARE = Tile(128, 128, 64, 8, 3)
WIDE = Tile(128, 256, 64, 8, 3)  # on Hopper: a third less is read for as many products
PAIRED = 8192  # values of a program that copies
ROWS = 1024  # pixels of a program that sums what `last_two` left


@triton.jit
def _convolved(x, weight, out, last, pixels, height, width, C: tl.constexpr, N: tl.constexpr, SIDE: tl.constexpr,
               GROWN: tl.constexpr, RELU: tl.constexpr, LAST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
               BK: tl.constexpr):  # fmt: skip
    """SIDE 2: each pixel becomes 2x2 of GROWN frames, whose outputs, seeing the same, are computed side by side.

    LAST: what is written are products with `last`, in planes.
    """
    tiles: tl.constexpr = GROWN * N // BN
    columns: tl.constexpr = tiles if SIDE == 3 else tiles * 4
    program = tl.program_id(0)
    column = program % columns
    corner = column // tiles
    pixel = (program // columns).to(tl.int64) * BM + tl.arange(0, BM)
    n = (column % tiles) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    w = (pixel % width).to(tl.int32)
    h = (pixel // width % height).to(tl.int32)
    inside = pixel < pixels
    down = 0
    right = 0
    if SIDE == 2:
        down = corner // 2
        right = corner % 2
    chunks: tl.constexpr = C // BK
    a = x + pixel[:, None] * C + k[None, :]
    b = weight + ((n // N * 4 + corner) * N + n % N)[None, :] * (SIDE * SIDE * C) + k[:, None]
    sums = tl.zeros((BM, BN), tl.float32)
    for step in range(SIDE * SIDE * chunks):
        tap, chunk = step // chunks, step % chunks
        dy, dx = tap // SIDE - 1 + down, tap % SIDE - 1 + right
        seen = inside & (h + dy >= 0) & (h + dy < height) & (w + dx >= 0) & (w + dx < width)
        tile = tl.load(a + ((dy * width + dx) * C + chunk * BK), mask=seen[:, None], other=0.0)
        sums = tl.dot(tile, tl.load(b + step * BK), sums)
    at = pixel[:, None] * N + n[None, :]
    if SIDE == 2:
        row = pixel // width // height * GROWN * (2 * height) + 2 * h + down
        later = (n // N).to(tl.int64) * height * width * (4 * N) + n % N
        at = (row * (2 * width) + 2 * w + right)[:, None] * N + later[None, :]
    if RELU:
        sums = tl.maximum(sums, 0.0)
    if LAST > 0:
        j = tl.arange(0, 32)
        narrow = tl.load(last + n[:, None] * 32 + j[None, :])
        sums = tl.dot(sums.to(x.dtype.element_ty), narrow)
        at = j[None, :].to(tl.int64) * pixels + pixel[:, None]
        tl.store(out + at, sums.to(out.dtype.element_ty), mask=inside[:, None] & (j < LAST)[None, :])
    else:
        tl.store(out + at, sums.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _paired(x, before, out, pixels, size, C: tl.constexpr, BC: tl.constexpr, B: tl.constexpr):
    """size: pixels of a frame. Every frame is read once and written behind itself and its successor."""
    pixel = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    c = tl.arange(0, BC)
    own = (c < C)[None, :]
    there = pixel < pixels
    v = tl.load(x + pixel[:, None] * C + c[None, :], mask=there[:, None] & own)
    at = pixel[:, None] * (2 * C) + c[None, :]
    tl.store(out + at, v, mask=there[:, None] & own)
    following = (pixel + size)[:, None] * (2 * C) + C + c[None, :]
    tl.store(out + following, v, mask=(pixel + size < pixels)[:, None] & own)
    first = (pixel < size)[:, None] & own
    v = tl.load(before + pixel[:, None] * C + c[None, :], mask=first)
    tl.store(out + at + C, v, mask=first)


@triton.jit
def _summed(planes, bias, out, pixels, height, width, OUTPUTS: tl.constexpr, B: tl.constexpr):
    """planes: (tap output) T H W, of which each tap is wanted from where it points to -> T output H W."""
    pixel = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    output = tl.program_id(1)
    w, h = pixel % width, pixel // width % height
    sums = tl.zeros((B,), tl.float32) + tl.load(bias + output).to(tl.float32)
    for tap in tl.static_range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        seen = (pixel < pixels) & (h + dy >= 0) & (h + dy < height) & (w + dx >= 0) & (w + dx < width)
        plane = planes + (tap * OUTPUTS + output).to(tl.int64) * pixels
        sums += tl.load(plane + pixel + dy * width + dx, mask=seen, other=0.0).to(tl.float32)
    frame, place = pixel // (height * width), pixel % (height * width)
    at = (frame * OUTPUTS + output) * (height * width) + place
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=pixel < pixels)


@launched
def paired(x: Tensor, before: Tensor) -> Tensor:
    frames, channels, height, width = x.shape
    before = before.contiguous(memory_format=torch.channels_last)
    out = torch.empty((frames, 2 * channels, height, width), dtype=x.dtype, device=x.device,
                      memory_format=torch.channels_last)  # fmt: skip
    wide, pixels = triton.next_power_of_2(channels), frames * height * width
    tall = max(1, PAIRED // wide)
    _paired[(triton.cdiv(pixels, tall),)](x, before, out, pixels, height * width, C=channels, BC=wide, B=tall,
                                          num_warps=8)  # fmt: skip
    return out


@launched
def doubled(x: Tensor, weights: Tensor, relu: bool, tile: Tile | None = None) -> Tensor:
    frames, _, height, width = x.shape
    grown, outputs = len(weights) // 4, weights.shape[1]
    out = torch.empty((frames * grown, outputs, 2 * height, 2 * width), dtype=x.dtype, device=x.device,
                      memory_format=torch.channels_last)  # fmt: skip
    _run(x, weights[0], out, None, tile, relu, grown)
    return out


@launched
def last_two(x: Tensor, weight: Tensor, last: Tensor, bias: Tensor, tile: Tile | None = None) -> Tensor:
    frames, _, height, width = x.shape
    outputs, pixels = len(last), frames * height * width
    narrow = torch.zeros(len(weight), 32, dtype=x.dtype, device=x.device)
    narrow[:, : 9 * outputs] = last.permute(1, 2, 3, 0).flatten(1)  # channels, (tap output)
    planes = torch.empty(9 * outputs, pixels, dtype=x.dtype, device=x.device)
    _run(x, weight, planes, narrow, tile, True)
    out = torch.empty(frames, outputs, height, width, dtype=x.dtype, device=x.device)
    _summed[(triton.cdiv(pixels, ROWS), outputs)](planes, bias, out, pixels, height, width, OUTPUTS=outputs, B=ROWS,
                                                  num_warps=4)  # fmt: skip
    return out


def _run(x: Tensor, weight: Tensor, out: Tensor, last: Tensor | None, tile: Tile | None, relu: bool,
         grown: int = 1) -> None:  # fmt: skip
    """Of grouped weights the first stands for all; out is dense."""
    x, weight = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight))
    frames, channels, height, width = x.shape
    outputs, side = len(weight), weight.shape[-1]
    pixels = frames * height * width
    t = _tile(x, channels, outputs * grown) if tile is None else tile
    columns = outputs * grown // t.outputs * (4 if side == 2 else 1)
    _convolved[(triton.cdiv(pixels, t.pixels) * columns,)](
        x, weight, out, x if last is None else last, pixels, height, width, C=channels, N=outputs, SIDE=side,
        GROWN=grown, RELU=relu, LAST=0 if last is None else len(out), BM=t.pixels, BN=t.outputs, BK=t.inputs,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


def _tile(x: Tensor, channels: int, outputs: int) -> Tile:
    hopper = x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9
    if hopper and outputs % WIDE.outputs == 0 and channels % WIDE.inputs == 0:
        return WIDE
    wide = next(size for size in (SQUARE.outputs, 64, 32, 16) if outputs % size == 0)
    deep = next(size for size in (SQUARE.inputs, 32, 16) if channels % size == 0)
    return Tile(SQUARE.pixels if x.is_cuda else 32, wide, deep, SQUARE.warps, SQUARE.stages)
