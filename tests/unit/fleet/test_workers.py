"""Real worker processes: started on demand, alone on their slot, surviving their starter, noticed when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support import PATIENCE_S, make_settings, make_video, until, workers_of
from upres.engine import LocalEngine
from upres.errors import GpuBusy
from upres.queue.database import Database
from upres.queue.store import TaskStore
from upres.queue.workers import WorkerTable
from upres.settings import Settings
from upres.tasks import Task, TaskSpec, TaskState


def spec(path: Path, resolution: int = 96) -> TaskSpec:
    return TaskSpec(input_path=str(path), resolution=resolution, batch_size=1, color_correction="none")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """For all tests that do not mind what ran before them."""
    engine = LocalEngine(make_settings(tmp_path_factory.mktemp("data")))
    yield engine
    engine.stop()
    engine.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of work: long enough to be stopped in the middle of, short enough to be finished after that."""
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", frames=120, size="96x72", sound=False)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never finished here."""
    return make_video(tmp_path_factory.mktemp("media") / "long.mp4", frames=300, size="96x72", sound=False)


def running(engine: LocalEngine, task: Task) -> int:
    """Waits until frames come out; returns the worker's pid."""
    while task.progress.frames_done == 0:
        task = engine.wait(task.id, PATIENCE_S, seen=task)
        assert not task.state.finished, task
    pid = engine.gpu().worker_pid
    assert pid is not None
    return pid


