"""Between bytes and the models' numbers. Clamping and rounding live here and nowhere else.

Frames are `T C H W`. As pixels they are in [0, 1]; models take and give [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from upres.restore.plan import Size

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def to_pixels(frames: Samples, device: torch.device) -> Tensor:
    """`T H W C` uint8 or uint16 -> `T C H W` float32, [0, 1]."""
    return as_pixels(torch.from_numpy(np.require(frames, requirements="W")).to(device))


def as_pixels(samples: Tensor) -> Tensor:
    """The same of samples that are on the device."""
    return samples.permute(0, 3, 1, 2).to(torch.float32).div_(torch.iinfo(samples.dtype).max)


def to_model(pixels: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return pixels.sub(0.5).div_(0.5)


def to_bytes(frames: Tensor) -> NDArray[np.uint8]:
    """`T C H W` float, [-1, 1] (clamped) -> `T H W C` uint8, rounded to nearest."""
    return as_samples(frames).cpu().numpy()


def to_words(frames: Tensor) -> NDArray[np.uint16]:
    """The same as 16-bit samples."""
    return as_samples(frames, deep=True).cpu().numpy().astype(np.uint16)


def as_samples(frames: Tensor, *, deep: bool = False) -> Tensor:
    """The same, still on the device: uint8, or int32 for 16 bits, as no operation of torch knows uint16 everywhere."""
    largest, dtype = (65535.0, torch.int32) if deep else (255.0, torch.uint8)
    scaled = frames.float().add(1.0).mul_(largest / 2).clamp_(0.0, largest).round_().to(dtype)
    return scaled.permute(0, 2, 3, 1).contiguous()


def resize(frames: Tensor, size: Size) -> Tensor:
    """Antialiased bicubic, in float32 whatever the frames are; they themselves where the size is already right."""
    if frames.shape[-2:] == (size.height, size.width):
        return frames
    resized = F.interpolate(frames.float(), size=(size.height, size.width), mode="bicubic", antialias=True)
    return resized.to(frames.dtype)


def enlarge(pixels: Tensor, steps: Iterable[Size]) -> Tensor:
    """Resized to one size after the other; what bicubic overshoots is clamped to [0, 1]."""
    for size in steps:
        pixels = resize(pixels, size)
    return pixels.clamp(0, 1)


def pad(frames: Tensor, size: Size, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Repeats the outer rows and columns; the frames' first row and column come to lie at `origin`."""
    margins = _margins(frames, size, origin)
    return F.pad(frames, margins, mode="replicate") if any(margins) else frames


def pad_black(pixels: Tensor, size: Size, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """[0, 1]: zeros around; the pixels' first row and column come to lie at `origin`."""
    return F.pad(pixels, _margins(pixels, size, origin))


def crop(frames: Tensor, size: Size, origin: tuple[int, int] = (0, 0)) -> Tensor:
    top, left = origin
    return frames[..., top : top + size.height, left : left + size.width]


def middle(frames: Tensor, size: Size) -> Tensor:
    return crop(frames, size, ((frames.shape[-2] - size.height) // 2, (frames.shape[-1] - size.width) // 2))


def _margins(frames: Tensor, size: Size, origin: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, right, top, bottom."""
    top, left = origin
    return left, size.width - frames.shape[-1] - left, top, size.height - frames.shape[-2] - top
