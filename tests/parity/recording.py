"""Files of recorded tensors and tables, and how far we are off them. Knows nothing of what was recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor


class NotUnderstood(Exception):
    """A file that is none of the recordings we can check, or that needs another file which is not there."""


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance  # never for NaN


class Recording:
    def __init__(self, path: Path) -> None:
        self.path = path
        with safe_open(path, framework="pt") as file:
            self.names = set(file.keys())
            metadata = file.metadata()
        self.config: dict[str, Any] = json.loads(metadata["config"]) if metadata and "config" in metadata else {}

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def beside(self, name: str) -> Recording:
        path = self.path.with_name(f"{name}.safetensors")
        if not path.exists():
            raise NotUnderstood(f"needs {path.name} beside it")
        return Recording(path)


@dataclass(frozen=True, slots=True)
class Table:
    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Table:
        return cls(path, json.loads(path.read_text("utf-8")))


def distance(what: str, ours: Tensor, recorded: Tensor, tolerance: float) -> Check:
    """Largest absolute difference. Axes of one element, which the reference sometimes drops, do not matter."""
    if ours.squeeze().shape != recorded.squeeze().shape:
        raise NotUnderstood(f"{what}: ours is {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
    if not recorded.numel():
        return Check(what, 0.0, tolerance)
    off = (ours.squeeze().double() - recorded.squeeze().double()).abs()
    return Check(what, float(off.max()), tolerance)


def relative(what: str, ours: Tensor, recorded: Tensor, tolerance: tuple[float, float]) -> Check:
    """As `distance`, and a share of each recorded value may be added to the tolerance: (absolute, share)."""
    absolute, share = tolerance
    check = distance(what, ours, recorded, absolute)
    off = (ours.squeeze().double() - recorded.squeeze().double()).abs() - share * recorded.squeeze().double().abs()
    return Check(what, max(0.0, float(off.max())) if check.error == check.error else check.error, absolute)


def share_off(what: str, ours: Tensor, recorded: Tensor, tolerance: float, *, limit: float = 1e-4) -> Check:
    """The share of values that are off by more than `limit`: for what is decided by ranks."""
    if ours.shape != recorded.shape:
        raise NotUnderstood(f"{what}: ours is {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
    off = ~((ours - recorded).abs() <= limit)
    return Check(f"share of {what}", float(off.to(torch.float64).mean()), tolerance)
