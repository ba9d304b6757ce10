"""Plain or fused: the one switch. Knows nothing of the kernels themselves."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from upres.errors import InvalidSetting

Mode = Literal["plain", "fused", "fp8"]  # fp8: fused, and matrix products of 8-bit floats where a kernel has them
FP8_CAPABILITY = (8, 9)  # Ada, Hopper

_mode: Mode = "plain"


def use(mode: str) -> Mode:
    """A Mode, for this process, from now on. Returns what it was. Raises InvalidSetting if it cannot be had here."""
    global _mode
    if mode not in get_args(Mode):
        raise InvalidSetting(f"kernels {mode!r} are unknown", remedy=f"use one of {', '.join(get_args(Mode))}")
    if mode != "plain" and find_spec("triton") is None:
        raise InvalidSetting(f"kernels {mode!r} need Triton", remedy="use `plain`, or a torch that comes with Triton")
    if mode == "fp8" and torch.cuda.is_available() and torch.cuda.get_device_capability() < FP8_CAPABILITY:
        raise InvalidSetting(f"{torch.cuda.get_device_name()} cannot multiply 8-bit floats", remedy="use `fused`")
    before, _mode = _mode, cast(Mode, mode)
    return before


def fused(x: Tensor) -> bool:
    """Whether what is done to x shall be done by fused kernels."""
    return _mode != "plain" and runs_triton(x)


def fp8(x: Tensor) -> bool:
    """Whether x shall be multiplied as 8-bit floats: bfloat16 alone, the one type that `_scaled_mm` then gives."""
    return _mode == "fp8" and x.dtype == torch.bfloat16 and runs_triton(x)


def runs_triton(x: Tensor) -> bool:
    """Interpreted, Triton runs on a CPU: slowly, to be tested."""
    return x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
