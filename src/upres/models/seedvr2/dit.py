"""SeedVR2's diffusion transformer in tensors. Knows nothing of files, noise or the VAE.

Shapes and quirks follow ByteDance-Seed/SeedVR 673b563 (models/dit_v2 and models/dit); parameter names are those of the
published checkpoints. One architecture: what the 3B and the 7B do differently is a field of DitConfig.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.attention import attend
from upres.models.seedvr2.config import (
    INPUT_CHANNELS,
    LATENT_CHANNELS,
    MODULATIONS,
    PATCH,
    TIME_WAVES,
    DitConfig,
    swiglu_width,
)
from upres.models.seedvr2.modulation import Modulation, OutputModulation, RmsNorm, enter, leave, rms
from upres.models.seedvr2.rope import CentredRope, CountedRope, turn_
from upres.models.seedvr2.spans import Grid
from upres.models.seedvr2.streams import Streams
from upres.models.seedvr2.windows import Layout, window_layout
from upres.models.weights.linear import Linear


class Dit(nn.Module):
    """Predicts the velocity from the clean latent to noise. Computes in the type of its input."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.vid_in = PatchIn(config.dim)
        self.txt_in = Linear(config.text_dim, config.dim)
        self.emb_in = TimeEmbedding(config.dim)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.layers))
        if config.modulated_output:
            self.vid_out_norm = RmsNorm(config.dim)
            self.vid_out_ada = OutputModulation(config.dim)
        self.vid_out = PatchOut(config.dim)
        self.config = config

    def forward(self, latent: Tensor, text: Tensor, timestep: float) -> Tensor:
        """latent: T H W 33 (noise, condition, mask); text: length text_dim; timestep 0 … 1000 -> T H W 16."""
        frames, height, width, _ = latent.shape
        grid = (frames, height // PATCH, width // PATCH)
        regular, shifted = (window_layout(grid, len(text), latent.device, shifted=odd) for odd in (False, True))

        vid, txt = self.vid_in(latent), self.txt_in(text.to(latent.dtype))
        emb = self.emb_in(timestep, like=vid)
        for index, block in enumerate(self.blocks):
            vid, txt = block(vid, txt, emb, shifted if index % 2 else regular)

        if self.config.modulated_output:
            vid = self.vid_out_ada(self.vid_out_norm(vid.float()), emb).to(vid.dtype)
        velocity: Tensor = self.vid_out(vid, grid)
        return velocity


class PatchIn(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = Linear(PATCH * PATCH * INPUT_CHANNELS, dim)

    def forward(self, latent: Tensor) -> Tensor:
        return self.proj(rearrange(latent, "t (h p) (w q) c -> (t h w) (p q c)", p=PATCH, q=PATCH))


class PatchOut(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = Linear(dim, PATCH * PATCH * LATENT_CHANNELS)

    def forward(self, vid: Tensor, grid: Grid) -> Tensor:
        t, h, w = grid
        return rearrange(self.proj(vid), "(t h w) (p q c) -> t (h p) (w q) c", t=t, h=h, w=w, p=PATCH, q=PATCH)


class TimeEmbedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_in = Linear(2 * TIME_WAVES, dim)
        self.proj_hid = Linear(dim, dim)
        self.proj_out = Linear(dim, MODULATIONS * dim)

    def forward(self, timestep: float, like: Tensor) -> Tensor:
        """-> (attention, mlp) (shift, scale, gate) dim. The checkpoints keep the channel outermost, hence the turn."""
        waves = torch.arange(TIME_WAVES, device=like.device, dtype=torch.float32)
        angles = timestep * torch.exp(-math.log(10_000) * waves / TIME_WAVES)
        x = torch.cat((angles.sin(), angles.cos())).to(like.dtype)
        x = self.proj_out(F.silu(self.proj_hid(F.silu(self.proj_in(x)))))
        return rearrange(x, "(d layer part) -> layer part d", layer=2, part=3)


class Block(nn.Module):
    def __init__(self, config: DitConfig, index: int) -> None:
        super().__init__()
        shared = index >= config.shared_from
        self.attn = WindowAttention(config, shared)
        self.mlp = Streams(lambda: MLPS[config.mlp](config.dim, config.mlp_ratio), shared)
        self.ada = Streams(lambda: Modulation(config.dim), shared)
        self.video_only = config.last_is_video_only and index == config.layers - 1

    def forward(self, vid: Tensor, txt: Tensor, emb: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        vid_attn, vid_mlp = self.ada.video(emb)
        if self.video_only:
            vid_change, _ = self.attn(enter(vid, vid_attn), rms(txt.float()).to(txt.dtype), layout)
            vid = leave(vid, vid_change, vid_attn)
            return leave(vid, self.mlp.video(enter(vid, vid_mlp)), vid_mlp), txt

        txt_attn, txt_mlp = self.ada.text(emb)
        vid_change, txt_change = self.attn(enter(vid, vid_attn), enter(txt, txt_attn), layout)
        vid, txt = leave(vid, vid_change, vid_attn), leave(txt, txt_change, txt_attn)
        vid = leave(vid, self.mlp.video(enter(vid, vid_mlp)), vid_mlp)
        txt = leave(txt, self.mlp.text(enter(txt, txt_mlp)), txt_mlp)
        return vid, txt


class WindowAttention(nn.Module):
    """Each window attends to its own tokens and all of the text; the text's answers are averaged over the windows."""

    def __init__(self, config: DitConfig, shared: bool) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.proj_qkv = Streams(lambda: Linear(config.dim, 3 * inner, bias=False), shared)
        self.proj_out = Streams(lambda: Linear(inner, config.dim), shared)
        self.norm_q = Streams(lambda: RmsNorm(config.head_dim), shared)
        self.norm_k = Streams(lambda: RmsNorm(config.head_dim), shared)
        self.rope = CountedRope(config.head_dim) if config.rope == "counted" else CentredRope(config.head_dim // 2)
        self.head_dim = config.head_dim

    def forward(self, vid: Tensor, txt: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        vid_angles, txt_angles = self.rope.video_angles(layout, len(txt)), self.rope.text_angles(len(txt))
        vid_qkv = self._heads(self.proj_qkv.video(vid), self.norm_q.video, self.norm_k.video, vid_angles)
        txt_qkv = self._heads(self.proj_qkv.text(txt), self.norm_q.text, self.norm_k.text, txt_angles)

        q, k, v = (torch.cat(rows)[layout.pack] for rows in zip(vid_qkv, txt_qkv, strict=True))
        out = rearrange(attend(q, k, v, layout.lengths), "rows h d -> rows (h d)")

        txt_out = out[layout.text_rows].float().mean(dim=0).to(txt.dtype)
        return self.proj_out.video(out[layout.video_rows]), self.proj_out.text(txt_out)

    def _heads(
        self, qkv: Tensor, norm_q: RmsNorm, norm_k: RmsNorm, angles: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = rearrange(qkv, "rows (three h d) -> three rows h d", three=3, d=self.head_dim)
        q, k = norm_q(q.float()), norm_k(k.float())
        if angles is not None:
            q, k = turn_(q, angles), turn_(k, angles)
        return q.to(v.dtype), k.to(v.dtype), v


class Swiglu(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        hidden = swiglu_width(dim, ratio)
        self.proj_in_gate = Linear(dim, hidden, bias=False)
        self.proj_in = Linear(dim, hidden, bias=False)
        self.proj_out = Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_out(F.silu(self.proj_in_gate(x)) * self.proj_in(x))


class Gelu(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.proj_in = Linear(dim, ratio * dim)
        self.proj_out = Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_out(F.gelu(self.proj_in(x), approximate="tanh"))


MLPS: dict[str, Callable[[int, int], Swiglu | Gelu]] = {"swiglu": Swiglu, "gelu": Gelu}
