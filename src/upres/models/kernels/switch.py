"""Plain or fused: the one switch, and what happens when a kernel cannot be had. Knows nothing of kernels themselves."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import Literal, ParamSpec, TypeVar, cast, get_args

import torch
from torch import Tensor

from upres.errors import InvalidSetting

Mode = Literal["plain", "fused", "fp8"]  # fp8: fused, and matrix products of 8-bit floats where a kernel has them
FP8_CAPABILITY = (8, 9)  # Ada, Hopper
FUSED_CAPABILITY = (8, 0)  # Ampere: bfloat16 and asynchronous copies

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("upres.models")

_mode: Mode = "plain"
_failure = ""  # of a kernel, in this process


class KernelFailed(Exception):
    """A fused kernel could not be compiled or started. What was computed before it is good; the plain way is open."""


def use(mode: str) -> Mode:
    """A Mode, or "auto", for this process, from now on. Returns what it was. Raises InvalidSetting if it cannot be had.

    auto: fused where it can be, else plain, and the log says why.
    """
    global _mode
    if mode == "auto":
        why_not = obstacle()
        mode = "plain" if why_not else "fused"
        if why_not:
            log.warning("kernels: plain ones, which take up to half as long again: %s", why_not)
    if mode not in get_args(Mode):
        raise InvalidSetting(f"kernels {mode!r} are unknown", remedy=f"use one of auto, {', '.join(get_args(Mode))}")
    if mode != "plain" and find_spec("triton") is None:
        raise InvalidSetting(f"kernels {mode!r} need Triton", remedy="use `plain`, or a torch that comes with Triton")
    if mode == "fp8" and torch.cuda.is_available() and torch.cuda.get_device_capability() < FP8_CAPABILITY:
        raise InvalidSetting(f"{torch.cuda.get_device_name()} cannot multiply 8-bit floats", remedy="use `fused`")
    before, _mode = _mode, cast(Mode, mode)
    return before


def mode() -> Mode:
    return _mode


def obstacle() -> str:
    """Why fused kernels cannot run on this GPU; empty if they can, as far as can be said before one is compiled."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if (capability := torch.cuda.get_device_capability()) < FUSED_CAPABILITY:
        needed, there = (".".join(map(str, version)) for version in (FUSED_CAPABILITY, capability))
        return f"{torch.cuda.get_device_name()} has compute capability {there}, fused ones need {needed}"
    return _failure if find_spec("triton") is not None else "Triton is not installed"


def give_up(why: str) -> None:
    """Plain kernels from now on, in this process, and a line in the log. "auto" does not try again."""
    global _failure
    _failure = why
    log.error("kernels: %s; going on with plain ones, which take up to half as long again", why)
    use("plain")


def launched(run: Callable[P, R]) -> Callable[P, R]:
    """For functions that start Triton's kernels: whatever keeps one from being compiled becomes a KernelFailed."""
    from triton.errors import TritonError

    @wraps(run)
    def launch(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return run(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        # besides its own errors Triton raises plain RuntimeErrors (no C compiler, a driver's refusal) and those of the
        # C compiler it calls
        except (TritonError, RuntimeError, subprocess.SubprocessError, OSError) as error:
            said = str(error).strip().splitlines()
            why = said[-1] if said else type(error).__name__
            raise KernelFailed(f"{run.__module__.rpartition('.')[2]}.{run.__name__} failed: {why}") from error

    return launch


def fused(x: Tensor) -> bool:
    """Whether what is done to x shall be done by fused kernels."""
    return _mode != "plain" and runs_triton(x)


def fp8(x: Tensor) -> bool:
    """Whether x shall be multiplied as 8-bit floats: bfloat16 alone, the one type that `_scaled_mm` then gives."""
    return _mode == "fp8" and x.dtype == torch.bfloat16 and runs_triton(x)


def runs_triton(x: Tensor) -> bool:
    """Interpreted, Triton runs on a CPU: slowly, to be tested."""
    return x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
