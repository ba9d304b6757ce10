"""Each named point of a task's life hit in turn, by death, by sleep and by a full disk; by a clock that jumps, too."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.chaos import deeds
from tests.chaos.arena import SLOT, Arena, kill, until
from tests.chaos.checker import judge
from tests.chaos.oplog import read
from upres.engine import LocalEngine
from upres.errors import DiskFull
from upres.queue import points
from upres.queue.database import Database
from upres.queue.locks import slot_lock
from upres.queue.store import TaskStore
from upres.tasks import Task, TaskSpec, TaskState

PATIENCE_S = 60.0
WORKERS_POINTS = (
    "keep.written", "keep.committed", "register.written", "register.committed", "claim.written", "claim.committed",
    "heartbeat.written", "heartbeat.committed", "complete.published", "complete.written", "complete.committed",
    "measured.written", "set_state.written", "set_state.committed",
)  # fmt: skip


def order(arena: Arena, seed: int = 0) -> TaskSpec:
    return TaskSpec(input_path=str(arena.folder / "input.png"), resolution=32, seed=seed)


def verdict_of(arena: Arena, engine: LocalEngine, tasks: list[Task]) -> None:
    """Asserts that the log holds no broken promise; each task's key is its id here."""
    for task in tasks:
        arena.log.write("submit", key=task.id)
        arena.log.write("acknowledged", key=task.id, id=task.id)
    arena.write_down([(task.id, engine.status(task.id)) for task in tasks])
    verdict = judge(read(arena.folder / "operations.log"))
    assert verdict.kept, verdict


def test_death_at_every_point_of_a_workers_or_keepers_life_costs_an_attempt_and_nothing_else(
    arena: Arena, engine: LocalEngine
) -> None:
    tasks = []
    for point in WORKERS_POINTS:
        if point.startswith(("keep", "register")):
            engine.stop()
        used = deeds.issue(arena.deeds, point)
        tasks.append(engine.submit(order(arena)))
        task = engine.wait(tasks[-1].id, PATIENCE_S)
        assert task.state is TaskState.COMPLETED, (point, task)
        until(used.exists, f"{point} was reached")
    verdict_of(arena, engine, tasks)


@pytest.mark.parametrize("point", ["requeue_orphans.written", "requeue_orphans.committed"])
def test_death_of_whoever_puts_a_task_back_leaves_it_for_the_next(
    arena: Arena, engine: LocalEngine, point: str
) -> None:
    deeds.issue(arena.deeds, "claim.committed")
    used = deeds.issue(arena.deeds, point)
    task = engine.submit(order(arena))
    assert engine.wait(task.id, PATIENCE_S).state is TaskState.COMPLETED
    assert used.exists()
    verdict_of(arena, engine, [task])


@pytest.mark.parametrize(("point", "state"), [("end_cancelled.written", "cancelled"), ("fail.written", "failed"),
                                              ("give_back.committed", "completed")])  # fmt: skip
def test_death_at_the_other_ends_of_a_task(arena: Arena, engine: LocalEngine, point: str, state: str) -> None:
    used = deeds.issue(arena.deeds, point)
    stopped = deeds.issue(arena.deeds, "heartbeat.committed", "stop")
    task = engine.submit(order(arena))
    until(stopped.exists, "the worker sleeps in the middle of its task")
    pid = int(stopped.read_text())
    if state == "cancelled":
        engine.cancel(task.id)
    elif state == "failed":
        (arena.folder / "input.png").rename(arena.folder / "gone.png")
        Path(task.spec.input_path).mkdir()  # reading it fails, in the next attempt
        kill(pid)
    else:
        kill(pid, signal.SIGTERM)
    kill(pid, signal.SIGCONT)
    assert engine.wait(task.id, PATIENCE_S).state == state
    assert used.exists()
    assert state == "completed" or not any((arena.settings.output_dir / task.id).glob("*"))


@pytest.mark.parametrize("point", ["add.written", "add.committed"])
def test_a_submit_that_dies_is_sent_again_under_its_key_and_makes_one_task(
    arena: Arena, engine: LocalEngine, point: str
) -> None:
    used = deeds.issue(arena.deeds, point)
    for expected in (-signal.SIGKILL, 0):
        assert arena.submitter(0, 1).wait(PATIENCE_S) == expected
    assert used.exists()
    (key,) = [event["key"] for event in read(arena.folder / "operations.log") if event["op"] == "acknowledged"]
    database = Database(arena.settings.data_dir / "upres.sqlite3")
    (row,) = database.query("SELECT id FROM tasks WHERE idempotency_key = ?", key)
    database.close()
    assert engine.wait(row["id"], PATIENCE_S).state is TaskState.COMPLETED


