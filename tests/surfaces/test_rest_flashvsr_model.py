"""FlashVSR itself behind its API: a small one with random weights, in the real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.flashvsr_tiny import write_set
from tests.support import make_settings, make_video
from tests.surfaces import flashvsr_shapes as shapes
from tests.surfaces.serving import serving, until
from upres.engine import LocalEngine
from upres.media.probe import probe


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = make_settings(tmp_path_factory.mktemp("flashvsr"))
    write_set(settings.model_dir, "v1.1")
    engine = LocalEngine(settings)
    with serving(settings) as served, httpx.Client(base_url=served.url, timeout=60) as client:
        yield client
    engine.stop()
    engine.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As long as no step of the model is: 26 frames of 64x44, with sound."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=26, size="64x44")


def result(api: httpx.Client, clip: Path, folder: Path, **form: str) -> tuple[shapes.Task, Path]:
    reply = api.post("/api/tasks/", files={"file": ("clip.mp4", clip.read_bytes())}, data=form)
    assert reply.status_code == 201, reply.text
    task_id = reply.json()["id"]

    def now() -> shapes.Task:
        return shapes.Task.model_validate_json(api.get(f"/api/tasks/{task_id}").content)

    until(lambda: now().status not in ("pending", "processing"), "the task ends")
    task = now()
    assert task.status == "completed", task.error_message
    output = folder / f"{task_id}.mp4"
    output.write_bytes(api.get(f"/api/files/{task_id}/result").content)
    return task, output


def test_weights_that_are_there_are_ready(api: httpx.Client) -> None:
    weights = shapes.Assets.model_validate_json(api.get("/api/system/assets").content).flashvsr
    assert weights.weights_ready and weights.missing_files == [] and weights.model_source == "local"
    assert weights.ready_variants == {"tiny_long": True, "tiny": True, "full": True}


@pytest.mark.parametrize(("form", "size"), [
    ({}, (256, 128)),
    ({"preserve_aspect_ratio": "true", "scale": "1.5"}, (192, 132)),
])  # fmt: skip
def test_every_frame_comes_out_at_the_predicted_size_with_its_sound(
    api: httpx.Client, clip: Path, tmp_path: Path, form: dict[str, str], size: tuple[int, int]
) -> None:
    task, output = result(api, clip, tmp_path, preprocess_width="128", **form)
    info, given = probe(output), probe(clip)
    assert task.video_info is not None and task.parameters.model_variant == "tiny_long"
    assert (task.video_info.predicted_output_width, task.video_info.predicted_output_height) == size
    assert (info.width, info.height) == size
    assert (info.frames, info.fps, info.audio) == (given.frames, given.fps, given.audio)
    assert (task.processed_frames, task.total_frames) == (26, 26)
    status = api.get(f"/api/status/{api.get('/api/queue/history?limit=1').json()['history'][0]['id']}").json()
    assert status["model"] == "flashvsr-v1.1-tiny-long" and status["output_resolution"] == f"{size[0]}x{size[1]}"
    cut = [warning for warning in status["warnings"] if "cut to 256x128" in warning]
    assert len(cut) == (size == (256, 128))


def test_a_seed_gives_the_same_result_again_and_another_another(api: httpx.Client, clip: Path, tmp_path: Path) -> None:
    first, again, other = (result(api, clip, tmp_path, preprocess_width="128", seed=seed)[1].read_bytes()
                           for seed in ("0", "0", "1"))  # fmt: skip
    assert first == again != other


def test_a_variant_is_reached_by_its_name_through_the_other_api(api: httpx.Client, clip: Path) -> None:
    listed = {model["name"]: model for model in api.get("/api/models").json()["models"]}
    assert "12 times as fast" in listed["flashvsr-v1.1-full"]["best_for"]
    form = {"dit_model": "flashvsr-v1.1-full", "resolution": "88", "color_correction": "adain"}
    task_id = api.post("/api/process", files={"file": ("a.mp4", clip.read_bytes())}, data=form).json()["task_id"]
    until(lambda: api.get(f"/api/status/{task_id}").json()["status"] not in ("queued", "processing"), "it ends")
    status = api.get(f"/api/status/{task_id}").json()
    assert (status["status"], status["output_resolution"], status["frames"]) == ("completed", "128x88", 26)
    seen = shapes.Task.model_validate_json(api.get(f"/api/tasks/{task_id}").content)
    assert (seen.parameters.model_variant, seen.parameters.scale) == ("full", 2.0)
