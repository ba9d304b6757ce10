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
from upres.models.kernels.fp8 import Rows
from upres.models.kernels.heads import Source, packed_heads
from upres.models.kernels.rows import gelu, swiglu, taken
from upres.models.seedvr2.config import (
    INPUT_CHANNELS,
    LATENT_CHANNELS,
    MODULATIONS,
    PATCH,
    TIME_WAVES,
    DitConfig,
    swiglu_width,
)
from upres.models.seedvr2.modulation import (
    NORM_EPS,
    Modulation,
    OutputModulation,
    RmsNorm,
    enter,
    leave,
    leave_and_enter,
    rms,
)
from upres.models.seedvr2.rope import CentredRope, CountedRope
from upres.models.seedvr2.spans import Grid
from upres.models.seedvr2.streams import Streams
from upres.models.seedvr2.windows import Layout, window_layout
from upres.models.weights.linear import Linear

GRIDS_KEPT = 2  # a clip's windows, and its shorter last one


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
        self._made: dict[tuple[Grid, int, torch.device], tuple[Layout, Layout]] = {}
        self._last: tuple[tuple[float, torch.dtype, torch.device], Tensor] | None = None

    def forward(self, latent: Tensor, text: Tensor, timestep: float) -> Tensor:
        """latent: T H W 33 (noise, condition, mask); text: length text_dim; timestep 0 … 1000 -> T H W 16."""
        frames, height, width, _ = latent.shape
        grid = (frames, height // PATCH, width // PATCH)
        regular, shifted = self._layouts(grid, len(text), latent.device)

        vid, txt = self.vid_in(latent), self.txt_in(text.to(latent.dtype))
        emb = self._embedding(timestep, vid)
        for index, block in enumerate(self.blocks):
            vid, txt = block(vid, txt, emb, shifted if index % 2 else regular)

        if self.config.modulated_output:
            vid = self.vid_out_ada(self.vid_out_norm(vid.float()), emb).to(vid.dtype)
        velocity: Tensor = self.vid_out(vid, grid)
        return velocity

    def _layouts(self, grid: Grid, text_length: int, device: torch.device) -> tuple[Layout, Layout]:
        """Regular and shifted. Making them waits for the device, so those of the last grids are kept."""
        key = grid, text_length, device
        if key not in self._made:
            while len(self._made) >= GRIDS_KEPT:
                del self._made[next(iter(self._made))]
            regular, shifted = (window_layout(grid, text_length, device, shifted=odd) for odd in (False, True))
            self._made[key] = regular, shifted
        return self._made[key]

    def _embedding(self, timestep: float, like: Tensor) -> Tensor:
        """The same tensor as last time if nothing changed: what the blocks make of it is then kept, too."""
        key = timestep, like.dtype, like.device
        if self._last is None or self._last[0] != key:
            self._last = key, self.emb_in(timestep, like=like)
        return self._last[1]


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
            vid, seen = leave_and_enter(vid, vid_change, vid_attn, vid_mlp)
            return leave(vid, self.mlp.video(seen), vid_mlp), txt

        txt_attn, txt_mlp = self.ada.text(emb)
        vid_change, txt_change = self.attn(enter(vid, vid_attn), enter(txt, txt_attn), layout)
        vid, vid_seen = leave_and_enter(vid, vid_change, vid_attn, vid_mlp)
        txt, txt_seen = leave_and_enter(txt, txt_change, txt_attn, txt_mlp)
        return leave(vid, self.mlp.video(vid_seen), vid_mlp), leave(txt, self.mlp.text(txt_seen), txt_mlp)


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
        self.heads = config.heads

    def forward(self, vid: Tensor | Rows, txt: Tensor | Rows, layout: Layout) -> tuple[Tensor, Tensor]:
        video = Source(self.proj_qkv.video(vid), self.norm_q.video.weight, self.norm_k.video.weight)
        text = Source(self.proj_qkv.text(txt), self.norm_q.text.weight, self.norm_k.text.weight)
        q, k, v = packed_heads(video, text, self.rope.turns(layout), self.heads, NORM_EPS)
        out = rearrange(attend(q, k, v, layout.lengths), "rows h d -> rows (h d)")

        txt_out = out[layout.text_rows].float().mean(dim=0).to(out.dtype)
        return self.proj_out.video(taken(out, layout.video_rows)), self.proj_out.text(txt_out)


class Swiglu(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        hidden = swiglu_width(dim, ratio)
        self.proj_in_gate = Linear(dim, hidden, bias=False)
        self.proj_in = Linear(dim, hidden, bias=False)
        self.proj_out = Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor | Rows) -> Tensor:
        return self.proj_out(swiglu(self.proj_in_gate(x), self.proj_in(x)))


class Gelu(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.proj_in = Linear(dim, ratio * dim)
        self.proj_out = Linear(ratio * dim, dim)

    def forward(self, x: Tensor | Rows) -> Tensor:
        return self.proj_out(gelu(self.proj_in(x)))


MLPS: dict[str, Callable[[int, int], Swiglu | Gelu]] = {"swiglu": Swiglu, "gelu": Gelu}
