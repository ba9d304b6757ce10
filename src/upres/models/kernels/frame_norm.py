"""Group norm of single frames with SiLU, and sums of what a block adds. Frames are B C T H W. Knows no networks.

Their kernels want channels last; anything else takes the plain way, whatever the switch says.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from upres.models.kernels.convolution import FACTOR
from upres.models.kernels.fp8 import LARGEST
from upres.models.kernels.switch import fused

IN_FLOAT32 = 1 << 24  # values that are in it at a time, where what is given is narrower

_sums = WeakTensorKeyDictionary()  # of what `total` made, as long as it is there


def frame_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool = False,
               before: Tensor | None = None, room: Tensor | None = None) -> Tensor:  # fmt: skip
    """Every frame of x is normalised by itself, in float32; not differentiable.

    before: a value of each channel, added to x first. room: where the result goes; its memory may have gaps. A room of
    8-bit floats gets FACTOR times the result, for `convolved`.
    """
    if room is None and not x.is_cuda and not fused(x) and not silu and before is None:
        return _by_frames(x, groups, weight, bias, eps)
    out = torch.empty_like(x) if room is None else room
    if fused(x) and channels_last(x) and channels_last(out):
        from upres.models.kernels.fused.frame_norm import frame_norm as kernel

        known = _sums[x] if x in _sums else None  # noqa: SIM401, its get is untyped
        kernel(x, groups, weight, bias, eps, silu, before, out, FACTOR, known)
        return out
    if out.dtype == torch.float8_e4m3fn:
        narrow = frame_norm(x, groups, weight, bias, eps, silu=silu, before=before)
        return out.copy_((narrow * FACTOR).clamp_(-LARGEST, LARGEST))
    if x.is_cuda or x.dtype.itemsize == 2:
        return by_sums(x, groups, weight, bias, eps, out, silu=silu, before=before)
    if before is not None:
        x = x + before.view(-1, 1, 1, 1)
    normed = _by_frames(x, groups, weight, bias, eps)
    if silu:
        torch.ops.aten.silu.out(normed, out=out)
        return out
    return out.copy_(normed)


def _by_frames(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    frames = F.group_norm(rearrange(x, "b c t h w -> (b t) c h w"), groups, weight, bias, eps)
    return rearrange(frames, "(b t) c h w -> b c t h w", b=x.shape[0])


def total(h: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """h + x, and a value of each channel if there is one. May be written over h; the result shall not be changed:
    fused, it is summed on the way, for a norm that follows.
    """
    dense = all(part.is_contiguous(memory_format=torch.channels_last_3d) for part in (h, x))
    if bias is not None and fused(h) and dense:
        from upres.models.kernels.fused.frame_norm import total as kernel

        _sums[h] = kernel(h, x, bias)
        return h
    if bias is None:
        return h + x
    if h.dtype.itemsize == 4:
        return h + x + bias.view(-1, 1, 1, 1)
    for bands in _bands(h, x):  # rounded once
        for into, some in bands:
            into.copy_((into.float() + some).add_(bias.view(-1, 1, 1)))
    return h


def _bands(*clips: Tensor) -> Iterator[Iterator[tuple[Tensor, ...]]]:
    """Of each frame of clips of one size: the same rows of every clip, few enough to be in float32."""
    batch, channels, _, _, width = clips[0].shape
    rows = max(1, IN_FLOAT32 // (batch * channels * width))
    for frames in zip(*(clip.unbind(2) for clip in clips), strict=True):
        yield zip(*(torch.split(frame, rows, dim=2) for frame in frames), strict=True)


def channels_last(x: Tensor) -> bool:
    """Whether the values of a pixel lie side by side, and the pixels of a frame."""
    channel, _, row, column = x.stride()[1:]
    return channel == 1 and column == x.shape[1] and row == column * x.shape[4]


def dense_frames(x: Tensor) -> bool:
    """Whether, besides, frames follow each other without gaps."""
    return channels_last(x) and (x.shape[2] == 1 or x.stride(2) == x.shape[3] * x.stride(3))


def by_sums(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, out: Tensor, *, silu: bool = False,
            before: Tensor | None = None) -> Tensor:  # fmt: skip
    """Group norm of each frame of B C T H W in a few passes over memory, statistics in float32, rounded once.

    CUDA's own gives a group of a frame to a single multiprocessor: 19 ms for 4 frames of 128 x 720 x 1280 on an H100,
    where this takes 3. It also keeps the memory order, which reshaping a single frame would lose.
    """
    frames = rearrange(x, "b c t h w -> (b t) c h w")  # a view: over these CUDA sums fastest
    pixels = frames[0, 0].numel()
    total = frames.sum(dim=(2, 3), dtype=torch.float32)
    squares = torch.linalg.vector_norm(frames, dim=(2, 3), dtype=torch.float32).square()
    grouped = {"g": groups, "b": len(x)}
    spread = reduce(squares - total.square() / pixels, "(b t) (g c) -> b g 1 t", "sum", **grouped)
    means = total / pixels if before is None else total / pixels + before.float()
    means = rearrange(means, "(b t) (g c) -> b g c t", **grouped)
    mean = means.mean(dim=2, keepdim=True)
    variance = (spread / pixels + (means - mean).square().sum(dim=2, keepdim=True)) / means.shape[2]
    weight, bias = (rearrange(p.float(), "(g c) -> g c 1", g=groups) for p in (weight, bias))
    scale = weight * torch.rsqrt(variance.clamp(min=0) + eps)
    added = 0.0 if before is None else rearrange(before.float(), "(g c) -> g c 1", g=groups)
    shift = bias + (added - mean) * scale
    scale, shift = (rearrange(p, "b g c t -> b (g c) t 1 1") for p in (scale, shift))
    if not silu:
        return torch.addcmul(shift, x, scale, out=out)
    for shift_of, scale_of, bands in zip(shift.unbind(2), scale.unbind(2), _bands(x, out), strict=True):
        for some, into in bands:
            into.copy_(F.silu(torch.addcmul(shift_of, some, scale_of), inplace=True))
    return out
