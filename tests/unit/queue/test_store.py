from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from upres.errors import StoreUnusable, TaskCancelled, TaskLost, TaskNotFound
from upres.queue.database import Database
from upres.queue.migrations import MIGRATIONS
from upres.queue.store import Claim, NewTask, TaskStore
from upres.queue.workers import WorkerTable
from upres.tasks import Failure, Progress, Result, TaskSpec, TaskState


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "upres.sqlite3")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> TaskStore:
    return TaskStore(database)


def new(name: str = "a.mp4", *, key: str | None = None, priority: int = 0, frames: int = 10) -> NewTask:
    return NewTask(TaskSpec(input_path=name), "video", "compact", frames, 100, key, priority)


def result(path: str = "/out.mp4") -> Result:
    return Result(output_path=path, width=2, height=2, frames=10, model="compact", device="cpu", process_time_s=1.0)


def claimed(store: TaskStore) -> Claim:
    claim = store.claim("cpu")
    assert claim is not None
    return claim


def test_a_task_that_was_added_is_there_for_another_process(store: TaskStore, database: Database) -> None:
    task = store.add(new())
    code = "import sys; from pathlib import Path; from upres.queue.database import Database\n"
    code += "from upres.queue.store import TaskStore; print(TaskStore(Database(Path(sys.argv[1]))).get(sys.argv[2]).id)"
    seen = subprocess.run([sys.executable, "-c", code, str(database.path), task.id], capture_output=True, text=True)
    assert seen.stdout.strip() == task.id, seen.stderr


def test_ids_are_eight_letters_and_digits(store: TaskStore) -> None:
    ids = {store.add(new()).id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(i) == 8 and set(i) <= set("0123456789abcdefghijklmnopqrstuvwxyz") for i in ids)


def test_the_same_key_gives_the_same_task(store: TaskStore) -> None:
    first = store.add(new("a.mp4", key="k"))
    assert store.add(new("b.mp4", key="k")).id == first.id
    assert store.queued_count() == 1


def test_tasks_run_by_priority_and_then_by_age(store: TaskStore) -> None:
    low, high, last = store.add(new()), store.add(new(priority=1)), store.add(new())
    assert [claimed(store).task.id for _ in range(3)] == [high.id, low.id, last.id]
    assert store.claim("cpu") is None


def test_two_workers_never_claim_the_same_task(store: TaskStore) -> None:
    store.add(new())
    assert store.claim("gpu-a") is not None
    assert store.claim("gpu-b") is None


def test_a_claim_counts_an_attempt_and_starts_progress_anew(store: TaskStore) -> None:
    store.add(new(frames=7))
    claim = claimed(store)
    assert (claim.task.attempt, claim.task.progress.frames_done, claim.task.progress.frames_total) == (1, 0, 7)
    assert claim.task.state is TaskState.PROCESSING and claim.task.started_at is not None


def test_completing_publishes_and_records_the_result(store: TaskStore) -> None:
    task = store.add(new())
    published: list[bool] = []
    store.complete(claimed(store), result(), lambda: published.append(True))
    done = store.get(task.id)
    assert published and done.state is TaskState.COMPLETED and done.percent == 100
    assert done.result == result() and done.completed_at is not None


def test_a_publish_that_fails_leaves_the_task_running(store: TaskStore) -> None:
    task = store.add(new())

    def broken() -> None:
        raise OSError("no rename today")

    with pytest.raises(StoreUnusable):
        store.complete(claimed(store), result(), broken)
    assert store.get(task.id).state is TaskState.PROCESSING


def test_a_worker_whose_task_was_taken_over_can_write_nothing(store: TaskStore) -> None:
    task = store.add(new())
    zombie = claimed(store)
    assert [orphan.id for orphan in store.requeue_orphans("cpu", 3)] == [task.id]
    owner = claimed(store)
    published: list[bool] = []
    for attempt in (
        lambda: store.heartbeat(zombie, Progress(frames_done=9)),
        lambda: store.complete(zombie, result("/zombie.mp4"), lambda: published.append(True)),
        lambda: store.fail(zombie, Failure(code="x", message="y")),
        lambda: store.give_back(zombie),
        lambda: store.end_cancelled(zombie),
    ):
        with pytest.raises(TaskLost):
            attempt()
    assert not published
    store.complete(owner, result(), lambda: None)
    assert store.get(task.id).result == result()


def test_cancelling_a_queued_task_ends_it_at_once(store: TaskStore) -> None:
    task = store.add(new())
    assert store.cancel(task.id).state is TaskState.CANCELLED
    assert store.claim("cpu") is None


def test_cancelling_a_running_task_reaches_its_next_heartbeat(store: TaskStore) -> None:
    task = store.add(new())
    claim = claimed(store)
    store.heartbeat(claim, Progress(frames_done=1))
    assert store.cancel(task.id).state is TaskState.PROCESSING
    with pytest.raises(TaskCancelled):
        store.heartbeat(claim, Progress(frames_done=2))
    store.end_cancelled(claim)
    assert store.get(task.id).state is TaskState.CANCELLED


def test_a_task_whose_model_is_being_loaded_is_cancelled_at_once_and_lost_to_its_worker(store: TaskStore) -> None:
    task = store.add(new())
    claim = claimed(store)
    assert store.cancel(task.id).state is TaskState.CANCELLED
    assert store.slots_in_use() == []
    with pytest.raises(TaskLost):
        store.heartbeat(claim, Progress(phase="restoring"))
    with pytest.raises(TaskLost):
        store.give_back(claim)


