"""What is deleted when, and what never is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import make_settings
from upres.fleet.janitor import DAY_S, Janitor
from upres.queue.database import Database
from upres.queue.store import NewTask, TaskStore
from upres.settings import Settings
from upres.tasks import Failure, Result, Task, TaskSpec, TaskState


class House:
    """A store and its folders, with tasks that ended so many days ago."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.settings: Settings = make_settings(folder / "data", **variables)
        self.database = Database(self.settings.data_dir / "upres.sqlite3")
        self.store = TaskStore(self.database)
        self.janitor = Janitor(self.settings, self.store)
        self.uploads = 0

    def upload(self, days: float = 0, size: int = 10) -> Path:
        self.uploads += 1
        folder = self.settings.upload_dir / f"{self.uploads:016x}"
        folder.mkdir(parents=True)
        (folder / "in.png").write_bytes(bytes(size))
        then = time.time() - days * DAY_S
        os.utime(folder, (then, then))
        return folder / "in.png"

    def task(self, state: str, *, days: float = 0, size: int = 10, path: Path | None = None) -> tuple[Task, Path, Path]:
        """The task, its upload and its output."""
        upload = path if path is not None else self.upload(days)
        task = self.store.add(NewTask(TaskSpec(input_path=str(upload)), "image", "compact", 1, 100))
        output = self.settings.output_dir / task.id / "out.png"
        if state != "queued":
            claim = self.store.claim("cpu")
            assert claim is not None
            output.parent.mkdir(parents=True)
            output.write_bytes(bytes(size))
            result = Result(output_path=str(output), width=1, height=1, frames=1, model="m", device="d",
                            process_time_s=1.0)  # fmt: skip
            if state == "completed":
                self.store.complete(claim, result, lambda: None)
            elif state == "failed":
                self.store.fail(claim, Failure(code="x", message="y"))
        with self.database.write("test") as tx:
            tx.execute("UPDATE tasks SET completed_at = completed_at - ? WHERE id = ?", (days * DAY_S, task.id))
        return self.store.get(task.id), upload, output


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, UPRES_KEEP_OUTPUTS="30")
    yield house
    house.database.close()


def test_uploads_and_outputs_go_after_their_days_and_rows_stay(house: House) -> None:
    old, fresh = house.task("completed", days=31), house.task("completed", days=8)
    house.janitor.tidy()
    assert not old[1].exists() and not old[2].exists()
    assert not fresh[1].exists() and fresh[2].exists()  # uploads are kept for 7 days
    assert house.store.get(old[0].id).state is TaskState.COMPLETED


def test_nothing_of_an_unfinished_task_is_touched(house: House) -> None:
    running, waiting = house.task("running", days=365), None
    waiting = house.task("queued", days=365)
    house.janitor.tidy()
    assert running[1].exists() and running[2].exists() and waiting[1].exists()


def test_an_upload_that_a_waiting_task_uses_again_stays(house: House) -> None:
    _, upload, _ = house.task("completed", days=365)
    house.task("queued", path=upload)
    house.janitor.tidy()
    assert upload.exists()


def test_an_upload_that_never_became_a_task_goes_after_a_day(house: House) -> None:
    stray, arriving = house.upload(days=2), house.upload(days=0)
    house.janitor.tidy()
    assert not stray.exists() and arriving.exists()


def test_what_a_task_without_a_result_left_goes_at_once(house: House) -> None:
    _, upload, output = house.task("failed")
    house.janitor.tidy()
    assert not output.parent.exists() and upload.exists()  # the upload may be wanted by a retry


def test_files_that_are_not_ours_stay(house: House) -> None:
    foreign = [house.settings.output_dir / "holiday" / "a.png", house.settings.upload_dir / "mine" / "a.png"]
    for path in foreign:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path.parent, (0, 0))
    house.janitor.tidy()
    assert all(path.exists() for path in foreign)


def test_by_default_results_stay_for_ever(tmp_path: Path) -> None:
    house = House(tmp_path)
    _, upload, output = house.task("completed", days=3650)
    house.janitor.tidy()
    assert output.exists() and not upload.exists()
    house.database.close()


def test_over_the_quota_the_oldest_finished_tasks_go_first(tmp_path: Path) -> None:
    house = House(tmp_path, UPRES_KEEP_GB="0.000002")  # 2000 bytes
    outputs = [house.task("completed", days=days, size=900)[2] for days in (3, 2, 1)]
    running = house.task("running", size=5000)
    house.janitor.tidy()
    assert [output.exists() for output in outputs] == [False, True, True]
    assert running[2].exists()
    house.database.close()
