"""Where a new shot begins: found in cuts, and not in what only looks like one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.seedvr2.cuts import AHEAD, Cuts

SIZE = (36, 64)


def scene(seed: int, frames: int = 12, *, contrast: float = 1.0) -> Tensor:
    """A picture under noise."""
    generator = torch.Generator().manual_seed(seed)
    picture = F.interpolate(torch.rand(1, 3, 5, 7, generator=generator) * 2 - 1, size=SIZE, mode="bilinear")
    return (contrast * picture + 0.1 * torch.randn(frames, 3, *SIZE, generator=generator)).clamp(-1, 1)


def pan(speed: int, frames: int = 20) -> Tensor:
    wide = F.interpolate(torch.rand(1, 3, 6, 60, generator=torch.Generator().manual_seed(3)) * 2 - 1, size=(36, 800))
    return torch.cat([wide[..., i * speed : i * speed + SIZE[1]] for i in range(frames)])


def begins(frames: Tensor, portion: int = 100) -> list[int]:
    cuts = Cuts()
    found = [pair for part in frames.split(portion) for pair in cuts.push(part)] + list(cuts.flush())
    assert torch.equal(torch.stack([frame for frame, _ in found]), frames), "every frame comes back, in order"
    return [number for number, (_, cut) in enumerate(found) if cut]


def test_a_cut_is_found_at_the_first_frame_of_the_new_shot() -> None:
    assert begins(torch.cat((scene(0), scene(1), scene(2)))) == [12, 24]


def test_a_cut_between_dark_scenes_is_found() -> None:
    assert begins(torch.cat((scene(0, contrast=0.4) - 0.5, scene(1, contrast=0.4) - 0.5))) == [12]


@pytest.mark.parametrize(("before", "after"), [(1, 12), (12, 1), (1, 1), (12, 2)])
def test_a_cut_next_to_an_end_of_the_clip_is_found(before: int, after: int) -> None:
    assert begins(torch.cat((scene(0, before), scene(1, after)))) == [before]


@pytest.mark.parametrize("frames", [0, 1, 2, 30])
def test_a_single_shot_has_no_cut(frames: int) -> None:
    assert begins(torch.cat((scene(0, 1)[:0], scene(0, frames) if frames else scene(0, 1)))) == []


@pytest.mark.parametrize("speed", [2, 10, 30])
def test_a_pan_is_no_cut_however_fast(speed: int) -> None:
    assert begins(pan(speed)) == []


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("at", [1, 9])
def test_a_flash_is_no_cut(at: int, length: int) -> None:
    frames = scene(0, 1).repeat(20, 1, 1, 1)
    frames[at : at + length] += 1.2
    assert begins(frames.clamp(-1, 1)) == []


def test_a_change_too_small_to_matter_is_no_cut() -> None:
    frames = scene(0, 1, contrast=0.5).repeat(20, 1, 1, 1)
    frames[9:] += 0.05
    assert begins(frames) == []


def test_a_fade_is_no_cut() -> None:
    weights = torch.linspace(0, 1, 20).view(-1, 1, 1, 1)
    assert begins(torch.lerp(scene(0, 20), scene(1, 20), weights)) == []


@pytest.mark.parametrize("portion", [1, 2, 7])
def test_cuts_do_not_depend_on_what_was_pushed_together(portion: int) -> None:
    assert begins(torch.cat((scene(0), scene(1))), portion) == [12]


def test_no_more_frames_wait_than_have_to_be_looked_at() -> None:
    cuts, frames = Cuts(), scene(0)
    counts = [len(list(cuts.push(frame[None]))) for frame in frames]
    assert counts == [0] * AHEAD + [1] * (len(frames) - AHEAD)
