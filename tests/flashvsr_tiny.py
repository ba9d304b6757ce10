"""A whole FlashVSR of a few hundred thousand parameters, in memory and as files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from upres.catalog.flashvsr import FLASHVSR_PROMPT, FLASHVSR_VAE, VERSIONS, flashvsr_file
from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.lq_projection import LqConfig, LqProjection
from upres.models.flashvsr.restorer import FlashVsrRestorer
from upres.models.flashvsr.stream import Parts
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder

DIT = DitConfig(dim=24, layers=2, heads=2, ffn_dim=32, text_dim=16, waves=16)
LQ, TINY, WAN = LqConfig((4, 6), dim=24), DecoderConfig((8, 6, 6, 4)), WanConfig(2)
CPU = torch.device("cpu")


def randomised(net: nn.Module, seed: int = 1) -> nn.Module:
    """Small random numbers, but what keeps activations in bounds: norms near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            centre = 1.0 if "norm" in name or "gamma" in name else 0.0
            parameter.copy_(centre + min(spread, 0.3) * torch.randn(parameter.shape, generator=generator))
    return net.eval().requires_grad_(False)


def dit() -> Dit:
    net = randomised(Dit(DIT))
    assert isinstance(net, Dit)
    return net


def projection(*, causal: bool = True) -> LqProjection:
    net = randomised(LqProjection(LQ, causal=causal))
    assert isinstance(net, LqProjection)
    return net


def tiny_decoder() -> TinyDecoder:
    net = randomised(TinyDecoder(TINY))
    assert isinstance(net, TinyDecoder)
    return net


def wan_decoder() -> WanDecoder:
    net = randomised(WanDecoder(WAN))
    assert isinstance(net, WanDecoder)
    return net


def prompt() -> Tensor:
    return torch.randn(1, 5, DIT.text_dim, generator=torch.Generator().manual_seed(2)).bfloat16()


@torch.inference_mode()
def restorer(*, causal: bool = True, full: bool = False) -> FlashVsrRestorer:
    net = dit()
    conditioning = net.conditioning(prompt()[0].float())
    decoder = wan_decoder() if full else tiny_decoder()
    return FlashVsrRestorer(Parts(net, projection(causal=causal), decoder, conditioning, torch.float32), CPU)


def wan_with_encoder() -> dict[str, Tensor]:
    """The decoder's tensors among some of the encoder's, as they are published."""
    return {**wan_decoder().state_dict(), "encoder.conv1.weight": torch.zeros(2, 3, 3, 3, 3),
            "conv1.weight": torch.zeros(32, 32, 1, 1, 1), "conv1.bias": torch.zeros(32)}  # fmt: skip


def write_set(folder: Path, *versions: str) -> None:
    """Everything that all variants of these versions, or of both, need."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in versions if versions else VERSIONS:
        for part, net in (("dit", dit()), ("lq_proj", projection()), ("tcdecoder", tiny_decoder())):
            save_file(net.state_dict(), folder / flashvsr_file(version, part))
    save_file(wan_decoder().state_dict(), folder / FLASHVSR_VAE)
    save_file({"context": prompt()}, folder / FLASHVSR_PROMPT)
