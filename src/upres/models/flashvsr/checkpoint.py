"""Which of FlashVSR's parts a weights file holds, told by its keys and shapes. Knows nothing of file names.

Publishers put one part into a file or several, under prefixes of their own; a part is found wherever it is. Nothing
tells v1 from v1.1. Files of other sizes than the published are taken for what their shapes say: small models of the
same make are how the whole way is tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from upres.errors import WeightsInvalid
from upres.models.flashvsr.causal import lay_out_weights
from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.lq_projection import LqConfig, LqProjection
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder
from upres.models.weights.assign import assign
from upres.models.weights.containers import open_weights
from upres.models.weights.file import Packed, WeightsFile

Shapes = Mapping[str, tuple[int, ...]]
PROMPT_KEY = "context"  # the only key of the prompt's file
PUBLISHED_HEAD = 128  # a head's width; what is not a multiple of it has two heads, as our small models


class Kind(StrEnum):
    DIT = "FlashVSR transformer"
    LQ = "FlashVSR LQ projection"
    TINY = "FlashVSR tiny decoder"
    WAN = "Wan 2.1 VAE"
    PROMPT = "FlashVSR prompt"


# What publishers put before all keys of a part, and before those of which the rest decides.
PREFIXES = {"LQ_proj_in.": Kind.LQ, "lq_proj_in.": Kind.LQ, "tc_decoder.": Kind.TINY, "TCDecoder.": Kind.TINY,
            "positive_conditioning": Kind.PROMPT, PROMPT_KEY: Kind.PROMPT}  # fmt: skip
WRAPPERS = ("model.diffusion_model.", "model.")
# Of a part without a prefix: what no other part has
MARKS = ((Kind.DIT, r"blocks\.\d+\.self_attn\."), (Kind.LQ, r"(linear_layers\.|norm1\.gamma)"),
         (Kind.WAN, r"decoder\.(upsamples|middle)\."), (Kind.TINY, r"decoder\.\d+\."))  # fmt: skip
UNUSED = {Kind.WAN: ("encoder.", "conv1.")}  # we only decode


def find_parts(shapes: Shapes) -> dict[Kind, dict[str, str]]:
    """For every part in the file: our key -> the file's key."""
    parts: dict[Kind, dict[str, str]] = {}
    rest: dict[str, str] = {}
    for key in shapes:
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            wrapper = next((wrapper for wrapper in WRAPPERS if key.startswith(wrapper)), "")
            rest[key.removeprefix(wrapper)] = key
        else:
            kind = PREFIXES[prefix]
            parts.setdefault(kind, {})[PROMPT_KEY if kind == Kind.PROMPT else key.removeprefix(prefix)] = key
    for kind, mark in MARKS:
        if any(re.match(mark, key) for key in rest):
            unused = UNUSED.get(kind, ())
            parts.setdefault(kind, {}).update({k: v for k, v in rest.items() if not k.startswith(unused)})
            break
    return parts


class Part:
    """A part of a weights file as if it were the whole of it, under the names that we have."""

    def __init__(self, file: WeightsFile, kind: Kind) -> None:
        parts = find_parts(file.shapes)
        if kind not in parts:
            found = " and ".join(f"a {name}" for name in parts)
            what = found if found else f"none of FlashVSR's: {len(file.shapes)} keys, first {_first(file.shapes)}"
            raise WeightsInvalid(f"{file.path.name}: this is {what}", remedy=f"give a {kind}")
        self._file, self._names = file, {theirs: ours for ours, theirs in parts[kind].items()}
        self.path = file.path
        self.shapes = {ours: file.shapes[theirs] for theirs, ours in self._names.items()}
        self.types = {ours: file.types[theirs] for theirs, ours in self._names.items()}

    def tensors(self) -> Iterator[tuple[str, Tensor | Packed]]:
        for name, held in self._file.tensors():
            if name in self._names:
                yield self._names[name], held


def _first(shapes: Shapes) -> str:
    return next(iter(shapes), "none")


def dit_config(shapes: Shapes) -> DitConfig:
    full = DitConfig()
    dim = _rows(shapes, "patch_embedding.bias", full.dim)
    if dim == full.dim:
        return full
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    return DitConfig(
        dim=dim, layers=len(blocks), heads=dim // PUBLISHED_HEAD if dim % PUBLISHED_HEAD == 0 else 2,
        ffn_dim=_rows(shapes, "blocks.0.ffn.0.bias", full.ffn_dim),
        text_dim=_columns(shapes, "text_embedding.0.weight", full.text_dim),
        waves=_columns(shapes, "time_embedding.0.weight", full.waves),
    )  # fmt: skip


