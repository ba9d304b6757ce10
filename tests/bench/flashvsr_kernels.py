"""FlashVSR's kernels one by one, at the sizes of a step of 8 frames at 768x1408, in bfloat16: which tile is fastest.

    python -m tests.bench.flashvsr_kernels [attention convolutions others]

On a GPU only. Each line: milliseconds, TFLOP/s, and how far it is off the plain computation, norm to norm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.bench.gpu import attention
from tests.bench.gpu.timing import timed
from upres.models.flashvsr.locality import Choice, Locality
from upres.models.kernels import switch
from upres.models.kernels.choice import chosen
from upres.models.kernels.frame_convolution import convolved, doubled, last_two, merged, paired
from upres.models.kernels.unfolded import convolved as projected

DEVICE = torch.device("cuda")
ROUNDS = 10


def main() -> None:
    switch.use("fused")
    wanted = sys.argv[1:]
    with torch.inference_mode():
        for section in (attentions, convolutions, others):
            if not wanted or section.__name__ in wanted:
                section()


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE).bfloat16()


def shown(name: str, run: Callable[[], Tensor], flops: float, wanted: Tensor | None = None) -> None:
    try:
        apart = 0.0 if wanted is None else float((run().float() - wanted.float()).norm() / wanted.float().norm())
        seconds = timed(run, DEVICE, ROUNDS).seconds
        print(f"  {name:44} {seconds * 1e3:7.3f} ms {flops / seconds / 1e12:6.0f} TFLOP/s, off {apart:.1e}", flush=True)
    except Exception as error:  # a tile that does not fit says so, the others are still tried
        print(f"  {name:44} {type(error).__name__}: {str(error)[:120]}", flush=True)


def attentions() -> None:
    attention.right(DEVICE, partial(print, flush=True))
    for row in attention.measured(DEVICE, ("hopper, fetching warp", "hopper, 8 bits", "rounding of a step", "dense")):
        print(attention.line(row), flush=True)


def convolutions() -> None:
    from upres.models.kernels.fused import frame_convolution as kernels
    from upres.models.kernels.fused.frame_convolution import Tile

    last_format = {"memory_format": torch.channels_last}
    for c, frames, height, width in ((512, 2, 96, 176), (256, 2, 192, 352), (128, 4, 384, 704)):
        x, added = (drawn(frames, c, height, width).contiguous(**last_format) for _ in range(2))
        weight = (drawn(c, c, 3, 3) / (9 * c) ** 0.5).contiguous(**last_format)
        bias, flops = drawn(c), 2 * 9 * c * c * frames * height * width
        name = f"{c}->{c} {frames}x{height}x{width}"
        shown(f"{name} alone", partial(F.conv2d, x, weight, padding=1), flops)
        plain = F.relu(F.conv2d(x, weight, bias, padding=1))
        shown(f"{name} bias, ReLU", partial(convolved, x, weight, bias), flops, plain)
        plain = F.relu(F.conv2d(x, weight, bias, padding=1) + added)
        shown(f"{name} bias, sum, ReLU", partial(convolved, x, weight, bias, added), flops, plain)
        shown(f"{name} pairing", partial(paired, x, added[:1]), 0)
    tiles = [kernels.SQUARE, kernels.WIDE, Tile(128, 256, 64, 8, 4), Tile(256, 128, 64, 8, 3)]
    x = drawn(4, 128, 384, 704).contiguous(**last_format)
    weights = merged(drawn(256, 128, 1, 1) / 128**0.5, drawn(128, 128, 3, 3) / 1152**0.5)
    switch.use("plain")
    plain = doubled(x, weights)
    switch.use("fused")
    for t in tiles:
        shown(f"doubled {t.pixels}x{t.outputs}x{t.inputs} {t.warps} warps {t.stages}",
              partial(kernels.doubled, x, weights, False, t), 2 * 16 * 128 * 256 * 4 * 384 * 704, plain)  # fmt: skip
    shown("doubled, chosen", partial(doubled, x, weights), 2 * 16 * 128 * 256 * 4 * 384 * 704, plain)
    for c, n, grown, size in ((512, 256, 1, (2, 96, 176)), (256, 128, 2, (2, 192, 352))):
        small = drawn(size[0], c, *size[1:]).contiguous(**last_format)
        w = merged(drawn(grown * c, c, 1, 1) / c**0.5, drawn(n, c, 3, 3) / (9 * c) ** 0.5)
        for t in (kernels.SQUARE, kernels.WIDE):
            shown(f"doubled {c}->{grown}x{n} {t.pixels}x{t.outputs}x{t.inputs}",
                  partial(kernels.doubled, small, w, False, t), 32 * c * n * grown * small[:, 0].numel())  # fmt: skip
    del plain
    x = drawn(8, 128, 768, 1408).contiguous(**last_format)
    weight = (drawn(128, 128, 3, 3) / 1152**0.5).contiguous(**last_format)
    last, bias = drawn(3, 128, 3, 3) / 1152**0.5, drawn(3)
    flops = 2 * 9 * 128 * 131 * 8 * 768 * 1408
    plain = F.conv2d(F.relu_(F.conv2d(x, weight, padding=1)), last, bias, padding=1)
    for t in (tile for tile in tiles if tile.outputs == 128):
        shown(f"last two {t.pixels}x{t.outputs}x{t.inputs} {t.warps} warps {t.stages}",
              partial(kernels.last_two, x, weight, last, bias, t), flops, plain)  # fmt: skip
    shown("last two, chosen", partial(last_two, x, weight, last, bias), flops, plain)


def others() -> None:
    for c, n, frames in ((768, 2048, 10), (2048, 3072, 6)):
        x = drawn(1, c, frames, 48, 88).contiguous(memory_format=torch.channels_last_3d)
        weight = (drawn(n, c, 4, 3, 3) / (36 * c) ** 0.5).contiguous(memory_format=torch.channels_last_3d)
        bias = drawn(n)
        flops = 2 * 36 * c * n * (frames // 2 - 1) * 48 * 88
        switch.use("plain")
        plain = projected(x, weight, bias, 2, 16.0)
        for mode in ("plain", "fused", "fp8"):
            switch.use(mode)
            shown(f"projection {c}->{n} {mode}", partial(projected, x, weight, bias, 2, 16.0), flops, plain)
        switch.use("fused")
    for height, width in ((768, 1408), (1536, 2688)):
        locality = Locality.of(height, width, 2.0, 11, DEVICE)
        q, k = torch.randn(5 * locality.windows, 12, 128, device=DEVICE).split([locality.windows, 4 * locality.windows])
        mask = Choice()(q, k, locality.near, locality.top)
        _, counts = chosen(q, k, locality.near, locality.top)
        off = (counts - mask.sum(-1)).abs().sum()
        print(f"choice {height}x{width}: counts differ from the plain choice's by {int(off)} of {int(mask.sum())}")
        shown("choice, plain", lambda: Choice()(q, k, locality.near, locality.top), 0)  # noqa: B023
        shown("choice, lists", lambda: chosen(q, k, locality.near, locality.top)[0], 0)  # noqa: B023


if __name__ == "__main__":
    main()
