"""FlashVSR's streaming diffusion transformer in tensors: one step. Knows nothing of files, noise, pixels or decoders.

Architecture of Wan2.1-T2V-1.3B (Wan-Video/Wan2.1) with the sparse streaming attention of OpenImagingLab/FlashVSR
ccac0ac; parameter names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.locality import Choice, Locality
from upres.models.flashvsr.memory import SliceMemory
from upres.models.flashvsr.rope import turned, turns
from upres.models.flashvsr.sparse_attention import attend
from upres.models.flashvsr.windows import FRAMES, PATCH, TOKENS, patches_in, patches_out

TIMESTEP = 1000.0  # the one step goes from pure noise to the clean latent


@dataclass(frozen=True, slots=True)
class DitConfig:
    dim: int = 1536
    layers: int = 30
    heads: int = 12
    ffn_dim: int = 8960
    text_dim: int = 4096
    waves: int = 256  # cosines and sines of the time embedding
    latent_channels: int = 16
    eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a block is told of the prompt and the timestep. Both never change, so this is computed once.

    The norms' scale and shift are what they are multiplied with and what is added; dim each.
    """

    attention_norm: tuple[Tensor, Tensor]
    attention_gate: Tensor
    ffn_norm: tuple[Tensor, Tensor]
    ffn_gate: Tensor
    text: tuple[Tensor, Tensor]  # keys and values, (1, heads, length, head_dim)


@dataclass(frozen=True, slots=True)
class Conditioning:
    blocks: tuple[Fixed, ...]
    head_norm: tuple[Tensor, Tensor]


class Dit(nn.Module):
    """Predicts the velocity from the clean latent to noise. Everything is computed in the type of the weights."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.latent_channels, dim, (1, PATCH, PATCH), (1, PATCH, PATCH))
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.waves, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)
        self.config = config

    def forward(self, latents: Tensor, conditions: Sequence[Tensor], start: int, memories: Sequence[SliceMemory],
                locality: Locality, conditioning: Conditioning) -> Tensor:  # fmt: skip
        """c t H W, `start` the number of its first latent frame in the clip -> c t H W.

        conditions: what is added before each of the first blocks, tokens dim, in the order of `windows`. memories: one
        for each block; they are extended.
        """
        slices = latents.shape[1] // FRAMES
        rotation = turns(self.config.dim // self.config.heads, start, slices, locality.rows, locality.columns,
                         latents.device)  # fmt: skip
        x = F.linear(patches_in(latents), self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        for number, (block, fixed, memory) in enumerate(zip(self.blocks, conditioning.blocks, memories, strict=True)):
            if number < len(conditions):
                x = x + conditions[number]
            x = block(x, fixed, rotation, memory, locality)
        return patches_out(self.head(x, conditioning.head_norm), locality.rows, locality.columns)

    def time(self) -> tuple[Tensor, Tensor]:
        """(1 dim, 1 6 dim): the embedding of the timestep, and what the blocks' modulation adds to."""
        weight = self.patch_embedding.weight
        exponents = torch.arange(self.config.waves // 2, dtype=torch.float64, device=weight.device)
        angles = TIMESTEP * 10_000.0 ** (-exponents / (self.config.waves // 2))
        waves = torch.cat((angles.cos(), angles.sin()))[None].to(weight.dtype)
        t: Tensor = self.time_embedding(waves)
        return t, rearrange(self.time_projection(t), "1 (six d) -> 1 six d", six=6)

    def conditioning(self, prompt: Tensor) -> Conditioning:
        """prompt: length text_dim."""
        t, modulation = self.time()
        text = self.text_embedding(prompt)
        blocks = tuple(b.fix(modulation, text) for b in self.blocks if isinstance(b, Block))
        return Conditioning(blocks, self.head.fix(t))


class Block(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.empty(1, 6, config.dim))
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)  # before cross attention
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, config.dim)
        )
        self.eps = config.eps

    def forward(self, x: Tensor, fixed: Fixed, rotation: Tensor, memory: SliceMemory, locality: Locality) -> Tensor:
        change = self.self_attn(normed(x, fixed.attention_norm, self.eps), rotation, memory, locality)
        x = torch.addcmul(x, fixed.attention_gate, change)
        x = x + self.cross_attn(self.norm3(x), fixed.text)
        return torch.addcmul(x, fixed.ffn_gate, self.ffn(normed(x, fixed.ffn_norm, self.eps)))

    def fix(self, modulation: Tensor, text: Tensor) -> Fixed:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + modulation)[0]
        return Fixed((1 + scale1, shift1), gate1, (1 + scale2, shift2), gate2, self.cross_attn.remember(text))


def normed(x: Tensor, modulation: tuple[Tensor, Tensor], eps: float) -> Tensor:
    scale, shift = modulation
    return F.layer_norm(x, x.shape[-1:], scale, shift, eps)


class Attention(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.norm_q, self.norm_k = (nn.RMSNorm(config.dim, eps=config.eps) for _ in range(2))  # over all heads
        self.heads = config.heads


class SelfAttention(Attention):
    def __init__(self, config: DitConfig) -> None:
        super().__init__(config)
        self.choice = Choice()

    def forward(self, x: Tensor, rotation: Tensor, memory: SliceMemory, locality: Locality) -> Tensor:
        q = turned(self._split(self.norm_q(self.q(x))), rotation)
        k = turned(self._split(self.norm_k(self.k(x))), rotation)
        slices = len(x) // (locality.windows * TOKENS)
        keys, values, means = memory.extend(k, self._split(self.v(x)), window_means(k), slices)
        mask = self.choice(window_means(q), means, locality.near, locality.top)
        mask = F.pad(mask, (0, len(keys) // TOKENS - mask.shape[-1]))  # nothing is seen where nothing is remembered
        out: Tensor = self.o(rearrange(attend(q, keys, values, mask), "s h d -> s (h d)"))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return rearrange(x, "s (h d) -> s h d", h=self.heads)


def window_means(x: Tensor) -> Tensor:
    """tokens heads head_dim -> windows heads head_dim, float32."""
    return rearrange(x, "(n s) h d -> n s h d", s=TOKENS).mean(dim=1, dtype=torch.float32)


class CrossAttention(Attention):
    def forward(self, x: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        q = rearrange(self.norm_q(self.q(x)), "s (h d) -> 1 h s d", h=self.heads)
        out = F.scaled_dot_product_attention(q, *text)
        answer: Tensor = self.o(rearrange(out, "1 h s d -> s (h d)"))
        return answer

    def remember(self, text: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (rearrange(x, "s (h d) -> 1 h s d", h=self.heads) for x in (self.norm_k(self.k(text)), self.v(text)))
        return k.contiguous(), v.contiguous()


class Head(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))
        self.head = nn.Linear(config.dim, PATCH * PATCH * config.latent_channels)
        self.eps = config.eps

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        out: Tensor = self.head(normed(x, modulation, self.eps))
        return out

    def fix(self, t: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = (self.modulation + t[:, None])[0]
        return 1 + scale, shift
