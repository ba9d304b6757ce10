"""What the bench trains computes the same as what Upres runs, and comes back from its files as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bench.gpu import differentiable
from tests.bench.gpu.networks import (
    DIT_FILE,
    TEXT_FILE,
    VAE_FILE,
    as_type,
    clip,
    fill,
    make,
    save,
    transformer,
)
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.vae import VideoVae
from upres.models.seedvr2.windows import window_layout

CPU = torch.device("cpu")


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("merged", [False, True])
def test_the_differentiable_autoencoder_computes_what_ours_does(frames: int, merged: bool) -> None:
    vae = VideoVae(TINY_VAE)
    fill(vae, CPU, torch.float64)
    video = torch.randn(2, 3, frames, 32, 48, dtype=torch.float64)
    latents = torch.randn(2, 16, (frames - 1) // 4 + 1, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        encoded, decoded = differentiable.encode(vae.encoder, video), differentiable.decode(vae.decoder, latents)
    if merged:
        vae.merge()
    with torch.inference_mode():
        torch.testing.assert_close(encoded, vae.encode(video), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(decoded, vae.decode(latents), rtol=1e-5, atol=1e-6)


def test_the_differentiable_transformer_computes_what_ours_does_and_reaches_every_weight() -> None:
    parts = make("3b", CPU, torch.float32, tiny=True)
    dit, latent = parts.dit.requires_grad_(True), torch.randn(3, 8, 12, 33)
    layouts = tuple(window_layout((3, 4, 6), len(parts.text), CPU, shifted=odd) for odd in (False, True))
    for _ in range(2):  # nothing may be kept from the first time
        made = differentiable.velocity(dit, latent, parts.text, (layouts[0], layouts[1]))
        made.square().sum().backward()
    unreached = {name for name, parameter in dit.named_parameters() if parameter.grad is None}
    assert all("txt" in name or ".all." not in name for name in unreached), unreached
    with torch.inference_mode():
        torch.testing.assert_close(made, dit(latent, parts.text, 1000.0), rtol=1e-4, atol=1e-5)


def test_weights_come_back_from_a_folder_as_they_were_saved(tmp_path: Path) -> None:
    made = make("3b", CPU, torch.bfloat16, tiny=True, merged=False)
    save(made.dit, tmp_path / DIT_FILE)
    save(made.vae, tmp_path / VAE_FILE)
    torch.save(made.text, tmp_path / TEXT_FILE)
    back, made = make("3b", CPU, torch.float32, tiny=True, weights=tmp_path), as_type(made, torch.float32)
    made.vae.merge()
    frames, latents = clip(5, 32, 48, CPU, torch.float32), torch.randn(2, 4, 6, 16)
    conditioned = torch.randn(2, 4, 6, 33)
    with torch.inference_mode():
        assert torch.equal(back.encode(frames, None), made.encode(frames, None))
        assert torch.equal(back.decode(latents, None), made.decode(latents, None))
        assert torch.equal(back.dit(conditioned, back.text, 1000.0), made.dit(conditioned, made.text, 1000.0))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    save(make("7b", CPU, torch.bfloat16, tiny=True).dit, tmp_path / DIT_FILE)
    with pytest.raises(ValueError, match=r"dit\.pt: \d+ names are not those of this network"):
        transformer("3b", CPU, torch.float32, tiny=True, weights=tmp_path)
