"""What SeedVR2 is predicted to need against what it was counted to take, phase by phase, on a card that is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from tests.meter import Meter
from tests.seedvr2_recorded import TINY
from upres.models.placement import ClipSize, Placement
from upres.models.restorer import Stream, StreamSpec
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, SEEDVR2_VAE, TINY_VAE, DitConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.dit_footprint import Widening, working
from upres.models.seedvr2.footprint import (
    DECODER_PARAMETERS,
    ENCODER_PARAMETERS,
    MERGED_VALUES,
    SeedVr2Footprint,
    parameters,
)
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.restorer import SeedVr2Restorer
from upres.models.seedvr2.sampler import condition, sample
from upres.models.seedvr2.vae import VideoVae
from upres.models.seedvr2.vae_footprint import decoding, encoding

pytestmark = pytest.mark.usefixtures("small_tensors")

CPU = torch.device("cpu")
WITHIN = 0.1


def merged(vae: VideoVae) -> VideoVae:
    vae.merge()
    return vae


def restorer(config: DitConfig) -> SeedVr2Restorer:
    """Of zeros, which take as much as anything."""
    dit, vae = Dit(config).eval(), merged(VideoVae(TINY_VAE)).eval()
    for values in (*dit.parameters(), *vae.parameters(), *vae.buffers()):
        values.zero_()
    return SeedVr2Restorer(Parts(dit, vae, torch.zeros(6, 40), torch.float32), CPU)


@contextmanager
def phases(owner: SeedVr2Restorer, meter: Meter) -> Iterator[dict[str, int]]:
    """The peak within each network's calls."""
    peaks, hooks = dict.fromkeys(("encode", "decode", "diffuse"), 0), []

    def before(*_: object) -> None:
        meter.peak_bytes = meter.live_bytes

    for name, network in zip(peaks, owner.parts.networks, strict=True):
        def after(*_: object, name: str = name) -> None:
            peaks[name] = max(peaks[name], meter.peak_bytes)

        hooks += [network.register_forward_pre_hook(before), network.register_forward_hook(after)]
    yield peaks
    for hook in hooks:
        hook.remove()


def counted(owner: SeedVr2Restorer, clip: ClipSize, window: int, placement: Placement) -> dict[str, int]:
    spec = StreamSpec(clip.height, clip.width, clip.height, clip.width, 1, window, "auto", "high", placement=placement)
    weights = owner.footprint.weights.total if placement.offload == "none" else 0
    with Meter(held_bytes=weights) as meter:
        stream = owner.open(spec)  # and the weights' own hooks come first: what goes is gone when the count begins
        peaks = driven(owner, stream, clip, meter)
    owner.open(replace(spec, placement=Placement()))
    return peaks


def driven(owner: SeedVr2Restorer, stream: Stream, clip: ClipSize, meter: Meter) -> dict[str, int]:
    with phases(owner, meter) as peaks:
        for at in range(0, clip.frames, clip.block):
            shown = torch.zeros(min(clip.block, clip.frames - at), 3, clip.height, clip.width)
            for piece in stream.push(shown):
                del piece
        for piece in stream.flush():
            del piece
    return peaks


@pytest.mark.parametrize(
    ("frames", "window", "placement"),
    [(1, 5, Placement()), (5, 5, Placement(tile=32)), (9, 9, Placement()), (18, 5, Placement("phases", 32)),
     (34, 5, Placement("blocks", 32, carried=False)), (9, 9, Placement(slice_frames=8)),
     (9, 9, Placement(slice_frames=1)), (14, 5, Placement(slice_frames=2)),
     (9, 5, Placement(slice_frames=8))],
    ids=str,
)  # fmt: skip
def test_each_phase_of_a_clip_takes_what_was_predicted(frames: int, window: int, placement: Placement) -> None:
    owner, clip = restorer(TINY["3b"]), ClipSize(32, 64, frames, min(5, window))
    needs = owner.footprint.needs(clip, window, placement)
    taken = counted(owner, clip, window, placement)
    predicted = {name: getattr(needs, name) for name in ("encode", "decode", "diffuse")}
    assert taken == {name: pytest.approx(bytes_, rel=WITHIN) for name, bytes_ in predicted.items()}


