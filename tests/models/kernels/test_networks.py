"""SeedVR2's networks with fused kernels against the same without them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.seedvr2_recorded import TINY, tensors
from upres.models.kernels import switch
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.vae import VideoVae


def small_dit(size: str) -> Dit:
    dit = Dit(replace(TINY[size], layers=2, shared_from=1 if size == "3b" else 2))
    generator = torch.Generator().manual_seed(4)
    for parameter in dit.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return dit.eval()


def given(dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 4, 6, 33, generator=generator).to(dtype), torch.randn(3, 40, generator=generator), 1000.0


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_the_fused_transformer_gives_the_same_velocity(fused: None, size: str) -> None:
    dit = small_dit(size)
    made = dit(*given(torch.float32))
    switch.use("plain")
    torch.testing.assert_close(made, dit(*given(torch.float32)), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_with_8_bit_products_the_velocity_stays_near(fp8: None, size: str) -> None:
    dit = small_dit(size).bfloat16()
    made = dit(*given(torch.bfloat16)).float()
    switch.use("plain")
    wanted = dit(*given(torch.bfloat16)).float()
    error = (made - wanted).norm() / wanted.norm()
    assert 1e-3 < error < 0.2  # of random weights, and of an interpreter that now and then halves a value


def test_the_fused_autoencoder_gives_the_same_latents_and_frames_slice_by_slice(fused: None) -> None:
    vae = VideoVae(TINY_VAE)
    vae.load_state_dict(tensors("vae_tiny_weights"))
    vae.merge()
    clip = torch.rand(1, 3, 5, 8, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vae.encode(clip)
    frames = vae.decode(latents)
    switch.use("plain")
    torch.testing.assert_close(latents, vae.encode(clip), atol=2e-5, rtol=0)
    torch.testing.assert_close(frames, vae.decode(latents), atol=5e-5, rtol=0)


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_the_plain_transformer_rounds_where_the_fused_one_rounds(fused: None, size: str) -> None:
    """float16, as the interpreter has no products of bfloat16. What is left is the order of sums."""
    dit = small_dit(size).half()
    made = dit(*given(torch.float16))
    switch.use("plain")
    assert (made == dit(*given(torch.float16))).float().mean() > 0.95
