"""The embedded model as a Restorer: any source size to any target size. Knows nothing of files, tasks or ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, log2
from pathlib import Path

import torch
from torch import Tensor

from upres.errors import WeightsInvalid
from upres.models.compact.checkpoint import read
from upres.models.compact.net import SCALE, CompactNet, resample, widen
from upres.models.limits import Limits
from upres.models.restorer import StreamSpec

MAX_PASSES = 3  # x8; what is missing beyond that is bicubic
TILE = {"cpu": 256, "cuda": 1024}  # input pixels a side: the network's own memory stays near 60 MB and 700 MB
LIMITS = Limits(takes="source", dtypes=("float32", "bfloat16"))


def load(files: tuple[Path, ...], device: torch.device) -> CompactRestorer:
    """The catalogue's factory. Raises WeightsInvalid unless `files` is one exact weights file."""
    if len(files) != 1:
        raise WeightsInvalid(f"compact is one weights file, got {len(files)}", remedy="name exactly one")
    return CompactRestorer(read(files[0]), device, compute_dtype(device))


def compute_dtype(device: torch.device) -> torch.dtype:
    """What the convolutions run in. weights/README.md has the measurements.

    CUDA: float32 (torch lets convolutions use TensorFloat-32), on an H100 as fast as float16 and no less exact.
    CPU: bfloat16 if it has instructions for it (AMX or AVX-512 BF16), about twice as fast as float32 and on average
    0.04 of an 8-bit step away from it; else float32.
    """
    if device.type != "cpu":
        return torch.float32
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("amx_bf16") or has.get("avx512_bf16") else torch.float32


class CompactRestorer:
    """The network on a device. Stateless between frames: the streams it opens share nothing but the weights."""

    limits = LIMITS
    footprint = None

    def __init__(self, net: CompactNet, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self.net = net.to(device, dtype)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub lacks it; see nn.Module.to

    def open(self, spec: StreamSpec) -> CompactStream:
        """`spec.seed` is accepted and has no effect: the network draws no random numbers.

        The same weights, device kind and dtype give the same frames. `spec.window` has no effect either, each frame
        stands alone; nor has `spec.tile_quality`, as tiles always overlap by all the network can see.
        """
        return CompactStream(self.net, spec)


class CompactStream:
    """One clip through the network, frame by frame; a frame pushed is a frame yielded, `flush` has nothing left.

    Each pass doubles the frame, ceil(log2(ratio)) times, at least once and at most MAX_PASSES times, then one
    antialiased bicubic step leads to the exact target. Peak memory: the largest doubled frame and what it was made from
    (12 bytes a pixel each), and the network on one tile.
    """

    def __init__(self, net: CompactNet, spec: StreamSpec) -> None:
        self.net = net
        self.spec = spec
        self.passes = passes(spec)
        self.fresh = 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """T C H W, float, [-1, 1] -> T times 1 C H W, float32, about [-1, 1]."""
        if tuple(frames.shape[1:]) != (3, self.spec.input_height, self.spec.input_width):
            raise ValueError(
                f"frames are {tuple(frames.shape)}, opened for T 3 {self.spec.input_height} {self.spec.input_width}"
            )
        for index in range(frames.shape[0]):
            self.fresh += 1
            yield self._restore(frames[index : index + 1])

    def flush(self) -> Iterator[Tensor]:
        return iter(())

    @torch.no_grad()
    def _restore(self, frame: Tensor) -> Tensor:
        for _ in range(self.passes):
            frame = self._double(frame)
        return resample(frame, self.spec.output_height, self.spec.output_width)

    def _double(self, frame: Tensor) -> Tensor:
        side = max(frame.shape[-2:]) if self.spec.tiling == "off" else TILE.get(frame.device.type, TILE["cpu"])
        return doubled(self.net, frame, side)


def passes(spec: StreamSpec) -> int:
    """How often the frame is doubled before the last resampling."""
    ratio = max(spec.output_height / spec.input_height, spec.output_width / spec.input_width)
    return min(MAX_PASSES, max(1, ceil(log2(ratio))))


def doubled(net: CompactNet, frame: Tensor, side: int) -> Tensor:
    """The whole frame through `net`, in squares of `side` input pixels. B C H W -> B C 2H 2W, float32.

    Each square is given all the network can see around it, so no seam can arise: tiles differ from the whole by
    rounding only (other sizes may take other convolution kernels).
    """
    batch, channels, height, width = frame.shape
    margin = net.config.reach
    wide = widen(frame, margin)
    output = frame.new_empty((batch, channels, SCALE * height, SCALE * width), dtype=torch.float32)
    for top, left in product(range(0, height, side), range(0, width, side)):
        bottom, right = min(top + side, height), min(left + side, width)
        tile = wide[..., top : bottom + 2 * margin, left : right + 2 * margin]
        output[..., SCALE * top : SCALE * bottom, SCALE * left : SCALE * right] = net(
            tile.contiguous(memory_format=torch.channels_last)
        )
    return output
