"""From facts about a clip to sizes and windows. Integers only: no pixels, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from upres.errors import InvalidParameter
from upres.models.limits import Limits
from upres.tasks import MediaKind, TaskSpec

MAX_SIDE = 16384  # the longest side H.264 and our image writers take
OUTPUT_SUFFIX = {"image": ".png", "video": ".mp4"}
WINDOW_PIXELS = 16_000_000  # output pixels of one window at most: 190 MB as float32 RGB


@dataclass(frozen=True, slots=True)
class Size:
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Plan:
    """`model_input` is what the model gets: source or target, padded at the bottom and right."""

    source: Size
    target: Size
    model_input: Size
    model_output: Size  # what it yields: the target, padded in proportion
    window: int  # frames
    frames: int


def target_size(source: Size, resolution: int, kind: MediaKind) -> Size:
    """The short side becomes `resolution`, the long one follows, fractions cut; a video's sides are even, for 4:2:0.

    854x480 at 1080 is 1920x1080, as in numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1. Raises InvalidParameter.
    """
    short = min(source.height, source.width)
    step = 2 if kind == "video" else 1
    sides = [side * resolution // short // step * step for side in (source.height, source.width)]
    if max(sides) > MAX_SIDE:
        raise InvalidParameter(
            f"resolution={resolution} makes {source} into {sides[1]}x{sides[0]}",
            remedy=f"no side may exceed {MAX_SIDE}; use at most {MAX_SIDE * short // max(source.height, source.width)}",
        )
    return Size(*sides)


def plan_clip(source: Size, frames: int, kind: MediaKind, spec: TaskSpec, limits: Limits) -> Plan:
    """Raises InvalidParameter."""
    target = target_size(source, spec.resolution, kind)
    entry = source if limits.takes == "source" else target
    padded = Size(_up(entry.height, limits.multiple_of), _up(entry.width, limits.multiple_of))
    output = Size(_up_ratio(padded.height, target.height, entry.height),
                  _up_ratio(padded.width, target.width, entry.width))  # fmt: skip
    return Plan(source, target, padded, output, _window(spec.batch_size, target, limits), frames)


def _window(wanted: int, target: Size, limits: Limits) -> int:
    """The frames asked for, or fewer where a window would be too large, on the model's frame grid."""
    affordable = max(1, WINDOW_PIXELS // target.pixels)
    window = min(wanted, affordable)
    steps = max(0, (window - limits.frame_offset) // limits.frame_step)
    return max(1, limits.frame_offset + steps * limits.frame_step)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _up_ratio(padded: int, target: int, entry: int) -> int:
    return -(-padded * target // entry)
