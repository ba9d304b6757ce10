"""Removing tasks whose files and worker are real: what goes, what stays, and who notices."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import make_settings, make_video
from upres.engine import LocalEngine
from upres.errors import TaskNotFound
from upres.media.decode import FrameReader
from upres.media.probe import probe
from upres.tasks import Task, TaskSpec, TaskState

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """One worker for all tests of this file."""
    engine = LocalEngine(make_settings(tmp_path_factory.mktemp("data")))
    engine.settings.upload_dir.mkdir()
    yield engine
    engine.stop()
    engine.close()


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("media") / "long.mp4", frames=500, size="160x120", sound=False)


def uploaded(engine: LocalEngine, video: Path) -> Path:
    """As the REST surface leaves it: alone in a folder of its own."""
    path = engine.settings.upload_dir / f"{len(list(engine.settings.upload_dir.iterdir()))}" / "a.mp4"
    path.parent.mkdir()
    shutil.copy(video, path)
    return path


def files(engine: LocalEngine) -> set[Path]:
    """All that lies where uploads, results and what becomes of them do, folders too."""
    its = engine.settings
    return {path for folder in (its.upload_dir, its.output_dir, its.work_dir) for path in folder.rglob("*")}


def spec(path: Path, **more: object) -> TaskSpec:
    order = {"input_path": str(path), "resolution": 96, "batch_size": 1, "color_correction": "none"}
    return TaskSpec.model_validate(order | more)


def endless(path: Path) -> TaskSpec:
    return spec(path, resolution=480)


def started(engine: LocalEngine, task: Task) -> Task:
    while task.progress.frames_done == 0:
        task = engine.wait(task.id, PATIENCE_S, seen=task)
        assert not task.state.finished, task
    return task


def completed(engine: LocalEngine, order: TaskSpec) -> Task:
    task = engine.wait(engine.submit(order).id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED, task.failure
    return task


def test_a_running_task_is_stopped_leaves_nothing_and_the_worker_takes_the_next(
    here: LocalEngine, long_video: Path, small_video: Path
) -> None:
    before = files(here)
    task = started(here, here.submit(endless(uploaded(here, long_video))))
    pid = here.gpu().worker_pid
    assert here.remove(task.id).state is TaskState.PROCESSING
    with pytest.raises(TaskNotFound):
        here.status(task.id)
    following = completed(here, spec(small_video))
    assert here.gpu().worker_pid == pid
    assert [task.id for task in here.tasks().tasks] == [following.id]
    here.remove(following.id)
    assert files(here) == before


def test_a_task_removed_before_its_first_frame_leaves_no_folder(
    here: LocalEngine, long_video: Path, small_video: Path
) -> None:
    before = files(here)
    task = here.submit(spec(uploaded(here, long_video)))
    while task.state is TaskState.QUEUED:
        task = here.wait(task.id, PATIENCE_S, seen=task)
    here.remove(task.id)
    here.remove(completed(here, spec(small_video)).id)
    assert files(here) == before


def test_a_finished_task_goes_with_its_upload_and_its_result(here: LocalEngine, small_video: Path) -> None:
    before = files(here)
    task = completed(here, spec(uploaded(here, small_video)))
    assert here.output(task.id) in files(here)
    assert here.remove(task.id).result == task.result is not None
    assert files(here) == before


def test_files_at_paths_the_caller_chose_stay(here: LocalEngine, small_video: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.mp4"
    here.remove(completed(here, spec(small_video, output_path=str(output))).id)
    assert output.is_file() and small_video.is_file()


def test_an_upload_that_another_task_reads_stays_until_that_is_removed_too(
    here: LocalEngine, long_video: Path, small_video: Path
) -> None:
    busy = here.submit(endless(long_video))
    upload = uploaded(here, small_video)
    first, second = (here.submit(spec(upload)) for _ in range(2))
    here.remove(first.id)
    assert upload.is_file() and here.status(second.id).queue_position == 2
    here.remove(second.id)
    assert not upload.parent.exists()
    here.remove(busy.id)


def test_a_listing_shows_where_unfinished_tasks_stand(here: LocalEngine, long_video: Path, small_video: Path) -> None:
    busy = started(here, here.submit(endless(long_video)))
    waiting = here.submit(spec(small_video))
    shown = here.tasks(page_size=2)
    assert [(task.id, task.queue_position) for task in shown.tasks] == [(waiting.id, 2), (busy.id, 1)]
    last_s, first_s = (task.estimated_wait_s for task in shown.tasks)
    assert last_s is not None and first_s is not None and last_s > first_s
    assert shown.counts[TaskState.PROCESSING] == shown.counts[TaskState.QUEUED] == 1
    for task in (waiting, busy):
        here.remove(task.id)


def test_a_preview_is_the_results_first_frame(here: LocalEngine, small_video: Path, small_image: Path) -> None:
    video, image = completed(here, spec(small_video)), completed(here, spec(small_image, resolution=72))
    with FrameReader(probe(here.output(video.id)), block=1) as reader:
        first = next(iter(reader))[0]
    for task, expected in ((video, first), (image, np.asarray(Image.open(here.output(image.id))))):
        with Image.open(io.BytesIO(here.preview(task.id))) as picture:
            assert (picture.format, picture.size) == ("JPEG", expected.shape[1::-1])
            assert np.abs(np.asarray(picture).astype(int) - expected).mean() < 6
