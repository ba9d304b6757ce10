"""A whole SeedVR2 of a few hundred thousand parameters, as files of every published format."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.gguf_writer import plain, q8_0, write_gguf
from tests.seedvr2_recorded import TINY, tensors
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.rope import Frequencies

VAE, TEXT = "ema_vae_fp16.safetensors", "seedvr2_pos_emb.safetensors"
TEXT_LENGTH = 6


def random_weights(size: str) -> dict[str, Tensor]:
    """Small random numbers, but what keeps activations in bounds: norms and scales near 1."""
    dit, generator = Dit(TINY[size]), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in dit.named_parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
            centre = 1.0 if "norm" in name or name.endswith("scale") else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    return dit.state_dict()


def write_dit(path: Path, size: str) -> Path:
    """In the container and type that the name promises; frequencies of rotations stay as wide as they may be."""
    weights = random_weights(size)
    modules = Dit(TINY[size]).named_modules()
    frequencies = {f"{name}.freqs" for name, module in modules if isinstance(module, Frequencies)}
    if path.suffix == ".gguf":
        packable = {n for n, v in weights.items() if v.ndim == 2 and v.shape[1] % 32 == 0}
        return write_gguf(path, {n: q8_0(v) if n in packable else plain(v.half()) for n, v in weights.items()})
    narrow = torch.float8_e4m3fn if "fp8" in path.name else torch.float16
    save_file({n: v.half() if n in frequencies else v.to(narrow) for n, v in weights.items()}, path)
    return path


def write_vae(path: Path) -> Path:
    save_file({name: value.half() for name, value in tensors("vae_tiny_weights").items()}, path)
    return path


def text_embedding() -> Tensor:
    return torch.randn(TEXT_LENGTH, TINY["3b"].text_dim, generator=torch.Generator().manual_seed(2)).bfloat16()


def write_set(folder: Path, *names: str) -> None:
    """Everything the models of these catalogue names need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_dit(folder / name, "7b" if "_7b" in name else "3b")
    write_vae(folder / VAE)
    save_file({"pos_emb": text_embedding()}, folder / TEXT)
