"""The size of the picture where an exact size is asked for. Integers only: no pixels, no torch."""

from __future__ import annotations

from fractions import Fraction

from upres.errors import InvalidParameter
from upres.tasks import TaskSpec


def wants_exact(spec: TaskSpec) -> bool:
    return spec.width is not None or spec.height is not None


def check_sizes(spec: TaskSpec) -> None:
    """Raises InvalidParameter for sizes that contradict each other."""
    if wants_exact(spec):
        if spec.scale is not None:
            raise InvalidParameter(f"scale={spec.scale:g} beside width or height", remedy="use one of them")
        sides = (side for side in (spec.width, spec.height) if side is not None)
        if spec.max_side is not None and max(sides) > spec.max_side:
            raise InvalidParameter(f"max_side={spec.max_side} is less than width or height", remedy="use one of them")


def picture_size(height: int, width: int, spec: TaskSpec, sample_aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """Height and width the source is brought to for `spec.width` x `spec.height`, which get square pixels.

    bars: it fits in; crop: it covers; stretch: it becomes just that. With one side alone, the other follows.
    """
    if spec.fit == "stretch" and spec.width is not None and spec.height is not None:
        return spec.height, spec.width
    shown = width * sample_aspect
    ratios = [Fraction(side) / old for side, old in ((spec.width, shown), (spec.height, height)) if side is not None]
    ratio = max(ratios) if spec.fit == "crop" else min(ratios)
    return max(1, round(height * ratio)), max(1, round(shown * ratio))


def framed_size(height: int, width: int, spec: TaskSpec) -> tuple[int, int]:
    """Of the file's picture, from that of the restored one."""
    if spec.width is None or spec.height is None:
        return height, width
    return spec.height, spec.width
