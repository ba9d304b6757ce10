"""Softmax of long rows, and the attention that is made of it and two products."""

import pytest
import torch
import torch.nn.functional as F

from upres.models.attention import by_products
from upres.models.kernels.softmax import softmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [1, 7, 64, 5000])
def test_weights_are_those_of_float64(fused: None, columns: int, dtype: torch.dtype) -> None:
    scores = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns)) * 40
    wanted = (scores.double() * 0.3).softmax(dim=-1)
    made = softmax(scores.clone(), 0.3, dtype)
    assert made.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    torch.testing.assert_close(made.double(), wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("at_once", [1, 37 * 10, 10**6])
def test_attention_by_products_is_attention_however_few_scores_fit(at_once: int) -> None:
    q, k, v = torch.randn(3, 2, 37, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = F.scaled_dot_product_attention(q, k, v)
    with torch.inference_mode():
        torch.testing.assert_close(by_products(q, k, v, at_once), wanted, atol=1e-12, rtol=0)


def test_attention_by_products_is_attention_fused(fused: None) -> None:
    q, k, v = torch.randn(3, 2, 37, 16, generator=torch.Generator().manual_seed(0))
    wanted = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(by_products(q, k, v, 200), wanted, atol=1e-5, rtol=0)
