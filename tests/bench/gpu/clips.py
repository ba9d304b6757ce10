"""A whole clip as a worker does it, without ffmpeg: bytes up, restored, coloured, bytes down; how idle the GPU was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from tests.bench.gpu.networks import padded
from tests.bench.gpu.timing import settle
from upres.models.kernels import switch
from upres.models.seedvr2.batches import BatchStream, Recipe
from upres.models.seedvr2.config import TIME_SCALE
from upres.models.seedvr2.latents import overlap
from upres.models.seedvr2.noise import SeededNoise
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.shots import Shot
from upres.restore.color import correct
from upres.restore.tensors import to_model
from upres.restore.transfers import Leaving, Transfers

if TYPE_CHECKING:
    from upres.tasks import ColorCorrection

AHEAD = 2  # blocks that leave while the next is made, as in restore/stages.py


@dataclass(frozen=True)
class Passage:
    window: int  # frames
    frames: int
    height: int
    width: int
    slice_frames: int


@dataclass(frozen=True)
class Passed:
    frames: int
    seconds: float
    idle: float | None  # share of the time in which no kernel ran; None if it was not watched
    peak_bytes: int


def whole(frames: int, window: int, stream: str) -> int:
    """At most so many frames that no window is short: a long clip's rate is asked for, not what its end costs."""
    if stream == "batch":
        return max(window, frames - frames % window)
    latents = (window - 1) // TIME_SCALE + 1
    step = (latents - overlap(latents)) * TIME_SCALE
    return max(window, frames - (frames - 1) % step)


def passed(parts: Parts, mode: switch.Mode, stream: str, window: int, frames: int, height: int, width: int,
           device: torch.device, *, slice_frames: int, watch: bool) -> Passed:  # fmt: skip
    """stream: "batch" as the reference does it, or "shot", ours. The clip is enlarged twofold."""
    before, size = switch.use(mode), Passage(window, frames, height, width, slice_frames)
    try:
        for _ in range(2):  # the first time kernels are compiled and memory is taken
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            settle(device)
            began = time.perf_counter()
            done = sum(len(block) for block in through(parts, stream, size, device))
            settle(device)
            seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        idle = None
        if watch and device.type == "cuda":
            with profile(activities=[ProfilerActivity.CUDA]) as record:
                for _ in through(parts, stream, size, device):
                    pass
                settle(device)
            idle = idle_share(list(record.events()))
    finally:
        switch.use(before)
    assert done == frames, f"{frames} frames went in and {done} came out"
    return Passed(frames, seconds, idle, peak)


@torch.inference_mode()
def through(parts: Parts, stream: str, size: Passage, device: torch.device, blocks: list[np.ndarray] | None = None,
            colour: ColorCorrection = "lab") -> Iterator[np.ndarray]:  # fmt: skip
    """blocks: windows of T H/2 W/2 3 that come in turn; None: of random bytes."""
    window, frames, height, width = size.window, size.frames, size.height, size.width
    transfers, source = Transfers(device), np.random.default_rng(0)
    if blocks is None:
        blocks = [source.integers(0, 256, (window, height // 2, width // 2, 3), dtype=np.uint8) for _ in range(2)]
    rows, columns = padded(height), padded(width)
    if stream == "batch":
        through = BatchStream(parts, window, None, SeededNoise(42, device), Recipe(), size.slice_frames)
        push, flush = through.push, through.flush
    else:
        shot = Shot(parts, (rows, columns), window, None, 42, slice_frames=size.slice_frames)
        push, flush = shot.push, shot.close
    waiting: deque[Tensor] = deque()
    leaving: deque[Leaving] = deque()

    def finish(restored: Tensor) -> Iterator[np.ndarray]:
        style = torch.stack([waiting.popleft() for _ in range(len(restored))])
        picture = correct(colour, restored[..., :height, :width].float(), style)
        pixels = picture.add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8)
        leaving.append(transfers.down(pixels.permute(0, 2, 3, 1).contiguous()))
        while len(leaving) > AHEAD:
            yield leaving.popleft().numpy()

    left = frames
    while left:
        block = blocks[left % len(blocks)][:left]
        left -= len(block)
        given = transfers.up(block).on_device().permute(0, 3, 1, 2).float().div_(255)
        large = torch.nn.functional.interpolate(given, (height, width), mode="bicubic", antialias=True).clamp_(0, 1)
        waiting.extend(to_model(large))
        for restored in push(to_model(torch.nn.functional.pad(large, (0, columns - width, 0, rows - height)))):
            yield from finish(restored)
    for restored in flush():
        yield from finish(restored)
    while leaving:
        yield leaving.popleft().numpy()


def idle_share(events: list[FunctionEvent]) -> float:
    """Between the first and the last kernel. Copies over the bus count as idle, those within the memory do not."""
    spans = sorted((e.time_range.start, e.time_range.end) for e in events
                   if e.device_type == torch.autograd.DeviceType.CUDA
                   and (not e.name.startswith("Memcpy") or "DtoD" in e.name))  # fmt: skip
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1 - busy / (until - spans[0][0])
