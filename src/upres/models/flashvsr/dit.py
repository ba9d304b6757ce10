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
from upres.models.flashvsr.rope import turns
from upres.models.flashvsr.sparse_attention import attend
from upres.models.flashvsr.windows import FRAMES, PATCH, TOKENS, patches_in, patches_out
from upres.models.kernels import eights
from upres.models.kernels.blocks import attend_in_lists
from upres.models.kernels.choice import chosen
from upres.models.kernels.fp8 import Rows
from upres.models.kernels.rows import changed_then_normed, linear, linear_gelu, narrowed
from upres.models.kernels.switch import fused
from upres.models.kernels.whole_heads import Norms, placed, window_means

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
    qkv: tuple[Tensor, Tensor]  # weight and bias of all three products of self attention
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
        fixed = conditioning.blocks
        norms = [*(one.attention_norm for one in fixed), conditioning.head_norm]
        change, gate = None, None
        for number, (block, memory) in enumerate(zip(self.blocks, memories, strict=True)):
            if number < len(conditions):
                x = changed(x, change, gate) + conditions[number]
                change, gate = None, None
            x, seen = changed_then_normed(x, change, gate, *norms[number], self.config.eps)
            x, change = block(x, seen, fixed[number], rotation, memory, locality)
            gate = fixed[number].ffn_gate
        _, seen = changed_then_normed(x, change, gate, *norms[-1], self.config.eps)
        return patches_out(self.head(seen), locality.rows, locality.columns)

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

    def forward(self, x: Tensor, seen: Tensor | Rows, fixed: Fixed, rotation: Tensor, memory: SliceMemory,
                locality: Locality) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`seen` is x normed -> x, and what is to be added to it, times the gate of the last layer."""
        change = self.self_attn(seen, fixed.qkv, rotation, memory, locality)
        x, seen = changed_then_normed(x, change, fixed.attention_gate, self.norm3.weight, self.norm3.bias, self.eps)
        x, seen = changed_then_normed(x, self.cross_attn(seen, fixed.text), None, *fixed.ffn_norm, self.eps)
        widened, narrow = (layer for layer in self.ffn if isinstance(layer, nn.Linear))
        return x, linear(linear_gelu(seen, widened.weight, widened.bias), narrow.weight, narrow.bias)

    def fix(self, modulation: Tensor, text: Tensor) -> Fixed:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + modulation)[0]
        return Fixed((1 + scale1, shift1), gate1, (1 + scale2, shift2), gate2, self.self_attn.joined(),
                     self.cross_attn.remember(text))  # fmt: skip


def changed(x: Tensor, change: Tensor | None, gate: Tensor | None) -> Tensor:
    if change is None:
        return x
    return x + change if gate is None else torch.addcmul(x, gate, change)


class Attention(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.norm_q, self.norm_k = (nn.RMSNorm(config.dim, eps=config.eps) for _ in range(2))  # over all heads
        self.heads, self.eps = config.heads, config.eps


class SelfAttention(Attention):
    def __init__(self, config: DitConfig) -> None:
        super().__init__(config)
        self.choice = Choice()

    def forward(self, x: Tensor | Rows, qkv: tuple[Tensor, Tensor], rotation: Tensor, memory: SliceMemory,
                locality: Locality) -> Tensor:  # fmt: skip
        product = linear(x, *qkv)
        tokens, slices = len(product), len(product) // (locality.windows * TOKENS)
        shape = (tokens, self.heads, product.shape[1] // (3 * self.heads))
        norms = Norms(self.norm_q.weight, self.norm_k.weight, self.eps)
        if eights.takes(product, shape[2]):
            room = memory.room_of_8_bits(slices, shape, product)
            out = self._in_8_bits(product, norms, rotation, room, memory, locality)
        else:
            keys, values = memory.room(slices, shape, slices * locality.windows, product)
            q = placed(product, norms, rotation, keys, values)
            seen = memory.see(window_means(keys, TOKENS))
            means = window_means(q, TOKENS)
            if fused(q):
                lists = chosen(means, seen.means, locality.near, locality.top)
                out = attend_in_lists(q, seen.keys, seen.values, *lists)
            else:
                mask = self.choice(means, seen.in_time(seen.means), locality.near, locality.top)
                out = attend(q, seen.keys, seen.values, seen.as_they_lie(mask, len(seen.keys) // TOKENS))
        answer: Tensor = linear(narrowed(out.flatten(1)), self.o.weight, self.o.bias)
        return answer

    def _in_8_bits(self, product: Tensor, norms: Norms, rotation: Tensor, room: eights.Keys, memory: SliceMemory,
                   locality: Locality) -> Tensor:  # fmt: skip
        wide = product.new_empty(room.keys.shape)
        q = placed(product, norms, rotation, wide, None)
        eights.turned_values(product.chunk(3, dim=-1)[2].view(wide.shape), room.values, room.value_scales)
        seen = memory.see(eights.rounded_keys(wide, room.keys, room.key_scales))
        queries, means = eights.rounded_queries(q)
        lists = chosen(means, seen.means, locality.near, locality.top)
        return eights.attend_in_eights(queries, seen.eights, *lists)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of queries, keys and values, one after the other; from now on the layers' own are parts."""
        layers = (self.q, self.k, self.v)
        with torch.inference_mode(mode=False), torch.no_grad():
            weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
            for layer, rows, numbers in zip(layers, weight.chunk(3), bias.chunk(3), strict=True):
                layer.weight.data, layer.bias.data = rows, numbers
        return weight, bias


class CrossAttention(Attention):
    def forward(self, x: Tensor | Rows, text: tuple[Tensor, Tensor]) -> Tensor:
        q = rearrange(self.norm_q(linear(x, self.q.weight, self.q.bias)), "s (h d) -> 1 h s d", h=self.heads)
        out = F.scaled_dot_product_attention(q, *text)
        return linear(narrowed(rearrange(out, "1 h s d -> s (h d)")), self.o.weight, self.o.bias)

    def remember(self, text: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (rearrange(x, "s (h d) -> 1 h s d", h=self.heads) for x in (self.norm_k(self.k(text)), self.v(text)))
        return k.contiguous(), v.contiguous()


class Head(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))
        self.head = nn.Linear(config.dim, PATCH * PATCH * config.latent_channels)

    def forward(self, x: Tensor | Rows) -> Tensor:
        return linear(x, self.head.weight, self.head.bias)

    def fix(self, t: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = (self.modulation + t[:, None])[0]
        return 1 + scale, shift
