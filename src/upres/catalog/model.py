"""What the catalogue says of one model. No torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from upres.models.limits import Limits


@dataclass(frozen=True, slots=True)
class Model:
    """`factory` is "module:function" (see models.restorer.Factory), imported only in the worker."""

    name: str
    architecture: str
    params: str
    precision: str
    size: str
    vram: str
    variant: str
    desc: dict[str, str]
    files: tuple[str, ...]
    limits: Limits
    factory: str
    pixels_per_s_core: float  # on a CPU; both before anything was measured on this machine
    pixels_per_s_gpu: float

    def load_factory(self) -> Any:
        module, function = self.factory.split(":")
        return getattr(importlib.import_module(module), function)
