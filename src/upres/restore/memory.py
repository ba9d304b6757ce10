"""How a task fits onto a device: predicted before anything is loaded, and one step lower where that was not enough.

Integers only: the engine plans with it without torch. Bytes are those of living tensors; what the driver, the allocator
and single operations take besides is `RESERVED` and `SLACK` of the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from upres.models.placement import ClipSize, Footprint, Needs, Offload, Placement
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, TIME_SCALE
from upres.models.seedvr2.footprint import SeedVr2Footprint

if TYPE_CHECKING:  # what these need is not needed here
    from upres.restore.plan import Plan
    from upres.tasks import ColorCorrection, Tiling, VaeQuality

MB, GB = 2**20, 2**30
RESERVED = 512 * MB  # a CUDA context with the libraries' kernels and cuBLAS's workspace
SLACK = 16  # a sixteenth of the device is left to the allocator's rounding and to convolutions' workspaces
SLICES = (8, 4, 2, 1)  # frames; 8 save 3 % of an H100's time against 4
SLICES_ON_CPU = (4, 2, 1)
TILES: dict[VaeQuality, int] = {"high": 1024, "medium": 768, "low": 512}
SMALLER_TILES = (384, 256)  # where memory forbids even "low"
FEWER_FRAMES = (41, 21, 9, 5, 1)  # windows to fall back to
LIGHTER = 32  # a lower step is one that needs at least a thirty-second less

RGB, SINGLE = 3, 4
# float32 frames that colour correction holds besides the two it is given, in tenths; measured on each
COLOR_FRAMES: dict[ColorCorrection, int] = {
    "lab": 96, "wavelet": 45, "wavelet_adaptive": 73, "hsv": 63, "adain": 21, "none": 0,
}  # fmt: skip
ENLARGING = 3  # float32 frames of the target's size that are there while a block is made ready for the model
LOOKED_AT = 10  # source frames kept besides a window and a block: for cuts, for a shot's end, to go back to
SHORT_SIDES = (4320, 2160, 1440, 1080, 720, 540, 480, 360, 240)  # what a remedy proposes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One step of the ladder: what is done, what it needs, and whether that fits. Sizes in bytes."""

    placement: Placement
    window: int  # frames
    weights: int  # on the device, in the phase that has most of them there
    encode: int
    diffuse: int
    decode: int
    finish: int  # colour correction, with what waits on the device meanwhile
    room: int
    step: int  # on the ladder; 0 is everything at once
    remedy: str = ""  # what to change, if it does not fit

    @property
    def peak(self) -> int:
        return max(self.encode, self.diffuse, self.decode, self.finish)

    @property
    def fits(self) -> bool:
        return self.peak <= self.room

    def __str__(self) -> str:
        return f"{self.placement}, windows of {self.window}; {self.peak / GB:.1f} of {self.room / GB:.1f} GB"


@dataclass(frozen=True, slots=True)
class Work:
    """What of a task bears on memory."""

    plan: Plan
    tiling: Tiling
    quality: VaeQuality
    color: ColorCorrection


def footprint(architecture: str, params: str, precision: str, *, on_gpu: bool) -> Footprint | None:
    """Of a model of the catalogue, from what is written there of it; None where we have no prediction."""
    if architecture != "seedvr2":
        return None
    config = {"3B": SEEDVR2_3B, "7B": SEEDVR2_7B}[params]
    return SeedVr2Footprint.published(config, precision.lower(), on_gpu=on_gpu)


