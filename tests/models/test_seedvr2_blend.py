"""Cross-fades against recorded weights and frames."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from upres.models.seedvr2.blend import cross_fade, fade_out

GOLDEN = Path(__file__).parents[1] / "golden" / "seedvr2"


def test_weights_are_the_recorded_ones() -> None:
    recorded = json.loads((GOLDEN / "temporal_tables.json").read_text())["blend_prev_weight"]
    assert len(recorded) > 10
    for frames, weights in recorded.items():
        assert fade_out(int(frames)) == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("shared", [1, 2, 3, 4, 7])
def test_faded_frames_are_the_recorded_ones(shared: int) -> None:
    recorded = load_file(GOLDEN / "temporal_blend.safetensors")
    faded = cross_fade(recorded[f"ov{shared}.prev"], recorded[f"ov{shared}.cur"])
    torch.testing.assert_close(faded, recorded[f"ov{shared}.out"], atol=1e-6, rtol=0)


def test_no_shared_frames_fade_to_nothing() -> None:
    assert cross_fade(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


def test_windows_that_agree_are_left_alone_in_their_own_dtype() -> None:
    frames = torch.rand(6, 3, 4, 4).bfloat16()
    faded = cross_fade(frames, frames)
    assert faded.dtype == torch.bfloat16
    assert torch.equal(faded, frames)
