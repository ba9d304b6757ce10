"""FlashVSR as a task: files on disk, the real engine, the real worker process, a finished file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.flashvsr_tiny import write_set
from tests.support import make_settings, make_video
from upres.catalog.flashvsr import FLASHVSR_MODELS, FLASHVSR_PROMPT, flashvsr_file
from upres.engine import LocalEngine
from upres.errors import ModelNotFound
from upres.media.probe import probe
from upres.tasks import Task, TaskSpec, TaskState

DEFAULT = "flashvsr-v1.1-tiny-long"
PATIENCE_S = 240


@pytest.fixture(scope="module")
def flashvsr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    settings = make_settings(tmp_path_factory.mktemp("flashvsr"))
    write_set(settings.model_dir)
    engine = LocalEngine(settings)
    yield engine
    engine.stop()
    engine.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40x30, 24 frames with sound: three more than a first step gives."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=24, size="40x30")


def run(engine: LocalEngine, path: Path, **order: object) -> Task:
    spec = {"input_path": str(path), "scale": 2.5, "color_correction": "adain", **order}
    task = engine.submit(TaskSpec.model_validate(spec))
    return engine.wait(task.id, PATIENCE_S)


def test_every_variant_of_both_versions_is_listed_and_the_small_streaming_one_is_the_default(
    flashvsr: LocalEngine,
) -> None:
    listing = flashvsr.models()
    assert {model.name for model in listing.models} == {*(model.name for model in FLASHVSR_MODELS), "compact"}
    assert listing.default == DEFAULT


@pytest.mark.parametrize("model", [None, "flashvsr-v1.1-full", "flashvsr-v1-tiny"])
def test_a_clip_is_restored_with_its_sound_and_every_frame(
    flashvsr: LocalEngine, clip: Path, model: str | None
) -> None:
    task = run(flashvsr, clip, dit_model=model)
    assert task.state is TaskState.COMPLETED, task.failure
    assert task.result is not None
    assert task.result.model == (DEFAULT if model is None else model)
    assert (task.result.frames, task.result.output_resolution) == (24, "100x74")
    info = probe(flashvsr.output(task.id))
    assert (info.frames, info.fps, info.audio) == (24, probe(clip).fps, probe(clip).audio)


def test_settings_reach_the_model(flashvsr: LocalEngine, clip: Path) -> None:
    plain, again, other = (
        flashvsr.output(run(flashvsr, clip, **order).id).read_bytes() for order in ({}, {}, {"seed": 7})
    )
    assert plain == again != other


def test_an_image_is_a_clip_of_one_frame(flashvsr: LocalEngine, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (21, 33, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    task = run(flashvsr, tmp_path / "in.png", scale=2)
    assert task.state is TaskState.COMPLETED, task.failure
    with Image.open(flashvsr.output(task.id)) as image:
        assert (image.mode, image.size) == ("RGBA", (66, 42))


def test_a_model_with_a_missing_file_says_what_to_run(tmp_path: Path, clip: Path) -> None:
    settings = make_settings(tmp_path / "data")
    write_set(settings.model_dir, "v1")
    (settings.model_dir / FLASHVSR_PROMPT).unlink()
    engine = LocalEngine(settings)
    try:
        for model, missing in (
            ("flashvsr-v1-full", FLASHVSR_PROMPT),
            (DEFAULT, f"{flashvsr_file('v1.1', 'dit')}, {flashvsr_file('v1.1', 'lq_proj')}, {FLASHVSR_PROMPT}"),
        ):
            with pytest.raises(ModelNotFound, match=f"needs {missing}.* in MODEL_DIR; run `upres download {model}`"):
                engine.submit(TaskSpec(input_path=str(clip), dit_model=model))
    finally:
        engine.close()


@pytest.mark.parametrize(("part", "said"), [("dit", "incomplete"), ("tcdecoder", "this is a flashvsr lq projection")])
def test_a_damaged_or_wrong_file_fails_the_task_and_says_what_to_run(
    flashvsr: LocalEngine, clip: Path, part: str, said: str
) -> None:
    model, folder = "flashvsr-v1-tiny-long", flashvsr.settings.model_dir
    path = folder / flashvsr_file("v1", part)
    whole = path.read_bytes()
    run(flashvsr, clip)  # another model is resident
    path.write_bytes(whole[:-100] if part == "dit" else (folder / flashvsr_file("v1", "lq_proj")).read_bytes())
    try:
        task = run(flashvsr, clip, dit_model=model)
    finally:
        path.write_bytes(whole)
    assert task.state is TaskState.FAILED and task.failure is not None
    assert task.failure.code == "weights_invalid" and said in task.failure.message.lower()
    assert f"run `upres download {model}`" in task.failure.remedy
