"""Puts a weights file into a model, strictly. Knows nothing of containers or of any model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from upres.errors import WeightsInvalid
from upres.models.weights.file import Packed, WeightsFile
from upres.models.weights.linear import Linear

NAMES_SHOWN = 3


def assign(model: nn.Module, file: WeightsFile, device: torch.device) -> None:
    """Fills a model that was made on the meta device, keeping the types of the file.

    Every key of the file is used and every parameter filled, or WeightsInvalid is raised before a weight is read.
    Peak host memory, beyond the model's if it stays on the CPU: one tensor.
    """
    compare(file, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    for name, held in file.tensors():
        owner_name, _, leaf = name.rpartition(".")
        _place(model.get_submodule(owner_name), leaf, held, device, f"{file.path.name}: {name}")


def compare(file: WeightsFile, wanted: Mapping[str, tuple[int, ...]]) -> None:
    found = file.shapes
    unknown = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found]
    misshapen = [f"{n} {found[n]} for {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
    faults = [
        f"{len(names)} {what}, first {', '.join(names[:NAMES_SHOWN])}"
        for what, names in (("unknown keys", unknown), ("missing keys", missing), ("keys of another shape", misshapen))
        if names
    ]
    if faults:
        remedy = f"is this another model's file? {len(wanted)} keys are needed, it has {len(found)}"
        raise WeightsInvalid(f"{file.path.name}: {'; '.join(faults)}", remedy=remedy)


def _place(owner: nn.Module, leaf: str, held: Tensor | Packed, device: torch.device, label: str) -> None:
    if isinstance(held, Packed) and isinstance(owner, Linear) and leaf == "weight":
        owner.hold(held.blocks.to(device), held.quantised)
        return
    tensor = held.quantised.unpack(held.blocks, torch.float16) if isinstance(held, Packed) else held
    if not tensor.is_floating_point():
        raise WeightsInvalid(f"{label} holds {tensor.dtype}", remedy="give a file of fp32, fp16, bf16 or fp8 weights")
    tensor = tensor.to(device)
    if isinstance(getattr(owner, leaf), nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=False)
    setattr(owner, leaf, tensor)
