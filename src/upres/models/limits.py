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
    multiple_of: int = 1  # input height and width are padded to this
    padding: Literal["edge", "black"] = "edge"  # with the last row and column, or with black
    place: Literal["corner", "centre"] = "corner"  # of a "target" model's picture in it: top left, or the middle
    alpha: Literal["restored", "guided"] = "restored"  # an image's alpha goes through the model, or follows its edges
    frame_step: int = 1  # a window holds frame_step * n + frame_offset frames
    frame_offset: int = 0
    lead_in: int = 0  # frames before the one from which a stream is begun anew that it must be shown: see Forgetful
    dtypes: tuple[str, ...] = ("float32",)


SEEDVR2 = Limits(takes="target", multiple_of=16, padding="black", alpha="guided", frame_step=4, frame_offset=1,
                 lead_in=3, dtypes=("bfloat16", "float32"))  # fmt: skip
FLASHVSR = Limits(takes="target", multiple_of=128, padding="black", place="centre", alpha="guided",
                  dtypes=("bfloat16", "float32"))  # fmt: skip
