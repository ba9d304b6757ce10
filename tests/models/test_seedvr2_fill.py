"""The frames that fill a window, against recorded tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from upres.models.seedvr2.fill import extended, on_grid

TABLES = json.loads((Path(__file__).parents[1] / "golden" / "seedvr2" / "temporal_tables.json").read_text())
APPENDED = [row for row in TABLES["pad"] if not row["prepend"]]


def test_appended_frames_are_the_recorded_ones() -> None:
    assert len(APPENDED) > 90
    for row in APPENDED:
        frames, count = row["t"], row["count"]
        assert extended(frames, frames + count if count else on_grid(frames)) == row["frames"]  # 0: to the grid


@pytest.mark.parametrize(("frames", "on"), [(1, 1), (2, 5), (5, 5), (6, 9), (9, 9)])
def test_the_grid_of_a_model_that_takes_4n_plus_1_frames(frames: int, on: int) -> None:
    assert on_grid(frames) == on


def test_enough_frames_are_left_alone() -> None:
    assert extended(6, 5) == extended(6, 6) == [0, 1, 2, 3, 4, 5]
