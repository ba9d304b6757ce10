"""The decoder's enlargements: a 1x1x1 convolution makes the new pixels, a causal 3x3x3 one mixes them.

Nothing stands between the two, so they are one linear map, and a fine pixel's value depends on its place (its phase) in
its coarse pixel and on 2 coarse rows and columns. `merge` makes one small convolution of each phase: 8 taps where time
doubles, 12 where it does not, instead of 27 + 1; and the enlarged pixels before the mixing are never written. Before a
clip's first frame that frame is seen again, so that there fewer taps are left: 4 for the first, 8 for the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from upres.models.seedvr2.causal import CausalConv3d, Memory, empty, single

Taps = Sequence[tuple[int, int]]  # for each of the 3 taps over fine pixels: which coarse tap, and which phase of it

# Fine pixel 2h + p, tap d - 1 away from it, is phase (p + d - 1) % 2 of coarse pixel h + (p + d - 1) // 2; coarse taps
# are counted from h + p - 1.
SPACE: tuple[Taps, Taps] = (((0, 1), (1, 0), (1, 1)), ((0, 0), (0, 1), (1, 0)))
# In time the taps are the two frames before and the frame itself; coarse taps are counted from the latent frame before.
DOUBLED: tuple[Taps, Taps] = (((0, 0), (0, 1), (1, 0)), ((0, 1), (1, 0), (1, 1)))
# A clip's first latent frame holds one frame. It is seen again in place of those before it (FIRST), and the next latent
# frame finds it where otherwise two frames are (SECOND): both are its phase 0.
FIRST: tuple[Taps] = (((0, 0), (0, 0), (0, 0)),)
SECOND: tuple[Taps, Taps] = (((0, 0), (0, 0), (1, 0)), ((0, 0), (1, 0), (1, 1)))
KEPT: tuple[Taps] = (((0, 0), (1, 0), (2, 0)),)  # time is not doubled: a plain causal convolution
KEPT_SECOND: tuple[Taps] = (((0, 0), (0, 0), (1, 0)),)
SETS: dict[int, dict[str, tuple[Taps, ...]]] = {
    1: {"usual": KEPT, "first": FIRST, "second": KEPT_SECOND},
    2: {"usual": DOUBLED, "first": FIRST, "second": SECOND},
}


class Upsample(nn.Module):
    """Doubles height and width, and time if `time_factor` is 2: then 2T - 1 frames in the first slice of a clip."""

    def __init__(self, channels: int, time_factor: int) -> None:
        super().__init__()
        self.time_factor = time_factor
        self.upscale_conv = nn.Conv3d(channels, channels * time_factor * 2 * 2, kernel_size=1)
        self.conv = CausalConv3d(channels, channels)
        self.merged = False

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return self._by_phases(x, memory) if self.merged else self._by_pixels(x, memory)

    def _by_pixels(self, x: Tensor, memory: Memory) -> Tensor:
        x = self.upscale_conv(x)
        x = rearrange(x, "b (p q f c) t h w -> b c (t f) (h p) (w q)", p=2, q=2, f=self.time_factor)
        if self.time_factor == 2 and self.conv not in memory:  # the first latent frame holds one frame, not two
            x = torch.cat((x[:, :, :1], x[:, :, 2:]), dim=2)
        out: Tensor = self.conv(x, memory)
        return out

    @torch.inference_mode(False)  # buffers made in it could not be moved
    @torch.no_grad()
    def merge(self) -> None:
        """Once the weights are in, and best before they are rounded; the convolutions they came in are kept, unused."""
        assert self.upscale_conv.bias is not None and self.conv.bias is not None
        wide = torch.promote_types(self.conv.weight.dtype, torch.float32)
        makes = torch.cat((self.upscale_conv.weight.flatten(1), self.upscale_conv.bias[:, None]), dim=1).to(wide)
        makes = rearrange(makes, "(p q f c) i -> c (p q f i)", p=2, q=2, f=self.time_factor)
        mixes = rearrange(self.conv.weight.to(wide), "o c t h w -> (t h w o) c")
        pairs = rearrange(mixes @ makes, "(t h w o) (p q f i) -> t h w p q f o i",
                          t=3, h=3, w=3, p=2, q=2, f=self.time_factor)  # fmt: skip
        for name, times in SETS[self.time_factor].items():
            phases = [_phase(pairs, time, SPACE[p], SPACE[q]) for time, p, q in product(times, (0, 1), (0, 1))]
            taps = torch.stack([phase[:, :-1] for phase in phases])
            places = [*product((0, 1), (0, 1))] * len(times)
            biases = [_biases(phase[:, -1].sum(dim=1), *place) for phase, place in zip(phases, places, strict=True)]
            self.register_buffer(f"{name}_taps", _laid_out(taps), persistent=False)
            own = F.pad(self.conv.bias.to(wide)[None], (0, 0, 0, 3))  # whole only
            self.register_buffer(f"{name}_bias", torch.stack(biases) + own, persistent=False)
        self.merged = True

    def _by_phases(self, x: Tensor, memory: Memory) -> Tensor:
        """Remembered are frames of x: under `upscale_conv` a clip's first one alone, later ones under `conv`."""
        first, tail = memory.recall(self.upscale_conv), memory.recall(self.conv)
        begins, frames = first is None and tail is None, x.shape[2]
        known = [part for part in (first, tail, x) if part is not None]
        x = torch.cat(known, dim=2) if len(known) > 1 else x
        lead = self.get_buffer("usual_taps").shape[3] - 1
        memory.keep(self.upscale_conv if x.shape[2] == 1 else self.conv, x[:, :, -lead:])
        if tail is not None:
            return self._convolved(x, {"usual": frames})
        return self._convolved(x, {"first": int(begins), "second": min(1, x.shape[2] - 1), "usual": x.shape[2] - 2})

    def _convolved(self, x: Tensor, frames: dict[str, int]) -> Tensor:
        """Every set of kernels makes what belongs to so many frames, the last ones of x, one set after the other."""
        parts = [(name, count) for name, count in frames.items() if count > 0]
        batch, channels, _, height, width = x.shape
        made = sum(count * (1 if name == "first" else self.time_factor) for name, count in parts)
        out = empty((batch, channels, made, 2 * height, 2 * width), x, x.dtype)
        into, at = out, x.shape[2] - sum(count for _, count in parts)
        for name, count in parts:
            taps, bias = self.get_buffer(f"{name}_taps"), self.get_buffer(f"{name}_bias")
            lead, factor = taps.shape[3] - 1, len(taps) // 4
            self._spread(x[:, :, at - lead : at + count], taps, bias, into[:, :, : factor * count])
            into, at = into[:, :, factor * count :], at + count
        return out

    def _spread(self, x: Tensor, taps: Tensor, biases: Tensor, out: Tensor) -> None:
        height, width = x.shape[-2:]
        factor = len(taps) // 4
        phases = product(range(factor), (0, 1), (0, 1))
        for kernel, bias, (f, p, q) in zip(taps, biases[..., None, None, None], phases, strict=True):
            y = single(x, kernel, None) if x.shape[2] == 1 else F.conv3d(x, kernel, padding=(0, 1, 1))
            y = y[..., p : p + height, q : q + width]
            phase = out[:, :, f::factor, p::2, q::2]
            whole, row, column, corner = bias
            torch.add(y, whole, out=phase)
            phase[..., -p, :].sub_(row[..., 0])  # the first row where p is 0, else the last
            phase[..., -q].sub_(column[..., 0])
            phase[..., -p, -q].add_(corner[..., 0, 0])


