"""Convolutions of every second pixel: the fused one against PyTorch's own, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.halving import halved, takes

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3}  # interpreted, bfloat16 has no products


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("taps", "step"), [(1, 1), (3, 2)])
@pytest.mark.parametrize(("batch", "channels", "outputs", "biased"), [(1, 16, 32, True), (2, 48, 16, False)])
def test_it_is_the_convolution_with_zeros_at_the_right_and_below(
    fused: None, batch: int, channels: int, outputs: int, biased: bool, taps: int, step: int, dtype: torch.dtype
) -> None:
    x = last(drawn(batch, channels, 5, 6, 10).to(dtype))
    weight, bias = (drawn(outputs, channels, taps, 3, 3, seed=1) / 12).to(dtype), drawn(outputs, seed=2).to(dtype)
    given = bias if biased else None
    assert takes(x, weight)
    wide = F.pad(x.double(), (0, 1, 0, 1))
    wanted = F.conv3d(wide, weight.double(), None if given is None else given.double(), stride=(step, 2, 2))
    made = halved(x, weight, given, step)
    assert made.dtype == dtype and made.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(made.double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_what_it_cannot_do_is_left_to_pytorch(fused: None) -> None:
    x = last(drawn(1, 24, 2, 6, 8))
    assert not takes(x, drawn(16, 24, 1, 3, 3))  # 24 channels
    assert not takes(x[:, :16].contiguous(), drawn(16, 16, 1, 3, 3))  # channels first
    assert not takes(last(x[:, :16]), drawn(16, 16, 1, 1, 1))
    made = halved(x, drawn(16, 24, 1, 3, 3), None)
    torch.testing.assert_close(made, F.conv3d(F.pad(x, (0, 1, 0, 1)), drawn(16, 24, 1, 3, 3), stride=(1, 2, 2)))
