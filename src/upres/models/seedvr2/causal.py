"""Convolution over time that never looks ahead, and what it remembers. Knows nothing of the networks built from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upres.models.kernels.convolution import convolved, packed, takes
from upres.models.kernels.switch import fp8, fused
from upres.models.seedvr2.config import TIME_SCALE

STEP = 8  # channels that tensor cores take at a time, of half types
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

    def forward(self, x: Tensor, memory: Memory, fill: Fill = copied, *, biased: bool = True) -> Tensor:  # type: ignore[override]
        """B C T H W -> B C' T/stride H' W'; stride * n frames, and one more in the first slice of a clip.

        What is convolved is what `fill` makes of x: it goes where the convolution reads it, behind the frames before
        it, and is never copied. `biased=False` leaves the bias to whoever reads the result.
        """
        bias = self.bias if biased else None
        if fused(x) and (self.in_channels % STEP or self.out_channels % STEP):
            return self._widened(x, memory, fill, bias)
        if fill is not copied and fp8(x) and takes(self.weight, self.stride):  # only a norm's values are of known size
            room = self._led(x, memory, fill, torch.float8_e4m3fn)
            return convolved(room, packed(self.weight), bias, self.kernel_size, int(self.padding[1]), x.dtype)
        return F.conv3d(self._led(x, memory, fill, x.dtype), self.weight, bias, self.stride, self.padding)

    def _widened(self, x: Tensor, memory: Memory, fill: Fill, bias: Tensor | None) -> Tensor:
        """With channels of zeros up to a number that tensor cores take: of 3 channels cuDNN made 9 ms for 4 frames of
        1080p, where their memory takes 1."""
        more_in, more_out = -self.in_channels % STEP, -self.out_channels % STEP
        weight = F.pad(self.weight, (*(0,) * 6, 0, more_in, 0, more_out))
        bias = None if bias is None else F.pad(bias, (0, more_out))
        room = self._led(x, memory, fill, x.dtype, more_in)
        return F.conv3d(room, weight, bias, self.stride, self.padding)[:, : self.out_channels]

    def _led(self, x: Tensor, memory: Memory, fill: Fill, dtype: torch.dtype, more: int = 0) -> Tensor:
        """more: channels of zeros."""
        batch, channels, frames, height, width = x.shape
        tail = memory.recall(self)
        before = self.lead if tail is None else self.overlap
        room = empty((batch, channels + more, before + frames, height + self.border, width + self.border), x, dtype)
        fresh = room[:, :, before:]
        fill(x, fresh[:, :channels, :, :height, :width])
        if more:
            fresh[:, channels:] = 0
        if self.border:
            fresh[..., height:, :] = 0
            fresh[..., width:] = 0
        if before:
            room[:, :, :before] = fresh[:, :, :1] if tail is None else tail
        if self.lead:
            alike = tail is None and frames == 1  # a single frame, seen again before itself, is kept once
            del tail  # before the next one is made
            memory.keep(self, room[:, :, -1 if alike else before + frames - self.overlap :])
        return room


def empty(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
    """B C T H W in the memory order that convolutions are fastest in: on CUDA channels last, where they take 2/3 of the
    time and 1/3 of the memory; on a CPU channels first. What follows keeps the order.
    """
    order = torch.channels_last_3d if like.is_cuda or fused(like) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=order)
