"""Connections and transactions: who waits for whom, and for how long."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from upres.errors import StoreUnusable
from upres.queue import database as module
from upres.queue.database import Database
from upres.queue.store import NewTask, TaskStore
from upres.tasks import TaskSpec

NEW = NewTask(TaskSpec(input_path="a.mp4"), "video", "compact", 10, 100)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "upres.sqlite3")) as database:
        yield database


@pytest.fixture
def other(database: Database) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0, check_same_thread=False)) as other:
        yield other


def test_looks_and_writes_wait_for_a_commit_of_another_process(database: Database, other: sqlite3.Connection) -> None:
    store = TaskStore(database)
    other.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(2) as threads:
        look, write = threads.submit(store.totals), threads.submit(store.add, NEW)
        assert not look.done() and not write.done()
        other.execute("COMMIT")
        assert look.result(60) in ({}, {"queued": 1}) and write.result(60).spec == NEW.spec


def test_whoever_holds_the_store_for_too_long_is_named(
    database: Database, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnusable, match="database is locked"):
        TaskStore(database).totals()
    other.execute("COMMIT")
    assert TaskStore(database).totals() == {}


def test_a_snapshot_is_of_one_moment_and_a_commit_waits_for_its_end(database: Database) -> None:
    store, counting = TaskStore(database), "SELECT count(*) FROM tasks"
    written = threading.Event()

    def write() -> None:
        with database.write("add") as tx:
            tx.execute("INSERT INTO tasks (id, spec, kind, model, frames, pixels, created_at)"
                       " VALUES ('12345678', '{}', 'image', 'compact', 1, 1, 0)")  # fmt: skip
            written.set()

    with ThreadPoolExecutor(1) as threads:
        with database.snapshot() as query:
            assert query(counting)[0][0] == 0
            writer = threads.submit(write)
            assert written.wait(60)
            assert query(counting)[0][0] == 0 and not writer.done()
        writer.result(60)
    assert database.query(counting)[0][0] == 1 == sum(store.totals().values())


def test_what_waits_is_found_without_reading_what_ended(database: Database) -> None:
    plan = database.query("EXPLAIN QUERY PLAN SELECT * FROM tasks WHERE state IN ('queued', 'processing')")
    counts = database.query("EXPLAIN QUERY PLAN SELECT state, count(*) FROM tasks GROUP BY state")
    assert all("tasks_by_state" in row["detail"] for row in (*plan, *counts))

