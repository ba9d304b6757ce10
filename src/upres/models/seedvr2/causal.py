"""Convolution over time that never looks ahead, and what it remembers. Knows nothing of the networks built from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upres.models.kernels import few_channels, halving
from upres.models.kernels.convolution import convolved, packed, takes
from upres.models.kernels.switch import fp8, fused
from upres.models.seedvr2.config import TIME_SCALE

Axes = tuple[int, int, int]  # time, height, width
Fill = Callable[[Tensor, Tensor], object]  # (x, room): computes something of x's shape from x, into `room`


class Memory:
    """What the convolutions of one network remember of one clip: the last input frames of each, from slice to slice.

    Empty before the first slice of a clip. Set `closing` before the last one, and it is empty afterwards.
    """

    def __init__(self, slice_frames: int = TIME_SCALE) -> None:
        """slice_frames: of the finest level that pass it together; a power of two."""
        self._tails: dict[nn.Module, Tensor] = {}
        self.slice_frames = slice_frames
        self.closing = False
        self.rolling = False  # a last slice goes through each layer as a whole, but not as a whole into its room

    @property
    def parted(self) -> bool:
        """Whether not even a latent frame's worth passes the finest level together."""
        return self.slice_frames < TIME_SCALE

    def __contains__(self, conv: nn.Module) -> bool:
        return conv in self._tails

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def nbytes(self) -> int:
        return sum(tail.untyped_storage().nbytes() for tail in self._tails.values())

    def recall(self, conv: nn.Module) -> Tensor | None:
        return self._tails.pop(conv, None)

    def keep(self, conv: nn.Module, tail: Tensor) -> None:
        if not self.closing:
            self._tails[conv] = tail.clone()  # a view would keep the whole slice alive


def copied(x: Tensor, room: Tensor) -> Tensor:
    return room.copy_(x)


class CausalConv3d(nn.Conv3d):
    """Before the first frame of a clip the convolution sees that frame again; at the end it sees nothing."""

    def __init__(self, channels: int, out_channels: int, kernel: Axes = (3, 3, 3), stride: Axes = (1, 1, 1),
                 padding: int = 1, border: int = 0) -> None:  # fmt: skip
        """border: zero lines at the right and bottom alone, beside the `padding` all around."""
        super().__init__(channels, out_channels, kernel, stride, padding=(0, padding, padding))
        self.lead = kernel[0] - 1  # frames put before the first one
        self.overlap = kernel[0] - stride[0]  # frames of a slice that the next slice needs again
        self.border = border
        self.merged = False  # see merge
        self._halves = kernel[1:] == (3, 3) and stride[1:] == (2, 2) and (padding, border) == (0, 1)

    def merge(self) -> None:
        """From now on a clip's first frame, which by itself is seen in all places in time, is multiplied once, by the
        weights' sum over time: a third of the products."""
        self.merged = True

    def forward(self, x: Tensor, memory: Memory, fill: Fill = copied, *, biased: bool = True) -> Tensor:  # type: ignore[override]
        """B C T H W -> B C' T/stride H' W'; stride * n frames, and one more in the first slice of a clip.

        What is convolved is what `fill` makes of x: it goes where the convolution reads it, behind the frames before
        it, and is never copied. `biased=False` leaves the bias to whoever reads the result.
        """
        bias = self.bias if biased else None
        weight = self._weight(x, memory)
        # only a norm's values are of known size
        narrow = fill is not copied and fp8(x) and takes(self.weight, self.stride)
        dtype = torch.float8_e4m3fn if narrow else x.dtype
        if self._halves and fill is copied and halving.takes(x, weight):
            room = x if self.lead == 0 else self._led(x, memory, fill, dtype, 0, weight.shape[2] - 1)
            return halving.halved(room, weight, bias, self.stride[0])
        if memory.rolling and self.lead == self.overlap > 0 and x.shape[2] > memory.slice_frames:
            return self._rolled(x, memory, fill, bias, dtype)
        room = self._led(x, memory, fill, dtype, self.border, weight.shape[2] - 1)
        return self._convolved(room, weight, bias, x.dtype)

    def _weight(self, x: Tensor, memory: Memory) -> Tensor:
        """C' C t h w; t is 1 for a clip's first frame. Few channels have a kernel that takes as long for one frame."""
        weight = self.weight
        few = fused(x) and few_channels.fits(weight, self.stride, int(self.padding[1]))
        if not self.merged or self.lead == 0 or x.shape[2] > 1 or self in memory or few:
            return weight
        return weight.sum(dim=2, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)

    def _convolved(self, room: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        padding = int(self.padding[1])
        if room.dtype == torch.float8_e4m3fn:
            return convolved(room, packed(weight), bias, tuple(weight.shape[2:]), padding, dtype)
        if few_channels.takes(room, weight, self.stride, padding):
            return few_channels.convolved(room, weight, bias)
        if weight is not self.weight:
            return single(room, weight, bias, self.stride[1:], padding)
        return F.conv3d(room, weight, bias, self.stride, self.padding)

    def _led(self, x: Tensor, memory: Memory, fill: Fill, dtype: torch.dtype, border: int, lead: int) -> Tensor:
        """What `fill` makes of x, behind the frames remembered, or behind its first one `lead` times."""
        batch, channels, frames, height, width = x.shape
        tail = memory.recall(self)
        before = lead if tail is None else self.overlap
        room = empty((batch, channels, before + frames, height + border, width + border), x, dtype)
        if border:
            room[..., height:, :] = 0
            room[..., width:] = 0
        seen = room[..., :height, :width]
        fill(x, seen[:, :, before:])
        if before:
            seen[:, :, :before] = seen[:, :, before : before + 1] if tail is None else tail
        if self.lead:
            alike = tail is None and frames == 1  # a single frame, seen again before itself, is kept once
            del tail  # before the next one is made
            memory.keep(self, seen[:, :, -1 if alike else before + frames - self.overlap :])
        return room

    def _rolled(self, x: Tensor, memory: Memory, fill: Fill, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """A clip's last slice, some frames at a time in a room for so many."""
        batch, channels, frames, height, width = x.shape
        lead, step = self.lead, memory.slice_frames
        tail = memory.recall(self)
        room = empty((batch, channels, lead + step, height, width), x, dtype)
        out = empty((batch, self.out_channels, frames, height, width), x, x.dtype)
        for start in range(0, frames, step):
            part = x[:, :, start : start + step]
            end = lead + part.shape[2]
            for frame in range(lead if start else 0):  # one after the other: these places overlap
                room[:, :, frame] = room[:, :, frame + step]
            fill(part, room[:, :, lead:end])
            if start == 0:
                room[:, :, :lead] = room[:, :, lead : lead + 1] if tail is None else tail
                del tail
            out[:, :, start : start + step] = self._convolved(room[:, :, :end], self.weight, bias, x.dtype)
        return out


def single(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int] = (1, 1), padding: int = 1) -> Tensor:
    """One frame and weights for one: PyTorch's convolution of two dimensions, for which libraries know more ways."""
    return F.conv2d(x[:, :, 0], weight[:, :, 0], bias, stride, padding).unsqueeze(2)


def empty(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
    """B C T H W in the memory order that convolutions are fastest in: on CUDA channels last, where they take 2/3 of the
    time and 1/3 of the memory; on a CPU channels first. What follows keeps the order.
    """
    order = torch.channels_last_3d if like.is_cuda or fused(like) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=order)
