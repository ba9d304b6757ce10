"""Wan's decoder on tiles, which the reference can be asked for and Upres does not offer.

Streaming, every tile would have to be remembered: overlapping by half, they would take more memory than whole frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from upres.models.flashvsr.wan_vae import SCALE, WanDecoder


def decode_tiled(net: WanDecoder, latents: Tensor, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Latents c t h w, sizes of tiles in these -> T C H W, [-1, 1]."""
    height, width = latents.shape[-2:]
    total = weight = torch.zeros(())
    for top, bottom in _spans(height, size[0], stride[0]):
        for left, right in _spans(width, size[1], stride[1]):
            tile = net.decode(latents[..., top:bottom, left:right], net.open())
            rows = _ramp(top, bottom, height, (size[0] - stride[0]) * SCALE)
            columns = _ramp(left, right, width, (size[1] - stride[1]) * SCALE)
            share = torch.minimum(rows[:, None], columns)
            around = (left * SCALE, (width - right) * SCALE, top * SCALE, (height - bottom) * SCALE)
            total = total + torch.nn.functional.pad(tile * share, around)
            weight = weight + torch.nn.functional.pad(share, around)
    return (total / weight).clamp(-1, 1)


def _spans(length: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Until the end is reached; the last one is cut off there."""
    start = 0
    while True:
        yield start, min(start + size, length)
        if start + size >= length:
            return
        start += stride


def _ramp(start: int, stop: int, length: int, border: int) -> Tensor:
    """1 / border, 2 / border … 1 at each end that is none of the picture's."""
    weights = torch.ones((stop - start) * SCALE)
    rising = torch.arange(1, border + 1) / border
    if start > 0:
        weights[:border] = rising
    if stop < length:
        weights[-border:] = rising.flip(0)
    return weights