@pytest.mark.parametrize("point", ["claim.written", "heartbeat.written", "complete.published", "complete.written",
                                   "set_state.written", "register.written"])  # fmt: skip
def test_a_full_disk_at_any_point_of_a_worker_delays_its_task_and_no_more(
    arena: Arena, engine: LocalEngine, point: str
) -> None:
    used = deeds.issue(arena.deeds, point, "starve")
    task = engine.submit(order(arena))
    done = engine.wait(task.id, PATIENCE_S)
    assert (done.state, done.attempt) == (TaskState.COMPLETED, 1)
    assert used.exists()
    verdict_of(arena, engine, [task])


def test_a_submit_on_a_full_disk_is_refused_and_stores_nothing(arena: Arena, engine: LocalEngine) -> None:
    def full(point: str) -> None:
        if point == "add.written":
            raise sqlite3.OperationalError("database or disk is full")

    points.install(full)
    try:
        with pytest.raises(DiskFull, match="free space"):
            engine.submit(order(arena))
    finally:
        points.install(None)
    assert engine.queue().pending == () and engine.queue().processing == ()
    assert engine.wait(engine.submit(order(arena)).id, PATIENCE_S).state is TaskState.COMPLETED


def asleep(arena: Arena, engine: LocalEngine, store: TaskStore, point: str, tasks: list[Task]) -> tuple[int, Task]:
    """A worker that fell asleep over a new task, the last of `tasks`, and that task after it was put back.

    The ticket is there once the task is in the store, while no claim can begin. A worker that had just looked for work
    in vain, and fell asleep over that, is woken, and all begins anew.
    """
    used = Path()

    def issue(reached: str) -> None:
        nonlocal used
        if reached == "add.written":
            used = deeds.issue(arena.deeds, point, "stop")

    while True:
        points.install(issue)
        try:
            tasks.append(engine.submit(order(arena)))
        finally:
            points.install(None)
        until(used.exists, "the worker sleeps")
        pid = int(used.read_text())
        for before in store.requeue_orphans(SLOT, 1000):
            return pid, before
        kill(pid, signal.SIGCONT)
        assert engine.wait(tasks[-1].id, PATIENCE_S).state is TaskState.COMPLETED


def test_a_sleeper_that_wakes_after_a_takeover_writes_nothing(arena: Arena, engine: LocalEngine) -> None:
    """Five times; the long form takes over from sleepers at random."""
    store = TaskStore(Database(arena.settings.data_dir / "upres.sqlite3"))
    another = slot_lock(arena.settings.data_dir, "another")
    another.acquire()
    tasks = []
    for point in ("claim.committed", "heartbeat.committed", "heartbeat.committed", "claim.committed",
                  "heartbeat.committed"):  # fmt: skip
        pid, before = asleep(arena, engine, store, point, tasks)
        assert before.state is TaskState.QUEUED
        owner = store.claim("another")
        assert owner is not None and owner.task.id == tasks[-1].id
        kill(pid, signal.SIGCONT)
        following = engine.submit(order(arena))  # done by the one that woke up, once it has given up
        assert engine.wait(following.id, PATIENCE_S).state is TaskState.COMPLETED
        assert store.get(tasks[-1].id).attempt == 2 and store.get(tasks[-1].id).state is TaskState.PROCESSING
        store.give_back(owner)
        assert engine.wait(tasks[-1].id, PATIENCE_S).state is TaskState.COMPLETED
        tasks.append(following)
    verdict_of(arena, engine, tasks)


def test_a_clock_that_jumps_by_hours_rescues_nothing_that_lives(tmp_path: Path) -> None:
    arena = Arena.make(tmp_path, UPRES_STALL_TIMEOUT="60")
    arena.environment["CHAOS_CLOCK"] = "3600"
    with arena.engine() as engine:
        tasks = [engine.submit(order(arena)) for _ in range(5)]
        ended = [engine.wait(task.id, PATIENCE_S) for task in tasks]
        assert [(task.state, task.attempt) for task in ended] == [(TaskState.COMPLETED, 1)] * 5
        pid = engine.gpu().worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert engine.wait(engine.submit(order(arena)).id, PATIENCE_S).state is TaskState.COMPLETED
        assert engine.gpu().quarantined_until is None
