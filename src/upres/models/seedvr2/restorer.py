"""SeedVR2 as a Restorer: its files, its modes, its tiles. Knows nothing of tasks, colour or how frames are resized."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from upres.errors import WeightsInvalid
from upres.models.limits import SEEDVR2
from upres.models.offload import Shelf
from upres.models.placement import Placement
from upres.models.restorer import Stream, StreamSpec
from upres.models.seedvr2.batches import BatchStream, Recipe
from upres.models.seedvr2.checkpoint import Kind, load_dit, load_vae
from upres.models.seedvr2.noise import Noise, SeededNoise
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.shots import Shot, ShotStream
from upres.models.seedvr2.text import load_text
from upres.models.seedvr2.tiles import Tiling

REFERENCE = Recipe()
MOST_FOR_WEIGHTS = 0.6  # of the device


def load_3b(files: tuple[Path, ...], device: torch.device) -> SeedVr2Restorer:
    return load(files, device, Kind.DIT_3B)


def load_7b(files: tuple[Path, ...], device: torch.device) -> SeedVr2Restorer:
    return load(files, device, Kind.DIT_7B)


def load(files: tuple[Path, ...], device: torch.device, kind: Kind | None = None) -> SeedVr2Restorer:
    """files: transformer (of `kind`, or any), autoencoder, text embedding. Raises WeightsInvalid, FileMissing."""
    if len(files) != 3:
        raise WeightsInvalid(f"SeedVR2 is three weights files, got {len(files)}",
                             remedy="name transformer, autoencoder and text embedding")  # fmt: skip
    dtype, home = compute_dtype(device), home_of(files, device)
    dit = load_dit(files[0], home, dtype, *((kind,) if kind is not None else ()))
    text = load_text(files[2], dit.config.text_dim, device, dtype)
    return SeedVr2Restorer(Parts(dit, load_vae(files[1], home, dtype), text, dtype), device)


def home_of(files: tuple[Path, ...], device: torch.device) -> torch.device:
    """Where weights are loaded to: the device, unless they would leave too little of it to compute in."""
    if device.type != "cuda":
        return device
    index = torch.cuda.current_device() if device.index is None else device.index  # torch 2.11 asks for a number here
    allowed = torch.cuda.get_per_process_memory_fraction(index)
    room_bytes = int(torch.cuda.get_device_properties(index).total_memory * allowed)
    held_bytes = sum(file.stat().st_size for file in files if file.is_file())
    return device if held_bytes <= MOST_FOR_WEIGHTS * room_bytes else torch.device("cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, as the reference; float16 on GPUs without it; float32 on a CPU, where halves are slower."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


class SeedVr2Restorer:
    """Three networks on a device. The streams it opens share nothing but their weights."""

    limits = SEEDVR2

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self.parts, self.device = parts, device
        self.footprint = parts.footprint(copies=device.type != "cuda")
        self._shelf = Shelf(parts.networks, parts.dit.blocks, device)

    def open(self, spec: StreamSpec) -> ClipStream:
        self._shelf.arrange(spec.placement.offload)
        return ClipStream(self, spec)

    def open_batches(self, spec: StreamSpec, recipe: Recipe = REFERENCE, *, noise: Noise | None = None) -> BatchStream:
        """Batch mode, for clips of any length."""
        drawn = SeededNoise(spec.seed, self.device) if noise is None else noise
        return BatchStream(self.parts, spec.window, tiling_of(spec.placement), drawn, recipe,
                           spec.placement.slice_frames)  # fmt: skip

    def open_shots(self, spec: StreamSpec) -> ShotStream:
        """Stream mode, for clips of any length."""
        size, tiling = (spec.input_height, spec.input_width), tiling_of(spec.placement)
        carried, frames = spec.placement.carried, spec.placement.slice_frames
        return ShotStream(lambda: Shot(self.parts, size, spec.window, tiling, spec.seed, carried=carried,
                                       slice_frames=frames), spec.lead_in)  # fmt: skip


def tiling_of(placement: Placement) -> Tiling | None:
    return None if placement.tile is None else Tiling.square(placement.tile, placement.overlap)


class ClipStream:
    """Batch mode for a clip that fits into one window, so that it equals the reference's, and where a window is a
    single frame, as latents hold four of them; stream mode for every other clip, and for what is left of one."""

    def __init__(self, restorer: SeedVr2Restorer, spec: StreamSpec) -> None:
        self._restorer, self._spec = restorer, spec
        self._opening: list[Tensor] = []  # C H W, until the mode is known
        self._stream: Stream | None = None
        if spec.window == 1:
            self._stream = restorer.open_batches(spec)
        elif spec.lead_in:
            self._stream = restorer.open_shots(spec)
        self._unheard = spec.lead_in if spec.window == 1 else 0  # single frames need no lead-in
        self._pushed = 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        size = (3, self._spec.input_height, self._spec.input_width)
        if tuple(frames.shape[1:]) != size:
            raise ValueError(f"frames are {tuple(frames.shape)}, opened for T {' '.join(map(str, size))}")
        frames, self._unheard = frames[self._unheard :], max(0, self._unheard - len(frames))
        self._pushed += len(frames)
        if self._stream is None:
            self._opening.extend(frames)
            if len(self._opening) <= self._spec.window:
                return
            self._stream, frames = self._restorer.open_shots(self._spec), self._opened()
        yield from self._stream.push(frames)

    @property
    def fresh(self) -> int:
        if self._spec.window == 1:
            return self._pushed
        return self._stream.fresh if isinstance(self._stream, ShotStream) else 0

    def flush(self) -> Iterator[Tensor]:
        if self._stream is None:
            self._stream = self._restorer.open_batches(self._spec)
            if self._opening:
                yield from self._stream.push(self._opened())
        yield from self._stream.flush()

    def _opened(self) -> Tensor:
        opening, self._opening = torch.stack(self._opening), []
        return opening