def _phase(pairs: Tensor, time: Taps, rows: Taps, columns: Taps) -> Tensor:
    """pairs: 3 3 3 2 2 factor out in, what each fine tap takes from each phase -> out in taps 2 2."""
    kernel = pairs.new_zeros(1 + max(a for a, _ in time), 2, 2, *pairs.shape[-2:])
    for (t, (at, f)), (h, (ah, p)), (w, (aw, q)) in product(*map(enumerate, (time, rows, columns))):
        kernel[at, ah, aw] += pairs[t, h, w, p, q, f]
    return rearrange(kernel, "t h w o i -> o i t h w")


def _biases(cells: Tensor, p: int, q: int) -> Tensor:
    """cells: out 2 2, what the four coarse pixels bring -> (whole, row, column, corner) out.

    Outside of the picture are zeros, not pixels made of zeros. Where a coarse pixel is outside, what it would have
    brought is taken back: the row's pixels, the column's, and what was then taken twice is given again.
    """
    return torch.stack((cells.sum(dim=(1, 2)), cells[:, p].sum(dim=1), cells[:, :, q].sum(dim=1), cells[:, p, q]))


def _laid_out(phases: Tensor) -> Tensor:
    """Each kernel in the memory order of the pictures it will see."""
    if not phases.is_cuda:
        return phases.contiguous()
    return phases.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)
