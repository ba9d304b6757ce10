"""Convolutions of few channels in or out: the fused ones against PyTorch's own, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels.few_channels import convolved, takes

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3}  # interpreted, bfloat16 has no products
ONCE, AROUND = (1, 1, 1), (0, 1, 1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("entry", "outputs"), [(3, 16), (16, 3), (64, 3)])
@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 5, 13, 11)])
def test_it_is_the_convolution_without_a_frame_of_zeros(
    fused: None, shape: tuple[int, int, int, int], entry: int, outputs: int, biased: bool, dtype: torch.dtype
) -> None:
    batch, *sides = shape
    x, weight = last(drawn(batch, entry, *sides).to(dtype)), (drawn(outputs, entry, 3, 3, 3, seed=1) / 9).to(dtype)
    bias = drawn(outputs, seed=2).to(dtype) if biased else None
    assert takes(x, weight, ONCE, 1)
    wanted = F.conv3d(x.double(), weight.double(), None if bias is None else bias.double(), padding=AROUND)
    made = convolved(x, weight, bias)
    assert made.dtype == dtype
    torch.testing.assert_close(made.double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_a_room_behind_other_frames_is_read_where_it_lies(fused: None) -> None:
    whole, weight = last(drawn(1, 16, 7, 6, 9)), drawn(3, 16, 3, 3, 3, seed=1)
    x = whole[:, :, 2:6]
    assert takes(x, weight, ONCE, 1)
    torch.testing.assert_close(convolved(x, weight, None), F.conv3d(x, weight, padding=AROUND), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "stride", "padding"),
    [((16, 16, 3, 3, 3), ONCE, 1), ((3, 24, 3, 3, 3), ONCE, 1), ((3, 16, 1, 3, 3), ONCE, AROUND),
     ((3, 16, 3, 3, 3), (1, 2, 2), 1), ((3, 16, 3, 3, 3), ONCE, 0)],
)  # fmt: skip
def test_all_others_are_left_to_pytorch(
    fused: None, shape: tuple[int, ...], stride: tuple[int, ...], padding: int
) -> None:
    x = last(drawn(1, shape[1], 4, 5, 6))
    assert not takes(x, torch.zeros(shape), stride, padding)


def test_frames_with_gaps_between_them_are_left_to_pytorch(fused: None) -> None:
    x = last(drawn(1, 16, 8, 5, 6))[:, :, ::2]
    assert not takes(x, torch.zeros(3, 16, 3, 3, 3), ONCE, 1)


def test_the_plain_way_is_pytorchs_own() -> None:
    x, weight, bias = drawn(1, 3, 4, 5, 6), drawn(16, 3, 3, 3, 3, seed=1), drawn(16, seed=2)
    assert torch.equal(convolved(x, weight, bias), F.conv3d(x, weight, bias, padding=AROUND))
