"""SeedVR2 as a task: files on disk, the real engine, the real worker process, a finished file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.seedvr2_tiny import TEXT, VAE, write_set
from tests.support import make_settings, make_video
from upres.engine import LocalEngine
from upres.errors import ModelNotFound
from upres.media.probe import probe
from upres.tasks import Task, TaskSpec, TaskState

DEFAULT = "seedvr2_ema_3b_fp8_e4m3fn.safetensors"
OTHERS = ("seedvr2_ema_3b_fp16.safetensors", "seedvr2_ema_3b-Q8_0.gguf", "seedvr2_ema_7b_fp16.safetensors",
          "seedvr2_ema_7b-Q8_0.gguf")  # fmt: skip
PATIENCE_S = 240


@pytest.fixture(scope="module")
def seedvr2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    settings = make_settings(tmp_path_factory.mktemp("seedvr2"))
    write_set(settings.model_dir, DEFAULT, *OTHERS)
    engine = LocalEngine(settings)
    yield engine
    engine.stop()
    engine.close()


def run(engine: LocalEngine, path: Path, **order: object) -> Task:
    task = engine.submit(TaskSpec.model_validate({"input_path": str(path), "resolution": 48, **order}))
    return engine.wait(task.id, PATIENCE_S)


def done(engine: LocalEngine, path: Path, **order: object) -> Path:
    task = run(engine, path, **order)
    assert task.state is TaskState.COMPLETED, task.failure
    return engine.output(task.id)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40x30, 7 frames: longer than a window, and not 4n+1."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=7, size="40x30")


def test_only_installed_models_are_listed_and_the_documented_one_is_the_default(seedvr2: LocalEngine) -> None:
    listing = seedvr2.models()
    assert {model.name for model in listing.models} == {DEFAULT, *OTHERS, "compact"}
    assert listing.default == DEFAULT


def test_a_clip_is_restored_by_the_default_model_with_its_sound_and_every_frame(
    seedvr2: LocalEngine, clip: Path
) -> None:
    task = run(seedvr2, clip)
    assert task.state is TaskState.COMPLETED, task.failure
    assert task.result is not None
    assert (task.result.model, task.result.frames, task.result.output_resolution) == (DEFAULT, 7, "64x48")
    info = probe(seedvr2.output(task.id))
    assert (info.frames, info.fps, info.audio) == (7, probe(clip).fps, probe(clip).audio)


@pytest.mark.parametrize("model", OTHERS)
def test_every_published_format_restores_a_clip(seedvr2: LocalEngine, clip: Path, model: str) -> None:
    assert probe(done(seedvr2, clip, dit_model=model)).frames == 7


def test_a_seed_gives_the_same_bytes_again_and_another_seed_others(seedvr2: LocalEngine, clip: Path) -> None:
    first, again, other = (hashlib.sha256(done(seedvr2, clip, seed=seed).read_bytes()) for seed in (1, 1, 2))
    assert first.digest() == again.digest() != other.digest()


@pytest.mark.parametrize("batch_size", [1, 9])
def test_a_window_may_be_a_single_frame_or_longer_than_the_clip(
    seedvr2: LocalEngine, clip: Path, batch_size: int
) -> None:
    assert probe(done(seedvr2, clip, batch_size=batch_size)).frames == 7


@pytest.mark.parametrize(("mode", "size"), [("RGB", (33, 21)), ("RGBA", (24, 31)), ("RGB", (1, 1))])
def test_an_image_of_any_size_is_restored_with_its_alpha(
    seedvr2: LocalEngine, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], len(mode)), dtype=np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = 0
        pixels[8:24, 6:18, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "in.png")
    output = done(seedvr2, tmp_path / "in.png", color_correction="none")
    with Image.open(output) as image:
        assert image.mode == mode
        scale = 48 / min(size)
        assert image.size == tuple(int(48 * side / min(size)) for side in size)
        if mode == "RGBA":
            alpha = np.asarray(image)[..., 3]
            assert alpha[: int(4 * scale)].max() < 60 and alpha[int(12 * scale) : int(20 * scale), 18:26].min() > 195


def test_a_model_with_a_missing_file_says_what_to_run(tmp_path: Path, clip: Path) -> None:
    settings = make_settings(tmp_path / "data")
    write_set(settings.model_dir, DEFAULT)
    (settings.model_dir / VAE).unlink()
    (settings.model_dir / TEXT).unlink()
    engine = LocalEngine(settings)
    try:
        assert engine.models().default == "compact"
        with pytest.raises(ModelNotFound, match=f"needs {VAE}, {TEXT} in MODEL_DIR; run `upres download {DEFAULT}`"):
            engine.submit(TaskSpec(input_path=str(clip), dit_model=DEFAULT))
        with pytest.raises(ModelNotFound, match=r"run `upres download seedvr2_ema_7b_fp16.safetensors`"):
            engine.submit(TaskSpec(input_path=str(clip), dit_model="seedvr2_ema_7b_fp16.safetensors"))
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("model", "damage", "said"),
    [
        ("seedvr2_ema_3b_fp16.safetensors", "cut", "incomplete"),
        ("seedvr2_ema_7b_fp16.safetensors", "swapped", "this is a SeedVR2 3B transformer"),
    ],
)
def test_a_damaged_or_wrong_file_fails_the_task_and_says_what_to_run(
    seedvr2: LocalEngine, clip: Path, model: str, damage: str, said: str
) -> None:
    path = seedvr2.settings.model_dir / model
    whole = path.read_bytes()
    other = (seedvr2.settings.model_dir / DEFAULT).read_bytes()
    run(seedvr2, clip)  # another model is resident
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else other)
    try:
        task = run(seedvr2, clip, dit_model=model)
    finally:
        path.write_bytes(whole)
    assert task.state is TaskState.FAILED and task.failure is not None
    assert task.failure.code == "weights_invalid" and said in task.failure.message.lower() + task.failure.message
    assert f"run `upres download {model}`" in task.failure.remedy
