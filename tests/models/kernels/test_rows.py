"""What happens to tokens between products: the fused passes against the same in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.kernels import fp8 as eight_bits
from upres.models.kernels.fp8 import Rows
from upres.models.kernels.rows import gated, gated_then_modulated, gelu, modulated, quantised, swiglu, taken

EPS = 1e-5
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SHAPES = [(1, 8), (5, 64), (7, 40), (3, 2560)]


def rows(shape: tuple[int, int], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def column_values(columns: int) -> tuple[Tensor, Tensor, Tensor]:
    shift, scale, gate = torch.randn(columns, 3, generator=torch.Generator().manual_seed(5)).unbind(1)  # with gaps
    return shift, scale, gate


def near(made: Tensor | Rows, wanted: Tensor, tolerance: float) -> None:
    assert isinstance(made, Tensor)
    torch.testing.assert_close(made.double(), wanted.double(), atol=tolerance, rtol=tolerance)


def exact_modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.rms_norm(x.double(), x.shape[-1:], eps=EPS) * scale.double() + shift.double()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_normed_and_modulated(fused: None, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, (shift, scale, _) = rows(shape, dtype), column_values(shape[1])
    near(modulated(x, shift, scale, EPS), exact_modulated(x, shift, scale), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_is_gated_and_what_comes_of_it_modulated(
    fused: None, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    x, change, (shift, scale, gate) = rows(shape, dtype), rows(shape, dtype, 1), column_values(shape[1])
    wanted = x.double() + change.double() * gate.double()
    near(gated(x, change, gate), wanted, TOLERANCE[dtype])
    summed, seen = gated_then_modulated(x, change, gate, shift, scale, EPS)
    near(summed, wanted, TOLERANCE[dtype])
    near(seen, exact_modulated(summed, shift, scale), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(fused: None, shape: tuple[int, int], dtype: torch.dtype) -> None:
    both = rows((shape[0], 2 * shape[1]), dtype)
    gate, x = both.chunk(2, dim=1)  # rows with gaps between them
    near(swiglu(gate, x), F.silu(gate.double()) * x.double(), TOLERANCE[dtype])


def test_rows_with_gaps_are_read_where_they_are(fused: None) -> None:
    x, change = rows((5, 96))[:, 16:56], rows((5, 80), seed=1)[:, :40]
    shift, scale, gate = column_values(40)
    summed, seen = gated_then_modulated(x, change, gate, shift, scale, EPS)
    near(summed, x + change * gate, 1e-5)
    near(seen, exact_modulated(summed, shift, scale), 1e-5)


def quantised_near(made: Tensor | Rows, wanted: Tensor) -> None:
    """Three bits of mantissa, so 1/16 at most; where rounding reaches a power of two the interpreter loses a carry."""
    assert isinstance(made, Rows)
    top = wanted.abs().amax(dim=-1, keepdim=True)
    torch.testing.assert_close(made.scales.double(), top / eight_bits.LARGEST, atol=0, rtol=0.02)
    wide = made.values.double() * made.scales.double()
    right = (wide - wanted).abs() <= wanted.abs() / 15 + top / 448 / 256
    carries = torch.frexp(eight_bits.rounded(wanted).values.float()).mantissa.abs() == 0.5
    assert (right | carries).all() and right.double().mean() > 0.9


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_passes_give_8_bit_floats_with_a_scale_for_each_row(fp8: None, shape: tuple[int, int]) -> None:
    x, change = rows(shape, torch.bfloat16), rows(shape, torch.bfloat16, 1)
    shift, scale, gate = column_values(shape[1])
    quantised_near(modulated(x, shift, scale, EPS), exact_modulated(x, shift, scale))
    summed, seen = gated_then_modulated(x, change, gate, shift, scale, EPS)
    quantised_near(seen, exact_modulated(summed, shift, scale))
    quantised_near(swiglu(x, change), F.silu(x.double()) * change.double())
    quantised_near(gelu(x), F.gelu(x.double(), approximate="tanh"))
    quantised_near(quantised(x), x.double())
    numbers = torch.tensor([0, shape[0] - 1, 0])
    quantised_near(taken(x, numbers), x[numbers].double())


def test_a_product_of_8_bit_floats_is_near_the_exact_one() -> None:
    x, weight, bias = rows((9, 64), torch.bfloat16), rows((48, 64), torch.bfloat16, 2), rows((1, 48), torch.bfloat16)[0]
    made = eight_bits.product(eight_bits.rounded(x), eight_bits.rounded(weight), bias)
    wanted = x.double() @ weight.double().T + bias.double()
    error = (made.double() - wanted).norm() / wanted.norm()
    assert made.dtype == torch.bfloat16
    assert 1e-3 < error < 6e-2


def test_a_row_of_zeros_stays_one() -> None:
    assert not eight_bits.rounded(torch.zeros(2, 16)).widened().any()
