"""What is asked of pictures and what they answer. No Pillow, no numpy: front ends pay when they look."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from upres.errors import InvalidParameter
from upres.media.probe import MediaInfo
from upres.restore.plan import Size

Spot = Literal["center", "top left", "top", "top right", "left", "right", "bottom left", "bottom", "bottom right"]
Place = Literal["all", Spot]
Focus = Literal["auto", Spot]
SMALLEST_SIDE = 16  # of a part worth restoring
LONGEST_S = 10.0
PieceStart = Annotated[float, Field(ge=0)]
# left, top, right, bottom; readers of OpenAPI are not all at ease with the prefixItems of a tuple
Box = Annotated[tuple[int, int, int, int], WithJsonSchema(
    {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4})]  # fmt: skip
PieceSeconds = Annotated[float, Field(gt=0, le=LONGEST_S)]


def across_and_down(spot: str) -> tuple[float, float]:
    """0 is left or top, 1 right or bottom."""
    across = 0.0 if "left" in spot else 1.0 if "right" in spot else 0.5
    return across, 0.0 if "top" in spot else 1.0 if "bottom" in spot else 0.5


class Excerpt(BaseModel):
    """Which piece of a file: `seconds` from `start_s` on, of the picture all or the half at `place`.

    Without `start_s` it lies in the middle; without `seconds` it is as long as takes about 20 s, at most one second.
    """

    model_config = ConfigDict(frozen=True)

    start_s: PieceStart | None = None
    seconds: PieceSeconds | None = None
    place: Place = "all"

    def begins_s(self, info: MediaInfo, frames: int) -> float:
        """Moved back where the clip ends before the piece does. Raises InvalidParameter."""
        if info.kind == "image":
            return 0.0
        latest = max(0.0, (info.frames - frames) / float(info.fps))
        if self.start_s is None:
            return latest / 2
        if self.start_s >= info.duration_s:
            raise InvalidParameter(f"start={self.start_s:g} lies behind the end of {info.path.name}",
                                   remedy=f"it is {info.duration_s:.3f} s long")  # fmt: skip
        return min(self.start_s, latest)

    def box(self, info: MediaInfo) -> tuple[int, int, Size]:
        """Left, top and size of the part, all even: 4:2:0 has no odd ones. Raises InvalidParameter."""
        if self.place == "all":
            return 0, 0, Size(info.height, info.width)
        size = Size(info.height // 2, info.width // 2).even()
        if min(size.height, size.width) < SMALLEST_SIDE:
            raise InvalidParameter(f"a part of {info.path.name} is only {size} pixels", remedy="preview all of it")
        across, down = across_and_down(self.place)
        left, top = int((info.width - size.width) * across), int((info.height - size.height) * down)
        return left - left % 2, top - top % 2, size


class Piece(BaseModel):
    """Which piece of the clip that a user named a file holds."""

    model_config = ConfigDict(frozen=True)

    start_s: float = 0.0
    place: Place = "all"


class Comparison(BaseModel):
    """One moment twice, as JPEGs of one layout: all of the frame, then the part `detail` of it pixel for pixel.

    `at_s` counts from the start of the clip that the user named, also where a preview's piece of it is compared; there
    are pictures from `start_s` on for `duration_s`. `ready_s`: of a task that still runs, how far it is restored.
    `width` and `height` are those of the full-size frame, `detail` is left, top, right, bottom in it; without it the
    pictures are the frame itself.
    """

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    before: bytes
    after: bytes
    at_s: float
    duration_s: float
    start_s: float = 0.0
    ready_s: float | None = None
    width: int
    height: int
    detail: Box | None = None
