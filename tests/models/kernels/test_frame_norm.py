"""The fused frame norm against its twin in float64: shapes that fill no tile, large means, gaps in memory."""

import pytest
import torch
from torch import Tensor

from upres.models.kernels import switch
from upres.models.kernels.frame_norm import _sums, by_sums, frame_norm, total

TOLERANCE = {torch.float32: 2e-5, torch.float16: 6e-3, torch.bfloat16: 5e-2}


def picture(shape: tuple[int, ...], dtype: torch.dtype, mean: float = 0.5) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 + mean
    return values.to(dtype).contiguous(memory_format=torch.channels_last_3d)


def exact(x: Tensor, groups: int, weight: Tensor, bias: Tensor, before: Tensor | None, silu: bool) -> Tensor:
    x = x.double() if before is None else x.double() + before.double().view(-1, 1, 1, 1)
    frames = [torch.nn.functional.group_norm(x[:, :, t], groups, weight.double(), bias.double(), 1e-6)
              for t in range(x.shape[2])]  # fmt: skip
    out = torch.stack(frames, dim=2)
    return torch.nn.functional.silu(out) if silu else out


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("silu", "with_bias"), [(True, True), (False, False)])
@pytest.mark.parametrize(
    ("shape", "groups"), [((1, 8, 3, 5, 7), 4), ((2, 24, 2, 23, 17), 4), ((1, 16, 2, 1, 3), 2)]
)
def test_it_is_the_group_norm_of_each_frame(
    fused: None, shape: tuple[int, ...], groups: int, dtype: torch.dtype, silu: bool, with_bias: bool
) -> None:
    x = picture(shape, dtype)
    weight, bias, before = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(9)).to(dtype)
    given = before if with_bias else None
    made = frame_norm(x, groups, weight, bias, 1e-6, silu=silu, before=given)
    wanted = exact(x, groups, weight, bias, given, silu)
    torch.testing.assert_close(made.double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_a_large_mean_costs_no_digits(fused: None) -> None:
    x = picture((1, 8, 2, 30, 20), torch.float32, mean=3000)
    weight, bias = torch.ones(8), torch.zeros(8)
    wanted = exact(x, 2, weight, bias, None, False)
    torch.testing.assert_close(frame_norm(x, 2, weight, bias, 1e-6).double(), wanted, atol=2e-3, rtol=0)


def test_it_writes_into_the_room_it_is_given_and_nowhere_else(fused: None) -> None:
    x, whole = picture((1, 8, 3, 4, 5), torch.float32), picture((1, 8, 6, 4, 5), torch.float32)
    before = whole.clone()
    room = whole[:, :, 2:5]
    frame_norm(x, 4, torch.ones(8), torch.zeros(8), 1e-6, silu=True, room=room)
    torch.testing.assert_close(room.double(), exact(x, 4, torch.ones(8), torch.zeros(8), None, True), atol=2e-5, rtol=0)
    assert torch.equal(whole[:, :, :2], before[:, :, :2]) and torch.equal(whole[:, :, 5:], before[:, :, 5:])


def test_its_twin_computes_the_same(fused: None) -> None:
    x = picture((1, 8, 3, 5, 7), torch.float32)
    weight, bias, before = torch.randn(3, 8, generator=torch.Generator().manual_seed(9))
    fast = frame_norm(x, 4, weight, bias, 1e-6, silu=True, before=before)
    plain = frame_norm(x.contiguous(), 4, weight, bias, 1e-6, silu=True, before=before)  # channels first: the twin
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=0)


def test_values_for_8_bit_floats_are_scaled_and_cut_off(fp8: None) -> None:
    from upres.models.kernels.fused.frame_norm import frame_norm as kernel

    x = picture((1, 8, 2, 5, 7), torch.float32)
    weight, bias = torch.full((8,), 30.0), torch.zeros(8)
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    kernel(x, 4, weight, bias, 1e-6, True, None, out, factor=16.0)
    wanted = (exact(x, 4, weight, bias, None, True) * 16).clamp(-448, 448).to(torch.float8_e4m3fn)
    assert out.float().max() == 448
    right = torch.isclose(out.float(), wanted.float(), atol=0.004, rtol=0.07)
    assert right.float().mean() > 0.99  # the interpreter loses a carry where rounding reaches the next power of two


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_sum_takes_the_bias_along(fused: None, dtype: torch.dtype) -> None:
    h, x = picture((1, 24, 2, 9, 13), dtype), picture((1, 24, 2, 9, 13), dtype, mean=-1)
    bias = torch.randn(24, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = h.double() + x.double() + bias.double().view(-1, 1, 1, 1)
    torch.testing.assert_close(total(h, x, bias).double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("silu", "with_bias"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_gpus_twin_is_the_group_norm_of_each_frame_too(dtype: torch.dtype, silu: bool, with_bias: bool) -> None:
    x = picture((2, 24, 3, 9, 13), dtype)
    weight, bias, before = torch.randn(3, 24, generator=torch.Generator().manual_seed(9)).to(dtype)
    given = before if with_bias else None
    made = by_sums(x, 4, weight, bias, 1e-6, torch.empty_like(x), silu=silu, before=given)
    wanted = exact(x, 4, weight, bias, given, silu)
    torch.testing.assert_close(made.double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(1, 8, 3, 5, 7), (2, 24, 2, 23, 17)])
def test_a_norm_behind_a_sum_takes_what_was_summed_on_the_way(fused: None, shape: tuple[int, ...]) -> None:
    h, x = picture(shape, torch.float32, mean=60), picture(shape, torch.float32, mean=-20)
    weight, bias, more = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(9))
    made = total(h, x, bias)
    fast = frame_norm(made, 4, weight, bias, 1e-6, silu=True, before=more)
    wanted = exact(made, 4, weight, bias, more, True)
    torch.testing.assert_close(fast.double(), wanted, atol=2e-4, rtol=2e-4)
    _sums[made].partial[:, :, 0] += 1  # if they were not what it reads, nothing would change
    assert not torch.allclose(frame_norm(made, 4, weight, bias, 1e-6, silu=True, before=more), fast)


def test_twins_round_where_kernels_round(fused: None) -> None:
    """float16, as the interpreter has no products of bfloat16: nearly all values are the same, bit for bit."""
    h, x = picture((1, 24, 2, 9, 13), torch.float16), picture((1, 24, 2, 9, 13), torch.float16, mean=-1)
    weight, bias, before = torch.randn(3, 24, generator=torch.Generator().manual_seed(9)).half()

    def made() -> Tensor:
        normed = frame_norm(x, 4, weight, bias, 1e-6, silu=True, before=before)
        return torch.stack((normed, total(h.clone(), x, bias)))

    fast = made()
    switch.use("plain")
    assert (fast == made()).float().mean() > 0.995
