"""Where the noise that each step starts from comes from. Knows nothing of what is done with it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """Asked once for each step, in order."""

    def draw(self, step: int, shape: tuple[int, int, int, int]) -> Tensor:
        """c t H/8 W/8."""


class StepNoise:
    """A generator for each step, seeded with the seed and the step's number (zji996/FlashVSR-app 781f95d): it does not
    depend on the clip's length, as one draw for the whole clip (OpenImagingLab/FlashVSR ccac0ac) would.

    Drawn on the device in the type that is computed in; another device or type gives other numbers.
    """

    def __init__(self, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        self._seed, self._device, self._dtype = seed, device, dtype

    def draw(self, step: int, shape: tuple[int, int, int, int]) -> Tensor:
        generator = torch.Generator(self._device).manual_seed(self._seed + step)
        return torch.randn(shape, generator=generator, device=self._device, dtype=self._dtype)
