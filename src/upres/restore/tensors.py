"""Between bytes and the models' numbers. Clamping and rounding live here and nowhere else."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from upres.restore.plan import Size


def to_model(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    """`T H W C` uint8 -> `T C H W` float32, [-1, 1]."""
    tensor = torch.from_numpy(np.require(frames, requirements="W")).to(device)
    return tensor.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)


def to_bytes(frames: Tensor) -> NDArray[np.uint8]:
    """`T C H W` float, [-1, 1] (clamped) -> `T H W C` uint8, rounded to nearest."""
    scaled = frames.float().add(1.0).mul_(127.5).clamp_(0.0, 255.0).round_().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def resize(frames: Tensor, size: Size) -> Tensor:
    """Antialiased bicubic; the frames themselves where the size is already right."""
    if frames.shape[-2:] == (size.height, size.width):
        return frames
    return F.interpolate(frames, size=(size.height, size.width), mode="bicubic", antialias=True)


def pad(frames: Tensor, size: Size) -> Tensor:
    """Repeats the last row and column at the bottom and right."""
    bottom, right = size.height - frames.shape[-2], size.width - frames.shape[-1]
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames


def crop(frames: Tensor, size: Size) -> Tensor:
    return frames[..., : size.height, : size.width]
