"""Preparing, cutting and framing: what size a picture gets, which part of it a model sees, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.support import make_video
from upres.errors import InvalidParameter
from upres.media.probe import probe
from upres.models.limits import FLASHVSR, SEEDVR2, Limits
from upres.models.restorer import StreamSpec
from upres.restore.frames import restored_pixels
from upres.restore.pipeline import restore
from upres.restore.plan import CUT_MULTIPLE, MAX_SIDE, Plan, Size, plan_clip, prepared, target_size
from upres.restore.tensors import enlarge, to_bytes, to_pixels
from upres.tasks import TaskSpec, order

SOURCE = Limits(takes="source", multiple_of=2)
SIDES = st.integers(16, 200)


class Mirror:
    """Gives every frame back, doubled and more where the plan asks for that; remembers what it was given."""

    footprint = None

    def __init__(self, limits: Limits) -> None:
        self.limits, self.device, self.given, self.footprint = limits, torch.device("cpu"), torch.empty(0), None

    def open(self, spec: StreamSpec) -> Mirror:
        self.spec = spec
        return self

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        assert frames.shape[-2:] == (self.spec.input_height, self.spec.input_width)
        self.given = frames
        size = (self.spec.output_height, self.spec.output_width)
        yield torch.nn.functional.interpolate(frames, size=size, mode="nearest")

    def flush(self) -> Iterator[Tensor]:
        return iter(())


def restored(blocks: list[np.ndarray], plan: Plan, spec: TaskSpec, model: Mirror) -> Iterator[np.ndarray]:
    pixels = (enlarge(to_pixels(block, model.device), (plan.source,)) for block in blocks)
    return map(to_bytes, restored_pixels(pixels, plan, spec, model))


def spec(**more: object) -> TaskSpec:
    return order(**{"input_path": "x", "scale": 2, "color_correction": "none", **more})


def planned(height: int, width: int, limits: Limits = FLASHVSR, **more: object) -> Plan:
    return plan_clip(Size(height, width), 1, "video", spec(**more), limits)


@pytest.mark.parametrize(("source", "width", "expected"), [
    ((1080, 1920), 640, (360, 640)),
    ((720, 1280), 960, (540, 960)),
    ((480, 854), 640, (360, 640)),  # 359.7
    ((576, 720), 960, (768, 960)),
    ((1920, 1080), 640, (1138, 640)),  # 1137.8
    ((2, 4000), 128, (2, 128)),
    ((90, 160), 640, (360, 640)),
])  # fmt: skip
def test_a_preprocessed_input_has_its_width_and_an_even_height_that_follows(
    source: tuple[int, int], width: int, expected: tuple[int, int]
) -> None:
    assert prepared(Size(*source), spec(preprocess_width=width)) == Size(*expected)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(128, 2000))
def test_the_height_is_the_even_number_nearest_to_the_aspect(height: int, width: int, wanted: int) -> None:
    if height * wanted > (MAX_SIDE - 1) * width:
        return
    size = prepared(Size(height, width), spec(preprocess_width=wanted))
    assert size.width == wanted and size.height % 2 == 0
    assert size.height == 2 or abs(size.height - Fraction(height * wanted, width)) <= 1


def test_an_input_that_would_grow_beyond_what_any_file_holds_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"preprocess_width=1000 makes 4x400 into 1000x100000; no side may"):
        plan_clip(Size(400, 4), 1, "video", order(input_path="x", resolution=64, preprocess_width=1000), FLASHVSR)


def test_a_video_that_would_have_no_whole_pair_of_lines_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="2 lines and columns at least"):
        plan_clip(Size(1, 300), 1, "video", spec(scale=1), FLASHVSR)


def test_without_a_width_the_input_stays_as_it_is() -> None:
    assert prepared(Size(91, 161), spec()) == Size(91, 161)


@given(st.integers(1, 1500), st.integers(1, 1500), st.floats(1, 8))
def test_a_cut_picture_is_as_large_as_the_original_application_makes_it(height: int, width: int, scale: float) -> None:
    sides = round(height * scale) // 128 * 128, round(width * scale) // 128 * 128
    order = spec(scale=scale, preserve_aspect_ratio=False)
    if 0 in sides:
        with pytest.raises(InvalidParameter, match="use preserve_aspect_ratio=true, or a larger scale"):
            target_size(Size(height, width), order, "video")
    else:
        assert target_size(Size(height, width), order, "video") == Size(*sides)


@given(st.integers(1, 1500), st.integers(1, 1500), st.floats(1, 8))
def test_a_whole_picture_is_exactly_scale_times_the_input_made_even(height: int, width: int, scale: float) -> None:
    sides = round(height * scale) // 2 * 2, round(width * scale) // 2 * 2
    if all(sides):
        assert target_size(Size(height, width), spec(scale=scale), "video") == Size(*sides)


def test_a_picture_is_framed_in_the_middle_of_what_flashvsr_sees_and_in_the_corner_for_seedvr2() -> None:
    plan = planned(50, 60)
    assert (plan.target, plan.model_input, plan.origin) == (Size(100, 120), Size(128, 128), (14, 4))
    assert planned(50, 60, SEEDVR2).origin == (0, 0)


def test_only_a_cut_is_worth_a_word() -> None:
    assert planned(540, 960).notes == planned(128, 128, preserve_aspect_ratio=False).notes == ()
    (note,) = planned(540, 960, preserve_aspect_ratio=False).notes
    assert "1920x1080 is cut to 1920x1024" in note and "preserve_aspect_ratio=true" in note


@pytest.mark.parametrize(("height", "width", "scale"), [(74, 100, 2.0), (64, 96, 4.0), (97, 161, 1.6), (128, 130, 1.0)])
@pytest.mark.parametrize("whole", [False, True])
def test_the_model_sees_what_pillow_makes_of_the_picture_within_a_level(
    height: int, width: int, scale: float, whole: bool
) -> None:
    """Bicubic, cut or padded in the middle to multiples of 128. Pillow rounds between its two passes; we do not: so
    it also clips what overshoots there, which colours as far from black and white as these never do.
    """
    frame = np.random.default_rng(height).integers(64, 192, (height, width, 3), dtype=np.uint8)
    order, model = spec(scale=scale, preserve_aspect_ratio=whole), Mirror(FLASHVSR)
    plan = plan_clip(Size(height, width), 1, "video", order, FLASHVSR)
    list(restored([frame[None]], plan, order, model))
    resized = (round(width * scale), round(height * scale))
    picture = np.asarray(Image.fromarray(frame).resize(resized, Image.Resampling.BICUBIC)).astype(float)
    seen = (model.given[0].permute(1, 2, 0).numpy() + 1) * 127.5
    (top, left), (inner_top, inner_left) = middle(seen, picture), middle(picture, seen)
    rows, columns = min(seen.shape[0], picture.shape[0]), min(seen.shape[1], picture.shape[1])
    shown = seen[top : top + rows, left : left + columns]
    expected = picture[inner_top : inner_top + rows, inner_left : inner_left + columns]
    assert np.abs(shown - expected).max() <= 1.1
    assert np.abs(shown.round() - expected).max() <= 1
    assert abs(seen.sum() - shown.sum()) < 1e-3 * seen.size  # all around it is black


def middle(outer: np.ndarray, inner: np.ndarray) -> tuple[int, int]:
    return max(0, outer.shape[0] - inner.shape[0]) // 2, max(0, outer.shape[1] - inner.shape[1]) // 2


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, st.floats(1, 3), st.none() | st.integers(128, 160), st.booleans(),
       st.sampled_from([FLASHVSR, SEEDVR2, SOURCE]))  # fmt: skip
def test_what_comes_out_has_the_size_that_was_planned(
    height: int, width: int, scale: float, wide: int | None, whole: bool, limits: Limits
) -> None:
    order = spec(scale=scale, preprocess_width=wide, preserve_aspect_ratio=whole)
    try:
        plan = plan_clip(Size(height, width), 2, "video", order, limits)
    except InvalidParameter:
        assert not whole
        return
    (out,) = restored([np.full((2, height, width, 3), 200, np.uint8)], plan, order, Mirror(limits))
    assert out.shape == (2, plan.target.height, plan.target.width, 3)
    assert plan.target.height % 2 == plan.target.width % 2 == 0
    if not whole:
        assert plan.target.height % CUT_MULTIPLE == plan.target.width % CUT_MULTIPLE == 0
    assert (out == 200).all()  # nothing of what was padded is in it


@pytest.mark.parametrize("limits", [FLASHVSR, SEEDVR2, SOURCE], ids=["flashvsr", "seedvr2", "source"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_middle_of_the_picture_stays_in_the_middle(limits: Limits, whole: bool) -> None:
    """A picture with a small square in the middle, whose place in the result tells where the result was cut."""
    frame = np.zeros((1, 100, 152, 3), np.uint8)
    frame[:, 46:54, 72:80] = 255
    order = spec(preserve_aspect_ratio=whole)
    plan = plan_clip(Size(100, 152), 1, "video", order, limits)
    (out,) = restored([frame], plan, order, Mirror(limits))
    rows, columns = np.nonzero(out[0, ..., 0] > 127)
    assert abs(rows.mean() + 0.5 - plan.target.height / 2) < 0.6
    assert abs(columns.mean() + 0.5 - plan.target.width / 2) < 0.6


def test_colours_follow_the_part_that_was_kept() -> None:
    """The edges that are cut off are red; a correction that looked at them would tint the rest."""
    frame = np.full((1, 80, 128, 3), 100, np.uint8)
    frame[:, :8] = frame[:, -8:] = (255, 0, 0)
    order = spec(preserve_aspect_ratio=False, color_correction="adain")
    plan = plan_clip(Size(80, 128), 1, "video", order, FLASHVSR)
    (out,) = restored([frame], plan, order, Mirror(FLASHVSR))
    assert out.shape[1:3] == (128, 256)
    assert abs(out[:, 8:-8].astype(int) - 100).max() <= 2


def test_a_cut_image_keeps_its_alpha_in_place() -> None:
    pixels = np.full((1, 100, 152, 4), 128, np.uint8)
    pixels[..., 3] = 0
    pixels[:, 46:54, 72:80, 3] = 255
    order = spec(preserve_aspect_ratio=False)
    plan = plan_clip(Size(100, 152), 1, "image", order, FLASHVSR)
    (out,) = restored([pixels], plan, order, Mirror(FLASHVSR))
    rows, columns = np.nonzero(out[0, ..., 3] > 127)
    assert out.shape == (1, 128, 256, 4)
    assert abs(rows.mean() + 0.5 - 64) < 1 and abs(columns.mean() + 0.5 - 128) < 1
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 16  # a square still, twice as large


@pytest.mark.parametrize("whole", [False, True])
def test_a_written_video_has_the_planned_size_and_says_what_was_cut(tmp_path: Path, whole: bool) -> None:
    clip = make_video(tmp_path / "in.mp4", frames=3, size="96x70")
    order = spec(input_path=str(clip), preprocess_width=130, preserve_aspect_ratio=whole)
    outcome = restore(order, Mirror(FLASHVSR), tmp_path / "out.mp4", lambda progress: None)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.frames) == ((260, 188, 3) if whole else (256, 128, 3))
    assert any("cut to 256x128" in warning for warning in outcome.warnings) is not whole
