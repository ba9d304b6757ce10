"""Frames to the device and back while it computes. Knows no models and no files.

Bytes alone cross the bus, from and to pinned memory, on streams of their own; whoever computes waits on the device for
what arrives, and whoever writes waits on the host for what leaves. On a CPU nothing is copied and nobody waits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upres.restore.tensors import Samples


@dataclass(frozen=True, slots=True)
class Arriving:
    """Frames on their way to the device."""

    frames: Tensor  # on the device
    copied: torch.cuda.Event | None

    def on_device(self) -> Tensor:
        """For the current stream, which waits if it must; the host does not."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.frames.device)
            stream.wait_event(self.copied)
            self.frames.record_stream(stream)
        return self.frames


@dataclass(frozen=True, slots=True)
class Leaving:
    """Frames on their way to the host."""

    frames: Tensor  # on the host
    copied: torch.cuda.Event | None

    def __len__(self) -> int:
        return len(self.frames)

    def numpy(self) -> Samples:
        """Waits until they are there."""
        if self.copied is not None:
            self.copied.synchronize()
        samples: Samples = self.frames.numpy()
        return samples if samples.dtype == np.uint8 else samples.astype(np.uint16)


class Transfers:
    """One clip's. `up` and `down` may be called from different threads."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._up, self._down = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]

    def up(self, frames: Samples) -> Arriving:
        here = torch.from_numpy(np.require(frames, requirements="W"))
        if not self._cuda:
            return Arriving(here.to(self._device), None)
        pinned = torch.empty_like(here, pin_memory=True).copy_(here)  # torch keeps and reuses such memory
        with torch.cuda.stream(self._up):
            there = pinned.to(self._device, non_blocking=True)
        return Arriving(there, _after(self._up))

    def down(self, frames: Tensor) -> Leaving:
        """Samples (tensors.as_samples) as the current stream has computed them."""
        if not self._cuda:
            return Leaving(frames.cpu(), None)
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        pinned = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=True)
        with torch.cuda.stream(self._down):
            pinned.copy_(frames, non_blocking=True)
        frames.record_stream(self._down)
        return Leaving(pinned, _after(self._down))


def _after(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """blocking: who waits for it sleeps instead of spinning."""
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(stream)
    return event
