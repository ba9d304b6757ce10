"""Reads safetensors in any float type, fp8 included. Knows nothing of any model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from upres.errors import WeightsInvalid


class SafetensorsFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
                self.types = {name: str(part.get_dtype()) for name, part in slices.items()}
        except SafetensorError as error:
            raise WeightsInvalid(f"{path.name}: {error}", remedy="download it again") from error

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        with safe_open(self.path, framework="pt") as file:
            for name in self.shapes:
                yield name, file.get_tensor(name)