def lq_config(shapes: Shapes) -> LqConfig:
    full = LqConfig()
    layers = sum(name.startswith("linear_layers.") and name.endswith(".bias") for name in shapes)
    hidden = (_rows(shapes, "conv1.bias", full.hidden[0]), _rows(shapes, "conv2.bias", full.hidden[1]))
    return LqConfig(hidden, _rows(shapes, "linear_layers.0.bias", full.dim), max(1, layers))


def tiny_config(shapes: Shapes) -> DecoderConfig:
    full = DecoderConfig()
    first, second, third, fourth = (
        _rows(shapes, f"decoder.{number}.weight", width)
        for number, width in zip((1, 10, 16, 22), full.channels, strict=True)
    )
    return DecoderConfig((first, second, third, fourth))


def wan_config(shapes: Shapes) -> WanConfig:
    return WanConfig(_rows(shapes, "decoder.head.0.gamma", WanConfig().width))


def _rows(shapes: Shapes, name: str, absent: int) -> int:
    return shapes[name][0] if shapes.get(name) else absent


def _columns(shapes: Shapes, name: str, absent: int) -> int:
    return shapes[name][1] if len(shapes.get(name, ())) > 1 else absent


def empty_model(kind: Kind, shapes: Shapes) -> nn.Module:
    """On the device that is current, of the size that the shapes tell. A prompt is no model."""
    if kind == Kind.DIT:
        return Dit(dit_config(shapes))
    if kind == Kind.LQ:
        return LqProjection(lq_config(shapes), causal=True)
    return TinyDecoder(tiny_config(shapes)) if kind == Kind.TINY else WanDecoder(wan_config(shapes))


def load_dit(path: Path, device: torch.device, dtype: torch.dtype) -> Dit:
    part = Part(open_weights(path), Kind.DIT)
    with torch.device("meta"):
        dit = Dit(dit_config(part.shapes))
    return _filled(dit, part, device, dtype)


def load_projection(path: Path, device: torch.device, dtype: torch.dtype, *, causal: bool) -> LqProjection:
    part = Part(open_weights(path), Kind.LQ)
    with torch.device("meta"):
        projection = LqProjection(lq_config(part.shapes), causal=causal)
    return _filled(projection, part, device, dtype)


def load_tiny(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    part = Part(open_weights(path), Kind.TINY)
    with torch.device("meta"):
        decoder = TinyDecoder(tiny_config(part.shapes))
    return _filled(decoder, part, device, dtype)


def load_wan(path: Path, device: torch.device, dtype: torch.dtype) -> WanDecoder:
    part = Part(open_weights(path), Kind.WAN)
    with torch.device("meta"):
        decoder = WanDecoder(wan_config(part.shapes))
    return _filled(decoder, part, device, dtype)


def load_prompt(path: Path, device: torch.device, dtype: torch.dtype) -> Tensor:
    """length text_dim: 512 x 4096 as published."""
    part = Part(open_weights(path), Kind.PROMPT)
    check_prompt(part)
    held = dict(part.tensors())[PROMPT_KEY]
    if not isinstance(held, Tensor) or not held.is_floating_point():
        raise WeightsInvalid(f"{path.name}: the prompt holds no plain numbers", remedy="give posi_prompt.pth")
    return held.flatten(0, -2).to(device, dtype)


def check_prompt(part: Part) -> None:
    """(length, text_dim), or with a batch axis of one. Raises WeightsInvalid."""
    shape = part.shapes[PROMPT_KEY]
    if len(shape) != 2 and not (len(shape) == 3 and shape[0] == 1):
        raise WeightsInvalid(f"{part.path.name}: the prompt has the shape {shape}", remedy="give posi_prompt.pth")


M = TypeVar("M", bound=nn.Module)


def _filled(model: M, part: Part, device: torch.device, dtype: torch.dtype) -> M:
    """Widened or rounded to `dtype` on the device. Raises WeightsInvalid unless every key fits."""
    assign(model, part, device)
    model.to(dtype)
    lay_out_weights(model)
    return model.eval().requires_grad_(False)
