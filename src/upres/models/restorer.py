"""The seam between a model and everything else: tensors in, tensors out. Knows nothing of files, tasks or ffmpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from upres.models.limits import Limits
from upres.models.placement import AT_ONCE, Footprint, Placement


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a model may know of the clip it is about to see. Sizes in pixels, already padded to `limits.multiple_of`."""

    input_height: int
    input_width: int
    output_height: int
    output_width: int
    seed: int
    window: int  # frames that go through the model together, at most
    tiling: Literal["auto", "on", "off"]
    tile_quality: Literal["low", "medium", "high"]
    sparse_ratio: float = 2.0
    local_range: int = 11
    kv_ratio: float = 3.0
    lead_in: int = 0  # the first frames pushed are only shown: nothing is given back for them
    placement: Placement = AT_ONCE  # how little of it may be on the device at once


class Stream(Protocol):
    """One clip on its way through a model. All state of the clip lives here.

    N frames pushed give N frames back, in order, some of them only at `flush`.
    Frames are `T C H W`, float, [-1, 1], on the restorer's device.
    """

    def push(self, frames: Tensor) -> Iterator[Tensor]: ...

    def flush(self) -> Iterator[Tensor]: ...


@runtime_checkable
class Forgetful(Stream, Protocol):
    """A stream that begins afresh now and then, as at a cut: work that broke off can go on from there.

    Any other stream remembers its clip from the first frame on; broken off, it is led through it again.
    """

    @property
    def fresh(self) -> int:
        """The number of the latest frame, of those pushed or the next one, that begins afresh: this and all later
        frames become what a new stream makes of them, once it was shown the `limits.lead_in` frames before as its
        `lead_in`. Frames of the lead-in are not counted. It never decreases.
        """


class Restorer(Protocol):
    """A model with its weights on a device."""

    limits: Limits
    device: torch.device

    @property
    def footprint(self) -> Footprint | None:
        """What it needs for a clip, or None: then it always gets by."""

    def open(self, spec: StreamSpec) -> Stream: ...


# What a catalogue entry's "module:factory" names: weights files (in the entry's order) and device -> Restorer.
# Raises WeightsInvalid if a file does not hold exactly the keys and shapes the model needs.
Factory = Callable[[tuple[Path, ...], torch.device], Restorer]
