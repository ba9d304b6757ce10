from __future__ import annotations

import pytest

from upres.errors import InvalidParameter
from upres.tasks import Progress, TaskSpec, order


def test_defaults_are_the_documented_ones() -> None:
    spec = TaskSpec(input_path="x")
    assert (spec.resolution, spec.batch_size, spec.dit_model, spec.color_correction, spec.seed, spec.vae_tiling,
            spec.vae_quality) == (1080, 5, None, "lab", 42, "auto", "high")  # fmt: skip


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 81])
def test_windows_of_4n_plus_1_frames_are_accepted(frames: int) -> None:
    assert order(input_path="x", batch_size=frames).batch_size == frames


@pytest.mark.parametrize(("name", "value", "remedy"), [
    ("batch_size", 6, "use 5 or 9"), ("batch_size", 0, "greater than or equal to 1"),
    ("resolution", 8, "greater than or equal to 16"), ("resolution", "big", "valid integer"),
    ("color_correction", "sepia", "'lab', 'wavelet'"), ("seed", -1, "greater than or equal to 0"),
    ("vae_tiling", "maybe", "'auto', 'on' or 'off'"), ("colour", "lab", "Extra inputs"),
])  # fmt: skip
def test_a_bad_parameter_is_refused_with_its_name_value_and_range(name: str, value: object, remedy: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        order(input_path="x", **{name: value})
    assert f"{name}={value!r}" in caught.value.message and remedy in caught.value.remedy


def test_only_a_completed_task_is_at_100_percent() -> None:
    assert Progress(frames_done=10, frames_total=10).percent == 99
    assert Progress().percent == 0