def test_a_task_cancelled_before_it_is_published_is_not_published(store: TaskStore) -> None:
    task = store.add(new())
    claim = claimed(store)
    store.heartbeat(claim, Progress(phase="restoring"))
    store.cancel(task.id)
    published: list[bool] = []
    with pytest.raises(TaskCancelled):
        store.complete(claim, result(), lambda: published.append(True))
    assert not published


def test_cancelling_a_finished_task_changes_nothing(store: TaskStore) -> None:
    task = store.add(new())
    store.complete(claimed(store), result(), lambda: None)
    assert store.cancel(task.id).state is TaskState.COMPLETED


def test_orphans_go_back_to_the_queue_until_their_attempts_are_spent(store: TaskStore) -> None:
    task = store.add(new())
    for attempt in (1, 2):
        assert claimed(store).task.attempt == attempt
        store.requeue_orphans("cpu", 3)
        assert store.get(task.id).state is TaskState.QUEUED
    claimed(store)
    store.requeue_orphans("cpu", 3)
    failed = store.get(task.id)
    assert failed.state is TaskState.FAILED and failed.failure is not None
    assert failed.failure.code == "worker_failed" and "3 times" in failed.failure.message


def test_only_the_dead_slots_tasks_are_orphans(store: TaskStore) -> None:
    store.add(new())
    store.claim("gpu-a")
    assert store.requeue_orphans("gpu-b", 3) == []
    assert store.slots_in_use() == ["gpu-a"]


def test_an_orphan_whose_cancel_was_asked_for_is_cancelled(store: TaskStore) -> None:
    task = store.add(new())
    store.heartbeat(claimed(store), Progress(phase="restoring"))
    assert store.cancel(task.id).state is TaskState.PROCESSING
    store.requeue_orphans("cpu", 3)
    assert store.get(task.id).state is TaskState.CANCELLED


def test_a_task_given_back_does_not_lose_an_attempt(store: TaskStore) -> None:
    task = store.add(new())
    store.give_back(claimed(store))
    assert store.get(task.id).attempt == 0


@pytest.mark.parametrize("arrow", ["queued>completed", "completed>queued", "cancelled>processing", "failed>completed"])
def test_the_database_itself_refuses_other_arrows(store: TaskStore, database: Database, arrow: str) -> None:
    before, after = arrow.split(">")
    task = store.add(new())
    if before == "cancelled":
        store.cancel(task.id)
    elif before != "queued":
        claim = claimed(store)
        if before == "completed":
            store.complete(claim, result(), lambda: None)
        else:
            store.fail(claim, Failure(code="x", message="y"))
    with pytest.raises(sqlite3.IntegrityError, match="not allowed"), database.write("test") as tx:
        tx.execute("UPDATE tasks SET state = ? WHERE id = ?", (after, task.id))


def test_an_unknown_task_is_named_in_the_error(store: TaskStore) -> None:
    for look in (store.get, store.cancel):
        with pytest.raises(TaskNotFound, match="nosuchid"):
            look("nosuchid")


def test_history_is_newest_first(store: TaskStore) -> None:
    ids = [store.add(new()).id for _ in range(3)]
    for _ in ids:
        store.complete(claimed(store), result(), lambda: None)
    assert [task.id for task in store.finished(2)] == ids[:0:-1]


def test_the_line_has_running_tasks_first(store: TaskStore) -> None:
    waiting, urgent = store.add(new()), store.add(new(priority=5))
    claimed(store)
    assert [task.id for task in store.unfinished()] == [urgent.id, waiting.id]


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "upres.sqlite3"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreUnusable, match="update Upres"):
        Database(path)


def test_something_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "upres.sqlite3"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreUnusable, match=r"upres\.sqlite3"):
        Database(path)


def test_the_store_is_readable_by_its_owner_alone(database: Database) -> None:
    assert os.stat(database.path).st_mode & 0o077 == 0


THREADS, ROUNDS = 12, 6
WRITER = f"""
import sys, threading
from pathlib import Path
from upres.queue.database import Database
from upres.queue.store import NewTask, TaskStore
from upres.tasks import TaskSpec
store = TaskStore(Database(Path(sys.argv[1])))
new = NewTask(TaskSpec(input_path="x"), "video", "compact", 1, 1)
acknowledged = []
for _ in range({ROUNDS}):
    threads = [threading.Thread(target=lambda: acknowledged.append(store.add(new).id)) for _ in range({THREADS})]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(*acknowledged)
"""


def test_no_thread_that_connects_breaks_the_transaction_of_another(database: Database, store: TaskStore) -> None:
    """Closing a descriptor of the store's file would drop the locks of every thread of the process."""
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(database.path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [writer.communicate() for writer in writers]
    acknowledged = {task_id for out, _ in told for task_id in out.split()}
    assert [complaint for _, complaint in told] == ["", ""]
    assert len(acknowledged) == 2 * THREADS * ROUNDS
    assert {task.id for task in store.unfinished()} == acknowledged


def test_the_journal_mode_is_the_one_that_needs_no_fixed_sqlite(database: Database) -> None:
    assert database.query("PRAGMA journal_mode")[0][0] == "truncate"
    assert database.query("PRAGMA synchronous")[0][0] == 2  # FULL


def test_a_worker_may_not_exit_while_a_task_waits(store: TaskStore, database: Database) -> None:
    workers = WorkerTable(database)
    workers.register("cpu", 1, "0", "cpu")
    store.add(new())
    assert not workers.may_exit("cpu")
    claimed(store)
    assert workers.may_exit("cpu")
    row = workers.get("cpu")
    assert row is not None and row.state == "exiting"
