"""Windows of frames and the frames that fill them, against recorded tables."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from upres.restore.windows import extended, on_grid, preceded, windows

TABLES = json.loads((Path(__file__).parents[2] / "golden" / "seedvr2" / "temporal_tables.json").read_text())
APPENDED = [row for row in TABLES["pad"] if not row["prepend"]]
PREPENDED = [row for row in TABLES["pad"] if row["prepend"]]


def test_appended_frames_are_the_recorded_ones() -> None:
    assert len(APPENDED) > 90
    for row in APPENDED:
        frames, count = row["t"], row["count"]
        assert extended(frames, frames + count if count else on_grid(frames)) == row["frames"]  # 0: to the grid


def test_prepended_frames_are_the_recorded_ones() -> None:
    assert len(PREPENDED) > 90
    for row in PREPENDED:
        assert preceded(row["t"], row["count"]) == row["frames"]


@pytest.mark.parametrize(("frames", "on"), [(1, 1), (2, 5), (5, 5), (6, 9), (9, 9)])
def test_the_grid_of_a_model_that_takes_4n_plus_1_frames(frames: int, on: int) -> None:
    assert on_grid(frames) == on


@pytest.mark.parametrize("frames", range(1, 40))
@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (5, 0), (5, 2), (5, 4), (9, 3), (5, 5), (5, 8)])
def test_windows_share_their_overlap_and_leave_no_frame_out(frames: int, size: int, overlap: int) -> None:
    made = windows(frames, size, overlap)
    shared = overlap if overlap < size else 0
    assert (made[0].start, made[-1].stop) == (0, frames)
    assert all(len(window) == size for window in made[:-1])
    assert 0 < len(made[-1]) <= size
    for before, after in pairwise(made):
        assert before.stop - after.start == shared
        assert after.stop > before.stop  # every window brings something new


def test_frames_that_the_overlap_covers_make_no_window_of_their_own() -> None:
    assert windows(14, 5, 2) == [range(5), range(3, 8), range(6, 11), range(9, 14)]
    assert windows(15, 5, 2)[-1] == range(12, 15)


def test_a_clip_shorter_than_the_overlap_is_one_window() -> None:
    assert windows(2, 5, 3) == [range(2)]


def test_no_frames_make_no_windows() -> None:
    assert windows(0, 5) == []
