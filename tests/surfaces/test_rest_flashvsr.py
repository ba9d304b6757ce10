"""FlashVSR's API as its own web client uses it: every call, in the order of a visit, against a real server."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support import make_video
from tests.surfaces import flashvsr_shapes as shapes
from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import PATIENCE_S, serving, until
from upres.engine import LocalEngine
from upres.media.probe import probe
from upres.settings import Settings
from upres.tasks import TaskSpec, TaskState


@pytest.fixture(scope="module")
def api(settings: Settings, engine: LocalEngine) -> Iterator[httpx.Client]:
    """A server whose FlashVSR is the embedded network: what is tested here does not depend on weights."""
    with (
        serving(settings, UPRES_FLASHVSR_MODEL="compact", MAX_UPLOAD_SIZE="2") as served,
        httpx.Client(base_url=served.url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160x90, 6 frames at 24000/1001, with sound."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=6, size="160x90")


def created(api: httpx.Client, clip: Path, name: str = "clip.mp4", **form: str) -> shapes.Task:
    reply = api.post("/api/tasks/", files={"file": (name, clip.read_bytes(), "video/mp4")}, data=form)
    assert reply.status_code == 201, reply.text
    return shapes.Task.model_validate_json(reply.content)


def shown(api: httpx.Client, task_id: object) -> shapes.Task:
    reply = api.get(f"/api/tasks/{task_id}")
    assert reply.status_code == 200, reply.text
    return shapes.Task.model_validate_json(reply.content)


def completed(api: httpx.Client, task_id: object) -> shapes.Task:
    until(lambda: shown(api, task_id).status not in ("pending", "processing"), f"{task_id} ends")
    task = shown(api, task_id)
    assert task.status == "completed", task.error_message
    return task


@pytest.mark.parametrize(("path", "shape"), [
    ("/api/system/status", shapes.System), ("/api/system/assets", shapes.Assets),
    ("/api/tasks/parameter_schema", shapes.FormSchema), ("/api/tasks/?page=1&page_size=8", shapes.TaskList),
])  # fmt: skip
def test_a_page_is_drawn_from_replies_of_the_public_shapes(
    api: httpx.Client, path: str, shape: type[shapes.Shape]
) -> None:
    reply = api.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    shape.model_validate_json(reply.content)
    assert api.head(path).status_code == 200


def test_a_visit_from_upload_to_deletion(api: httpx.Client, clip: Path, settings: Settings) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    task = created(api, clip, "假期 👩‍👧 (1).mp4", scale="2", preprocess_width="128", seed="3")
    assert task.input_file_name == "假期 👩‍👧 (1).mp4"
    assert before - timedelta(seconds=1) < task.created_at < before + timedelta(seconds=60)
    assert task.total_frames == 6

    while True:
        polled = shapes.Progress.model_validate_json(api.get(f"/api/tasks/{task.id}/progress").content)
        assert polled.task_id == task.id
        if polled.status not in ("pending", "processing"):
            break
    assert (polled.status, polled.progress, polled.processed_frames, polled.total_frames) == ("completed", 100, 6, 6)
    assert polled.error_message is None and polled.estimated_time_remaining is None

    task = completed(api, task.id)
    assert task.started_at is not None and task.finished_at is not None and task.output_file_name is not None
    assert task.created_at <= task.started_at <= task.finished_at == task.updated_at
    assert task.parameters.model_dump() == {
        "scale": 2.0, "sparse_ratio": 2.0, "local_range": 11, "seed": 3, "model_variant": "compact",
        "preprocess_width": 128, "preserve_aspect_ratio": False}  # fmt: skip

    listed = shapes.TaskList.model_validate_json(api.get("/api/tasks/?page=1&page_size=8&status=completed").content)
    assert listed.tasks[0] == task and (listed.page, listed.page_size) == (1, 8)

    with Image.open(io.BytesIO(api.get(f"/api/files/{task.id}/preview").content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 128))
    assert api.get(f"/api/files/{task.id}/input").content == clip.read_bytes()
    result = api.get(f"/api/files/{task.id}/result")
    assert result.headers["content-type"] == "video/mp4" and "attachment" in result.headers["content-disposition"]
    assert "%E5%81%87%E6%9C%9F" in result.headers["content-disposition"]
    assert api.get(f"/api/files/{task.id}/result", headers={"range": "bytes=4-7"}).content == b"ftyp"
    assert api.post(f"/api/tasks/{task.id}/export_from_chunks").json()["status"] == "completed"

    deleted = api.delete(f"/api/tasks/{task.id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in (f"tasks/{task.id}", f"tasks/{task.id}/progress", f"files/{task.id}/result", f"files/{task.id}/input"):
        gone = api.get(f"/api/{path}")
        assert gone.status_code == 404 and str(task.id) not in gone.json()["error"]
    assert api.delete(f"/api/tasks/{task.id}").status_code == 404
    assert not any("假期" in path.name for folder in (settings.upload_dir, settings.output_dir)
                   for path in folder.rglob("*"))  # fmt: skip


@pytest.mark.parametrize(("form", "prepared", "size"), [
    ({"preprocess_width": "128"}, (128, 72), (256, 128)),
    ({"preprocess_width": "160", "scale": "1.6"}, (160, 90), (256, 128)),
    ({"preprocess_width": "130", "scale": "2", "preserve_aspect_ratio": "true"}, (130, 74), (260, 148)),
    ({"preprocess_width": "160", "scale": "1.55", "preserve_aspect_ratio": "on"}, (160, 90), (248, 140)),
])  # fmt: skip
def test_the_predicted_size_is_the_size_that_comes_out(
    api: httpx.Client, clip: Path, tmp_path: Path, form: dict[str, str], prepared: tuple[int, int],
    size: tuple[int, int],
) -> None:  # fmt: skip
    task = completed(api, created(api, clip, **form).id)
    info = task.video_info
    assert info is not None
    assert (info.preprocess_result_width, info.preprocess_result_height) == prepared
    assert info.preprocess_applied is (prepared != (160, 90))
    assert (info.predicted_output_width, info.predicted_output_height) == size
    (tmp_path / "out.mp4").write_bytes(api.get(f"/api/files/{task.id}/result").content)
    out, given = probe(tmp_path / "out.mp4"), probe(clip)
    assert (out.width, out.height) == size
    assert (out.frames, out.fps, out.audio) == (given.frames, given.fps, given.audio)
    api.delete(f"/api/tasks/{task.id}")


def test_facts_of_the_video_are_true(api: httpx.Client, clip: Path) -> None:
    task = completed(api, created(api, clip, preprocess_width="160").id)
    info = task.video_info
    assert info is not None and task.started_at is not None and task.finished_at is not None
    assert (info.width, info.height, info.total_frames, info.processed_frames, info.fps) == (160, 90, 6, 6, 24)
    assert info.avg_frame_rate == pytest.approx(24000 / 1001) and info.duration == pytest.approx(6 * 1001 / 24000)
    assert info.bit_rate == pytest.approx(clip.stat().st_size * 8 / info.duration, abs=1)
    assert info.processing_time == pytest.approx((task.finished_at - task.started_at).total_seconds(), abs=0.5)
    assert info.inference_time is not None and 0 < info.inference_time <= info.processing_time
    api.delete(f"/api/tasks/{task.id}")


def test_a_running_task_is_stopped_by_its_deletion(
    api: httpx.Client, engine: LocalEngine, settings: Settings, tmp_path: Path
) -> None:
    long = make_video(tmp_path / "long.mp4", frames=500, size="160x120", sound=False)
    task = created(api, long, preprocess_width="320", preserve_aspect_ratio="true")
    told: list[shapes.Progress] = []
    until(lambda: told.append(shapes.Progress.model_validate_json(api.get(f"/api/tasks/{task.id}/progress").content))
          or told[-1].processed_frames > 8, "some frames are done")  # fmt: skip
    running = [one for one in told if one.status == "processing"]
    assert [one.processed_frames for one in told] == sorted(one.processed_frames for one in told)
    assert [one.progress for one in told] == sorted(one.progress for one in told)
    assert running[-1].progress == pytest.approx(running[-1].processed_frames / 5, abs=0.01)
    assert running[-1].estimated_time_remaining is not None and running[-1].estimated_time_remaining > 0
    for path in (f"/api/files/{task.id}/result", f"/api/files/{task.id}/preview"):
        assert api.get(path).json()["code"] == "task_not_completed"
    early = api.post(f"/api/tasks/{task.id}/export_from_chunks")
    assert early.status_code == 400 and "wait until it is completed" in early.json()["detail"]
    assert api.delete(f"/api/tasks/{task.id}").status_code == 204
    until(lambda: engine.gpu().current_task is None, "nothing runs")
    until(lambda: not list(settings.output_dir.glob("*/.*.part*")), "nothing is left of it")


def test_one_queue_is_seen_through_both_apis(
    api: httpx.Client, engine: LocalEngine, clip: Path, small_image: Path, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path) as running:
        there = created(api, clip)
        here = api.post("/api/process", files={"file": ("a.png", small_image.read_bytes())}).json()["task_id"]
        listed = shapes.TaskList.model_validate_json(api.get("/api/tasks/?page_size=3").content).tasks
        assert [task.input_file_name for task in listed] == ["a.png", "clip.mp4", "long.mp4"]
        pending = api.get("/api/queue/status").json()["pending_tasks"]
        short = engine.tasks(page_size=2).tasks[1].id
        assert [task["task_id"] for task in pending] == [short, here]
        assert api.get(f"/api/status/{short}").json()["params"]["color_correction"] == "adain"
        assert shown(api, short) == shown(api, there.id) == shown(api, str(there.id).upper())
        seen = shown(api, running)
        assert seen.parameters.scale == 6.0 and seen.parameters.preprocess_width == 160
        assert seen.parameters.preserve_aspect_ratio and seen.video_info is not None
        assert seen.video_info.preprocess_applied is False
        counts = shapes.System.model_validate_json(api.get("/api/system/status").content).tasks
        assert counts.pending >= 2 and counts.total == sum(engine.tasks().counts.values())
        api.post(f"/api/cancel/{here}")
        cancelled = shown(api, here)
        assert (cancelled.status, cancelled.error_message) == ("failed", "the task was cancelled")
        failed = shapes.TaskList.model_validate_json(api.get("/api/tasks/?status=failed").content)
        assert failed.tasks[0].id == cancelled.id
        late = api.post(f"/api/tasks/{here}/export_from_chunks")
        assert late.status_code == 400 and "submit the video again" in late.json()["detail"]
        for task_id in (there.id, here):
            assert api.delete(f"/api/tasks/{task_id}").status_code == 204
        assert api.get("/api/queue/status").json()["pending_tasks"] == []


def test_a_failed_task_says_why_and_how_to_go_on(
    api: httpx.Client, engine: LocalEngine, clip: Path, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path):
        task = created(api, clip)
        Path(engine.tasks(page_size=1).tasks[0].spec.input_path).unlink()
    until(lambda: shown(api, task.id).status not in ("pending", "processing"), "the task ends")
    failed = shown(api, task.id)
    assert failed.status == "failed" and failed.finished_at is not None and failed.progress == 0
    assert failed.error_message is not None and "clip.mp4 does not exist" in failed.error_message
    late = api.post(f"/api/tasks/{task.id}/export_from_chunks")
    assert late.status_code == 400 and "POST /api/retry" in late.json()["detail"]
    api.delete(f"/api/tasks/{task.id}")


def test_the_input_of_a_task_of_another_surface_is_sent_and_missed_once_it_is_gone(
    api: httpx.Client, engine: LocalEngine, clip: Path, tmp_path: Path
) -> None:
    source = tmp_path / "mine.mkv"
    source.write_bytes(clip.read_bytes())
    task = engine.wait(engine.submit(TaskSpec(input_path=str(source), resolution=90)).id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED
    sent = api.get(f"/api/files/{task.id}/input")
    assert (sent.content, sent.headers["content-type"]) == (clip.read_bytes(), "video/x-matroska")
    source.unlink()
    gone = api.get(f"/api/files/{task.id}/input")
    assert gone.status_code == 404 and "mine.mkv" in gone.json()["detail"] and str(tmp_path) not in gone.text
    api.delete(f"/api/tasks/{task.id}")


def test_paths_without_the_trailing_slash_are_redirected_as_fastapi_does(api: httpx.Client, clip: Path) -> None:
    reply = api.get("/api/tasks?page=2&page_size=1")
    assert reply.status_code == 307 and reply.headers["location"].endswith("/api/tasks/?page=2&page_size=1")
    followed = api.post("/api/tasks", files={"file": ("a.mp4", clip.read_bytes())}, follow_redirects=True)
    assert followed.status_code == 201
    api.delete(f"/api/tasks/{followed.json()['id']}")
    assert api.get("/health").json()["status"] == "healthy"


def test_the_form_schema_agrees_with_what_the_form_takes(api: httpx.Client, clip: Path) -> None:
    schema = shapes.FormSchema.model_validate_json(api.get("/api/tasks/parameter_schema").content)
    assert {field.name: field.default for field in schema.fields} == {
        "preprocess_width": 640, "scale": 2.0, "sparse_ratio": 2.0, "local_range": 11, "seed": 0,
        "preserve_aspect_ratio": False}  # fmt: skip
    ranges = {field.name: (field.min, field.max) for field in schema.fields}
    assert ranges["scale"] == (1, 8) and ranges["sparse_ratio"] == (1, 4) and ranges["local_range"] == (7, 15)
    assert [choice.value for choice in schema.fields[0].recommended] == [640, 768, 896, 960, 1024, 1152, 1280]
    assert [(one.key, one.preprocess_width, one.scale) for one in schema.presets] == [
        ("1080p", 960, 2), ("2k", 1152, 2), ("fast", 768, 2)]  # fmt: skip
    for name, (low, high) in ranges.items():
        for value in (low, high):
            if value is not None:
                beyond = f"{value - 1 if value == low else value + 1:g}"
                reply = api.post("/api/tasks/", files={"file": ("a.mp4", clip.read_bytes())}, data={name: beyond})
                assert reply.status_code == 400 and f"{name}=" in reply.json()["detail"], reply.text
    declared = api.get("/openapi.json").json()["paths"]["/api/tasks/"]["post"]["requestBody"]
    form = declared["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["preprocess_width"]["default"] == 640 and form["scale"]["maximum"] == 8


def test_what_a_form_leaves_open_takes_the_documented_default(api: httpx.Client, clip: Path) -> None:
    task = created(api, clip, seed="", model_variant="full")
    assert task.parameters.model_dump() == {
        "scale": 2.0, "sparse_ratio": 2.0, "local_range": 11, "seed": 0, "model_variant": "compact",
        "preprocess_width": 640, "preserve_aspect_ratio": False}  # fmt: skip
    info = task.video_info
    assert info is not None
    assert (info.preprocess_result_width, info.preprocess_result_height) == (640, 360)
    assert (info.predicted_output_width, info.predicted_output_height) == (1280, 640)
    api.delete(f"/api/tasks/{task.id}")


def test_ids_are_uuids_to_whoever_wants_one(api: httpx.Client, clip: Path) -> None:
    task = created(api, clip)
    assert task.id.version == 8 and task.id.variant == uuid.RFC_4122
    assert api.get(f"/api/tasks/{uuid.uuid4()}").status_code == 404
    api.delete(f"/api/tasks/{task.id}")
