"""What a task needs and which way it takes, for cards of every size."""

from __future__ import annotations

from itertools import pairwise

import pytest

from upres.catalog import SEEDVR2_MODELS
from upres.models.limits import SEEDVR2
from upres.restore.memory import GB, MB, Ladder, MemoryPlan, Work, footprint, plan_memory, room_bytes
from upres.restore.plan import Plan, Size, plan_clip
from upres.tasks import TaskSpec

HD, UHD = (Size(540, 960), 1080), (Size(720, 1280), 2160)


def plan_of(source: Size, resolution: int, frames: int = 300, batch_size: int = 5) -> Plan:
    spec = TaskSpec(input_path="x", resolution=resolution, batch_size=batch_size)
    return plan_clip(source, frames, "image" if frames == 1 else "video", spec, SEEDVR2)


def planned(params: str, precision: str, card_gb: int, plan: Plan, tiling: str = "auto", quality: str = "high"
            ) -> MemoryPlan:  # fmt: skip
    model = footprint("seedvr2", params, precision, on_gpu=True)
    assert model is not None
    work = Work(plan, tiling, quality, "lab")  # type: ignore[arg-type]
    return plan_memory(model, work, room_bytes(card_gb * GB, 0, on_gpu=True), on_gpu=True)


@pytest.mark.parametrize(("params", "precision"), [("3B", "FP8"), ("7B", "Q4")])
@pytest.mark.parametrize("frames", [1, 5, 300])
def test_the_documented_models_restore_to_full_hd_within_8_gb(params: str, precision: str, frames: int) -> None:
    plan = planned(params, precision, 8, plan_of(*HD, frames))
    assert plan.fits and plan.peak <= 7 * GB
    assert plan.window == 5, "without taking fewer frames at a time"


@pytest.mark.parametrize("model", SEEDVR2_MODELS, ids=lambda m: m.name)
def test_every_model_of_the_catalogue_restores_to_full_hd_within_the_memory_it_is_listed_with(model) -> None:  # type: ignore[no-untyped-def]
    listed_gb = max(8, int(model.vram.strip("~GB")))
    assert planned(model.params, model.precision, listed_gb, plan_of(*HD)).fits


def test_on_a_large_card_all_is_done_at_once_and_on_smaller_ones_less_and_less() -> None:
    steps = [planned("7B", "FP16", card, plan_of(*HD)) for card in (80, 48, 24, 16, 8)]
    assert steps[0].step == 0
    assert [step.step for step in steps] == sorted(step.step for step in steps)
    assert {step.placement.offload for step in steps} == {"none", "phases", "blocks"}
    assert all(step.fits for step in steps)


def test_a_task_that_fits_nowhere_says_at_which_size_it_would() -> None:
    plan = planned("7B", "Q4", 3, plan_of(Size(2160, 3840), 4320))
    assert not plan.fits
    assert "use resolution=" in plan.remedy
    smaller = int(plan.remedy.split("=")[1].split()[0])
    assert planned("7B", "Q4", 3, plan_of(Size(2160, 3840), smaller)).fits
    assert not planned("3B", "Q4", 1, plan_of(*HD)).fits
    assert "device with more memory" in planned("3B", "Q4", 1, plan_of(Size(120, 160), 240)).remedy


@pytest.mark.parametrize(("tiling", "first"), [("auto", None), ("on", 768), ("off", None)])
def test_frames_are_cut_as_the_caller_wants_where_there_is_room(tiling: str, first: int | None) -> None:
    assert planned("3B", "FP8", 80, plan_of(*HD), tiling, "medium").placement.tile == first


@pytest.mark.parametrize("quality", ["low", "medium", "high"])
def test_no_larger_tile_is_taken_than_the_caller_wants(quality: str) -> None:
    tiles = {planned("3B", "FP8", card, plan_of(*UHD), "on", quality).placement.tile for card in (8, 24, 80)}
    assert all(tile is not None and tile <= {"low": 512, "medium": 768, "high": 1024}[quality] for tile in tiles)


def test_each_step_down_needs_less_than_the_one_it_is_taken_from() -> None:
    model = footprint("seedvr2", "3B", "FP16", on_gpu=True)
    assert model is not None
    ladder = Ladder(model, Work(plan_of(*HD, batch_size=9), "auto", "high", "lab"), 80 * GB, on_gpu=True)
    step, peaks = ladder.first(), []
    while step is not None:
        peaks.append(step.peak)
        step = ladder.below(step)
    assert len(peaks) > 4 and all(lower < 0.97 * peak for peak, lower in pairwise(peaks))


def test_on_a_cpu_nothing_is_moved_as_weights_are_in_its_memory_anyway() -> None:
    model = footprint("seedvr2", "3B", "Q8", on_gpu=False)
    assert model is not None
    ladder = Ladder(model, Work(plan_of(*HD), "auto", "high", "lab"), 16 * GB, on_gpu=False)
    assert {step.placement.offload for step in ladder.steps} == {"none"}
    assert ladder.first().fits


def test_the_limit_counts_instead_of_the_card_and_something_is_left_to_the_driver() -> None:
    assert room_bytes(80 * GB, 8192, on_gpu=True) == room_bytes(8 * GB, 0, on_gpu=True) == 7680 * MB - 512 * MB
    assert room_bytes(8 * GB, 16384, on_gpu=True) == room_bytes(8 * GB, 0, on_gpu=True)
    assert room_bytes(24 * GB, 0, on_gpu=False) == 12 * GB
    assert room_bytes(24 * GB, 2000, on_gpu=False) == 2000 * MB


def test_models_without_a_prediction_have_none() -> None:
    assert footprint("compact", "0.1M", "FP16", on_gpu=True) is None
