"""3x3 convolutions of single frames, and what surrounds them in a decoder: T C H W, channels last. Knows no networks.

Fused, bias, sum and ReLU come before a result is first written, small frames are read instead of doubled ones, and of
the last two convolutions nothing between them is written.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from upres.models.kernels.switch import fused

log = logging.getLogger(__name__)

CHANNELS = 16  # in and out are multiples of it, better of 64
# what DOUBLE says for an upper (left) and a lower (right) pixel of four: which of two taps each of three falls on
DOUBLE = ((0, 1, 1), (0, 0, 1))


def takes(x: Tensor, *weights: Tensor) -> bool:
    """Whether fused kernels shall and can do these convolutions of x."""
    exact = x.element_size() == 2 or not x.is_cuda  # a GPU would round 32 bits to 19
    return fused(x) and exact and all(w.shape[0] % CHANNELS == 0 and w.shape[1] % CHANNELS == 0 for w in weights)


def paired(x: Tensor, before: Tensor) -> Tensor:
    """Each frame's channels, then those of the frame before it; `before` is that of the first. T C H W -> T 2C H W."""
    if fused(x) and x.is_contiguous(memory_format=torch.channels_last):
        from upres.models.kernels.fused.frame_convolution import paired as kernel

        return kernel(x, before)
    return torch.cat((x, torch.cat((before, x[:-1]))), dim=1)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
    """The convolution, zeros around each frame, plus bias, plus `added`, and zero where that is negative."""
    if x.is_cuda and takes(x, weight) and _cudnn_fuses(x.device, x.dtype):
        once = (1, 1)
        if added is None:
            return torch.cudnn_convolution_relu(x, weight, bias, once, once, once, 1)
        return torch.cudnn_convolution_add_relu(x, weight, added, 1.0, bias, once, once, once, 1)
    made = F.conv2d(x, weight, bias, padding=1)
    return F.relu_(made if added is None else made.add_(added))


@cache
def _cudnn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Not every build of cuDNN has such a kernel for every type."""
    x, weight = (room((CHANNELS,) * 2 + (side, side), device, dtype).zero_() for side in (8, 3))
    try:
        torch.cudnn_convolution_add_relu(x, weight, x, 1.0, x[0, :, 0, 0], (1, 1), (1, 1), (1, 1), 1)
    except RuntimeError as error:
        log.warning("cuDNN does not add and clip while it convolves %s: %s", dtype, error)
        return False
    return True


def room(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device, memory_format=torch.channels_last)


def merged(grow: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution, its outputs taken as frames, each doubled in size and convolved: weights for `doubled`.

    grow: (frames between) entry 1 1; weight: out between 3 3 -> (frames 2 2) out entry 2 2: for each frame and each of
    four neighbouring pixels, 2x2 taps on small frames. Of a doubled frame a pixel's 3x3 see no more than 2x2.
    """
    taps = torch.zeros(2, 3, 2, device=weight.device)  # pixel of a pair, tap of three, tap of two
    for pixel, places in enumerate(DOUBLE):
        taps[pixel, range(3), list(places)] = 1
    grow = rearrange(grow.float(), "(f b) c 1 1 -> f b c", b=weight.shape[1])
    four = torch.einsum("obyx, fbc, pyq, rxs -> fprocqs", weight.float(), grow, taps, taps).to(weight.dtype)
    flat = four.flatten(0, 3).contiguous(memory_format=torch.channels_last)  # so that a view of it stays dense
    return flat.view(-1, len(weight), *flat.shape[1:])


def doubled(x: Tensor, weights: Tensor, *, relu: bool = False) -> Tensor:
    """With `merged` weights: T C H W -> (T frames) out 2H 2W."""
    if takes(x, weights[0]):
        from upres.models.kernels.fused.frame_convolution import doubled as kernel

        return kernel(x, weights, relu)
    places = [(p, q) for p in (0, 1) for q in (0, 1)] * (len(weights) // 4)
    parts = [F.conv2d(F.pad(x, (1 - q, q, 1 - p, p)), w) for (p, q), w in zip(places, weights, strict=True)]
    made = rearrange(torch.stack(parts), "(f p q) t c h w -> (t f) c (h p) (w q)", p=2, q=2)
    return F.relu_(made) if relu else made


def last_two(x: Tensor, weight: Tensor, last: Tensor, bias: Tensor) -> Tensor:
    """`convolved` without a bias, and that convolved with `last`, of few outputs: what is between is never written."""
    if takes(x, weight) and len(weight) in (16, 32, 64, 128):
        from upres.models.kernels.fused.frame_convolution import last_two as kernel

        return kernel(x, weight, last, bias)
    return F.conv2d(convolved(x, weight), last, bias, padding=1)
