"""The sizes of SeedVR2's networks, as numbers. Knows no tensors: planners read it without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LATENT_CHANNELS = 16
LATENT_SCALE = 0.9152  # latents times this are what the transformer sees (configs_3b/main.yaml: vae.scaling_factor)
SCALE = 8  # pixels along a side of a latent
TIME_SCALE = 4  # frames in a latent frame; the first latent frame holds a single one

INPUT_CHANNELS = 2 * LATENT_CHANNELS + 1  # noise, condition, mask
PATCH = 2  # latent rows and columns that make one token
TIME_WAVES = 128  # of each sine and cosine
MODULATIONS = 2 * 3  # (attention, mlp) x (shift, scale, gate)
TEXT_LENGTH = 58  # of the published embedding

# Where a shot passes the autoencoder in portions (portions.py): slices in each, and made again before the next. A slice
# is a latent frame's worth.
PORTION_SLICES, LEAD_SLICES = 4, 1


@dataclass(frozen=True, slots=True)
class DitConfig:
    dim: int
    layers: int
    text_dim: int
    heads: int
    head_dim: int
    mlp: Literal["swiglu", "gelu"]
    rope: Literal["counted", "centred"]
    shared_from: int  # the first layer that has one set of weights for video and text
    last_is_video_only: bool  # the last layer takes text as it is and does not update it
    modulated_output: bool
    mlp_ratio: int = 4

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def hidden(self) -> int:
        return swiglu_width(self.dim, self.mlp_ratio) if self.mlp == "swiglu" else self.mlp_ratio * self.dim


def swiglu_width(dim: int, ratio: int) -> int:
    """Two thirds of ratio * dim, up to the next 256: 6912 for 2560."""
    return -(-(2 * dim * ratio // 3) // 256) * 256


SEEDVR2_3B = DitConfig(
    dim=2560,
    layers=32,
    text_dim=5120,
    heads=20,
    head_dim=128,
    mlp="swiglu",
    rope="counted",
    shared_from=10,
    last_is_video_only=True,
    modulated_output=True,
)
SEEDVR2_7B = DitConfig(
    dim=3072,
    layers=36,
    text_dim=5120,
    heads=24,
    head_dim=128,
    mlp="gelu",
    rope="centred",
    shared_from=36,
    last_is_video_only=False,
    modulated_output=False,
)


@dataclass(frozen=True, slots=True)
class VaeConfig:
    channels: tuple[int, int, int, int]  # of the levels, finest first
    norm_groups: int
    latent_channels: int = LATENT_CHANNELS
    resnets: int = 2  # in a level of the encoder; the decoder's levels have one more


SEEDVR2_VAE = VaeConfig(channels=(128, 256, 512, 512), norm_groups=32)
TINY_VAE = VaeConfig(channels=(8, 16, 24, 24), norm_groups=4)  # what the recorded test vectors were made with
