"""Block-sparse attention against every score computed and the unwanted ones dropped."""

import pytest
import torch

from upres.models.flashvsr.sparse_attention import masked
from upres.models.kernels.blocks import Tuning, attend_in_lists, key_lists

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3}  # the interpreter cannot multiply matrices of bfloat16


def some_mask(heads: int, queries: int, keys: int) -> torch.Tensor:
    mask = torch.rand(heads, queries, keys, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[0, 0], mask[-1, -1] = False, True
    return mask


@pytest.mark.parametrize("keys_at_a_time", [128, 64])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_only_chosen_blocks_are_seen_and_none_gives_zeros(
    fused: None, dtype: torch.dtype, keys_at_a_time: int
) -> None:
    from upres.models.kernels.fused.blocks import attend_in_blocks as kernel

    generator = torch.Generator().manual_seed(1)
    q = (torch.randn(2 * 128, 2, 16, generator=generator) * 3).to(dtype)
    k, v = torch.randn(2, 3 * 128, 2, 16, generator=generator).to(dtype)
    mask = some_mask(2, 2, 3)
    made = kernel(q, k, v, *key_lists(mask), Tuning(keys_at_a_time, 4, 1))
    wanted = masked(q.double(), k.double(), v.double(), mask)
    assert not made[:128, 0].any()
    torch.testing.assert_close(made.double(), wanted.double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_rows_with_gaps_are_read_where_they_are(fused: None) -> None:
    together = torch.randn(128, 3, 2, 16, generator=torch.Generator().manual_seed(1))
    q, k, v = together.unbind(1)
    mask = torch.ones(2, 1, 1, dtype=torch.bool)
    torch.testing.assert_close(attend_in_lists(q, k, v, *key_lists(mask)), masked(q, k, v, mask), atol=1e-5, rtol=0)


def test_lists_name_the_chosen_blocks_in_order() -> None:
    mask = some_mask(3, 4, 9)
    numbers, counts = key_lists(mask)
    for row, chosen, count in zip(mask.flatten(0, 1), numbers.flatten(0, 1), counts.flatten(), strict=True):
        assert chosen[:count].tolist() == row.nonzero()[:, 0].tolist()
