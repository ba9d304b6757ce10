"""Enlarges an image's alpha along the edges of its restored picture. Knows only pixels: no models, no files.

The rules of numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1, by which the recorded pictures were made. Guided filter: He,
Sun and Tang, "Guided Image Filtering", equations 5, 6 and 8. All arithmetic is in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MASK_LOW, MASK_HIGH, MASK_SHARE = 0.1, 0.9, 0.95  # alpha is a mask if so large a share of it lies outside the two
SOFT_RADIUS, MASK_RADIUS, GUIDE_EPS = 3, 2, 0.002
FLAT, INTERIOR = 0.05, 0.03  # strongest edge around a pixel that is a plain part of the mask, and that surely is
FULL_EDGE = 0.25  # from this strength on an edge is smoothed, not cut
STEEPNESS = 12.0
UNSURE_LOW, UNSURE_HIGH, UNSURE_EDGE = 0.3, 0.7, 0.15
GRAY = (9798, 19235, 3735)  # ITU-R BT.601 luma in 1/2**15
GRAY_BITS = 15


def guided_alpha(alpha: Tensor, picture: Tensor) -> Tensor:
    """alpha: T 1 h w, [0, 1]; picture: T 3 H W, [-1, 1] about, restored -> T 1 H W, [0, 1]."""
    rgb = _unit(picture.float())
    guide = rgb.mean(dim=1, keepdim=True)
    enlarged = F.interpolate(alpha.float(), size=picture.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    outside = (alpha < MASK_LOW) | (alpha > MASK_HIGH)
    if outside.float().mean() > MASK_SHARE:
        return _mask(_guided(guide, enlarged, MASK_RADIUS), _edges(rgb))
    return _guided(guide, enlarged, SOFT_RADIUS).clamp(0, 1)


def _mask(smooth: Tensor, edges: Tensor) -> Tensor:
    """Cut at one half where the picture is flat, a soft step where it has an edge."""
    around = F.max_pool2d(edges, 3, stride=1, padding=1)
    cut = (smooth > 0.5).float()
    soft = torch.lerp(smooth, torch.sigmoid(STEEPNESS * (smooth - 0.5)), (edges / FULL_EDGE).clamp(0, 1))
    mask = torch.where(around < FLAT, cut, soft)
    mask = torch.where(around < INTERIOR, (mask > 0.5).float(), mask)
    unsure = (mask > UNSURE_LOW) & (mask < UNSURE_HIGH) & (edges <= UNSURE_EDGE)
    return torch.where(unsure, (mask > 0.5).float(), mask).clamp(0, 1)


def _guided(guide: Tensor, x: Tensor, radius: int) -> Tensor:
    """What `x` becomes if around every pixel it is a linear function of the guide. Zeros beyond the border count."""
    guide_mean, x_mean = _box(guide, radius), _box(x, radius)
    covariance = _box(guide * x, radius) - guide_mean * x_mean
    variance = _box(guide * guide, radius) - guide_mean * guide_mean
    slope = covariance / (variance + GUIDE_EPS)
    return _box(slope, radius) * guide + _box(x_mean - slope * guide_mean, radius)


def _box(x: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius)


def _edges(rgb: Tensor) -> Tensor:
    """Sobel's gradient of the 8-bit luma in 256 steps, 1 being the frame's strongest."""
    levels = (_unit(rgb).clamp(0, 1) * 255).long()
    weights = torch.tensor(GRAY, device=rgb.device).view(3, 1, 1)
    gray = ((levels * weights).sum(dim=1, keepdim=True) + (1 << (GRAY_BITS - 1))) >> GRAY_BITS
    framed = F.pad(gray.double(), (1, 1, 1, 1), mode="reflect" if min(gray.shape[-2:]) > 1 else "replicate")
    across, down = framed[..., 2:] - framed[..., :-2], framed[..., 2:, :] - framed[..., :-2, :]
    x = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    strength = torch.sqrt(x * x + y * y)
    strongest = strength.amax(dim=(-2, -1), keepdim=True)
    return (strength / strongest.clamp(min=1e-12) * 255).to(torch.uint8).float() / 255


def _unit(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]; what has no negative value is taken to be there already."""
    return (x + 1) / 2 if x.min() < 0 else x
