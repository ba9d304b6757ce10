"""Norm, rotation and packing of heads: the fused pass against its twin, and the twin against numbers worked by hand."""

import math

import pytest
import torch

from upres.models.kernels import switch
from upres.models.kernels.heads import Source, Turns, packed_heads

EPS = 1e-5
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def source(rows: int, heads: int, dim: int, dtype: torch.dtype, seed: int) -> Source:
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(rows, 3 * heads * dim + 8, generator=generator)[:, : 3 * heads * dim]  # with gaps
    norm_q, norm_k = torch.randn(2, dim, generator=generator)
    return Source(qkv.to(dtype), norm_q.to(dtype), norm_k.to(dtype))


def turns(first: int, second: int, frequencies: int) -> Turns:
    generator = torch.Generator().manual_seed(7)
    angles = torch.randn(9, frequencies, generator=generator) * 3
    table = torch.stack((angles.cos(), angles.sin()), dim=-1)
    places = torch.randint(0, 9, (first + 2 * second, 3), generator=generator)
    rows = torch.cat((torch.randperm(first, generator=generator), torch.arange(first, first + second).repeat(2)))
    places[first + second :] = places[first : first + second]  # copies of a row turn alike
    seen = torch.empty(first + second, dtype=torch.long)
    seen[rows] = torch.arange(len(rows))
    return Turns(table, torch.cat((rows[:, None], places), dim=1).int(), seen)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "dim", "frequencies"), [(3, 16, 2), (5, 32, 5), (2, 8, 1)])
def test_the_fused_pass_is_its_twin(fused: None, heads: int, dim: int, frequencies: int, dtype: torch.dtype) -> None:
    first, second = source(11, heads, dim, dtype, 1), source(4, heads, dim, dtype, 2)
    places = turns(11, 4, frequencies)
    fast = packed_heads(first, second, places, heads, EPS)
    switch.use("plain")
    for made, wanted in zip(fast, packed_heads(first, second, places, heads, EPS), strict=True):
        assert made.shape == wanted.shape == (19, heads, dim) and made.dtype == dtype
        torch.testing.assert_close(made, wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_a_quarter_turn_takes_the_first_of_a_pair_to_the_second() -> None:
    quarter = torch.tensor([[[math.cos(math.pi / 2), math.sin(math.pi / 2)]]])
    places = Turns(quarter, torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, dtype=torch.long))
    ones = torch.ones(8)
    qkv = torch.tensor([[2.0, 0, 0, 0, 0, 0, 0, 0] * 3])
    with torch.inference_mode():
        q, _, v = packed_heads(Source(qkv, ones, ones), Source(qkv[:0], ones, ones), places, 1, 0.0)
    size = math.sqrt(8)  # root mean square one
    torch.testing.assert_close(q, torch.tensor([[[0, size, 0, 0, 0, 0, 0, 0]]]), atol=1e-6, rtol=0)
    assert v[0, 0, 0] == 2
