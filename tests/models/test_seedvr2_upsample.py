"""The merged enlargement against the two convolutions it was made of, in float64, and in slices against the whole."""

import pytest
import torch

from upres.models.seedvr2.causal import Memory
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.upsample import Upsample
from upres.models.seedvr2.vae import VideoVae

pytestmark = pytest.mark.usefixtures("small_tensors")


def pair(time_factor: int, channels: int = 5) -> tuple[Upsample, Upsample]:
    plain, merged = (Upsample(channels, time_factor).double() for _ in range(2))
    generator = torch.Generator().manual_seed(time_factor)
    for parameter in plain.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    merged.load_state_dict(plain.state_dict())
    merged.merge()
    return plain, merged


def clip(frames: int, height: int = 4, width: int = 3, channels: int = 5) -> torch.Tensor:
    return torch.randn(2, channels, frames, height, width, generator=torch.Generator().manual_seed(frames)).double()


@pytest.mark.parametrize("size", [(4, 3), (1, 1), (1, 5), (2, 2)], ids=str)
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("time_factor", [1, 2])
def test_merged_it_gives_what_the_two_convolutions_give(time_factor: int, frames: int, size: tuple[int, int]) -> None:
    plain, merged = pair(time_factor)
    x = clip(frames, *size)
    wanted = plain(x, Memory())
    assert wanted.shape[2] == (2 * frames - 1 if time_factor == 2 else frames)
    torch.testing.assert_close(merged(x, Memory()), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("portions", [[1] * 5, [2, 3], [3, 2], [1, 4], [4, 1], [1, 1, 3]], ids=str)
@pytest.mark.parametrize("time_factor", [1, 2])
def test_merged_it_gives_the_same_in_slices_and_forgets_the_clip_at_its_end(
    time_factor: int, portions: list[int]
) -> None:
    plain, merged = pair(time_factor)
    x, memory, made = clip(5), Memory(), []
    slices = x.split(portions, dim=2)
    for index, part in enumerate(slices):
        memory.closing = index == len(slices) - 1
        made.append(merged(part, memory))
        assert memory.nbytes <= 2 * 5 * 2 * 4 * 3 * 8
    torch.testing.assert_close(torch.cat(made, dim=2), plain(x, Memory()), atol=1e-12, rtol=0)
    assert len(memory) == 0


def test_a_merged_autoencoder_decodes_as_before_and_keeps_its_keys() -> None:
    plain, merged = VideoVae(TINY_VAE).double(), VideoVae(TINY_VAE).double()
    merged.load_state_dict(plain.state_dict())
    merged.merge()
    latents = torch.randn(1, 16, 4, 3, 2, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(merged.decode(latents), plain.decode(latents), atol=1e-10, rtol=0)
    assert merged.state_dict().keys() == plain.state_dict().keys()
