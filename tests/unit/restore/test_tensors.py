"""Pixels on their way to a model, against recorded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from upres.restore.plan import Size, enlargement
from upres.restore.tensors import enlarge, pad_black, to_bytes, to_model, to_pixels

GOLDEN = Path(__file__).parents[2] / "golden" / "seedvr2"
CASES = [(24, 34, 56, 0), (30, 20, 50, 60), (64, 80, 48, 0)]  # height, width, resolution, longest


def transformed(pixels: Tensor, height: int, width: int, resolution: int, longest: int) -> Tensor:
    steps = enlargement(Size(height, width), resolution, longest)
    return to_model(pad_black(enlarge(pixels, steps), steps[-1].padded(16))).transpose(0, 1)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_pixels_are_the_recorded_ones(case: int) -> None:
    recorded = load_file(GOLDEN / "transform_pixels.safetensors")
    video = transformed(recorded[f"in{case}"], *CASES[case])
    torch.testing.assert_close(video, recorded[f"out{case}"], atol=1e-5, rtol=0)


def test_half_precision_pixels_give_the_recorded_bits() -> None:
    recorded = load_file(GOLDEN / "transform_pixels.safetensors")
    assert torch.equal(transformed(recorded["in1"].bfloat16(), *CASES[1]), recorded["out1_bf16in"])


def test_what_bicubic_overshoots_is_clamped_and_the_pixels_given_are_not_changed() -> None:
    pixels = torch.rand(1, 3, 8, 8).round()
    before = pixels.clone()
    enlarged = enlarge(pixels, [Size(32, 32)])
    assert torch.equal(pixels, before)
    assert enlarged.min() >= 0 and enlarged.max() <= 1


def test_bytes_come_back_as_they_were() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3).contiguous().numpy()
    assert (to_bytes(to_model(to_pixels(levels, torch.device("cpu")))) == levels).all()
