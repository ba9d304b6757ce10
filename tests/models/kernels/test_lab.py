"""The fused colour correction against its twin: rounding moves few pixels, ties are treated alike."""

import pytest
import torch
from torch import Tensor

from upres.models.kernels import switch
from upres.restore.color import correct


def pair(frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    restored = torch.rand(frames, 3, height, width, generator=generator) * 2.4 - 1.2
    return restored, (restored * 0.7 + 0.1).clamp(-1, 1).flip(-1)


def both(restored: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    made = correct("lab", restored, source)
    before = switch.use("plain")
    wanted = correct("lab", restored, source)
    switch.use(before)
    return made, wanted


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 7), (1, 5, 1), (2, 40, 52), (3, 9, 130)])
def test_it_gives_its_twins_colours(fused: None, size: tuple[int, int, int]) -> None:
    made, wanted = both(*pair(*size))
    apart = (made - wanted).abs()
    assert made.shape == wanted.shape and made.is_contiguous()
    assert (apart > 1e-4).float().mean() < 0.01  # two near ones changed their ranks
    assert apart.mean() < 2e-5


def test_pixels_in_any_order_of_memory_are_taken_and_left_as_they_are(fused: None) -> None:
    restored, source = (x.contiguous(memory_format=torch.channels_last) for x in pair(2, 24, 32))
    before = restored.clone(), source.clone()
    made, wanted = both(restored, source)
    assert (made - wanted).abs().mean() < 2e-5
    assert torch.equal(restored, before[0]) and torch.equal(source, before[1])


def test_equal_pixels_stay_equal_and_black_and_white_stay_in_range(fused: None) -> None:
    restored, source = pair(1, 32, 48)
    restored[..., :24], source[..., :40] = 0.3, -0.5
    source[..., 40:] = torch.tensor([1.0, -1.0]).repeat(4)
    made, wanted = both(restored, source)
    torch.testing.assert_close(made, wanted, atol=1e-3, rtol=0)
    assert made.isfinite().all() and made.abs().max() <= 1
