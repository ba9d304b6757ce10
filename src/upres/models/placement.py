"""How much of a model and of a clip is on the device at once. Integers only: planners read this without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

Offload = Literal["none", "phases", "blocks"]


@dataclass(frozen=True, slots=True)
class Placement:
    """From all at once, which is fastest, to as little as can be.

    `offload`: "none" keeps all networks on the device; with "phases" each is there only while it computes; with
    "blocks" the largest is not even there as a whole: its blocks come one after the other from host memory.
    """

    offload: Offload = "none"
    tile: int | None = None  # side of the squares that frames are cut into, pixels; None: frames are not cut
    carried: bool = True  # what a shot's convolutions remember stays on the device, or portions of it begin anew
    slice_frames: int = 4  # that convolutions take together: more are faster, fewer take less

    @property
    def overlap(self) -> int:
        """What neighbouring tiles share, pixels: an eighth, as in the public API's three qualities."""
        return 0 if self.tile is None else self.tile // 8

    def __str__(self) -> str:
        frames = "whole frames" if self.tile is None else f"tiles of {self.tile}"
        weights = {"none": "all weights on the device", "phases": "networks moved in and out",
                   "blocks": "the transformer's blocks streamed from host memory"}[self.offload]  # fmt: skip
        portions = "" if self.carried else ", shots in portions"
        return f"{frames}, {weights}{portions}, slices of {self.slice_frames}"

    @property
    def frugal(self) -> bool:
        """Whether it costs time that more memory would save."""
        return replace(self, slice_frames=max(4, self.slice_frames)) != replace(AT_ONCE, slice_frames=self.slice_frames)


AT_ONCE = Placement()


@dataclass(frozen=True, slots=True)
class ClipSize:
    """What a model gets to see. Pixels, already padded to its grid."""

    height: int
    width: int
    frames: int
    block: int  # frames that are pushed together

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes on the device at most in each phase, weights included; between two pieces of output; and their length."""

    weights: int  # of these, what is there in the phase that needs most of them
    encode: int
    diffuse: int
    decode: int
    between: int
    piece: int  # frames

    @property
    def peak(self) -> int:
        return max(self.encode, self.diffuse, self.decode, self.between)


class Footprint(Protocol):
    """What a model needs, predicted before anything is loaded."""

    def needs(self, clip: ClipSize, window: int, placement: Placement) -> Needs: ...
