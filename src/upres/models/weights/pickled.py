"""Reads tensors out of a pickle that torch saved. Nothing in it is executed. Knows nothing of any model."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from upres.errors import WeightsInvalid

ALONE = ""  # the name of a tensor that is all there is
WRAPPERS = ("model_state", "state_dict")  # what publishers put the tensors into
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


def is_pickle(path: Path) -> bool:
    """torch's zip archive, or the bare pickle that it wrote before 1.6."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02")


class PickledFile:
    """Peak host memory: none beyond what is read, where torch can map the archive."""

    def __init__(self, path: Path) -> None:
        """Anything but tensors is refused by torch. Raises WeightsInvalid."""
        self.path = path
        try:
            with path.open("rb") as stream:
                mapped = stream.read(2) == b"PK"
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            raise WeightsInvalid(f"{path.name}: no pickle of a tensor ({str(error).splitlines()[0]})",
                                 remedy="download it again") from error  # fmt: skip
        self._held = {ALONE: held} if isinstance(held, Tensor) else _tensors(path, held)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._held.items()}
        self.types = {name: NAMES.get(tensor.dtype, str(tensor.dtype)) for name, tensor in self._held.items()}

    def rename(self, name: str, new: str) -> None:
        self._held[new] = self._held.pop(name)
        self.shapes[new], self.types[new] = self.shapes.pop(name), self.types.pop(name)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._held.items()


def _tensors(path: Path, held: object) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
    found = {str(k): v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, Mapping) else {}
    if not isinstance(held, Mapping) or len(found) < len(held):
        raise WeightsInvalid(f"{path.name}: a pickle of {type(held).__name__}, not of tensors alone",
                             remedy="give a file of weights, not of a training run")  # fmt: skip
    return found
