"""Clips of any length through FlashVSR, with small random models."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.flashvsr_tiny import DIT, restorer
from upres.models.flashvsr.restorer import FlashVsrRestorer
from upres.models.flashvsr.stream import FlashVsrStream
from upres.models.restorer import StreamSpec
from upres.restore.frames import restored_pixels
from upres.restore.plan import Size, plan_clip
from upres.tasks import TaskSpec

SIDE = 128
LENGTHS = (*range(1, 11), *range(18, 32), 36, 37, 38, 45, 53, 60)


@pytest.fixture(scope="module", params=["v1.1", "v1", "full"])
def flashvsr(request: pytest.FixtureRequest) -> FlashVsrRestorer:
    return restorer(causal=request.param != "v1", full=request.param == "full")


@pytest.fixture(scope="module")
def tiny_long() -> FlashVsrRestorer:
    return restorer()


def spec(width: int = SIDE, seed: int = 0, **settings: float) -> StreamSpec:
    return StreamSpec(SIDE, width, SIDE, width, seed, 5, "auto", "high", **settings)  # type: ignore[arg-type]


def clip(frames: int, width: int = SIDE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, 3, SIDE, width, generator=generator) * 2 - 1


def pieces(stream: FlashVsrStream, frames: Tensor, portions: list[int] | int) -> Iterator[Tensor]:
    for part in frames.split(portions):
        yield from stream.push(part)
    yield from stream.flush()


def through(restorer: FlashVsrRestorer, frames: Tensor, order: StreamSpec | None = None) -> Tensor:
    order = order if order is not None else spec(frames.shape[-1])
    return torch.cat(list(pieces(restorer.open(order), frames, len(frames))))


@pytest.mark.parametrize("frames", LENGTHS)
def test_as_many_frames_come_out_of_the_pipeline_as_went_in(tiny_long: FlashVsrRestorer, frames: int) -> None:
    order = TaskSpec(input_path="", scale=2, color_correction="adain")
    size = Size(30, 42)
    plan = plan_clip(size, frames, "video", order, tiny_long.limits)
    source = torch.rand(frames, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    out = torch.cat(list(restored_pixels(source.split(plan.block), plan, order, tiny_long)))
    assert out.shape == (frames, 3, 60, 84)
    assert out.isfinite().all()


def test_thirty_lengths_are_tried() -> None:
    assert len(set(LENGTHS)) == 30 and min(LENGTHS) == 1 and max(LENGTHS) == 60


@pytest.mark.parametrize("frames", [1, 22])
def test_every_variant_gives_as_many_frames_as_it_got(flashvsr: FlashVsrRestorer, frames: int) -> None:
    out = through(flashvsr, clip(frames))
    assert out.shape == (frames, 3, SIDE, SIDE) and out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.parametrize("portions", [1, 24, [25, 9]], ids=str)
def test_a_clip_pushed_in_portions_gives_the_same_bits_in_the_same_pieces(
    tiny_long: FlashVsrRestorer, portions: list[int] | int
) -> None:
    same_pieces(tiny_long, portions)


def test_so_does_every_variant(flashvsr: FlashVsrRestorer) -> None:
    same_pieces(flashvsr, [3, 30, 1])


def same_pieces(flashvsr: FlashVsrRestorer, portions: list[int] | int) -> None:
    frames = clip(34)
    whole = list(pieces(flashvsr.open(spec()), frames, 34))
    parts = list(pieces(flashvsr.open(spec()), frames, portions))
    assert [len(x) for x in parts] == [len(x) for x in whole] == [21, 8, 5]
    assert torch.equal(torch.cat(parts), torch.cat(whole))


def test_what_follows_a_clip_changes_no_frame_more_than_four_before_it(tiny_long: FlashVsrRestorer) -> None:
    """So frames that the reference gives, which it gives of any clip that begins alike, are those it gives."""
    long = through(tiny_long, clip(60))
    for frames in (25, 33, 40):
        given = (frames - 25) // 8 * 8 + 21
        assert torch.equal(through(tiny_long, clip(60)[:frames])[:given], long[:given])


def test_a_clip_that_ends_early_is_restored_as_if_its_last_frame_went_on(tiny_long: FlashVsrRestorer) -> None:
    short = clip(27)
    held = torch.cat((short, short[-1:].expand(20, -1, -1, -1)))
    assert torch.equal(through(tiny_long, short), through(tiny_long, held)[:27])


def test_memory_does_not_grow_with_the_clip(tiny_long: FlashVsrRestorer) -> None:
    stream = tiny_long.open(spec())
    sizes, held = [], []
    for _ in range(6):
        for out in stream.push(clip(16)):
            del out
        gc.collect()
        held.append(sum(memory.nbytes for memory in stream.slices))
        sizes.append(sum(x.nbytes for x in gc.get_objects() if type(x) is Tensor))
    assert len(set(held[3:])) == 1 and len(set(sizes[3:])) == 1
    assert {len(memory) for memory in stream.slices} == {3}


def test_positions_go_on_past_any_table(tiny_long: FlashVsrRestorer) -> None:
    """The reference's table ends after 1024 latent frames, about 4,090 frames."""
    stream = tiny_long.open(spec())
    list(stream.push(clip(25)))
    stream._step = 1000
    (later,) = stream.push(clip(8, seed=3))
    stream._step = 10**6
    (last,) = stream.push(clip(8, seed=4))
    assert later.isfinite().all() and last.isfinite().all()


@pytest.mark.parametrize(("kv_ratio", "kept"), [(1.0, 2), (2.0, 2), (3.9, 3), (5.7, 5)])
def test_the_memory_is_as_long_as_asked_for(tiny_long: FlashVsrRestorer, kv_ratio: float, kept: int) -> None:
    stream = tiny_long.open(spec(kv_ratio=kv_ratio))
    list(stream.push(clip(60)))
    assert [len(memory) for memory in stream.slices] == [kept] * DIT.layers


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"sparse_ratio": 0.02}, {"local_range": 1}, {"kv_ratio": 1.0}], ids=str
)
def test_each_setting_changes_the_frames(tiny_long: FlashVsrRestorer, change: dict[str, float]) -> None:
    frames = clip(45, 2 * SIDE)
    plain, other = (through(tiny_long, frames, spec(2 * SIDE, **settings)) for settings in ({}, change))
    assert torch.equal(plain, through(tiny_long, frames))
    assert (plain[37:] - other[37:]).abs().max() > 1e-4


def test_versions_use_the_same_weights_differently() -> None:
    frames = clip(30)
    assert (through(restorer(causal=True), frames) - through(restorer(causal=False), frames)).abs().max() > 1e-3


def test_frames_of_another_size_than_the_stream_was_opened_for_are_refused(tiny_long: FlashVsrRestorer) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 128, 256\), opened for T 3 128 128"):
        list(tiny_long.open(spec()).push(clip(1, 2 * SIDE)))


def test_a_clip_of_no_frames_gives_none(tiny_long: FlashVsrRestorer) -> None:
    assert list(tiny_long.open(spec()).flush()) == []
