"""Clips through SeedVR2's two modes, with the tiny models the recordings were made with."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.seedvr2_recorded import tensors, tiny_dit
from upres.models.limits import SEEDVR2
from upres.models.placement import Placement
from upres.models.restorer import Stream, StreamSpec
from upres.models.seedvr2.batches import Recipe
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.cuts import BEHIND
from upres.models.seedvr2.latents import LatentWindows, fade
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.portions import Portions
from upres.models.seedvr2.restorer import SeedVr2Restorer
from upres.models.seedvr2.sampler import draw_noise
from upres.models.seedvr2.vae import VideoVae

pytestmark = pytest.mark.usefixtures("small_tensors")

CPU = torch.device("cpu")
HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope="module")
def restorer() -> SeedVr2Restorer:
    vae = VideoVae(TINY_VAE)
    vae.load_state_dict(tensors("vae_tiny_weights"))
    text = tensors("dit_3b_tiny_small_detail")["in.txt"]
    return SeedVr2Restorer(Parts(tiny_dit("3b"), vae.eval(), text, torch.float32), CPU)


def spec(window: int = 5, seed: int = 42) -> StreamSpec:
    return StreamSpec(HEIGHT, WIDTH, HEIGHT, WIDTH, seed, window, "auto", "high")


def clip(frames: int, seed: int = 0) -> Tensor:
    """A still picture under a little moving noise: one shot."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(3, 4, 4, generator=generator).repeat_interleave(8, 1).repeat_interleave(12, 2)
    return (picture + 0.1 * torch.rand(frames, 3, HEIGHT, WIDTH, generator=generator)) * 1.6 - 0.9


def through(stream: Stream, frames: Tensor, portions: list[int] | None = None) -> Tensor:
    out = [x for part in frames.split(portions if portions else len(frames)) for x in stream.push(part)]
    out.extend(stream.flush())
    assert all(len(x) for x in out), "an empty piece is a piece too many"
    return torch.cat(out)


@pytest.mark.parametrize("frames", range(1, 15))
@pytest.mark.parametrize("window", [1, 5, 9])
def test_as_many_frames_come_out_as_went_in(restorer: SeedVr2Restorer, frames: int, window: int) -> None:
    out = through(restorer.open(spec(window)), clip(frames))
    assert out.shape == (frames, 3, HEIGHT, WIDTH)
    assert out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.parametrize(("overlap", "uniform"), [(0, False), (2, True), (3, False), (4, True), (5, False)])
@pytest.mark.parametrize("frames", [1, 2, 5, 6, 8, 13])
def test_batches_of_any_overlap_give_as_many_frames_as_they_got(
    restorer: SeedVr2Restorer, frames: int, overlap: int, uniform: bool
) -> None:
    assert len(through(restorer.open_batches(spec(), Recipe(overlap, uniform)), clip(frames))) == frames


@pytest.mark.parametrize("portions", [[1] * 14, [5, 9], [13, 1], [6, 2, 6]], ids=str)
@pytest.mark.parametrize("mode", ["open", "open_shots", "open_batches"])
def test_a_clip_pushed_in_portions_gives_the_same_bits_in_the_same_pieces(
    restorer: SeedVr2Restorer, mode: str, portions: list[int]
) -> None:
    frames = torch.cat((clip(9), clip(5, seed=1)))
    whole = [*(stream := getattr(restorer, mode)(spec())).push(frames), *stream.flush()]
    stream = getattr(restorer, mode)(spec())
    pieces = [x for part in frames.split(portions) for x in stream.push(part)] + list(stream.flush())
    assert [len(x) for x in pieces] == [len(x) for x in whole]
    assert torch.equal(torch.cat(pieces), torch.cat(whole))


