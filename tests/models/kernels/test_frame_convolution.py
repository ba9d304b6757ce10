"""Convolutions of frames: the fused ones against PyTorch's own, and what is merged against what it was merged of."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.kernels import switch
from upres.models.kernels.frame_convolution import convolved, doubled, last_two, merged, paired

CHANNELS = 16


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weight(outputs: int, entries: int, side: int = 3, seed: int = 1) -> Tensor:
    return drawn(outputs, entries, side, side, seed=seed) / (entries * side * side) ** 0.5


def near(made: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(made, wanted, atol=2e-5, rtol=2e-5)


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def test_frames_are_convolved_with_bias_sum_and_relu() -> None:
    x, w, bias, added = drawn(2, 32, 5, 7), weight(16, 32), drawn(16, seed=2), drawn(2, 16, 5, 7, seed=3)
    plain = F.conv2d(x, w, bias, padding=1)
    near(convolved(x, w, bias), F.relu(plain))
    near(convolved(x, w, bias, added), F.relu(plain + added))


@pytest.mark.parametrize("channels", [16, 40])
def test_each_frame_is_paired_with_the_one_before_it(fused: None, channels: int) -> None:
    x, before = last(drawn(3, channels, 37, 19)), drawn(1, channels, 37, 19, seed=1)
    fast = paired(x, before)
    switch.use("plain")
    assert torch.equal(fast, paired(x, before)) and torch.equal(fast[0, channels:], before[0])


@pytest.mark.parametrize("grown", [1, 2])
def test_grown_doubled_and_convolved_is_one_convolution_of_small_frames(fused: None, grown: int) -> None:
    x, grow, w = last(drawn(3, 32, 4, 5)), weight(grown * 48, 32, side=1), weight(CHANNELS, 48, seed=2)
    frames = F.conv2d(x, grow).unflatten(1, (grown, 48)).flatten(0, 1)
    wanted = F.conv2d(F.interpolate(frames, scale_factor=2.0, mode="nearest"), w, padding=1)
    fast = doubled(x, merged(grow, w))
    fast_relu = doubled(x, merged(grow, w), relu=True)
    switch.use("plain")
    for made in (fast, doubled(x, merged(grow, w))):
        near(made, wanted)
    near(fast_relu, F.relu(wanted))


def test_the_last_two_convolutions_are_one_pass(fused: None) -> None:
    x, w, end, bias = last(drawn(2, 16, 6, 5)), weight(32, 16), weight(3, 32, seed=4), drawn(3, seed=5)
    near(last_two(x, w, end, bias), F.conv2d(F.relu(F.conv2d(x, w, padding=1)), end, bias, padding=1))


def test_the_fused_decoder_gives_the_same_frames_step_by_step(fused: None) -> None:
    net = TinyDecoder(DecoderConfig((32, 16, 16, 16), 4)).requires_grad_(False)
    for number, parameter in enumerate(net.parameters()):
        parameter.copy_(drawn(*parameter.shape, seed=number) * parameter[0].numel() ** -0.5)
    latents, frames = drawn(4, 3, 2, 3), drawn(9, 3, 16, 24, seed=1)
    memory = net.open()
    fast = torch.cat([net(latents[:, :1], frames[:1], memory), net(latents[:, 1:], frames[1:], memory)])
    assert memory.merged
    switch.use("plain")
    torch.testing.assert_close(fast, net(latents, frames, net.open()), atol=2e-4, rtol=0)
