"""The dry run: what it chooses, what it says of time, memory and disk, and what it warns of."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from upres.catalog import Catalog
from upres.disk import Disk
from upres.errors import InvalidParameter
from upres.forecast import SPREAD, Machine, forecast, in_words
from upres.forecast_values import Forecast, MediaFacts
from upres.line import START_S, start_of
from upres.queue.store import Price
from upres.queue.throughput import Times
from upres.tasks import MediaKind, TaskSpec

SD = MediaFacts(file="clip.mp4", kind="video", width=640, height=480, frames=100, fps=25.0, duration_s=4.0)
GPU_24 = Machine(device="RTX", on_gpu=True, memory_mb=24_564, room_bytes=22 << 30, disk=Disk(10**12, 10**12, True, 0),
                 queue_s=0.0, longest_s=3600.0)  # fmt: skip
GPU_48 = replace(GPU_24, memory_mb=49_140, room_bytes=45 << 30)
SMALL, FP8, FULL, SHARP = (f"seedvr2_ema_{name}.safetensors" for name in (
    "3b_fp8_e4m3fn", "7b_fp8_e4m3fn", "7b_fp16", "7b_sharp_fp16"))  # fmt: skip


def plan(
    folder: Path, *models: str, media: MediaFacts = SD, machine: Machine = GPU_24,
    took: dict[str, Times] | None = None, **params: object,
) -> Forecast:  # fmt: skip
    for name in ("ema_vae_fp16.safetensors", "seedvr2_pos_emb.safetensors", *models):
        (folder / name).touch()
    measured = took if took is not None else {}
    spec = TaskSpec.model_validate({"input_path": media.file, "dit_model": "auto", **params})
    return forecast(media, spec, Catalog(folder), lambda model, _: measured.get(model, Times()), machine)


def changed(machine: Machine, **fields: object) -> Machine:
    return Machine(**{**{name: getattr(machine, name) for name in Machine.__slots__}, **fields})


def test_auto_takes_the_largest_model_that_fits(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, FP8, FULL, machine=GPU_48)
    assert found.model == FULL
    assert found.model_reason == "the best installed model"


def test_what_would_have_to_be_squeezed_in_comes_after_what_fits(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, FP8, FULL, machine=changed(GPU_24, room_bytes=27 << 30))
    assert {option.model: option.memory.strained for option in found.options}[FULL] is True
    assert found.model == FP8 and found.memory.fits and not found.memory.strained
    assert found.memory.needs_mb == max(filter(None, (found.memory.encode_mb, found.memory.diffuse_mb,
                                                      found.memory.decode_mb)))  # fmt: skip


def test_where_all_must_be_squeezed_in_the_smallest_is_and_it_says_so(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, FULL, machine=changed(GPU_24, room_bytes=4 << 30), resolution=2160)
    assert found.model == SMALL
    assert re.search("streamed from host memory.*: slower", found.model_reason)


def test_what_models_would_need_that_are_not_installed_is_told_once_for_all_that_need_the_same(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, machine=changed(GPU_24, room_bytes=9 << 30))
    others = {other.model: other for other in found.not_installed}
    installed = plan(tmp_path, FP8, machine=changed(GPU_24, room_bytes=9 << 30))
    assert FP8 in others and SMALL not in others and SHARP not in others
    assert others[FP8].needs_mb == {option.model: option for option in installed.options}[FP8].memory.needs_mb
    assert others[FULL].download == "16GB" and others["flashvsr-v1.1-full"].needs_mb == 24_000
    assert FP8 not in {other.model for other in installed.not_installed}


def test_the_dry_run_of_the_largest_task_is_counted_in_moments(tmp_path: Path) -> None:
    began = time.process_time()
    plan(tmp_path, SMALL, FULL, resolution=2160, batch_size=101)
    assert time.process_time() - began < 4  # 0.6 s; 20 s where each step of the ladder is counted anew


def test_what_cannot_fit_is_passed_over_and_named(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, machine=changed(GPU_24, room_bytes=1 << 30), resolution=2160)
    assert found.model == "compact"
    assert f"{SMALL} needs about" in found.model_reason and "there is room for 1024 MB" in found.model_reason
    named = plan(tmp_path, SMALL, machine=changed(GPU_24, room_bytes=1 << 30), resolution=2160, dit_model=SMALL)
    assert any(warning.startswith(f"{SMALL} needs about") for warning in named.warnings)


def test_what_would_take_too_long_is_passed_over(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, FULL, machine=GPU_48, took={FULL: Times((15_552.0,)), SMALL: Times((1.5,))})
    assert found.model == SMALL
    assert f"{FULL} would take about 4.3 h" in found.model_reason


@pytest.mark.parametrize(("asked", "media", "machine", "preset"), [
    ({}, SD, GPU_24, "fast"),  # compact on a GPU outruns an encoder on one core
    ({}, SD, replace(GPU_24, cores=64), "medium"),
    ({}, SD, replace(GPU_24, on_gpu=False, cores=8), "medium"),
    ({"codec": "prores"}, SD, GPU_24, "medium"),  # it knows no presets
    ({"preset": "slow"}, SD, GPU_24, "slow"),
    ({}, SD.model_copy(update={"kind": "image"}), GPU_24, None),
])  # fmt: skip
def test_the_encoder_takes_its_time_unless_the_model_would_wait_for_it(
    asked: dict[str, object], media: MediaFacts, machine: Machine, preset: str | None, tmp_path: Path
) -> None:
    assert plan(tmp_path, media=media, machine=machine, **asked).preset == preset


def test_a_picture_too_small_for_its_encoder_is_refused_beforehand(tmp_path: Path) -> None:
    tiny = SD.model_copy(update={"width": 8, "height": 8})
    with pytest.raises(InvalidParameter, match="8x8 cannot be written as h265"):
        plan(tmp_path, media=tiny, scale=1, codec="h265")


def test_a_rate_too_high_for_its_encoder_is_refused_beforehand(tmp_path: Path) -> None:
    fast = SD.model_copy(update={"fps": 241.0})
    with pytest.raises(InvalidParameter, match="241 frames/s cannot be written as av1") as refused:
        plan(tmp_path, media=fast, codec="av1")
    assert refused.value.remedy == "its encoder takes 240; use codec=h264 or h265"
    assert plan(tmp_path, media=fast, codec="h265").frames == SD.frames


def test_a_slow_model_has_time_for_medium(tmp_path: Path) -> None:
    assert plan(tmp_path, SMALL, dit_model=SMALL).preset == "medium"


def test_the_sharp_variant_is_never_chosen_unasked(tmp_path: Path) -> None:
    assert plan(tmp_path, SMALL, SHARP).model == SMALL
    assert plan(tmp_path, SHARP, dit_model=SHARP).model_reason == "you named it"


def test_the_smallest_model_is_taken_though_nothing_fits(tmp_path: Path) -> None:
    found = plan(tmp_path, machine=changed(GPU_24, memory_mb=500))
    assert found.model == "compact"
    assert "may not fit" in found.model_reason
    assert any(warning.startswith("compact needs about 1000 MB") for warning in found.warnings)


def test_sizes_and_windows_are_those_of_the_task(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, resolution=1080, batch_size=9)
    assert (found.width, found.height, found.frames) == (1440, 1080, 100)
    assert (found.window, found.windows) == (9, 12)


def test_measured_rates_give_a_narrow_range_and_none_a_wide_one(tmp_path: Path) -> None:
    guessed = plan(tmp_path).work
    measured = plan(tmp_path, took={"compact": Times((10.0, 12.0))}).work
    assert guessed.basis.startswith("unmeasured: a guess") and "2 tasks" in measured.basis
    assert measured.low_s < 10 < measured.likely_s < 17 < measured.high_s < 36
    assert guessed.high_s / guessed.low_s > 30 > 5 > measured.high_s / measured.low_s


def test_tasks_that_were_much_smaller_only_say_how_long_it_takes_at_most(tmp_path: Path) -> None:
    guessed = plan(tmp_path).work
    bounded = plan(tmp_path, took={"compact": Times((3600.0,), at_most=True)}).work
    assert (bounded.low_s, bounded.likely_s) == (guessed.low_s, guessed.likely_s)
    assert bounded.high_s == pytest.approx(4 * START_S + 3600 * SPREAD, abs=0.1)
    assert bounded.basis == "a guess, for this model has only run for 1 task much smaller than this here"
    swift = plan(tmp_path, took={"compact": Times((0.01,), at_most=True)}).work
    assert swift.low_s <= swift.likely_s - START_S <= 0.1 < guessed.likely_s - START_S


def test_a_model_that_is_loaded_starts_at_once_and_a_large_one_takes_its_time(tmp_path: Path) -> None:
    cold, warm = plan(tmp_path).work, plan(tmp_path, machine=replace(GPU_24, loaded="compact")).work
    assert cold.likely_s == pytest.approx(warm.likely_s + START_S, abs=0.1)
    assert cold.low_s == warm.low_s and cold.high_s == pytest.approx(warm.high_s + 4 * START_S, abs=0.1)
    assert start_of(Catalog(tmp_path).known(FULL), None) == pytest.approx(START_S + 16)


def test_on_a_cpu_a_guess_knows_its_cores(tmp_path: Path) -> None:
    one, four = (plan(tmp_path, machine=replace(GPU_24, on_gpu=False, cores=cores)).work for cores in (1, 4))
    assert "1 CPU core yet" in one.basis and "4 CPU cores yet" in four.basis
    assert one.low_s == pytest.approx(4 * four.low_s, rel=0.05)


def test_measurements_are_asked_for_this_much_work(tmp_path: Path) -> None:
    asked: list[Price] = []
    forecast(SD, TaskSpec(input_path="x"), Catalog(tmp_path), lambda _, work: asked.append(work) or Times(), GPU_24)
    assert Price(100, 1440 * 1080) in asked


@pytest.mark.parametrize(("facts", "params", "machine", "says"), [
    ({}, {"resolution": 240}, {}, "the result, 320x240, is smaller than the file, 640x480"),
    ({"width": 160, "height": 120}, {"resolution": 1080}, {}, "9.0 times the size"),
    ({"frames": 10**7}, {"dit_model": "compact"}, {"on_gpu": False}, "this takes about"),
    ({"frames": 10**6}, {}, {"disk": Disk(10**9, 10**9, True, 0)}, "1000 MB (1000000000 bytes) are free"),
    ({}, {"frame_rate": 12, "output_format": "zip"}, {}, "frame_rate=12 is not kept: pictures in a ZIP have none"),
    ({"warnings": ("the alpha channel is dropped",)}, {}, {}, "the alpha channel is dropped"),
])  # fmt: skip
def test_a_trap_earns_a_warning(
    tmp_path: Path, facts: dict[str, object], params: dict[str, object], machine: dict[str, object], says: str
) -> None:
    found = plan(tmp_path, media=SD.model_copy(update=facts), machine=changed(GPU_24, **machine), **params)
    assert any(says in warning for warning in found.warnings), found.warnings


def test_an_ordinary_task_earns_none(tmp_path: Path) -> None:
    assert plan(tmp_path, resolution=1080).warnings == ()


@pytest.mark.parametrize(("kind", "frames", "least", "most"), [("video", 100, 1e6, 2e7), ("image", 1, 1e6, 6e6)])
def test_the_size_of_the_file_is_of_the_right_order(
    tmp_path: Path, kind: MediaKind, frames: int, least: float, most: float
) -> None:
    found = plan(tmp_path, media=SD.model_copy(update={"kind": kind, "frames": frames}))
    assert least < found.output_bytes < most
    assert found.disk_bytes > (3 if kind == "video" else 1) * found.output_bytes


def test_one_sentence_says_it_all(tmp_path: Path) -> None:
    text = plan(tmp_path, machine=changed(GPU_24, queue_s=600)).summary
    assert text.startswith("100 frames of 1440x1080 with compact: about ")
    assert "after about 10 min in the queue" in text


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (89, "89 s"), (150, "2 min"), (5400, "1.5 h")])
def test_times_are_said_as_exactly_as_they_deserve(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
