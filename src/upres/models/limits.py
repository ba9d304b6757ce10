"""What a model demands of a clip. Integers only: the planner reads this without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """`takes` says at which size a model wants its input frames: "source" models enlarge by themselves, "target"
    models restore frames that were already resized to the output size. Both yield frames of the target size.
    """

    takes: Literal["source", "target"]
    multiple_of: int = 1  # input height and width are padded (edge-replicated, bottom and right) to this
    frame_step: int = 1  # a window holds frame_step * n + frame_offset frames
    frame_offset: int = 0
    dtypes: tuple[str, ...] = ("float32",)
