"""`color.lab` in Triton's kernels: everything but the two sorts in six passes. Its twin is color.py. Knows only pixels.

Values that are to be ranked are kept as integers of the same order, as in color.py, for torch sorts those faster.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from upres.models.kernels.switch import launched
from upres.restore.colorspace import DELTA, KAPPA, RGB_TO_XYZ, WHITE, XYZ_TO_RGB

BLOCK = 1024  # pixels of a program
LINE = tl.constexpr(DELTA**3)  # below it the cube root is a line
BEND = tl.constexpr(DELTA)
SLOPE = tl.constexpr(KAPPA / 116)
STEEPNESS = tl.constexpr(KAPPA)
TO_WHITE = {f"M{3 * row + column}": value / WHITE[row] for row, values in enumerate(RGB_TO_XYZ)
            for column, value in enumerate(values)}  # fmt: skip
FROM_WHITE = {f"M{3 * row + column}": value * WHITE[column] for row, values in enumerate(XYZ_TO_RGB)
              for column, value in enumerate(values)}  # fmt: skip


@triton.jit
def _power(x, exponent: tl.constexpr):
    """x > 0; 0 gives 0."""
    return tl.exp2(tl.log2(x) * exponent)


@triton.jit
def _across(x, row, left, w, right):
    return ((tl.load(x + row + left) + 2.0 * tl.load(x + row + w)) + tl.load(x + row + right)) * 0.25


@triton.jit
def _blurred(x, out, size, height, width, radius, B: tl.constexpr):
    """Of each plane of `size` pixels, [1 2 1]/4 along both axes, the taps `radius` apart, the border repeated."""
    plane = tl.program_id(1).to(tl.int64) * size
    pixel = tl.program_id(0) * B + tl.arange(0, B)
    inside = pixel < size
    pixel = tl.minimum(pixel, size - 1)
    h, w = pixel // width, pixel % width
    left, right = tl.maximum(w - radius, 0), tl.minimum(w + radius, width - 1)
    above, below = tl.maximum(h - radius, 0) * width, tl.minimum(h + radius, height - 1) * width
    x += plane
    upper, lower = _across(x, above, left, w, right), _across(x, below, left, w, right)
    mixed = ((upper + 2.0 * _across(x, h * width, left, w, right)) + lower) * 0.25
    tl.store(out + plane + pixel, mixed, mask=inside)


@triton.jit
def _linear(x):
    """sRGB in [-1, 1] -> linear in [0, 1]."""
    x = tl.minimum(tl.maximum((x + 1.0) * 0.5, 0.0), 1.0)
    return tl.where(x > 0.04045, _power((x + 0.055) * (1 / 1.055), 2.4), x / 12.92)


@triton.jit
def _bent(x):
    return tl.where(x > LINE, _power(tl.maximum(x, LINE), 1 / 3), x * SLOPE + 16 / 116)


@triton.jit
def _ordered(x):
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _unordered(bits):
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _store_lab(r, g, b, out, at, count, inside, M0: tl.constexpr, M1: tl.constexpr, M2: tl.constexpr, M3: tl.constexpr,
               M4: tl.constexpr, M5: tl.constexpr, M6: tl.constexpr, M7: tl.constexpr, M8: tl.constexpr):  # fmt: skip
    r, g, b = _linear(r), _linear(g), _linear(b)
    x, y, z = (_bent(r * M0 + g * M1 + b * M2), _bent(r * M3 + g * M4 + b * M5),
               _bent(r * M6 + g * M7 + b * M8))  # fmt: skip
    tl.store(out + at, _ordered(116 * y - 16), mask=inside)
    tl.store(out + count + at, _ordered(500 * (x - y)), mask=inside)
    tl.store(out + 2 * count + at, _ordered(200 * (y - z)), mask=inside)


@triton.jit
def _to_lab(low, restored, source, ours, theirs, size, B: tl.constexpr, M0: tl.constexpr, M1: tl.constexpr,
            M2: tl.constexpr, M3: tl.constexpr, M4: tl.constexpr, M5: tl.constexpr, M6: tl.constexpr,
            M7: tl.constexpr, M8: tl.constexpr):  # fmt: skip
    """Frames of three planes of `size` pixels -> L, a and b of all pixels, in order: ours with low added."""
    pixel = tl.program_id(0) * B + tl.arange(0, B)
    frame = tl.program_id(1).to(tl.int64)
    inside = pixel < size
    at, place = frame * 3 * size + pixel, frame * size + pixel
    count = tl.num_programs(1).to(tl.int64) * size  # of pixels, in all
    r, g, b = (tl.load(source + at, mask=inside, other=0.0), tl.load(source + size + at, mask=inside, other=0.0),
               tl.load(source + 2 * size + at, mask=inside, other=0.0))  # fmt: skip
    _store_lab(r, g, b, theirs, place, count, inside, M0, M1, M2, M3, M4, M5, M6, M7, M8)
    r, g, b = (tl.load(restored + at, mask=inside, other=0.0), tl.load(restored + size + at, mask=inside, other=0.0),
               tl.load(restored + 2 * size + at, mask=inside, other=0.0))  # fmt: skip
    r += tl.load(low + at, mask=inside, other=0.0)
    g += tl.load(low + size + at, mask=inside, other=0.0)
    b += tl.load(low + 2 * size + at, mask=inside, other=0.0)
    _store_lab(r, g, b, ours, place, count, inside, M0, M1, M2, M3, M4, M5, M6, M7, M8)


@triton.jit
def _started(run, starts, count, B: tl.constexpr):
    """run: which run of equals each place of a sorted row is in, from 1 on -> where each begins, and `count`."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    inside = i < count
    own = tl.load(run + i, mask=inside, other=0)
    before = tl.load(run + i - 1, mask=inside & (i > 0), other=0)
    tl.store(starts + own - 1, i, mask=inside & (own != before))
    tl.store(starts + own, i + 1, mask=i == count - 1)


