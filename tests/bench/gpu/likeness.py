"""How far the bytes of one way of computing SeedVR2 are from those of another, end to end. Knows nothing of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tests.bench.gpu.clips import Passage, through
from tests.bench.gpu.networks import as_type
from upres.models.kernels import switch
from upres.models.seedvr2.config import TIME_SCALE
from upres.models.seedvr2.norm import FrameNorm
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.tiles import Tiling

if TYPE_CHECKING:
    from upres.tasks import ColorCorrection

NUDGE = 1.01  # times a norm's eps of 1e-6: moves a float32 statistic by its last bit, if at all
ALONE = ("encode", "transformer", "decode")


@dataclass(frozen=True)
class Likeness:
    made: str
    to: str
    db: float  # PSNR of the bytes, the peak being 255

    def __str__(self) -> str:
        return f"{self.made:30} {self.db:6.1f} dB to {self.to}"


@dataclass(frozen=True)
class InTurn(Parts):
    """Each part in a mode of its own."""

    encoding: switch.Mode = "plain"
    transforming: switch.Mode = "plain"
    decoding: switch.Mode = "plain"

    def encode(self, video: Tensor, tiling: Tiling | None, slice_frames: int = TIME_SCALE) -> Tensor:
        switch.use(self.encoding)
        return Parts.encode(self, video, tiling, slice_frames)

    def restore_latents(self, latents: Tensor, noise: tuple[Tensor, Tensor], noise_scale: float = 0.0) -> Tensor:
        switch.use(self.transforming)
        return Parts.restore_latents(self, latents, noise, noise_scale)

    def decode(self, latents: Tensor, tiling: Tiling | None, slice_frames: int = TIME_SCALE) -> Tensor:
        switch.use(self.decoding)
        frames = Parts.decode(self, latents, tiling, slice_frames)
        switch.use("plain")  # for the colours
        return frames


@dataclass(frozen=True)
class Compared:
    """One clip through one set of weights, and what comes out of it in each mode."""

    parts: Parts
    size: Passage
    device: torch.device
    source: np.ndarray | None  # T H W 3, uint8, no smaller than half the size; None: random bytes

    def bytes_of(self, parts: Parts, mode: switch.Mode = "plain", colour: ColorCorrection = "lab") -> np.ndarray:
        before = switch.use(mode)
        try:
            return np.concatenate(list(through(parts, "batch", self.size, self.device, self._blocks(), colour)))
        finally:
            switch.use(before)

    def of_modes(self, modes: Sequence[switch.Mode]) -> Iterator[Likeness]:
        """To the plain mode, and where both are asked for fp8 to fused: each mode; that before colours are corrected,
        which makes good what is constant over a picture; each part in it, the others being plain; and the plain mode
        itself after a nudge that is less than another order of sums. What a nudge does to the weights no twin can
        undercut."""
        plain, parts = self.bytes_of(self.parts), self.parts
        made = {mode: self.bytes_of(parts, mode) for mode in modes}
        for mode in modes:
            yield Likeness(mode, "plain", psnr(made[mode], plain))
        if "fused" in made and "fp8" in made:
            yield Likeness("fp8", "fused", psnr(made["fp8"], made["fused"]))
        raw = self.bytes_of(parts, colour="none")
        for mode in modes:
            yield Likeness(f"{mode}, not coloured", "plain, likewise", psnr(self.bytes_of(parts, mode, "none"), raw))
        for mode in modes:
            for part in ALONE:
                turns = [mode if part == name else "plain" for name in ALONE]
                turned = InTurn(parts.dit, parts.vae, parts.text, parts.dtype, *turns)
                yield Likeness(f"{mode} {part} alone", "plain", psnr(self.bytes_of(turned), plain))
        for part, network in (("encoder", parts.vae.encoder), ("decoder", parts.vae.decoder)):
            norms = [module for module in network.modules() if isinstance(module, FrameNorm)]
            for norm in norms:
                norm.eps *= NUDGE
            yield Likeness(f"plain, {part} nudged", "plain", psnr(self.bytes_of(parts), plain))
            for norm in norms:
                norm.eps /= NUDGE

    def to_exact(self, modes: Sequence[switch.Mode]) -> Iterator[Likeness]:
        """The middle of the clip at half the size: plain and each mode to float32's bytes. Afterwards the weights are
        float32."""
        size = replace(self.size, height=self.size.height // 2, width=self.size.width // 2)
        half = replace(self, size=size)
        made = {mode: half.bytes_of(self.parts, mode) for mode in ("plain", *modes)}
        torch.backends.cudnn.allow_tf32 = False  # float32 shall be float32
        exact = half.bytes_of(as_type(self.parts, torch.float32))
        for mode, some in made.items():
            yield Likeness(mode, f"float32, {size.height} x {size.width}", psnr(some, exact))

    def _blocks(self) -> list[np.ndarray] | None:
        if self.source is None:
            return None
        height, width = self.size.height // 2, self.size.width // 2
        top, left = ((have - want) // 2 for have, want in zip(self.source.shape[1:3], (height, width), strict=True))
        return [self.source[: self.size.frames, top : top + height, left : left + width]]


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    error = float(np.mean((made.astype(np.float32) - wanted) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf
