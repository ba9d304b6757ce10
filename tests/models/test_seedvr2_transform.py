"""Sizes and pixels that the autoencoder gets, against recorded ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from upres.models.seedvr2.transform import geometry, to_video

GOLDEN = Path(__file__).parents[1] / "golden" / "seedvr2"
CASES = [(24, 34, 56, 0), (30, 20, 50, 60), (64, 80, 48, 0)]  # height, width, resolution, max_resolution


def test_sizes_are_the_recorded_ones() -> None:
    rows = json.loads((GOLDEN / "resize_table.json").read_text())["rows"]
    assert len(rows) == 70
    for row in rows:
        sizes = geometry(row["h"], row["w"], row["resolution"], row["max_resolution"])
        assert [list(sizes.steps[-1]), list(sizes.true), list(sizes.padded)] == [
            row["resized"],
            row["true_dims_even"],
            row["padded16"],
        ]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_pixels_are_the_recorded_ones(case: int) -> None:
    recorded = load_file(GOLDEN / "transform_pixels.safetensors")
    video = to_video(recorded[f"in{case}"], geometry(*CASES[case]))
    torch.testing.assert_close(video, recorded[f"out{case}"], atol=1e-5, rtol=0)


def test_half_precision_frames_give_the_recorded_bits() -> None:
    recorded = load_file(GOLDEN / "transform_pixels.safetensors")
    video = to_video(recorded["in1"].bfloat16(), geometry(*CASES[1]))
    assert torch.equal(video, recorded["out1_bf16in"])


def test_the_frames_given_are_not_changed() -> None:
    frames = torch.rand(1, 3, 32, 32) * 2 - 0.5
    before = frames.clone()
    video = to_video(frames, geometry(32, 32, 32))
    assert torch.equal(frames, before)
    assert video.abs().max() <= 1
