"""SQLite connections and transactions. Knows nothing of tasks.

Rollback journal (TRUNCATE) with synchronous=FULL: the WAL-reset corruption fixed in SQLite 3.51.3 is still in the
libraries most Pythons link, the journal mode is a property of the file that every client must agree on, and our load
is a few writes a second.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from upres.errors import DiskFull, StoreUnusable, UpresError
from upres.queue.migrations import migrate
from upres.queue.points import reached

BUSY_TIMEOUT_S = 30.0  # many writers on a slow disk: seconds of waiting were measured
LOOK_AGAIN_S = 0.0005  # a commit takes one to twenty milliseconds, and nobody can read meanwhile
Answer = TypeVar("Answer")


class Database:
    """One connection a thread, opened on first use. Never share an instance across a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._writing = threading.Lock()  # of this process; between processes SQLite's lock decides
        self._all: list[sqlite3.Connection] = []
        self._all_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._translated():
            self._connection()

    def close(self) -> None:
        """Closes the connections of all threads."""
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()

    def query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._translated():
            connection = self._connection()
            return _patiently(lambda: connection.execute(sql, values).fetchall())

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., list[sqlite3.Row]]]:
        """Queries that all see the store as it is at the first: only that one may have to wait. Do nothing else in
        between, for nobody can commit.
        """
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                yield self.query
            finally:
                connection.execute("COMMIT")

    @contextmanager
    def write(self, name: str) -> Iterator[sqlite3.Connection]:
        """A BEGIN IMMEDIATE transaction: committed on leaving, rolled back on any exception."""
        with self._translated():
            connection = self._connection()
            with self._writing:
                _patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
                try:
                    yield connection
                    reached(f"{name}.written")
                    _patiently(lambda: connection.execute("COMMIT"))
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            reached(f"{name}.committed")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = self._local.__dict__.get("connection")
        if connection is None:
            connection = self._open()
            self._local.connection = connection
            with self._all_lock:
                self._all.append(connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        # Only a file made here is ever closed here: closing any descriptor of a file drops all POSIX locks that this
        # process holds on it, and with them the transactions of other threads (sqlite.org/howtocorrupt.html, 2.2).
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection)
            connection.execute("PRAGMA busy_timeout = 0")  # from here on `_patiently`
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise _named(self.path, error) from error
        except OSError as error:
            raise StoreUnusable(
                f"{self.path.name}: {error.strerror}", remedy="set UPRES_DATA_DIR to a directory you can write to"
            ) from error


def _patiently(step: Callable[[], Answer]) -> Answer:
    """Does it as soon as no other connection is in the way. SQLite's own way to wait sleeps up to 100 ms at a time,
    mostly beyond the end of the commit it waits for.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(LOOK_AGAIN_S)


def _named(path: Path, error: sqlite3.DatabaseError) -> UpresError:
    if "full" in str(error):
        return DiskFull(f"the task store cannot be written: {error}", remedy="free space where UPRES_DATA_DIR points")
    remedy = {
        "database is locked": "another program holds the store for too long; try again",
        "attempt to write a readonly database": "set UPRES_DATA_DIR to a directory you can write to",
    }.get(str(error), f"move {path.name} out of UPRES_DATA_DIR to start with an empty store")
    return StoreUnusable(f"{path.name}: {error}", remedy=remedy)