@triton.jit
def _matched(run, starts, samples, positions, out, count, B: tl.constexpr):
    """Into each place of `out` the sample of the middle of its run."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    inside = i < count
    own = tl.load(run + i, mask=inside, other=1)
    middle = (tl.load(starts + own - 1).to(tl.int64) + tl.load(starts + own)) // 2
    tl.store(out + tl.load(positions + i, mask=inside, other=0), _unordered(tl.load(samples + middle, mask=inside)),
             mask=inside)  # fmt: skip


@triton.jit
def _unbent(x):
    return tl.where(x > BEND, x * x * x, (116 * x - 16) / STEEPNESS)


@triton.jit
def _signed(x):
    """Linear -> sRGB in [-1, 1], clamped."""
    curved = _power(tl.maximum(x, 0.0031308), 1 / 2.4) * 1.055 - 0.055
    x = tl.where(x > 0.0031308, curved, x * 12.92)
    return tl.minimum(tl.maximum(x, 0.0), 1.0) * 2.0 - 1.0


@triton.jit
def _to_rgb(matched, ours, out, size, kept, B: tl.constexpr, M0: tl.constexpr, M1: tl.constexpr,
            M2: tl.constexpr, M3: tl.constexpr, M4: tl.constexpr, M5: tl.constexpr, M6: tl.constexpr,
            M7: tl.constexpr, M8: tl.constexpr):  # fmt: skip
    """kept: how much of our own lightness stays."""
    pixel = tl.program_id(0) * B + tl.arange(0, B)
    frame = tl.program_id(1).to(tl.int64)
    inside = pixel < size
    at, place = frame * 3 * size + pixel, frame * size + pixel
    count = tl.num_programs(1).to(tl.int64) * size  # of pixels, in all
    own = _unordered(tl.load(ours + place, mask=inside, other=0))
    light = own - (own - tl.load(matched + place, mask=inside, other=0.0)) * (1.0 - kept)
    y = (light + 16) / 116
    x = _unbent(y + tl.load(matched + count + place, mask=inside, other=0.0) / 500)
    z = _unbent(y - tl.load(matched + 2 * count + place, mask=inside, other=0.0) / 200)
    y = _unbent(y)
    tl.store(out + at, _signed(x * M0 + y * M1 + z * M2), mask=inside)
    tl.store(out + size + at, _signed(x * M3 + y * M4 + z * M5), mask=inside)
    tl.store(out + 2 * size + at, _signed(x * M6 + y * M7 + z * M8), mask=inside)


@launched
def lab(restored: Tensor, source: Tensor, radii: list[int], kept: float) -> Tensor:
    """float32, T 3 H W. radii: of the blurs, one after the other; kept: see color.LAB_LIGHTNESS_KEPT."""
    restored, source = restored.contiguous(), source.contiguous()
    frames, channels, height, width = restored.shape
    size, count = height * width, frames * height * width
    low, room = source - restored, torch.empty_like(source)
    for radius in radii:
        _blurred[(triton.cdiv(size, BLOCK), frames * channels)](low, room, size, height, width, radius, B=BLOCK,
                                                                num_warps=4)  # fmt: skip
        low, room = room, low
    ours, theirs = torch.empty(2, channels, count, dtype=torch.int32, device=restored.device)
    grid = (triton.cdiv(size, BLOCK), frames)
    _to_lab[grid](low, restored, source, ours, theirs, size, B=BLOCK, **TO_WHITE, num_warps=4)
    matched = low.view(channels, count)  # its values are no longer needed
    for values, wanted, out in zip(ours, theirs, matched, strict=True):
        _match_ranks(values, wanted, out)
    _to_rgb[grid](matched, ours, room, size, kept, B=BLOCK, **FROM_WHITE, num_warps=4)
    return room


def _match_ranks(values: Tensor, wanted: Tensor, out: Tensor) -> None:
    """As color._match_ranks, of integers; nothing waits for the device."""
    count = len(values)
    samples = torch.sort(wanted).values
    ordered, positions = torch.sort(values, stable=True)
    begins = torch.ones(count, dtype=torch.bool, device=values.device)
    torch.ne(ordered[1:], ordered[:-1], out=begins[1:])
    run = begins.cumsum(0, dtype=torch.int32)
    starts = torch.empty(count + 1, dtype=torch.int32, device=values.device)
    grid = (triton.cdiv(count, BLOCK),)
    _started[grid](run, starts, count, B=BLOCK, num_warps=4)
    _matched[grid](run, starts, samples, positions, out, count, B=BLOCK, num_warps=4)
