"""Alpha enlarged along a picture's edges: against recorded alphas, and what must hold for any."""

from __future__ import annotations

import pytest
import torch

from tests.seedvr2_recorded import tensors
from upres.restore.alpha import guided_alpha


@pytest.mark.parametrize("kind", ["binary", "gradient"])
def test_alpha_is_the_recorded_one(kind: str) -> None:
    given = tensors("alpha_guided")
    alpha = guided_alpha(given[f"{kind}.in_alpha"], given["upscaled_rgb"])
    torch.testing.assert_close(alpha, given[f"{kind}.out_alpha"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_even_alpha_stays_as_it_is_away_from_the_border(level: float) -> None:
    picture = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1
    alpha = guided_alpha(torch.full((1, 1, 20, 28), level), picture)
    torch.testing.assert_close(alpha[..., 8:-8, 8:-8], torch.full((1, 1, 24, 40), level), atol=0.02, rtol=0)


def test_a_mask_follows_the_edge_of_the_picture() -> None:
    """The mask's step lies a pixel beside the picture's, and is moved to it."""
    picture = torch.full((1, 3, 32, 32), -0.8)
    picture[..., 16:] = 0.8
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    alpha = guided_alpha(mask, picture)[0, 0, 16]
    assert alpha[:14].max() < 0.01 and alpha[18:].min() > 0.99
    assert alpha[15] < 0.1 and alpha[16] > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (16, 5)])
def test_any_size_gives_alpha_between_nothing_and_all(size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    for alpha in (torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4).round()):
        out = guided_alpha(alpha, picture)
        assert out.shape == (2, 1, *size)
        assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1