def room_bytes(memory_bytes: int, limit_mb: int, *, on_gpu: bool) -> int:
    """What tensors may take. limit_mb: the setting, 0 for none. A CPU's memory is others' as well: half of it."""
    if not on_gpu:
        return limit_mb * MB if limit_mb else memory_bytes // 2
    allowed = min(memory_bytes, limit_mb * MB) if limit_mb else memory_bytes
    return max(0, allowed - allowed // SLACK - RESERVED)


def plan_memory(footprint: Footprint, work: Work, room: int, *, on_gpu: bool) -> MemoryPlan:
    """The highest step of the ladder that fits, or the one that needs least, with a remedy."""
    return Ladder(footprint, work, room, on_gpu=on_gpu).first()


class Ladder:
    """Every way to do a task, from the fastest to the one that needs least. Each way down costs a little more: weights
    are moved, then streamed; frames are cut; shots lose their memory; the tiles, then the windows become smaller.
    Before each of these, slices become shorter."""

    def __init__(self, footprint: Footprint, work: Work, room: int, *, on_gpu: bool) -> None:
        self._footprint, self._work, self._room = footprint, work, room
        self.steps = tuple(self._measured(step, *way) for step, way in enumerate(_ways(work, on_gpu)))

    def first(self) -> MemoryPlan:
        fitting = next((plan for plan in self.steps if plan.fits), None)
        if fitting is not None:
            return fitting
        least = min(self.steps, key=lambda plan: plan.peak)
        return replace(least, remedy=self._remedy(least))

    def below(self, plan: MemoryPlan) -> MemoryPlan | None:
        """The next step that needs clearly less."""
        most = plan.peak - plan.peak // LIGHTER
        return next((lower for lower in self.steps[plan.step + 1 :] if lower.peak <= most), None)

    def _measured(self, step: int, window: int, placement: Placement) -> MemoryPlan:
        needs, waiting, finish = self._needs(self._work.plan, window, placement)
        return MemoryPlan(placement, window, needs.weights, needs.encode + waiting, needs.diffuse + waiting,
                          needs.decode + waiting, finish + waiting, self._room, step)  # fmt: skip

    def _needs(self, plan: Plan, window: int, placement: Placement) -> tuple[Needs, int, int]:
        size = ClipSize(plan.model_input.height, plan.model_input.width, plan.frames, min(plan.block, window))
        needs = self._footprint.needs(size, window, placement)
        waiting = RGB * SINGLE * plan.source.pixels * (min(window, plan.frames) + size.block + LOOKED_AT)
        frame = RGB * SINGLE * plan.model_input.pixels
        coloring = needs.piece * frame * (20 + COLOR_FRAMES[self._work.color]) // 10
        return needs, waiting, needs.between + max(coloring, ENLARGING * size.block * frame)

    def _remedy(self, least: MemoryPlan) -> str:
        for short in SHORT_SIDES:
            if short < min(self._work.plan.target.height, self._work.plan.target.width):
                needs, waiting, finish = self._needs(_scaled(self._work.plan, short), least.window, least.placement)
                if max(needs.peak, finish) + waiting <= self._room:
                    return f"use resolution={short} or less, or a smaller model"
        return "use a smaller model, or a device with more memory"


def _ways(work: Work, on_gpu: bool) -> Iterator[tuple[int, Placement]]:
    """`on_gpu`: otherwise weights are in host memory anyway, and there is nowhere to move them to."""
    offloads: Sequence[Offload] = ("none", "phases", "blocks") if on_gpu else ("none",)
    stream = 1 < work.plan.window < work.plan.frames
    for window in (work.plan.window, *(fewer for fewer in FEWER_FRAMES if fewer < work.plan.window)):
        for tile in _tiles(work):
            for carried in (True, False) if stream and window > 1 else (True,):
                for offload, frames in product(offloads, _slices(work.plan.frames, on_gpu)):
                    yield window, Placement(offload, tile, carried, frames)


def _slices(clip_frames: int, on_gpu: bool) -> Iterator[int]:
    """A single frame is one slice, and a first frame is one by itself."""
    for frames in SLICES if on_gpu else SLICES_ON_CPU:
        if frames == TIME_SCALE or (clip_frames > 1 and frames < clip_frames):
            yield frames


def _tiles(work: Work) -> Iterator[int | None]:
    """As the caller wants them, then smaller ones; a frame that one tile covers is not cut."""
    longest = max(work.plan.model_input.height, work.plan.model_input.width)
    sides = (TILES[work.quality], *(side for side in (*TILES.values(), *SMALLER_TILES) if side < TILES[work.quality]))
    if work.tiling != "on" or sides[0] >= longest:
        yield None
    yield from (side for side in sides if side < longest)


def _scaled(plan: Plan, short: int) -> Plan:
    """About the same clip at another size."""
    now = min(plan.target.height, plan.target.width)
    target = replace(plan.target, height=plan.target.height * short // now, width=plan.target.width * short // now)
    return replace(plan, target=target, model_input=target.padded(16))
