"""sRGB (D65) to CIE L*a*b* and HSV and back. Pure arithmetic on float32 planes.

RGB comes as `T 3 H W` in [0, 1]; all other planes, and the RGB that goes back, are `3 T H W`.
"""

from __future__ import annotations

import torch
from torch import Tensor

# IEC 61966-2-1, D65, seven digits
RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
XYZ_TO_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
WHITE = (0.95047, 1.0, 1.08883)
DELTA = 6 / 29  # CIE 15: the cube root turns into a line below DELTA**3
KAPPA = (29 / 3) ** 3


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """L in [0, 100], a and b about [-128, 128]."""
    linear = torch.where(rgb > 0.04045, rgb.add(0.055).mul_(1 / 1.055).pow_(2.4), rgb / 12.92)
    to_white = tuple(tuple(m / white for m in row) for row, white in zip(RGB_TO_XYZ, WHITE, strict=True))
    xyz = _mix(linear.transpose(0, 1), to_white)
    x, y, z = torch.where(xyz > DELTA**3, xyz.pow(1 / 3), xyz.mul(KAPPA / 116).add_(16 / 116))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lab_to_rgb(lab: Tensor) -> Tensor:
    """May leave [0, 1] where the colour is outside sRGB."""
    lightness, a, b = lab
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200])
    xyz = torch.where(f > DELTA, f * f * f, (116 * f - 16) / KAPPA)
    from_white = tuple(tuple(m * white for m, white in zip(row, WHITE, strict=True)) for row in XYZ_TO_RGB)
    linear = _mix(xyz, from_white)
    curved = linear.clamp(min=0).pow_(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(linear > 0.0031308, curved, linear * 12.92)


def rgb_to_hsv(rgb: Tensor) -> Tensor:
    """All three in [0, 1]."""
    r, g, b = rgb.unbind(1)
    low, high = rgb.aminmax(dim=1)
    delta = high - low
    colored = delta > 1e-10
    divisor = torch.where(colored, delta, 1.0)
    hue = torch.where(high == r, (g - b) / divisor % 6, 0.0)
    hue = torch.where(high == g, (b - r) / divisor + 2, hue)
    hue = torch.where(high == b, (r - g) / divisor + 4, hue)
    saturation = torch.where(high > 1e-10, delta / high.clamp(min=1e-10), 0.0)
    return torch.stack([torch.where(colored, hue / 6, 0.0), saturation, high])


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    """Each channel falls from `value` by `value * saturation`, by how far its own hue is away."""
    hue, saturation, value = hsv
    chroma = saturation * value
    channels = []
    for own in (5.0, 3.0, 1.0):  # sextants: red, green, blue
        k = (hue * 6 + own) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels)


def _mix(planes: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """3 x 3 matrix times planes; not a matmul, which CUDA may round to TF32."""
    r, g, b = planes
    return torch.stack([(r * m[0]).add_(g, alpha=m[1]).add_(b, alpha=m[2]) for m in matrix])
