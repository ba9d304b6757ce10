"""SeedVR2's three parts, and one window through them. Knows nothing of clips, files or where noise comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from upres.models.seedvr2.config import LATENT_SCALE, TIME_SCALE
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.dit_footprint import Widening
from upres.models.seedvr2.footprint import SeedVr2Footprint, Weights
from upres.models.seedvr2.sampler import condition, sample
from upres.models.seedvr2.tiles import Tiling
from upres.models.seedvr2.vae import VideoVae
from upres.models.weights.linear import Linear


@dataclass(frozen=True, slots=True)
class Parts:
    dit: Dit
    vae: VideoVae
    text: Tensor  # length text_dim
    dtype: torch.dtype  # what all of it computes in

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Those that compute in turn."""
        return self.vae.encoder, self.vae.decoder, self.dit

    def footprint(self, *, copies: bool) -> SeedVr2Footprint:
        """copies: see vae_footprint.encoding."""
        encoder, decoder, transformer = map(_bytes, self.networks)
        blocks = [_bytes(block) for block in self.dit.blocks]
        weights = Weights(encoder, decoder, sum(blocks), max(blocks), transformer - sum(blocks))
        value_bytes = self.dtype.itemsize
        return SeedVr2Footprint(self.dit.config, weights, Widening.of(_storage(self.dit), value_bytes), value_bytes,
                                self.vae.config, len(self.text), copies)  # fmt: skip

    def restore_latents(self, latents: Tensor, noise: tuple[Tensor, Tensor], noise_scale: float = 0.0) -> Tensor:
        """T H W 16, scaled, as `encode` gives them; both noises likewise. `noise_scale`: see sampler.condition."""
        start, second = noise
        return sample(self.dit, start, condition(latents, start, second, noise_scale), self.text)

    def encode(self, video: Tensor, tiling: Tiling | None, slice_frames: int = TIME_SCALE) -> Tensor:
        """4n+1 C H W, [-1, 1] -> n+1 H/8 W/8 16."""
        return to_latents(self.vae.encode(to_clip(video), tiling, slice_frames))

    def decode(self, latents: Tensor, tiling: Tiling | None, slice_frames: int = TIME_SCALE) -> Tensor:
        return to_frames(self.vae.decode(from_latents(latents), tiling, slice_frames))


def to_clip(frames: Tensor) -> Tensor:
    """T C H W -> B C T H W, as the autoencoder wants it."""
    return rearrange(frames, "t c h w -> 1 c t h w")


def to_frames(clip: Tensor) -> Tensor:
    return rearrange(clip, "1 c t h w -> t c h w")


def to_latents(posterior: Tensor) -> Tensor:
    """1 16 T H W, as the autoencoder gives them -> T H W 16, as the transformer takes them."""
    return rearrange(posterior * LATENT_SCALE, "1 c t h w -> t h w c")


def from_latents(latents: Tensor) -> Tensor:
    return rearrange(latents / LATENT_SCALE, "t h w c -> 1 c t h w")


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _storage(dit: Dit) -> str:
    """As Widening wants it."""
    linears = [module for module in dit.modules() if isinstance(module, Linear)]
    quantised = {linear.quantised.block.name for linear in linears if linear.quantised is not None}
    if quantised:
        return "q8" if quantised == {"Q8_0"} else "q4"
    smallest = min(linear.weight.dtype.itemsize for linear in linears)
    return {1: "fp8", 2: "fp16"}.get(smallest, "fp32")
