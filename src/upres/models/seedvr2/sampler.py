"""One step from noise to a restored latent. Knows nothing of pixels, files or the VAE.

Latents are T H W 16, already scaled. The order of random numbers is the reference's, so that a seed gives its result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from upres.models.seedvr2.dit import Dit

TIMESTEP = 1000.0  # the models are distilled to this one step, from pure noise; 1000 is also the schedule's length


def draw_noise(latent: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The starting noise and a second draw for the condition, of the latent's shape, type and device.

    The seed is set afresh for each window, so equal windows get equal noise. Numbers fill memory in channel order
    (C T H W): the reference draws "like" a latent that it holds permuted, and a generator fills memory, not indices.
    """
    frames, height, width, channels = latent.shape
    memory = torch.empty(channels, frames, height, width, dtype=latent.dtype, device=latent.device)
    generator = torch.Generator(latent.device).manual_seed(seed)
    start = memory.permute(1, 2, 3, 0).normal_(generator=generator)
    return start, torch.empty_like(start).normal_(generator=generator)


def condition(latent: Tensor, start: Tensor, second: Tensor, noise_scale: float = 0.0) -> Tensor:
    """The degraded latent that the transformer looks at -> T H W 17, the last channel being the mask: all is given.

    noise_scale, 0 … 1, hides that much of it under noise, for inputs whose artefacts should not be kept.
    """
    if noise_scale > 0:
        share = shifted_timestep(TIMESTEP * noise_scale, latent.shape[1:]) / TIMESTEP
        latent = (1 - share) * latent + share * (0.1 * start + 0.05 * second)
    return torch.cat((latent, torch.ones_like(latent[..., :1])), dim=-1)


def sample(dit: Dit, start: Tensor, conditioned: Tensor, text: Tensor) -> Tensor:
    """start: noise, T H W 16; conditioned: T H W 17; text: length text_dim -> the restored latent, T H W 16.

    The model predicts the velocity noise - latent at t = 1000, where x_t is the noise itself.
    """
    velocity: Tensor = dit(torch.cat((start, conditioned), dim=-1), text, TIMESTEP)
    return start - velocity


def shifted_timestep(timestep: float, shape: tuple[int, ...] | torch.Size) -> float:
    """Moves a timestep towards noise for larger clips. shape: latent frames, height, width.

    The factor is a line through two clip sizes, in pixels: one for images and one for videos (SeedVR 673b563,
    projects/video_diffusion_sr/infer.py). Its caller passes (H, W, 16) for (T, H, W), there and so here.
    """
    frames, height, width = (shape[0] - 1) * 4 + 1, shape[1] * 8, shape[2] * 8
    if frames > 1:
        (low, low_factor), (high, high_factor) = (256 * 256 * 37, 1.0), (1280 * 720 * 145, 5.0)
    else:
        (low, low_factor), (high, high_factor) = (256 * 256, 1.0), (1024 * 1024, 3.2)
    slope = (high_factor - low_factor) / (high - low)
    factor = low_factor + slope * (frames * height * width - low)
    share = timestep / TIMESTEP
    return TIMESTEP * factor * share / (1 + (factor - 1) * share)
