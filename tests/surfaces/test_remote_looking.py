"""Plan, preview and compare through another machine's `upres serve`, and with its token."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support import ffmpeg
from tests.surfaces.serving import PATIENCE_S, Served, serving
from upres.engine import LocalEngine
from upres.errors import InvalidInput, InvalidParameter, ModelNotFound, UpresError
from upres.media.decode import FrameReader, Reading
from upres.media.probe import MediaInfo, probe
from upres.pictures.values import Excerpt
from upres.remote import RemoteEngine
from upres.settings import Settings
from upres.tasks import TaskSpec, TaskState, order

TOKEN = "t" * 32


@pytest.fixture
def remote(server: Served, settings: Settings, tmp_path: Path) -> Iterator[RemoteEngine]:
    here = replace(settings, remote_url=server.url, output_dir=tmp_path / "here", data_dir=tmp_path / "data")
    engine = RemoteEngine(here)
    yield engine
    engine.close()


def test_a_plan_is_made_there_for_a_file_that_stays_here(
    remote: RemoteEngine, engine: LocalEngine, settings: Settings, small_video: Path
) -> None:
    spec = TaskSpec(input_path=str(small_video), resolution=96, dit_model="auto")
    uploads = set(settings.upload_dir.glob("*")) if settings.upload_dir.exists() else set()
    there, here = remote.plan(spec), engine.plan(spec)
    same = {"media", "model", "model_reason", "width", "height", "frames", "window", "output_bytes"}
    assert there.model_dump(include=same) == here.model_dump(include=same)
    assert (set(settings.upload_dir.glob("*")) if settings.upload_dir.exists() else set()) == uploads
    with pytest.raises(ModelNotFound):
        remote.plan(spec.model_copy(update={"dit_model": "x"}))


def test_a_preview_is_cut_here_restored_there_and_compared_here(
    remote: RemoteEngine, engine: LocalEngine, small_video: Path, tmp_path: Path
) -> None:
    spec = TaskSpec(input_path=str(small_video), resolution=96)
    task = remote.wait(remote.sample(spec, Excerpt(seconds=0.1, place="left")).id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED and task.result is not None
    assert (task.result.width, task.result.height, task.result.frames) == (64, 48, 2)
    seen = remote.compare(task.id)
    assert (seen.width, seen.height) == (64, 48)
    assert remote.sheet(task.id).startswith(b"\xff\xd8")


def frames_of(info: MediaInfo) -> np.ndarray:
    with FrameReader(info, how=Reading(deep=True)) as reader:
        return np.concatenate(list(reader))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Six images of 64x48, 16 bits a sample in one of them."""
    folder = tmp_path / "frames"
    folder.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48,hue=h=67*n", "-frames:v", "6", "-pix_fmt", "rgb24", folder / "%d.png")
    ffmpeg("-f", "lavfi", "-i", "gradients=s=64x48", "-frames:v", "1", "-pix_fmt", "rgb48be", folder / "3.png")
    return folder


def test_a_folder_of_images_is_sent_as_one_file_and_comes_back_as_if_restored_here(
    remote: RemoteEngine, engine: LocalEngine, frames: Path, tmp_path: Path
) -> None:
    spec = TaskSpec(input_path=str(frames), resolution=96, frame_rate=24000 / 1001, codec="ffv1")
    there = remote.wait(remote.submit(spec).id, PATIENCE_S)
    here = engine.wait(engine.submit(spec).id, PATIENCE_S)
    assert there.result is not None and here.result is not None, (there.failure, here.failure)
    pair = [probe(Path(task.result.output_path)) for task in (there, here) if task.result is not None]
    assert [(info.frames, info.fps, info.bit_depth) for info in pair] == [(6, Fraction(24000, 1001), 16)] * 2
    assert np.array_equal(*map(frames_of, pair))
    assert remote.compare(there.id) == engine.compare(here.id)
    assert list((tmp_path / "data" / "previews").iterdir()) == []


def test_a_preview_of_a_folder_is_restored_there(remote: RemoteEngine, engine: LocalEngine, frames: Path) -> None:
    spec = TaskSpec(input_path=str(frames), resolution=96)
    task = remote.wait(remote.sample(spec, Excerpt(start_s=0, seconds=0.1)).id, PATIENCE_S)
    assert task.result is not None and task.result.frames == 2, task.failure
    assert remote.compare(task.id).height == 96
    assert [(item.id, item.spec.preview) for item in remote.history(1)] == [(task.id, True)]


def test_a_rate_is_refused_of_what_is_no_folder(remote: RemoteEngine, small_video: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"frame_rate=12: small\.mp4 is no folder of images"):
        remote.submit(TaskSpec(input_path=str(small_video), frame_rate=12))


def test_a_folder_that_is_no_clip_is_refused_before_anything_is_sent(
    remote: RemoteEngine, engine: LocalEngine, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    known = len(engine.history(1000))
    with pytest.raises(InvalidInput, match="without images"):
        remote.submit(TaskSpec(input_path=str(tmp_path / "empty")))
    assert len(engine.history(1000)) == known


def test_a_task_submitted_elsewhere_is_compared_by_the_server(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path
) -> None:
    task = engine.wait(engine.submit(order(input_path=str(small_image), resolution=72)).id, PATIENCE_S)
    there, here = remote.compare(task.id), engine.compare(task.id)
    assert there == here
    with pytest.raises(InvalidParameter, match="at=9 lies outside"):
        remote.compare(task.id, at_s=9)


def test_the_token_opens_the_server_and_nothing_else_does(
    fresh_settings: Settings, fresh_engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    with serving(fresh_settings, UPRES_TOKEN=TOKEN) as served:
        here = replace(fresh_settings, remote_url=served.url, output_dir=tmp_path / "here", data_dir=tmp_path / "data")
        known, unknown = RemoteEngine(replace(here, token=TOKEN)), RemoteEngine(here)
        assert known.plan(TaskSpec(input_path=str(small_image))).model == "compact"
        with pytest.raises(UpresError, match="token"):
            unknown.queue()
        known.close()
        unknown.close()


def test_the_routes_answer_people_too(http: httpx.Client, engine: LocalEngine, small_image: Path) -> None:
    media = {"file": "a.mp4", "kind": "video", "width": 640, "height": 480, "frames": 100, "fps": 25}
    plan = http.post("/api/plan", json={"media": media, "params": {"resolution": 720}}).json()
    assert (plan["width"], plan["height"]) == (960, 720)
    for body, says in [({}, "media"), ({"media": {**media, "width": 0}}, "media.width"),
                       ({"media": media, "params": {"resolution": 1}}, "resolution=1"),
                       ({"media": media, "params": []}, "params")]:  # fmt: skip
        refusal = http.post("/api/plan", json=body)
        assert refusal.status_code == 400 and says in refusal.json()["error"]
    task = engine.wait(engine.submit(order(input_path=str(small_image), resolution=72)).id, PATIENCE_S)
    sheet = http.get(f"/api/sheet/{task.id}")
    assert sheet.headers["content-type"] == "image/jpeg" and sheet.content.startswith(b"\xff\xd8")
    assert http.get("/api/sheet/nothere0").json()["code"] == "task_not_found"