@pytest.mark.parametrize("mode", ["open_shots", "open_batches"])
def test_the_same_seed_gives_the_same_frames_and_another_seed_others(restorer: SeedVr2Restorer, mode: str) -> None:
    first, again, other = (through(getattr(restorer, mode)(spec(seed=s)), clip(11)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().amax((1, 2, 3)).min() > 1e-3, "every frame, not only the first window's"


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_clip_of_one_window_is_restored_as_in_batch_mode_even_across_a_cut(
    restorer: SeedVr2Restorer, frames: int
) -> None:
    cut = torch.cat((clip(frames - frames // 2), clip(frames // 2, seed=1)))
    assert torch.equal(through(restorer.open(spec()), cut), through(restorer.open_batches(spec()), cut))


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_a_shot_of_one_window_is_the_same_in_both_modes(restorer: SeedVr2Restorer, frames: int) -> None:
    shot, batch = (through(mode(spec()), clip(frames)) for mode in (restorer.open_shots, restorer.open_batches))
    assert torch.equal(shot, batch)


def test_a_longer_clip_is_restored_in_stream_mode(restorer: SeedVr2Restorer) -> None:
    whole, streamed, batches = (
        through(mode(spec()), clip(7)) for mode in (restorer.open, restorer.open_shots, restorer.open_batches)
    )
    assert torch.equal(whole, streamed)
    assert not torch.equal(whole, batches)


def test_in_batches_of_one_frame_each_is_restored_as_an_image(restorer: SeedVr2Restorer) -> None:
    frames = clip(3)
    images = [through(restorer.open(spec()), frame[None]) for frame in frames]
    assert torch.equal(through(restorer.open(spec(window=1)), frames), torch.cat(images))


def test_each_shot_is_restored_as_if_it_were_a_clip_of_its_own(restorer: SeedVr2Restorer) -> None:
    shots = [clip(length, seed) for seed, length in enumerate((7, 9, 6))]
    apart = torch.cat([through(restorer.open_shots(spec()), shot) for shot in shots])
    assert torch.equal(through(restorer.open_shots(spec()), torch.cat(shots)), apart)


def test_frames_of_another_size_than_the_stream_was_opened_for_are_refused(restorer: SeedVr2Restorer) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\), opened for T 3 32 48"):
        list(restorer.open(spec()).push(torch.zeros(1, 3, 32, 32)))


def test_memory_does_not_grow_with_the_shot(restorer: SeedVr2Restorer) -> None:
    stream = restorer.open(spec())
    sizes = []
    for _ in range(4):
        for part in clip(12).split(3):
            for out in stream.push(part):
                del out
        part = None
        gc.collect()
        sizes.append(sum(x.nbytes for x in gc.get_objects() if type(x) is Tensor))
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("size", [2, 3, 8])
def test_neighbouring_windows_of_latents_start_from_the_same_noise_and_fade_into_each_other(
    restorer: SeedVr2Restorer, size: int
) -> None:
    seed, overlap, parts = 5, max(1, size // 4), restorer.parts
    latents = torch.randn(2 * size - overlap, 4, 6, 16, generator=torch.Generator().manual_seed(0))
    windows = LatentWindows(parts, size, seed)
    ours = torch.cat([*windows.push(latents), *windows.close()])

    numbers = [number % size for number in range(len(latents))]
    starts, seconds = (draw[numbers] for draw in draw_noise(latents[:size], seed))
    a = parts.restore_latents(latents[:size], (starts[:size], seconds[:size]))
    tail = slice(size - overlap, None)
    b = parts.restore_latents(latents[tail], (starts[tail], seconds[tail]))
    assert torch.equal(ours[: size - overlap], a[: size - overlap])
    assert torch.equal(ours[size - overlap : size], fade(a[size - overlap :], b[:overlap]))
    assert torch.equal(ours[size:], b[overlap:])


def test_a_single_shared_latent_becomes_the_mean_and_more_of_them_a_slope() -> None:
    zeros, ones = torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)
    assert fade(zeros[:1], ones[:1]).flatten().tolist() == [0.5]
    assert fade(zeros, ones).flatten().tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("frames", [6, 17, 18, 22, 34])
def test_a_shot_in_portions_gives_every_frame_and_its_first_portion_as_with_the_whole_shots_memory(
    restorer: SeedVr2Restorer, frames: int
) -> None:
    shot = clip(frames)
    carried, portions = (
        through(restorer.open(replace(spec(), placement=Placement(carried=kept))), shot) for kept in (True, False)
    )
    assert portions.shape == carried.shape
    assert torch.equal(portions[:13], carried[:13]), "latents of the first window but the one that fades"
    assert frames <= 17 or not torch.equal(portions[17:], carried[17:])


def test_portions_led_in_from_the_shots_beginning_are_what_its_memory_would_have_made(
    restorer: SeedVr2Restorer,
) -> None:
    vae, shot = restorer.parts.vae, clip(41).movedim(0, 1)[None]
    portions = Portions(lambda: vae.encoding(HEIGHT, WIDTH), step=4, made=1, lead_slices=99)
    latents = torch.cat([portions.push(part) for part in shot.split(3, dim=2)] + [portions.push(shot[:, :, :0])], dim=2)
    latents = torch.cat((latents, portions.push(shot[:, :, :0], last=True)), dim=2)
    assert torch.equal(latents, vae.encode(shot))
    portions = Portions(lambda: vae.decoding(HEIGHT, WIDTH), step=1, made=4, lead_slices=99)
    frames = torch.cat([portions.push(part) for part in latents.split(1, dim=2)], dim=2)
    frames = torch.cat((frames, portions.push(latents[:, :, :0], last=True)), dim=2)
    assert torch.equal(frames, vae.decode(latents))


def test_a_shot_in_portions_gives_the_same_bits_in_the_same_pieces_however_it_is_pushed(
    restorer: SeedVr2Restorer,
) -> None:
    shot, runs = clip(23), []
    for size in (23, 5, 1):
        stream = restorer.open(replace(spec(), placement=Placement(carried=False)))
        runs.append([x for part in shot.split(size) for x in stream.push(part)] + list(stream.flush()))
    assert [[len(x) for x in pieces] for pieces in runs] == [[1, 4, 4, 4, 4, 4, 2]] * 3
    assert all(torch.equal(torch.cat(pieces), torch.cat(runs[0])) for pieces in runs)


@pytest.mark.parametrize("mode", ["open_batches", "open_shots"])
def test_a_frame_longer_than_a_tile_is_cut_in_both_modes(restorer: SeedVr2Restorer, mode: str) -> None:
    frames = torch.rand(1, 3, 16, 528, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, cut, larger = (
        through(getattr(restorer, mode)(replace(spec(), input_height=16, input_width=528, placement=placement)), frames)
        for placement in (Placement(), Placement(tile=512), Placement(tile=1024))
    )
    assert not torch.equal(whole, cut)
    assert torch.equal(whole, larger)


@pytest.mark.parametrize("window", [1, 5])
def test_a_stream_begun_anew_at_a_fresh_frame_goes_on_with_the_same_frames(
    restorer: SeedVr2Restorer, window: int
) -> None:
    """Two shots; the second is also begun by a stream that was shown only the lead-in before it."""
    frames = torch.cat((clip(9), -clip(7, seed=1)))
    stream, given, fresh = restorer.open(spec(window)), [], set[int]()
    for frame in frames.split(1):
        given.extend(stream.push(frame))
        fresh.add(stream.fresh)
    whole = torch.cat([*given, *stream.flush()])
    assert 9 in fresh and (window == 1 or fresh == {0, 9})
    lead_in = restorer.limits.lead_in
    again = restorer.open(dataclasses.replace(spec(window), lead_in=lead_in))
    assert torch.equal(through(again, frames[9 - lead_in :]), whole[9:])


def test_the_lead_in_is_as_long_as_cuts_look_back() -> None:
    assert SEEDVR2.lead_in == BEHIND
