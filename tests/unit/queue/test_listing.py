"""Tasks by page, and tasks that are removed: the store keeps nothing of them, and nobody can bring one back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from upres.engine import ALL_STATES
from upres.errors import TaskLost, TaskNotFound
from upres.queue.database import Database
from upres.queue.migrations import MIGRATIONS, migrate
from upres.queue.store import Claim, NewTask, TaskStore
from upres.tasks import Facts, Failure, Progress, Result, Task, TaskSpec, TaskState

FACTS = Facts(width=160, height=90, fps=23.976, duration_s=1.5, size_bytes=10, prepared_width=128, prepared_height=72,
              output_width=256, output_height=128)  # fmt: skip
RESULT = Result(output_path="/o.mp4", width=2, height=2, frames=1, model="compact", device="cpu", process_time_s=1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    with closing(Database(tmp_path / "upres.sqlite3")) as database:
        yield TaskStore(database)


def add(store: TaskStore, path: str = "a.mp4", *, key: str | None = None) -> Task:
    return store.add(NewTask(TaskSpec(input_path=path), "video", "compact", 10, 100, key, facts=FACTS))


def claimed(store: TaskStore) -> Claim:
    claim = store.claim("cpu")
    assert claim is not None
    return claim


def test_facts_are_kept(store: TaskStore) -> None:
    assert store.get(add(store).id).facts == FACTS


def test_pages_hold_every_task_once_newest_first(store: TaskStore) -> None:
    ids = [add(store).id for _ in range(7)]
    pages = [store.page(ALL_STATES, number, 3) for number in (1, 2, 3, 4)]
    assert [task.id for page in pages for task in page.tasks] == ids[::-1]
    assert [len(page.tasks) for page in pages] == [3, 3, 1, 0]
    assert {page.total for page in pages} == {7}


def test_a_page_of_some_states_counts_those_alone_and_knows_how_many_there_are_of_each(store: TaskStore) -> None:
    first, second, third = (add(store).id for _ in range(3))
    store.complete(claimed(store), RESULT, lambda: None)
    store.cancel(third)
    page = store.page((TaskState.CANCELLED, TaskState.COMPLETED), 1, 20)
    assert [task.id for task in page.tasks] == [third, first]
    assert page.total == 2
    assert page.counts == {TaskState.COMPLETED: 1, TaskState.CANCELLED: 1, TaskState.QUEUED: 1}
    assert [task.id for task in store.page((TaskState.QUEUED,), 1, 20).tasks] == [second]


def test_a_removed_task_is_gone_and_its_key_free(store: TaskStore) -> None:
    task, other = add(store, key="k"), add(store)
    assert store.remove(task.id) == task
    for verb in (store.get, store.remove, store.cancel):
        with pytest.raises(TaskNotFound):
            verb(task.id)
    assert add(store, key="k").id != task.id
    assert store.get(other.id) == other


END: dict[str, Callable[[TaskStore, Claim], None]] = {
    "a heartbeat": lambda store, claim: store.heartbeat(claim, Progress()),
    "a completion": lambda store, claim: store.complete(claim, RESULT, lambda: pytest.fail("it was published")),
    "a failure": lambda store, claim: store.fail(claim, Failure(code="x", message="x")),
    "a cancel": lambda store, claim: store.end_cancelled(claim),
    "a return to the queue": lambda store, claim: store.give_back(claim),
}


@pytest.mark.parametrize("write", END)
def test_a_removed_task_is_brought_back_neither_by_its_worker_nor_by_that_workers_successor(
    store: TaskStore, write: str
) -> None:
    task = add(store)
    claim = claimed(store)
    store.remove(task.id)
    with pytest.raises(TaskLost):
        END[write](store, claim)
    assert store.requeue_orphans("cpu", 3) == []
    assert store.page(ALL_STATES, 1, 20).tasks == ()
    assert store.claim("cpu") is None


def test_an_input_is_read_as_long_as_one_task_names_it(store: TaskStore) -> None:
    first, second = add(store, "/in/片 'a'.mp4"), add(store, "/in/片 'a'.mp4")
    store.remove(first.id)
    assert store.reads("/in/片 'a'.mp4") and not store.reads("/in/b.mp4")
    store.remove(second.id)
    assert not store.reads("/in/片 'a'.mp4")


def test_a_store_of_an_older_program_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "upres.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        MIGRATIONS[0](old)
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO tasks (id, spec, kind, model, frames, pixels, created_at)"
                    " VALUES ('older001', '{\"input_path\": \"a.mp4\"}', 'video', 'compact', 1, 1, 1)")  # fmt: skip
        migrate(old)
    with closing(Database(path)) as database:
        assert TaskStore(database).get("older001").facts is None
