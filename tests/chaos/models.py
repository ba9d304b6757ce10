"""Models that misbehave, for the catalogue of test workers: they hang, kill their process, or fail as a GPU does."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from upres import catalog
from upres.models.compact.restorer import load as load_compact
from upres.models.restorer import Restorer, Stream, StreamSpec

MISDEEDS = ("hang", "die", "device", "memory")


class _Bad:
    """Compact, until its second push."""

    def __init__(self, good: Restorer, misdeed: str) -> None:
        self._good, self._misdeed = good, misdeed
        self.limits, self.device, self.footprint = good.limits, good.device, good.footprint

    def open(self, spec: StreamSpec) -> Stream:
        return _BadStream(self._good.open(spec), self._misdeed)


class _BadStream:
    def __init__(self, good: Stream, misdeed: str) -> None:
        self._good, self._misdeed, self._pushes = good, misdeed, 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        self._pushes += 1
        if self._pushes > 1:
            _misbehave(self._misdeed)
        return self._good.push(frames)

    def flush(self) -> Iterator[Tensor]:
        return self._good.flush()


def _misbehave(misdeed: str) -> None:
    match misdeed:
        case "hang":
            threading.Event().wait()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "device":  # what torch raises for an illegal access, by type and by words
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        case "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _loader(misdeed: str) -> object:
    def load(paths: tuple[Path, ...], device: torch.device) -> Restorer:
        return _Bad(load_compact(paths, device), misdeed)

    return load


load_hang, load_die, load_device, load_memory = map(_loader, MISDEEDS)
ENTRIES = tuple(dataclasses.replace(catalog.COMPACT, name=name, factory=f"tests.chaos.models:load_{name}")
                for name in MISDEEDS)  # fmt: skip


def install() -> None:
    catalog.MODELS = (*catalog.MODELS, *ENTRIES)
