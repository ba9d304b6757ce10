"""Which of SeedVR2's models a weights file holds, told by its keys and shapes. Knows nothing of file names.

The published sizes are held to their configurations to the last key. Files of other sizes are taken for what their
shapes say: small models of the same make are how the whole way is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import torch

from upres.errors import WeightsInvalid
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, SEEDVR2_VAE, DitConfig, VaeConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.vae import VideoVae
from upres.models.weights.assign import assign
from upres.models.weights.containers import open_weights
from upres.models.weights.file import WeightsFile
from upres.models.weights.linear import Linear

Shapes = Mapping[str, tuple[int, ...]]
TEXT_KEY = "pos_emb"  # the only key of the text embedding's file


class Kind(StrEnum):
    DIT_3B = "SeedVR2 3B transformer"
    DIT_7B = "SeedVR2 7B transformer"
    VAE = "SeedVR2 VAE"
    TEXT = "SeedVR2 text embedding"


CONFIGS = {Kind.DIT_3B: SEEDVR2_3B, Kind.DIT_7B: SEEDVR2_7B}


def recognise(shapes: Shapes) -> Kind | None:
    """By what no other model has and no single missing key can hide."""
    if any(name.startswith("blocks.0.attn.proj_qkv.") for name in shapes):
        return Kind.DIT_3B if any(name.endswith(".proj_in_gate.weight") for name in shapes) else Kind.DIT_7B
    if any(len(shapes.get(f"{half}.conv_in.weight", ())) == 5 for half in ("encoder", "decoder")):
        return Kind.VAE
    return Kind.TEXT if list(shapes) == [TEXT_KEY] and len(shapes[TEXT_KEY]) == 2 else None


def dit_config(shapes: Shapes, kind: Kind) -> DitConfig:
    full = CONFIGS[kind]
    dim, text_dim = shapes.get("txt_in.weight", (full.dim, full.text_dim))
    if dim == full.dim:
        return full
    head_dim = _video_rows(shapes, "norm_q", full.head_dim)
    heads = _video_rows(shapes, "proj_qkv", 3 * full.heads * head_dim) // (3 * head_dim)
    blocks = [name.split(".") for name in shapes if name.startswith("blocks.")]
    layers = 1 + max(int(parts[1]) for parts in blocks)
    shared_from = min((int(parts[1]) for parts in blocks if "all" in parts), default=layers)
    return replace(full, dim=dim, text_dim=text_dim, heads=heads, head_dim=head_dim, layers=layers,
                   shared_from=shared_from)  # fmt: skip


def _video_rows(shapes: Shapes, part: str, absent: int) -> int:
    names = (f"blocks.0.attn.{part}.{stream}.weight" for stream in ("vid", "all"))
    return next((shapes[name][0] for name in names if name in shapes), absent)


def vae_config(shapes: Shapes) -> VaeConfig:
    """The number of groups shows in no shape; it is a quarter of the finest channels, as in the published one."""
    first = shapes.get("encoder.conv_in.weight", (SEEDVR2_VAE.channels[0],))[0]
    if first == SEEDVR2_VAE.channels[0]:
        return SEEDVR2_VAE
    names = (f"encoder.down_blocks.{level}.resnets.0.conv1.weight" for level in (1, 2, 3))
    middle, coarse, deep = (shapes.get(name, (first,))[0] for name in names)
    return VaeConfig(channels=(first, middle, coarse, deep), norm_groups=first // 4)


def load_dit(
    path: Path, device: torch.device, dtype: torch.dtype, *kinds: Kind, make: Callable[[DitConfig], Dit] = Dit
) -> Dit:
    """`dtype` is what the model will compute in. fp8 and quantised weights stay as small as they are."""
    file = open_weights(path)
    config = dit_config(file.shapes, expect(file, *(kinds if kinds else CONFIGS)))
    with torch.device("meta"):
        dit = make(config)
    assign(dit, file, device)
    for module in dit.modules():
        if isinstance(module, Linear):
            module.settle(dtype)
    return dit.eval()


def load_vae(
    path: Path, device: torch.device, dtype: torch.dtype, *, make: Callable[[VaeConfig], VideoVae] = VideoVae
) -> VideoVae:
    """`dtype` is what the autoencoder computes in, throughout."""
    file = open_weights(path)
    expect(file, Kind.VAE)
    with torch.device("meta"):
        vae = make(vae_config(file.shapes))
    assign(vae, file, device)
    vae.merge()
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
