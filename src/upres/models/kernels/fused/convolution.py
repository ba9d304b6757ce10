"""Kernel of convolution.py: an implicit matrix product. A tile of pixels by a tile of output channels is summed over
all taps and input channels; the input is read where it lies, and what is outside of a frame is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.fp8 import Rows
from upres.models.kernels.switch import launched


@dataclass(frozen=True, slots=True)
class Tile:
    pixels: int
    outputs: int
    inputs: int  # at a time
    warps: int
    stages: int


WIDE = Tile(128, 256, 128, 8, 3)
TALL = Tile(256, 128, 128, 8, 3)
SMALL = Tile(128, 128, 64, 8, 3)  # where a block has only 99 KB of shared memory, as on Ada

# Hopper's tensor cores keep 14 bits of a sum of 8-bit products, and what is cut off is cut off to one side: of 27 taps
# of 512 channels 1 %, which showed as a change of colour. Sums longer than these go on in float32 every PROMOTED
# products, for half of the time that 8 bits save.
MOST_SUMMED, PROMOTED = 27 * 256, 128


@triton.jit
def _convolved(x, weight, scales, bias, out, frames, height, width, entry_frames, batch_stride, factor,
               C: tl.constexpr, N: tl.constexpr, KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
               PAD: tl.constexpr, BIASED: tl.constexpr, PROMOTED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
               BK: tl.constexpr):  # fmt: skip
    """x: entry_frames height width C of one clip; out: frames height width N."""
    outputs: tl.constexpr = N // BN
    program, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = (program // outputs) * BM + tl.arange(0, BM)
    n = (program % outputs) * BN + tl.arange(0, BN)
    x += batch * batch_stride
    out += batch * frames * height * width * N
    t, rest = pixel // (height * width), pixel % (height * width)
    h, w = rest // width, rest % width
    k = tl.arange(0, BK)
    chunks: tl.constexpr = C // BK
    sums = tl.zeros((BM, BN), tl.float32)
    for step in range(KT * KH * KW * chunks):
        tap, chunk = step // chunks, step % chunks
        row = h + (tap // KW) % KH - PAD
        column = w + tap % KW - PAD
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (t < frames)
        place = ((t + tap // (KH * KW)) * height + row) * width + column
        a = tl.load(x + place.to(tl.int64)[:, None] * C + (chunk * BK + k)[None, :], mask=inside[:, None], other=0.0)
        b = tl.load(weight + n[None, :] * (KT * KH * KW * C) + (tap * C + chunk * BK + k)[:, None])
        sums = tl.dot(a, b, sums, max_num_imprecise_acc=PROMOTED)
    v = sums * (tl.load(scales + n) * factor)[None, :]
    if BIASED:
        v += tl.load(bias + n).to(tl.float32)[None, :]
    at = pixel.to(tl.int64)[:, None] * N + n[None, :]
    tl.store(out + at, v.to(out.dtype.element_ty), mask=(t < frames)[:, None])


@launched
def convolved(x: Tensor, weight: Rows, bias: Tensor | None, kernel: tuple[int, ...], padding: int, dtype: torch.dtype,
              factor: float, tile: Tile | None = None) -> Tensor:  # fmt: skip
    batch, channels, entry_frames, height, width = x.shape
    frames, outputs = entry_frames - kernel[0] + 1, len(weight.values)
    hopper = x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9
    exact = hopper and weight.values.shape[1] > MOST_SUMMED
    if tile is None:
        tile = SMALL if not hopper else TALL if exact or outputs % WIDE.outputs else WIDE
    out = torch.empty((batch, outputs, frames, height, width), dtype=dtype, device=x.device,
                      memory_format=torch.channels_last_3d)  # fmt: skip
    programs = triton.cdiv(frames * height * width, tile.pixels) * (outputs // tile.outputs)
    _convolved[(programs, batch)](
        x, weight.values, weight.scales, weight.scales if bias is None else bias, out, frames, height, width,
        entry_frames, x.stride(0), factor, C=channels, N=outputs, KT=kernel[0], KH=kernel[1], KW=kernel[2], PAD=padding,
        BIASED=bias is not None, PROMOTED=PROMOTED if exact else None, BM=tile.pixels, BN=tile.outputs, BK=tile.inputs,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out
