"""Single passes of SeedVR2 at the size they have at 1080p, each against its plain twin: how far apart, how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.bench.gpu.networks import clip, computing_type
from tests.bench.gpu.timing import timed
from upres.models.kernels import few_channels, frame_norm, halving, switch
from upres.restore.color import correct

ROUNDS = 20  # of which the clock sees one by one


@dataclass(frozen=True)
class Piece:
    name: str
    fused_ms: float
    plain_ms: float
    apart: float  # norm of the difference over the norm

    def __str__(self) -> str:
        return f"{self.name:28} {self.fused_ms:8.2f} ms fused, {self.plain_ms:8.2f} plain, apart {self.apart:.1e}"


def pieces(device: torch.device, *, tiny: bool) -> Iterator[Piece]:
    height, width, wide = (16, 24, 16) if tiny else (1088, 1920, 128)
    for entry, outputs in ((3, wide), (wide, 3)):
        yield _convolution(entry, outputs, height, width, device)
    for level, taps in enumerate((1, 3, 3)):
        yield _halving(min(wide << level, 512), height >> level, width >> level, taps, device)
    yield _sum_and_norm(wide, height, width, device)
    frames = clip(5 if tiny else 21, height - 8, width, device, torch.float32)
    source = frames.flip(0)
    yield _piece(f"lab, {len(frames)} frames", *(lambda: correct("lab", frames, source),) * 2, device)
    ranks = torch.randint(-(2**31), 2**31 - 1, (frames[:, 0].numel(),), device=device, dtype=torch.int32)
    yield _piece("one of its six sorts", *(lambda: torch.sort(ranks, stable=True).values,) * 2, device)


def _convolution(entry: int, outputs: int, height: int, width: int, device: torch.device) -> Piece:
    dtype, generator = computing_type(device), torch.Generator(device).manual_seed(0)
    x = torch.randn(1, entry, 10, height, width, device=device, generator=generator).to(dtype)
    weight = torch.randn(outputs, entry, 3, 3, 3, device=device, generator=generator) * (27 * entry) ** -0.5
    x, weight = (part.to(dtype).contiguous(memory_format=torch.channels_last_3d) for part in (x, weight))
    bias = torch.randn(outputs, device=device, generator=generator).to(dtype)
    return _piece(f"8 frames of {entry} to {outputs}", lambda: few_channels.convolved(x, weight, bias),
                  lambda: F.conv3d(x, weight, bias, padding=(0, 1, 1)), device)  # fmt: skip


def _halving(channels: int, height: int, width: int, taps: int, device: torch.device) -> Piece:
    dtype, generator, step = computing_type(device), torch.Generator(device).manual_seed(0), min(2, taps)
    shape = channels, channels, taps, 3, 3
    x = torch.randn(1, channels, 9, height, width, device=device, generator=generator).to(dtype)
    weight = torch.randn(shape, device=device, generator=generator) * (9 * taps * channels) ** -0.5
    x, weight = (part.to(dtype).contiguous(memory_format=torch.channels_last_3d) for part in (x, weight))
    bias = torch.randn(channels, device=device, generator=generator).to(dtype)
    room = torch.zeros(1, channels, 9, height + 1, width + 1, device=device, dtype=dtype)
    room = room.contiguous(memory_format=torch.channels_last_3d)

    def copied_first() -> torch.Tensor:
        room[..., :height, :width] = x
        return F.conv3d(room, weight, bias, stride=(step, 2, 2))

    return _piece(f"9 frames of {channels} halved", lambda: halving.halved(x, weight, bias, step), copied_first, device)


def _sum_and_norm(channels: int, height: int, width: int, device: torch.device) -> Piece:
    """Not against the twin: against the same kernels without the sums that the first one leaves."""
    dtype, generator = computing_type(device), torch.Generator(device).manual_seed(0)
    h, x = (torch.randn(1, channels, 8, height, width, device=device, generator=generator).to(dtype)
            .contiguous(memory_format=torch.channels_last_3d) for _ in range(2))  # fmt: skip
    weight, bias = torch.ones(channels, device=device, dtype=dtype), torch.zeros(channels, device=device, dtype=dtype)
    added = _timed(lambda: frame_norm.total(h, x, bias), device)[0]

    def normed(summed: Tensor) -> Tensor:
        return frame_norm.frame_norm(summed, 4, weight, bias, 1e-6, silu=True)

    kept, alike = _timed(lambda: normed(added), device), added.view_as(added)
    anew, summing = _timed(lambda: normed(alike), device), _timed(lambda: frame_norm.total(h, x, bias), device)
    return Piece(f"8 frames: summed {summing[1]:.2f} ms, normed", kept[1], anew[1], _apart(kept[0], anew[0]))


def _timed(run: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """Fused, on a GPU; its result, and ms."""
    with torch.inference_mode():
        before = switch.use("fused" if device.type == "cuda" else "plain")
        try:
            return run(), timed(run, device, ROUNDS).seconds * 1e3
        finally:
            switch.use(before)


def _apart(made: Tensor, wanted: Tensor) -> float:
    return ((made.double() - wanted.double()).norm() / wanted.double().norm()).item()


def _piece(name: str, fast: Callable[[], Tensor], plain: Callable[[], Tensor], device: torch.device) -> Piece:
    made, fused_ms = _timed(fast, device)
    before = switch.use("plain")
    with torch.inference_mode():
        wanted, plain_ms = plain(), timed(plain, device, ROUNDS).seconds * 1e3
    switch.use(before)
    return Piece(name, fused_ms, plain_ms, _apart(made, wanted))
