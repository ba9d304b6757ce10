"""Gives restored frames the colours of their source. Knows only pixels: no models, no files.

Frames are `T C H W`, float, [-1, 1]. All arithmetic is in float32; the result has the dtype of the restored frames.
Rank matching treats the frames of one call together and gives equal values one result, so that results repeat exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from upres.errors import InvalidParameter
from upres.models.kernels.switch import KernelFailed, fused, give_up
from upres.restore.colorspace import hsv_to_rgb, lab_to_rgb, rgb_to_hsv, rgb_to_lab

if TYPE_CHECKING:
    from upres.tasks import ColorCorrection

WAVELET_LEVELS = 5
LAB_LIGHTNESS_KEPT = 0.8  # of the restored lightness; the rest follows the source's histogram
HUE_BINS = 12
HUE_BIN_MIN_PIXELS = 100  # a bin is matched only if both sides have more pixels than this
ADAPTIVE_SLOPE, ADAPTIVE_OFFSET, ADAPTIVE_FLOOR = 5.0, 0.15, 0.075  # on differences of saturation
VARIANCE_EPS = 1e-5


def correct(mode: ColorCorrection, restored: Tensor, source: Tensor) -> Tensor:
    """`restored` with the colours of `source`: both `T C H W`, float, [-1, 1], of one shape. Neither is changed."""
    if mode == "none":
        return restored
    method = _METHODS.get(mode)
    if method is None:
        raise InvalidParameter(
            f"color_correction {mode!r} is unknown", remedy=f"use one of {', '.join([*_METHODS, 'none'])}"
        )
    if restored.shape != source.shape:
        raise ValueError(f"restored is {tuple(restored.shape)} but its source {tuple(source.shape)}: resize the source")
    return method(restored.float(), source.float()).to(restored.dtype)


def _lab(restored: Tensor, source: Tensor) -> Tensor:
    if fused(restored):
        from upres.restore.fused_lab import lab

        try:
            return lab(restored, source, _radii(_widest(source)), LAB_LIGHTNESS_KEPT)
        except KernelFailed as failure:
            give_up(str(failure))
    ours = rgb_to_lab(_unit(wavelet(restored, source)))  # 3 T H W
    theirs = rgb_to_lab(_unit(source))
    matched = torch.stack([_match_ranks(a.flatten(), b.flatten()) for a, b in zip(ours, theirs, strict=True)])
    matched = matched.view_as(ours)
    matched[0].lerp_(ours[0], LAB_LIGHTNESS_KEPT)
    return _signed(lab_to_rgb(matched))


def wavelet(restored: Tensor, source: Tensor, reach: int | None = None) -> Tensor:
    """High frequencies of `restored`, low frequencies of `source`.

    The high frequencies of an a-trous decomposition telescope to x - low(x), and low() is linear. `reach` is that of
    the widest blur, in pixels: None is SeedVR2's rule, which narrows it on frames of a side below 128.
    """
    widest = _widest(source) if reach is None else reach
    return _low_frequencies(source - restored, widest).add_(restored).clamp_(-1, 1)


def _wavelet_adaptive(restored: Tensor, source: Tensor) -> Tensor:
    """The wavelet result, but where that is more saturated than the source: the one of `_hsv`."""
    smooth, hsv = wavelet(restored, source), _hsv(restored, source)
    wanted = _saturation(source)
    excess = torch.sigmoid(ADAPTIVE_SLOPE * (_saturation(restored) - wanted - ADAPTIVE_OFFSET))
    weight = torch.where(_saturation(smooth) - wanted > ADAPTIVE_FLOOR, excess, 0.0)
    return smooth.lerp_(hsv, weight)


def _hsv(restored: Tensor, source: Tensor) -> Tensor:
    """Within each of twelve hues, the saturations of `restored` are rank-matched to those of `source`."""
    hue, saturation, value = rgb_to_hsv(_unit(restored)).flatten(1)
    source_hue, source_saturation, _ = rgb_to_hsv(_unit(source)).flatten(1)
    matched = saturation.clone()
    for index in range(HUE_BINS):
        ours, theirs = _in_bin(hue, index), _in_bin(source_hue, index)
        mine, wanted = saturation[ours], source_saturation[theirs]
        if min(mine.numel(), wanted.numel()) > HUE_BIN_MIN_PIXELS:
            matched[ours] = _match_ranks(mine, wanted)
    return _signed(hsv_to_rgb(torch.stack([hue, matched, value]).view(3, *restored[:, 0].shape)))


def _adain(restored: Tensor, source: Tensor) -> Tensor:
    """Mean and spread of every channel of every frame become those of the source."""
    mean, spread = _statistics(restored)
    wanted_mean, wanted_spread = _statistics(source)
    return (restored - mean) / spread * wanted_spread + wanted_mean


_METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lab": _lab,
    "wavelet": wavelet,
    "wavelet_adaptive": _wavelet_adaptive,
    "hsv": _hsv,
    "adain": _adain,
}


def _low_frequencies(x: Tensor, widest: int) -> Tensor:
    for radius in _radii(widest):
        x = _blur(x, radius)
    return x


def _widest(frames: Tensor) -> int:
    return max(1, min(frames.shape[-2:]) // 8)


def _radii(widest: int) -> list[int]:
    return [min(2**level, widest) for level in range(WAVELET_LEVELS)]


def _blur(x: Tensor, radius: int) -> Tensor:
    """[1 2 1]/4 along both axes, the taps `radius` apart, the border repeated."""
    for pad, axis in (((radius, radius, 0, 0), -1), ((0, 0, radius, radius), -2)):
        padded = F.pad(x, pad, mode="replicate")
        size = x.shape[axis]
        x = padded.narrow(axis, 0, size).add(x, alpha=2).add_(padded.narrow(axis, 2 * radius, size)).mul_(0.25)
    return x


def _match_ranks(values: Tensor, wanted: Tensor) -> Tensor:
    """The i-th smallest of `values` becomes the i-th smallest of `wanted`, or of as many samples spread evenly over
    `wanted` if the counts differ. Equal values all get the sample of their middle rank: what is flat stays flat.
    """
    count = values.numel()
    samples = _from_ordered(torch.sort(_to_ordered(wanted)).values)
    if count != wanted.numel():
        samples = samples[(torch.linspace(0, 1, count, device=values.device) * (wanted.numel() - 1)).long()]
    ordered, positions = torch.sort(_to_ordered(values), stable=True)
    return torch.empty_like(values).scatter_(0, positions, samples.index_select(0, _middle_ranks(ordered)))


def _middle_ranks(ordered: Tensor) -> Tensor:
    """For each element of a sorted tensor, the index of the middle one among its equals; no wait for the device."""
    count = len(ordered)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=begins[1:])
    run = begins.cumsum(0) - 1  # which run of equals an element is in
    starts = torch.full((count + 2,), count, device=ordered.device)  # of each run; the last place is for all others
    starts.scatter_(0, torch.where(begins, run, count + 1), torch.arange(count, device=ordered.device))
    return (starts.index_select(0, run) + starts.index_select(0, run + 1)) // 2


def _to_ordered(x: Tensor) -> Tensor:
    """float32 as int32 of the same order: torch sorts a row of integers many times faster."""
    bits = x.contiguous().view(torch.int32)
    return bits ^ (bits >> 31 & 0x7FFFFFFF)


def _from_ordered(bits: Tensor) -> Tensor:
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(torch.float32)


def _in_bin(hue: Tensor, index: int) -> Tensor:
    """Pixels of one twelfth of the circle. The first also takes the last one's, which is then matched once more."""
    inside = (hue >= index / HUE_BINS) & (hue < (index + 1) / HUE_BINS)
    return inside | (hue >= 1 - 1 / HUE_BINS) if index == 0 else inside


def _saturation(x: Tensor) -> Tensor:
    low, high = _unit(x).aminmax(dim=1, keepdim=True)
    return (high - low) / high.clamp(min=1e-8)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    unbiased = 1 if math.prod(x.shape[-2:]) > 1 else 0
    variance, mean = torch.var_mean(x, dim=(-2, -1), correction=unbiased, keepdim=True)
    return mean, (variance + VARIANCE_EPS).sqrt()


def _unit(x: Tensor) -> Tensor:
    return x.add(1).mul_(0.5).clamp_(0, 1)


def _signed(planes: Tensor) -> Tensor:
    return rearrange(planes.clamp_(0, 1).mul_(2).sub_(1), "c t h w -> t c h w")
