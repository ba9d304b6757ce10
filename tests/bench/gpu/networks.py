"""SeedVR2's networks, full-size or tiny, on any device, with random weights or with those that training.py saved; and
on the meta device, to be counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, SEEDVR2_VAE, TINY_VAE, DitConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.rope import CentredRope, CountedRope
from upres.models.seedvr2.vae import VideoVae

SPREAD = 0.02  # of random weights
TEXT_LENGTH = 58
VAE_FILE, DIT_FILE, TEXT_FILE, ABOUT_FILE = "vae.pt", "dit.pt", "text.pt", "about.txt"  # what training.py leaves
CONFIGS = {"3b": SEEDVR2_3B, "7b": SEEDVR2_7B}


def computing_type(device: torch.device) -> torch.dtype:
    """Convolutions of half types take a CPU thousands of times as long."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def dit_config(size: str, tiny: bool) -> DitConfig:
    full = CONFIGS[size]
    if not tiny:
        return full
    shared_from = 1 if full.shared_from < full.layers else 2
    return replace(full, dim=64, heads=2, head_dim=32, layers=2, text_dim=40, shared_from=shared_from)


def make(size: str, device: torch.device, dtype: torch.dtype, *, tiny: bool, merged: bool = True,
         weights: Path | None = None) -> Parts:  # fmt: skip
    """weights: a folder that training.py made; None: random ones."""
    dit = transformer(size, device, dtype, tiny=tiny, weights=weights)
    vae = autoencoder(device, dtype, tiny=tiny, weights=weights)
    if merged:
        vae.merge()
    if weights is None:
        text = torch.empty(TEXT_LENGTH, dit.config.text_dim, device=device, dtype=dtype).normal_()
    else:
        text = torch.load(weights / TEXT_FILE).to(device, dtype)
    return Parts(dit.eval(), vae.to(dtype).eval(), text, dtype)


def autoencoder(device: torch.device, dtype: torch.dtype, *, tiny: bool, weights: Path | None = None) -> VideoVae:
    with torch.device("meta"):
        vae = VideoVae(TINY_VAE if tiny else SEEDVR2_VAE)
    fill(vae, device, dtype) if weights is None else restore(vae, weights / VAE_FILE, device, dtype)
    return vae


def transformer(size: str, device: torch.device, dtype: torch.dtype, *, tiny: bool, weights: Path | None = None) -> Dit:
    config = dit_config(size, tiny)
    with torch.device("meta"):
        dit = Dit(config)
    fill(dit, device, dtype) if weights is None else restore(dit, weights / DIT_FILE, device, dtype)
    for module in dit.modules():
        if isinstance(module, CountedRope):
            module.rope.freqs = CountedRope(config.head_dim).rope.freqs.to(device)
        elif isinstance(module, CentredRope):
            module.rope.freqs = CentredRope(config.head_dim // 2).rope.freqs.to(device)
    return dit


def save(network: nn.Module, file: Path) -> None:
    """Parameters alone, as bfloat16; whole or not at all."""
    part = file.with_suffix(".part")
    torch.save({name: p.detach().bfloat16().cpu() for name, p in network.named_parameters()}, part)
    part.rename(file)


def restore(network: nn.Module, file: Path, device: torch.device, dtype: torch.dtype) -> None:
    held = torch.load(file, mmap=True)
    network.to_empty(device=device)
    names = {name for name, _ in network.named_parameters()}
    if names != set(held):
        raise ValueError(f"{file}: {len(names ^ set(held))} names are not those of this network; is it of --model 3b?")
    for name, parameter in network.named_parameters():
        assert held[name].shape == parameter.shape, f"{file}: {name} is {tuple(held[name].shape)}; was it --tiny?"
        parameter.data = held[name].to(device, dtype, copy=True)
        parameter.requires_grad_(False)


def fill(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Norms and modulations' scales around 1, all else around 0; the same numbers for one device and type."""
    network.to_empty(device=device)
    if device.type == "meta":
        network.to(dtype)
        return
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in network.named_parameters():
        leaf, norm = name.rsplit(".", 1)[-1], "norm" in name and name.endswith("weight")
        centre = 1.0 if norm or leaf.endswith("scale") else 0.0
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else SPREAD
        values = torch.empty(parameter.shape, device=device).normal_(centre, spread, generator=generator)
        parameter.data = values.to(dtype)
        parameter.requires_grad_(False)


def as_type(parts: Parts, dtype: torch.dtype) -> Parts:
    """The same weights, in another type; in place."""
    return Parts(parts.dit.to(dtype), parts.vae.to(dtype), parts.text.to(dtype), dtype)


def clip(frames: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """T C H W, [-1, 1]: smooth waves and some noise, so that nothing is constant."""
    if device.type == "meta":
        return torch.empty(frames, 3, height, width, device=device, dtype=dtype)
    t = torch.arange(frames, device=device).view(-1, 1, 1, 1) / 7
    y = torch.linspace(0, 9, height, device=device).view(1, 1, -1, 1)
    x = torch.linspace(0, 13, width, device=device).view(1, 1, 1, -1)
    colour = torch.tensor([0.0, 1.0, 2.0], device=device).view(1, 3, 1, 1)
    noise = torch.rand(frames, 3, height, width, device=device, generator=torch.Generator(device).manual_seed(1))
    return (0.6 * torch.sin(x + t + colour) * torch.cos(y - t) + 0.4 * noise - 0.2).clamp(-1, 1).to(dtype)


def latents(frames: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """T H W 16 of a window of so many frames and pixels."""
    shape = ((frames - 1) // 4 + 1, height // 8, width // 8, 16)
    if device.type == "meta":
        return torch.empty(shape, device=device, dtype=dtype)
    return torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(2)).to(dtype)


def padded(pixels: int) -> int:
    return (pixels + 15) // 16 * 16
