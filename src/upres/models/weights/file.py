"""A weights file as keys, shapes and a stream of tensors, whatever its container. Knows nothing of any model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from upres.models.weights.quantised import Quantised


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantised tensor as it lies in the file."""

    blocks: Tensor  # (blocks, bytes of one), uint8
    quantised: Quantised


class WeightsFile(Protocol):
    @property
    def path(self) -> Path: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """From the header alone: no weight has been read."""

    @property
    def types(self) -> Mapping[str, str]:
        """What each tensor is stored in, as safetensors or GGUF spell it: F16, F8_E4M3, Q4_K … From the header."""

    def tensors(self) -> Iterator[tuple[str, Tensor | Packed]]:
        """Every tensor once, on the CPU. Peak host memory: one tensor, if the caller keeps none."""