def test_a_task_is_restored_and_its_file_is_where_it_says(here: LocalEngine, small_video: Path) -> None:
    task = here.wait(here.submit(spec(small_video)).id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED, task.failure
    assert task.result is not None and task.result.frames == 9 and task.result.output_resolution == "128x96"
    output = here.output(task.id)
    assert output.stat().st_size > 0 and [p.name for p in output.parent.iterdir()] == [output.name]
    assert output.name.startswith("small_compact_96p_b1_cnone_s42_")


def test_a_killed_workers_task_is_finished_by_the_next_one(here: LocalEngine, clip: Path) -> None:
    task = here.submit(spec(clip))
    os.kill(running(here, task), signal.SIGKILL)
    task = here.wait(task.id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED and task.attempt == 2
    assert task.result is not None and task.result.frames == 120


def test_cancelling_a_running_task_leaves_no_file_and_a_worker_that_goes_on(
    here: LocalEngine, long_video: Path, small_video: Path
) -> None:
    task = here.submit(spec(long_video))
    pid = running(here, task)
    here.cancel(task.id)
    assert here.wait(task.id, PATIENCE_S).state is TaskState.CANCELLED
    assert list((here.settings.output_dir / task.id).iterdir()) == []
    following = here.wait(here.submit(spec(small_video)).id, PATIENCE_S)
    assert following.state is TaskState.COMPLETED and here.gpu().worker_pid == pid


def test_a_damaged_input_fails_its_task_and_not_the_worker(
    here: LocalEngine, tmp_path: Path, small_video: Path
) -> None:
    doomed = tmp_path / "doomed.mp4"
    doomed.write_bytes(small_video.read_bytes())
    blocker = here.submit(spec(small_video))
    task = here.submit(spec(doomed))
    doomed.unlink()
    assert here.wait(blocker.id, PATIENCE_S).state is TaskState.COMPLETED
    failed = here.wait(task.id, PATIENCE_S)
    assert failed.state is TaskState.FAILED and failed.failure is not None
    assert failed.failure.code == "file_not_found" and "doomed.mp4" in failed.failure.message


def test_releasing_memory_ends_an_idle_worker_and_refuses_a_busy_one(here: LocalEngine, long_video: Path) -> None:
    here.stop()
    assert "no worker" in here.offload()
    task = here.submit(spec(long_video))
    pid = running(here, task)
    with pytest.raises(GpuBusy):
        here.offload()
    here.cancel(task.id)
    here.wait(task.id, PATIENCE_S)
    until(lambda: here.gpu().current_task is None and not busy(here), "the worker is idle")
    assert here.offload() == "GPU memory released"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert workers_of(here.settings) == []


def busy(engine: LocalEngine) -> bool:
    row = engine.supervisor.alive(engine.supervisor.slots[0])
    return row is not None and row.state in ("busy", "loading")


def test_stopping_puts_the_running_task_back_and_it_is_finished_later(here: LocalEngine, clip: Path) -> None:
    task = here.submit(spec(clip))
    pid = running(here, task)
    assert here.stop() == [pid]
    assert workers_of(here.settings) == []
    task = here.wait(task.id, PATIENCE_S)
    assert task.state is TaskState.COMPLETED and task.attempt == 1


def test_stopping_ends_a_keeper_that_has_only_just_been_started(fresh_settings: Settings, small_image: Path) -> None:
    engine = LocalEngine(fresh_settings, worker="no.such.module")
    engine.submit(spec(small_image))
    (keeper,) = [child for child in psutil.Process().children() if child.cwd() == str(fresh_settings.data_dir)]
    engine.stop()
    assert not keeper.is_running()
    engine.close()


def test_an_idle_worker_exits_by_itself_and_the_next_task_starts_another(tmp_path: Path, small_video: Path) -> None:
    settings = make_settings(tmp_path / "data", GPU_IDLE_TIMEOUT="0")
    engine = LocalEngine(settings)
    for _ in range(3):  # each submit may meet the worker on its way out
        assert engine.wait(engine.submit(spec(small_video)).id, PATIENCE_S).state is TaskState.COMPLETED
    until(lambda: engine.supervisor.alive(engine.supervisor.slots[0]) is None, "the worker exited")
    assert workers_of(settings) == []
    engine.close()


def test_switching_loads_the_model_and_says_so(here: LocalEngine) -> None:
    here.stop()
    assert here.models().current is None
    assert here.switch("compact") == "compact"
    assert here.models().current == "compact" and here.gpu().current_model == "compact"


def test_many_starters_make_one_worker(fresh_settings: Settings, small_video: Path) -> None:
    command = [sys.executable, "-P", "-m", "upres.worker.process", "--slot", "cpu"]
    fresh_settings.data_dir.mkdir(parents=True)
    environment = {**os.environ, **fresh_settings.to_env()}
    racers = [
        subprocess.Popen(command, env=environment, cwd=fresh_settings.data_dir, stderr=subprocess.DEVNULL)
        for _ in range(6)
    ]
    until(lambda: sum(racer.poll() is not None for racer in racers) >= 5, "all but one gave up")
    assert sorted(racer.returncode for racer in racers if racer.returncode is not None) == [75] * 5
    engine = LocalEngine(fresh_settings)
    assert len(workers_of(fresh_settings)) == 1
    assert engine.wait(engine.submit(spec(small_video)).id, PATIENCE_S).state is TaskState.COMPLETED
    assert len(engine.stop()) == 1
    for racer in racers:
        racer.wait(PATIENCE_S)
    engine.close()


def test_submits_from_many_threads_are_all_done_by_one_worker(
    fresh_engine: LocalEngine, fresh_settings: Settings, small_image: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: fresh_engine.submit(spec(small_image)), range(8)))
    until(lambda: bool(workers_of(fresh_settings)), "a worker runs")
    assert len(workers_of(fresh_settings)) == 1
    ended = [fresh_engine.wait(task.id, PATIENCE_S) for task in tasks]
    assert {task.state for task in ended} == {TaskState.COMPLETED}
    assert len({task.result.output_path for task in ended if task.result is not None}) == 8


def test_a_keeper_that_has_let_go_and_not_yet_ended_is_not_waited_for(tmp_path: Path, small_video: Path) -> None:
    """It has looked at the queue for the last time: a task submitted now would come to nobody."""
    engine = LocalEngine(make_settings(tmp_path / "data"))
    slot = engine.supervisor.slots[0]
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as leaving:
        WorkerTable(Database(engine.settings.data_dir / "upres.sqlite3")).keep(slot.name, leaving.pid)
        engine.supervisor._started[slot.name] = (leaving, time.monotonic())
        task = engine.submit(spec(small_video))
        store = TaskStore(Database(engine.settings.data_dir / "upres.sqlite3"))  # looks without helping
        until(lambda: store.get(task.id).state.finished, "the task ran")
        assert leaving.poll() is None
    engine.stop()
    engine.close()
