"""Brings a store to this program's schema, one function a version. Knows nothing of what the tables mean.

A step only adds (tables, columns with a default), so that a program that opened the store before it goes on working.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from importlib import resources

from upres.errors import StoreUnusable


def statements(script: str) -> Iterator[str]:
    """Splits a script without sqlite3's executescript, which would commit the open transaction."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _from(file: str) -> Callable[[sqlite3.Connection], None]:
    def step(connection: sqlite3.Connection) -> None:
        for statement in statements(resources.files("upres.queue").joinpath(file).read_text("utf-8")):
            connection.execute(statement)

    return step


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = tuple(
    map(_from, ("schema.sql", "schema_2.sql", "schema_3.sql", "schema_4.sql", "schema_5.sql"))
)


def migrate(connection: sqlite3.Connection) -> None:
    """Raises StoreUnusable if the store was written by a newer version. Safe to race: one process migrates."""
    newest = len(MIGRATIONS)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > newest:
            raise StoreUnusable(
                f"the task store has schema {found}, this version of Upres knows {newest}",
                remedy="update Upres, or set UPRES_DATA_DIR to another directory",
            )
        for step in MIGRATIONS[found:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
