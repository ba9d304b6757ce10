"""Clocks and ceilings of a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from upres.models.kernels.fp8 import product, rounded


@dataclass(frozen=True)
class Timed:
    seconds: float  # median
    spread: float  # slowest less fastest, over the median
    peak_bytes: int


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device, rounds: int = 3) -> Timed:
    """After one round that is not counted. Each round ends when the device has nothing left to do."""
    run()
    settle(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        settle(device)
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Timed(middle, (max(seconds) - min(seconds)) / middle, peak)


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches when it does nothing else; per second."""

    half_flops: float  # bfloat16 products, one after the other for two seconds: as warm as a long clip makes it
    fp8_flops: float  # 0 where it has none
    copied_bytes: float  # read and written
    bus_bytes: float  # from pinned memory


def ceilings(device: torch.device, size: int = 8192) -> Ceilings:
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    half = 2 * size**3 / _sustained(lambda: a @ b, device)
    eight = 0.0
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        x, y = rounded(a), rounded(b)
        eight = 2 * size**3 / _sustained(lambda: product(x, y, None), device)
    block = torch.empty(16 * size * size, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    copied = 2 * block.numel() / _sustained(lambda: target.copy_(block), device, 0.5)
    bus = 0.0
    if device.type == "cuda":
        pinned = torch.empty(2 * size * size, dtype=torch.uint8, pin_memory=True)
        bus = pinned.numel() / _sustained(lambda: pinned.to(device, non_blocking=True), device, 0.5)
    return Ceilings(half, eight, copied, bus)


def _sustained(run: Callable[[], object], device: torch.device, seconds: float = 2.0) -> float:
    """Seconds a run, over about so many seconds; on a CPU over a hundredth of them."""
    run()
    settle(device)
    began = time.perf_counter()
    run()
    settle(device)
    once = max(time.perf_counter() - began, 1e-6)
    rounds = max(1, int(seconds * (1 if device.type == "cuda" else 0.01) / once))
    began = time.perf_counter()
    for _ in range(rounds):
        run()
    settle(device)
    return (time.perf_counter() - began) / rounds
