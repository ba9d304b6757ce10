"""Convolution of 8-bit floats against its twin and against float64."""

import pytest
import torch
import torch.nn.functional as F

from upres.models.kernels import switch
from upres.models.kernels.convolution import FACTOR, convolved, packed, takes
from upres.models.seedvr2.causal import CausalConv3d, Memory
from upres.models.seedvr2.norm import FrameNorm

LAST = torch.channels_last_3d


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("frames", "height", "width", "kernel"), [(2, 3, 7, (3, 3, 3)), (1, 9, 4, (1, 3, 3))])
def test_the_implicit_product_is_the_convolution(
    fp8: None, frames: int, height: int, width: int, kernel: tuple[int, int, int], biased: bool
) -> None:
    from upres.models.kernels.fused.convolution import Tile
    from upres.models.kernels.fused.convolution import convolved as run

    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 16, frames + kernel[0] - 1, height, width, generator=generator)
    x = (x * FACTOR).to(torch.float8_e4m3fn).contiguous(memory_format=LAST)
    weight = packed(torch.randn(32, 16, *kernel, generator=generator))
    bias = torch.randn(32, generator=generator) if biased else None
    made = run(x, weight, bias, kernel, 1, torch.float32, 1 / FACTOR, Tile(32, 32, 16, 4, 1))
    switch.use("plain")
    wanted = convolved(x, weight, bias, kernel, 1, torch.float32)
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)


def test_long_sums_are_left_to_wider_types() -> None:
    for channels, taken in ((64, False), (128, True), (256, True), (384, False), (512, False)):
        assert takes(torch.empty(128, channels, 3, 3, 3, device="meta"), (1, 1, 1)) is taken


def test_a_causal_convolution_of_8_bit_floats_goes_on_from_slice_to_slice(fp8: None) -> None:
    """Its own twins compute it here: channels of 128 take the interpreter too long."""
    conv, norm = CausalConv3d(128, 128), FrameNorm(32, 128, 1e-6)
    x = torch.randn(1, 128, 3, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    conv.weight.data = torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(1)).bfloat16() / 59
    conv.bias.data, norm.weight.data, norm.bias.data = (torch.randn(3, 128) * 0.1 + 1).bfloat16()
    with pytest.MonkeyPatch.context() as patch:
        for room in ("convolution", "frame_norm"):
            patch.setattr(f"upres.models.kernels.{room}.fused", lambda _: False)
        whole = conv(x, Memory(), norm.activate)
        memory = Memory()
        parts = [conv(part, memory, norm.activate) for part in x.split([1, 2], dim=2)]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    led = F.silu(norm.double()(x.double()))
    led = torch.cat((led[:, :, :1], led[:, :, :1], led), dim=2)
    wanted = F.conv3d(led, conv.weight.double(), conv.bias.double(), padding=(0, 1, 1))
    assert 1e-3 < (whole.double() - wanted).norm() / wanted.norm() < 6e-2