@pytest.mark.parametrize("frames", [0, 1, 2, 4, 8])
def test_the_published_autoencoder_at_full_hd_takes_what_was_predicted(frames: int) -> None:
    """A single frame; or later slices of so many. On a device that computes nothing, but has tensors of every size."""
    height, width = 1088, 1920
    long = max(4, frames)
    with torch.device("meta"):
        vae = merged(VideoVae(SEEDVR2_VAE)).to(torch.bfloat16)
        ways = (vae.encoding(height, width, None, frames or 4), vae.decoding(height, width, None, frames or 4))
        sizes = ((3, long, height, width), (16, long // 4, height // 8, width // 8))
        parts = [half(SEEDVR2_VAE, height * width, frames, copies=False) for half in (encoding, decoding)]
        for passage, size, part in zip(ways, sizes, parts, strict=True):
            with Meter() as meter:
                passage.push(torch.empty(1, *size, dtype=torch.bfloat16)[:, :, :1], last=frames == 0)
                for _ in range(3 if frames else 0):
                    meter.peak_bytes = 0
                    passage.push(torch.empty(1, *size, dtype=torch.bfloat16))
            assert meter.peak_bytes == pytest.approx(2 * part.values, rel=0.05)
            assert passage.nbytes == pytest.approx(2 * part.carried, rel=0.01)


@pytest.mark.parametrize("half", ["encoding", "decoding"])
def test_five_frames_of_4k_take_what_was_predicted_without_tiles(half: str) -> None:
    """Of their first frame, which is seen again before itself, every convolution remembers one, not two."""
    height, width = 2160, 3840
    predicted = {"encoding": encoding, "decoding": decoding}[half](SEEDVR2_VAE, height * width, 4, copies=False)
    with torch.device("meta"):
        vae = merged(VideoVae(SEEDVR2_VAE)).to(torch.bfloat16)
        given = torch.empty(1, 3, 5, height, width) if half == "encoding" else torch.empty(1, 16, 2, 270, 480)
        with Meter() as meter:
            getattr(vae, half)(height, width).push(given.to(torch.bfloat16), last=True)
    assert meter.peak_bytes == pytest.approx(2 * predicted.closing, rel=0.05)
    assert 2 * predicted.closing < 60 * 2**30


@pytest.mark.parametrize("config", [SEEDVR2_3B, SEEDVR2_7B], ids=["3B", "7B"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_published_transformers_at_full_hd_take_what_was_predicted(
    config: DitConfig, dtype: torch.dtype
) -> None:
    with torch.device("meta"):
        dit = Dit(replace(config, layers=3, shared_from=min(config.shared_from, 1))).to(dtype)
        text = torch.empty(58, 5120, dtype=dtype)
        with Meter() as meter:
            latents, start, second = torch.empty(3, 2, 136, 240, 16, dtype=dtype).clone().unbind()
            sample(dit, start, condition(latents, start, second), text)
    predicted = working(config, (2, 68, 120), 58, dtype.itemsize, Widening())
    assert meter.peak_bytes == pytest.approx(predicted, rel=WITHIN)


def test_the_published_sizes_are_counted_to_the_last_parameter() -> None:
    assert (parameters(SEEDVR2_3B), parameters(SEEDVR2_7B)) == (3_391_475_776, 8_239_607_872)
    with torch.device("meta"):
        vae = merged(VideoVae(SEEDVR2_VAE))
    halves = tuple(sum(p.numel() for p in half.parameters()) for half in (vae.encoder, vae.decoder))
    assert halves == (ENCODER_PARAMETERS, DECODER_PARAMETERS)
    assert sum(values.numel() for values in vae.buffers()) == MERGED_VALUES


def test_at_full_hd_the_decoder_is_predicted_to_take_less_than_an_h100_gave_it_before() -> None:
    """35.76 GiB in bfloat16 besides the weights, when pixels were enlarged before they were mixed."""
    footprint = SeedVr2Footprint.published(SEEDVR2_3B, "fp8", on_gpu=True)
    needs = footprint.needs(ClipSize(1088, 1920, 21, 21), 21, Placement())
    frames = 21 * 3 * 1088 * 1920 * (4 + 2 + 2 + 2)
    assert 20 < (needs.decode - footprint.weights.total - frames) / 2**30 < 35.76 - 1.99


def test_an_image_at_2048_is_predicted_to_take_less_than_the_public_implementation_took_on_an_h100() -> None:
    """18.9 GiB, decoding, with all weights in bfloat16 on the card."""
    footprint = SeedVr2Footprint.published(SEEDVR2_3B, "fp16", on_gpu=True)
    needs = footprint.needs(ClipSize(2048, 2048, 1, 1), 1, Placement())
    assert 11 < needs.decode / 2**30 < 18.9
