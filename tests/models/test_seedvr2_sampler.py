"""SeedVR2's one step: its noise, its condition and its result, against recorded runs of the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.seedvr2_recorded import table, tensors, tiny_dit
from upres.models.seedvr2.sampler import condition, draw_noise, sample, shifted_timestep

SEED = 42


@pytest.mark.parametrize("name", ["sampler_seed42_vid", "pipeline_rng_seed42_vid", "pipeline_rng_seed42_img"])
def test_a_seed_draws_the_recorded_noise_bit_for_bit(name: str) -> None:
    given = tensors(name)
    latent = torch.empty(given["in.noise0"].shape)
    for _ in range(2):  # the seed is set afresh each time
        start, second = draw_noise(latent, SEED)
        assert torch.equal(start, given["in.noise0"])
        assert torch.equal(second, given["in.noise_aug0"])


def test_another_seed_draws_other_noise_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    assert not torch.equal(draw_noise(torch.empty(1, 2, 2, 16), 1)[0], draw_noise(torch.empty(1, 2, 2, 16), 2)[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "size", "windows", "noise_scale"),
    [
        ("sampler_seed42_vid", "3b", 1, 0.0),
        ("pipeline_img_lab", "3b", 1, 0.0),
        ("pipeline_rgba", "3b", 1, 0.0),
        ("pipeline_vid_overlap", "3b", 4, 0.0),
        ("pipeline_vid_noise_none", "7b", 2, 0.25),
    ],
)
def test_one_step_gives_the_recorded_latent(name: str, size: str, windows: int, noise_scale: float) -> None:
    given, dit = tensors(name), tiny_dit(size)
    for window in range(windows):
        start, second = given[f"in.noise{window}"], given[f"in.noise_aug{window}"]
        degraded = condition(given[f"mid.b{window}.cond_latent"], start, second, noise_scale)
        with torch.inference_mode():
            restored = sample(dit, start, degraded, given["in.txt"])
        torch.testing.assert_close(restored, given[f"mid.b{window}.upscaled_latent"], atol=1e-4, rtol=0)


def test_the_mask_says_that_all_of_the_latent_is_given() -> None:
    latent, start, second = torch.randn(3, 2, 4, 6, 16, generator=torch.Generator().manual_seed(0))
    degraded = condition(latent, start, second)
    assert torch.equal(degraded[..., :16], latent)
    assert torch.equal(degraded[..., 16:], torch.ones(2, 4, 6, 1))


def test_a_fully_noised_condition_keeps_nothing_of_the_latent() -> None:
    latent, start, second = torch.randn(3, 2, 4, 6, 16, generator=torch.Generator().manual_seed(0))
    degraded = condition(latent, start, second, noise_scale=1.0)
    torch.testing.assert_close(degraded[..., :16], 0.1 * start + 0.05 * second)


@pytest.mark.parametrize("row", table("timestep_shift"), ids=lambda row: f"{row['latent_shape_THW']}-{row['t']}")
def test_timesteps_shift_as_recorded(row: dict[str, Any]) -> None:
    assert shifted_timestep(row["t"], tuple(row["latent_shape_THW"])) == pytest.approx(row["out"], rel=1e-6)
