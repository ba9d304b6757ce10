"""The phases of a window, each by itself: counted, checked against float32, timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tests.bench.gpu.counting import Work, count
from tests.bench.gpu.networks import as_type, clip, computing_type, latents, make
from tests.bench.gpu.timing import Timed, timed
from upres.models.kernels import switch
from upres.models.seedvr2.config import TIME_SCALE
from upres.models.seedvr2.parts import Parts
from upres.restore.color import correct

PHASES = ("encode", "transformer", "decode", "colour")
EXACT = torch.float32
FUSED_MAY_LOSE_DB = 1.0  # against plain bfloat16, both held to plain float32
LEAST_FP8_DB = 15.0  # less is a mistake, not rounding; what is good enough, real weights must say


@dataclass(frozen=True)
class Window:
    frames: int
    height: int  # multiples of 16
    width: int


def runs(parts: Parts, window: Window, device: torch.device,
         slice_frames: int = TIME_SCALE) -> dict[str, Callable[[], Tensor]]:  # fmt: skip
    """What to call for each phase. Inputs are made before."""
    frames = clip(window.frames, window.height, window.width, device, parts.dtype)
    given = latents(window.frames, window.height, window.width, device, parts.dtype)
    conditioned = torch.cat((given, given, torch.ones_like(given[..., :1])), dim=-1)
    return {
        "encode": lambda: parts.encode(frames, None, slice_frames),
        "transformer": lambda: parts.dit(conditioned, parts.text, 1000.0),
        "decode": lambda: parts.decode(given, None, slice_frames),
        "colour": lambda: correct("lab", frames.float().flip(0), frames.float()).add(1).mul(127.5).to(torch.uint8),
    }


def counted(size: str, window: Window, *, tiny: bool, merged: bool) -> dict[str, Work]:
    meta = torch.device("meta")
    parts = make(size, meta, torch.bfloat16, tiny=tiny, merged=merged)
    return {name: count(run) for name, run in runs(parts, window, meta).items() if name != "colour"}


def decibels(made: Tensor, wanted: Tensor) -> float:
    """Of the signal over the error; -inf for anything that is not a number."""
    error = (made.double() - wanted.double()).square().mean().item()
    power = (wanted.double() - wanted.double().mean()).square().mean().item()
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(power / error) if error > 0 else math.inf


@dataclass(frozen=True)
class Check:
    phase: str
    plain_db: float  # bfloat16, plain, against float32, plain
    mode_db: float  # the mode's, against the same
    good: bool


@torch.inference_mode()
def checked(size: str, mode: switch.Mode, device: torch.device, window: Window, *, tiny: bool,
            weights: Path | None = None) -> list[Check]:  # fmt: skip
    """On a small window, with the very weights. Both types hold the same numbers, those of bfloat16."""
    switch.use("plain")
    torch.backends.cudnn.allow_tf32 = False  # float32 shall be float32
    parts = as_type(make(size, device, computing_type(device), tiny=tiny, weights=weights), EXACT)
    wanted = {name: run().float().cpu() for name, run in runs(parts, window, device).items() if name != "colour"}
    parts = as_type(parts, computing_type(device))
    plain = {name: run().float().cpu() for name, run in runs(parts, window, device).items() if name != "colour"}
    switch.use(mode)
    made = {name: run().float().cpu() for name, run in runs(parts, window, device).items() if name != "colour"}
    switch.use("plain")
    checks = []
    for name, exact in wanted.items():
        plain_db, mode_db = decibels(plain[name], exact), decibels(made[name], exact)
        least = LEAST_FP8_DB if mode == "fp8" else plain_db - FUSED_MAY_LOSE_DB
        checks.append(Check(name, plain_db, mode_db, mode_db >= least))
    return checks


def measured(parts: Parts, window: Window, mode: switch.Mode, device: torch.device, rounds: int,
             slice_frames: int, only: Sequence[str] = PHASES) -> dict[str, Timed]:  # fmt: skip
    before = switch.use(mode)
    try:
        with torch.inference_mode():
            ways = runs(parts, window, device, slice_frames)
            return {name: timed(ways[name], device, rounds) for name in only}
    finally:
        switch.use(before)
