from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.errors import InvalidParameter
from upres.models.limits import SEEDVR2, Limits
from upres.restore.plan import BLOCK_PIXELS, MAX_SIDE, Size, enlargement, plan_clip, target_size
from upres.tasks import TaskSpec

SIDES = st.integers(1, 4000)


def _at(resolution: int) -> TaskSpec:
    return TaskSpec(input_path="x", resolution=resolution)


@pytest.mark.parametrize(("source", "resolution", "expected"), [
    ((202, 360), 404, (404, 720)),
    ((480, 640), 1080, (1080, 1440)),
    ((640, 480), 1080, (1440, 1080)),
    ((720, 1280), 1080, (1080, 1920)),
    ((480, 854), 1080, (1080, 1920)),
    ((1080, 1920), 480, (480, 852)),
])  # fmt: skip
def test_the_short_side_of_a_video_becomes_the_resolution(
    source: tuple[int, int], resolution: int, expected: tuple[int, int]
) -> None:
    assert target_size(Size(*source), _at(resolution), "video") == Size(*expected)


def test_an_image_keeps_odd_sides_and_a_video_gets_even_ones() -> None:
    assert target_size(Size(100, 101), _at(333), "image") == Size(333, 336)
    assert target_size(Size(100, 101), _at(333), "video") == Size(332, 336)


def test_a_result_too_large_for_any_file_is_refused_with_what_would_fit() -> None:
    with pytest.raises(InvalidParameter, match="use at most 1638"):
        target_size(Size(100, 1000), _at(2000), "image")


def test_a_scale_takes_the_place_of_the_resolution() -> None:
    doubled = TaskSpec(input_path="x", scale=2.5)
    assert target_size(Size(97, 161), doubled, "image") == Size(242, 402)
    assert target_size(Size(97, 161), doubled, "video") == Size(242, 402)
    with pytest.raises(InvalidParameter, match=r"scale=8 .* use at most 5\.46"):
        target_size(Size(100, 3000), TaskSpec(input_path="x", scale=8), "image")


@given(SIDES, SIDES, st.integers(16, 2160))
def test_sizes_keep_the_aspect_within_a_pixel_step(height: int, width: int, resolution: int) -> None:
    try:
        target = target_size(Size(height, width), _at(resolution), "video")
    except InvalidParameter:
        assert max(height, width) * resolution > MAX_SIDE * min(height, width)
        return
    scale = Fraction(resolution, min(height, width))
    assert target.height % 2 == target.width % 2 == 0
    assert 0 <= height * scale - target.height < 2 and 0 <= width * scale - target.width < 2


@given(SIDES, SIDES, st.integers(0, 30), st.sampled_from([1, 8, 16]), st.sampled_from(["source", "target"]))
def test_plans_obey_the_models_limits(height: int, width: int, n: int, multiple: int, takes: str) -> None:
    limits = Limits(takes=takes, multiple_of=multiple, frame_step=4, frame_offset=1)  # type: ignore[arg-type]
    spec = TaskSpec(input_path="x", resolution=64, batch_size=4 * n + 1)
    try:
        plan = plan_clip(Size(height, width), 100, "video", spec, limits)
    except InvalidParameter:
        return
    entry = plan.source if takes == "source" else plan.enlarged
    assert plan.window % 4 == 1 and plan.window <= spec.batch_size
    assert plan.model_input.height % multiple == plan.model_input.width % multiple == 0
    assert 0 <= plan.model_input.height - entry.height < multiple
    assert plan.model_output.height >= plan.target.height and plan.model_output.width >= plan.target.width
    if takes == "target":
        assert plan.model_output == plan.model_input
    elif plan.model_input == entry:
        assert plan.model_output == plan.target


def test_a_block_never_holds_more_pixels_than_memory_is_planned_for_and_leaves_the_window_as_asked() -> None:
    spec = TaskSpec(input_path="x", resolution=2160, batch_size=81)
    plan = plan_clip(Size(1080, 1920), 100, "video", spec, Limits(takes="source"))
    assert plan.block * plan.target.pixels <= BLOCK_PIXELS
    assert plan.window == 81


def test_frames_at_target_size_keep_the_odd_line_until_the_model_has_seen_it() -> None:
    spec = TaskSpec(input_path="x", resolution=56)
    plan = plan_clip(Size(24, 34), 5, "video", spec, SEEDVR2)
    assert (plan.enlarged, plan.target) == (Size(56, 79), Size(56, 78))
    assert plan.model_input == plan.model_output == Size(64, 80)


ROWS = json.loads((Path(__file__).parents[2] / "golden" / "seedvr2" / "resize_table.json").read_text())["rows"]


def test_enlargements_are_the_recorded_ones() -> None:
    assert len(ROWS) == 70
    for row in ROWS:
        size = enlargement(Size(row["h"], row["w"]), row["resolution"], row["max_resolution"])[-1]
        assert [size, size.even(), size.padded(16)] == [
            Size(*row[name]) for name in ("resized", "true_dims_even", "padded16")
        ]
