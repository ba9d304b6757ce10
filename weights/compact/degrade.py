"""What happens to a picture before the network sees it: halved by an unknown kernel, grained, compressed.

Batches in torch, B 3 H W, float, [0, 1]. Every function takes whole batches; the choice per batch is made by `halve`
and `damage` with the generator they are given. H.264 is not here: its frames come ready from `prepare.py`.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor
from torch.nn import functional

KERNELS = ("area", "area", "area", "bicubic", "bicubic", "bilinear", "gaussian")  # by weight
GAUSSIAN_SIGMA = (0.5, 1.1)  # pixels of the large picture
GRAIN_SIGMA = 4 / 255  # at most
JPEG_QUALITY = (35, 95)
JPEG_SHARE, GRAIN_SHARE = 0.3, 0.3

# Base quantisation tables: ITU-T T.81 (JPEG), annex K, tables K.1 and K.2.
LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32


def halve(x: Tensor, rng: random.Random) -> Tensor:
    """B 3 2H 2W -> B 3 H W by one of KERNELS."""
    kernel = rng.choice(KERNELS)
    if kernel == "area":
        return functional.avg_pool2d(x, 2)
    if kernel == "gaussian":
        return gaussian_half(x, rng.uniform(*GAUSSIAN_SIGMA))
    return functional.interpolate(x, scale_factor=0.5, mode=kernel, align_corners=False, antialias=True)


def gaussian_half(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, then the mean of each 2x2 block's centre: eight taps a side, edges replicated."""
    taps = torch.tensor([math.exp(-(((tap - 3.5) / sigma) ** 2) / 2) for tap in range(8)], device=x.device)
    taps = taps / taps.sum()
    x = functional.pad(x, (3, 3, 3, 3), mode="replicate")
    x = functional.conv2d(x, taps.view(1, 1, 8, 1).expand(3, 1, 8, 1), stride=(2, 1), groups=3)
    return functional.conv2d(x, taps.view(1, 1, 1, 8).expand(3, 1, 1, 8), stride=(1, 2), groups=3)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian over thirteen taps a side, edges replicated; the size stays."""
    taps = torch.exp(-((torch.arange(-6.0, 7.0, device=x.device) / sigma) ** 2) / 2)
    taps = taps / taps.sum()
    x = functional.pad(x, (6, 6, 6, 6), mode="replicate")
    x = functional.conv2d(x, taps.view(1, 1, 13, 1).expand(3, 1, 13, 1), groups=3)
    return functional.conv2d(x, taps.view(1, 1, 1, 13).expand(3, 1, 1, 13), groups=3)


def damage(x: Tensor, rng: random.Random) -> Tensor:
    """Grain and JPEG, each in a share of the batches, and always the rounding to 8 bits."""
    if rng.random() < GRAIN_SHARE:
        strength = GRAIN_SIGMA * torch.rand((x.shape[0], 1, 1, 1), device=x.device)
        x = x + strength * torch.randn_like(x)
    x = eight_bits(x)
    return eight_bits(jpeg(x, rng.uniform(*JPEG_QUALITY))) if rng.random() < JPEG_SHARE else x


def eight_bits(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round() / 255


def jpeg(x: Tensor, quality: float) -> Tensor:
    """What JPEG at `quality` leaves of x: 4:2:0, sides divisible by 16. T.81's transform and tables, no bit stream."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    luma, blue, red = to_ycc(x * 255)
    luma = quantised(luma - 128, LUMA, scale) + 128
    chroma = functional.avg_pool2d(torch.cat((blue, red), 1), 2)
    chroma = torch.cat([quantised(plane, CHROMA, scale) for plane in chroma.split(1, 1)], 1)
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    return to_rgb(luma, chroma[:, :1], chroma[:, 1:]) / 255


def quantised(plane: Tensor, table: str, scale: float) -> Tensor:
    """Each 8x8 block through the cosine transform, its steps and back. B 1 H W."""
    steps = torch.tensor([float(value) for value in table.split()], device=plane.device).view(1, 1, 1, 8, 8)
    steps = (steps * scale).round().clamp(1, 255)
    cosine = transform(plane.device)
    batch, _, height, width = plane.shape
    blocks = plane.view(batch, height // 8, 8, width // 8, 8).transpose(2, 3)
    blocks = cosine @ blocks @ cosine.T
    blocks = (blocks / steps).round() * steps
    blocks = cosine.T @ blocks @ cosine
    return blocks.transpose(2, 3).reshape(batch, 1, height, width)


def transform(device: torch.device) -> Tensor:
    """The orthonormal 8-point cosine transform (DCT-II)."""
    row, column = torch.arange(8.0, device=device).view(8, 1), torch.arange(8.0, device=device)
    matrix = torch.cos((2 * column + 1) * row * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def to_ycc(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RGB -> Y, Cb, Cr around 0 (ITU-R BT.601, full range, as JPEG does)."""
    red, green, blue = x.split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, (blue - luma) / 1.772, (red - luma) / 1.402


def to_rgb(luma: Tensor, blue: Tensor, red: Tensor) -> Tensor:
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    return torch.cat((r, (luma - 0.299 * r - 0.114 * b) / 0.587, b), 1)
