"""What a task may ask for: paths under roots, sizes, keys, priorities, room."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import make_settings
from upres.disk import Disk
from upres.engine import LocalEngine
from upres.errors import (
    DiskFull,
    FileMissing,
    InvalidInput,
    InvalidParameter,
    PathRefused,
    QueueFull,
    TaskNotFinished,
    TaskTooLarge,
)
from upres.limits import beneath
from upres.tasks import TaskSpec, TaskState


def order(path: Path, **values: object) -> TaskSpec:
    return TaskSpec.model_validate({"input_path": str(path), "resolution": 64, **values})


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "roots" / "inner").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.png").write_bytes(b"x")
    (tmp_path / "roots" / "a.png").write_bytes(b"x")
    (tmp_path / "roots" / "link.png").symlink_to(tmp_path / "outside" / "a.png")
    (tmp_path / "roots" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "roots" / "inner" / "home.png").symlink_to(tmp_path / "roots" / "a.png")
    (tmp_path / "roots" / "loop").symlink_to(tmp_path / "roots" / "loop")
    (tmp_path / "roots-not").mkdir()
    (tmp_path / "roots-not" / "a.png").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("path", ["roots/a.png", "roots/inner/../a.png", "roots/inner/home.png"])
def test_a_path_under_a_root_is_given_without_links(places: Path, path: str) -> None:
    assert beneath(places / path, (places / "roots",)) == places / "roots" / "a.png"


@pytest.mark.parametrize("path", ["outside/a.png", "roots/link.png", "roots/folder/a.png", "roots/../outside/a.png",
                                  "roots-not/a.png", "outside/missing.png"])  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(places: Path, path: str) -> None:
    with pytest.raises(PathRefused, match="UPRES_ROOTS"):
        beneath(places / path, (places / "roots",))


def test_a_missing_file_is_called_missing_only_under_a_root(places: Path) -> None:
    with pytest.raises(FileMissing):
        beneath(places / "roots" / "missing.png", (places / "roots",))


@pytest.mark.parametrize("path", ["roots/loop", "roots/a\0.png"])
def test_a_path_that_means_nothing_is_refused_by_name(places: Path, path: str) -> None:
    with pytest.raises((InvalidInput, PathRefused, FileMissing)):
        beneath(places / path, (places / "roots",))


def test_without_roots_any_file_will_do_and_links_stay(places: Path) -> None:
    assert beneath(places / "roots" / "link.png", ()) == places / "roots" / "link.png"


def test_roots_hold_for_outputs_and_in_the_worker_too(tmp_path: Path, small_image: Path) -> None:
    """A file swapped for a link after the check is not read."""
    roots, secret = tmp_path / "roots", tmp_path / "secret.png"
    roots.mkdir()
    secret.write_bytes(small_image.read_bytes())
    settings = make_settings(tmp_path / "data", UPRES_ROOTS=str(roots))
    engine = LocalEngine(settings)
    good, bait = roots / "good 图.png", roots / "bait.png"
    for path in (good, bait):
        path.write_bytes(small_image.read_bytes())
    with pytest.raises(PathRefused):
        engine.submit(order(good, output_path=str(tmp_path / "out.png")))
    first = engine.submit(order(good, output_path=str(roots / "out.png")))
    second = engine.submit(order(bait))
    bait.unlink()
    bait.symlink_to(secret)
    assert engine.wait(first.id, 120).state is TaskState.COMPLETED and (roots / "out.png").is_file()
    done = engine.wait(second.id, 120)
    assert done.failure is not None and done.failure.code == "path_not_allowed", done
    assert not any((settings.data_dir / "inputs").iterdir())
    engine.stop()
    engine.close()


def test_a_full_queue_refuses_but_answers_a_key_it_knows(tmp_path: Path, small_image: Path) -> None:
    engine = LocalEngine(make_settings(tmp_path / "data", UPRES_MAX_QUEUED="2"), worker="no.such.module")
    known = engine.submit(order(small_image), key="k")
    engine.submit(order(small_image))
    with pytest.raises(QueueFull, match="limit is 2") as refused:
        engine.submit(order(small_image))
    assert (refused.value.http_status, refused.value.retry_after_s) == (429, 10)
    assert engine.submit(order(small_image), key="k").id == known.id
    engine.cancel(known.id)
    assert engine.submit(order(small_image)).state is TaskState.QUEUED
    engine.stop()
    engine.close()


def test_refusals_name_the_value_and_the_setting(fresh_engine: LocalEngine, small_image: Path) -> None:
    fresh_engine.settings = replace(fresh_engine.settings, max_gigapixels=0.001)
    with pytest.raises(TaskTooLarge, match="UPRES_MAX_GIGAPIXELS"):
        fresh_engine.submit(order(small_image, resolution=1080))
    fresh_engine.settings = replace(fresh_engine.settings, disk_reserve_mb=10**9)
    with pytest.raises(DiskFull, match="UPRES_DISK_RESERVE"):
        fresh_engine.submit(order(small_image))
    with pytest.raises(InvalidParameter, match="201 characters"):
        fresh_engine.submit(order(small_image), key="k" * 201)
    with pytest.raises(InvalidParameter, match="priority=101"):
        fresh_engine.submit(order(small_image), priority=101)
    assert fresh_engine.queue().pending == ()


def test_room_is_counted_where_it_is_needed() -> None:
    one, two = Disk(1000, 1000, True, 100), Disk(1000, 2000, False, 100)
    assert not one.shortage(300, 600) and "901 bytes" in one.shortage(300, 601)
    assert not two.shortage(900, 1900)
    assert "where results go" in two.shortage(901, 0) and "unfinished pieces" in two.shortage(0, 1901)
    assert "(1000 bytes) are free" in two.shortage(901, 0)


def test_a_task_that_would_not_fit_is_refused_with_both_figures(fresh_engine: LocalEngine, small_video: Path) -> None:
    """The reserve leaves 50 MB: room for one file as large as the result, and not for its pieces beside it."""
    free_mb = Disk.of(fresh_engine.settings.output_dir, fresh_engine.settings.work_dir, 0).free_bytes // 10**6
    fresh_engine.settings = replace(fresh_engine.settings, disk_reserve_mb=free_mb - 50)
    asked = order(small_video, resolution=1080, codec="ffv1")
    foreseen = fresh_engine.plan(asked)
    assert foreseen.output_bytes < 50e6 < foreseen.disk_bytes
    with pytest.raises(DiskFull, match=rf"{foreseen.disk_bytes} bytes.*UPRES_WORK_FOLDER"):
        fresh_engine.submit(asked)
    assert any(f"({foreseen.disk_bytes} bytes) are needed" in warning for warning in foreseen.warnings)
    assert fresh_engine.queue().pending == ()


def test_a_retry_is_a_new_task_with_the_same_order(tmp_path: Path, small_image: Path) -> None:
    engine = LocalEngine(make_settings(tmp_path / "data"), worker="no.such.module")
    first = engine.submit(order(small_image, seed=7))
    with pytest.raises(TaskNotFinished, match=first.id):
        engine.retry(first.id)
    engine.cancel(first.id)
    again = engine.retry(first.id)
    assert again.id != first.id and again.spec == first.spec and again.state is TaskState.QUEUED
    engine.stop()
    engine.close()


def test_priorities_decide_who_is_next(tmp_path: Path, small_image: Path) -> None:
    engine = LocalEngine(make_settings(tmp_path / "data"), worker="no.such.module")
    ids = [engine.submit(order(small_image), priority=priority).id for priority in (0, -5, 5)]
    assert [task.id for task in engine.queue().pending] == [ids[2], ids[0], ids[1]]
    assert engine.status(ids[1]).queue_position == 3
    engine.stop()
    engine.close()


def test_a_worker_that_cannot_start_is_a_fault_that_shows(tmp_path: Path, small_image: Path) -> None:
    engine = LocalEngine(make_settings(tmp_path / "data"), worker="no.such.module")
    task = engine.submit(order(small_image))
    while engine.gpu().quarantined_until is None:
        engine.wait(task.id, 1)
    assert "could not start" in str(engine.gpu().fault)
    assert engine.status(task.id).state is TaskState.QUEUED
    engine.stop()
    engine.close()
    assert os.stat(engine.settings.data_dir / "upres.sqlite3").st_mode & 0o077 == 0


def test_submit_refuses_nvenc_where_there_is_none_and_settles_auto(
    fresh_engine: LocalEngine, small_video: Path
) -> None:
    with pytest.raises(InvalidParameter, match="encoder=nvenc does not work here: tasks run on the CPU"):
        fresh_engine.submit(order(small_video, encoder="nvenc"))
    asked = order(small_video, encoder="auto")
    assert "written by a software encoder: tasks run on the CPU" in fresh_engine.plan(asked).warnings
    task = fresh_engine.submit(asked)
    assert task.spec.encoder == "software"
    fresh_engine.cancel(task.id)
