"""Which of SeedVR2's models a weights file holds, told by its keys and shapes. Knows nothing of file names."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import torch

from upres.errors import WeightsInvalid
from upres.models.seedvr2.dit import SEEDVR2_3B, SEEDVR2_7B, Dit
from upres.models.seedvr2.vae import SEEDVR2_VAE, VideoVae
from upres.models.weights.assign import assign
from upres.models.weights.containers import open_weights
from upres.models.weights.file import WeightsFile
from upres.models.weights.linear import Linear


class Kind(StrEnum):
    DIT_3B = "SeedVR2 3B transformer"
    DIT_7B = "SeedVR2 7B transformer"
    VAE = "SeedVR2 VAE"


# For each kind, keys and shapes that no other has: the first layer, and the last one where the kinds differ.
SIGNATURES: dict[Kind, dict[str, tuple[int, ...]]] = {
    Kind.DIT_3B: {"vid_in.proj.weight": (2560, 132), "blocks.31.ada.all.attn_gate": (2560,)},
    Kind.DIT_7B: {"vid_in.proj.weight": (3072, 132), "blocks.35.ada.vid.attn_gate": (3072,)},
    Kind.VAE: {"encoder.conv_in.weight": (128, 3, 3, 3, 3), "decoder.conv_in.weight": (512, 16, 3, 3, 3)},
}
CONFIGS = {Kind.DIT_3B: SEEDVR2_3B, Kind.DIT_7B: SEEDVR2_7B}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Kind | None:
    for kind, signature in SIGNATURES.items():
        if all(shapes.get(name) == shape for name, shape in signature.items()):
            return kind
    return None


def load_dit(path: Path, device: torch.device, dtype: torch.dtype) -> Dit:
    """`dtype` is what the model will compute in. fp8 and quantised weights stay as small as they are."""
    file = open_weights(path)
    config = CONFIGS[expect(file, *CONFIGS)]
    with torch.device("meta"):
        dit = Dit(config)
    assign(dit, file, device)
    for module in dit.modules():
        if isinstance(module, Linear):
            module.settle(dtype)
    return dit.eval()


def load_vae(path: Path, device: torch.device, dtype: torch.dtype) -> VideoVae:
    """`dtype` is what the autoencoder computes in, throughout."""
    file = open_weights(path)
    expect(file, Kind.VAE)
    with torch.device("meta"):
        vae = VideoVae(SEEDVR2_VAE)
    assign(vae, file, device)
    return vae.to(dtype).eval()


def expect(file: WeightsFile, *kinds: Kind) -> Kind:
    found = recognise(file.shapes)
    if found in kinds:
        return found
    what = (
        f"a {found}"
        if found
        else f"none of SeedVR2's models: {len(file.shapes)} keys, first {next(iter(file.shapes), 'none')}"
    )
    raise WeightsInvalid(f"{file.path.name}: this is {what}", remedy=f"give a {' or '.join(kinds)}")
