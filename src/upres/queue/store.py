"""The durable queue: tasks in SQLite. Knows nothing of processes, files or models."""

from __future__ import annotations

import secrets
import sqlite3
import string
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from pydantic import ValidationError

from upres.errors import Outdated, QueueFull, TaskCancelled, TaskLost, TaskNotFound
from upres.queue.database import Database
from upres.queue.points import reached
from upres.tasks import Facts, Failure, MediaKind, Progress, Result, Task, TaskPage, TaskSpec, TaskState

REMEMBERED = 2048  # rows and what was read from them: most of a queue is the same at the next look
ID_LENGTH = 8
ID_LETTERS = string.digits + string.ascii_lowercase
_LINE = "WHERE state IN ('queued', 'processing') ORDER BY state = 'queued', priority DESC, seq"
_WAITING = ("id", "model", "frames", "pixels", "state", "progress")
_TOTALS = "SELECT state, count(*) FROM tasks GROUP BY state"
_RECENT = "SELECT * FROM tasks WHERE completed_at IS NOT NULL ORDER BY completed_at DESC, seq DESC LIMIT ?"
_NOTHING = Progress()


@dataclass(frozen=True, slots=True)
class NewTask:
    """What submit knows. `pixels` is the size of one output frame; with `frames` it prices the task."""

    spec: TaskSpec
    kind: MediaKind
    model: str
    frames: int
    pixels: int
    key: str | None = None
    priority: int = 0
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a task, until another worker claims it: every write is fenced by `token`."""

    task: Task
    token: int


@dataclass(frozen=True, slots=True)
class Price:
    """The size of a task's work."""

    frames: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the line knows of an unfinished task without reading all of it."""

    id: str
    model: str
    price: Price
    progress: Progress  # of a running one; nothing done yet while queued


@dataclass(frozen=True, slots=True)
class Overview:
    """The queue at one moment. `line` and `unfinished` are the same tasks in the same order."""

    unfinished: list[Task]
    line: list[Waiting]
    totals: dict[TaskState, int]
    finished: list[Task]  # the last ones, newest first


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of interest of a finished task when its files are tidied."""

    id: str
    state: TaskState
    input_path: str
    completed_at: float


class TaskStore:
    """Every write is one transaction; what a method returned is on disk."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ---- front ends -------------------------------------------------------------------------------------------

    def add(self, new: NewTask, max_queued: int | None = None) -> Task:
        """Durable when it returns. A key that was used before gives the task it made then. Raises QueueFull."""
        with self._db.write("add") as tx:
            if new.key is not None:
                row = tx.execute("SELECT * FROM tasks WHERE idempotency_key = ?", (new.key,)).fetchone()
                if row is not None:
                    return _task(row)
            queued = tx.execute("SELECT count(*) FROM tasks WHERE state = 'queued'").fetchone()[0]
            if max_queued is not None and queued >= max_queued:
                raise QueueFull(f"{queued} tasks wait already, the limit is {max_queued}",
                                remedy="submit again later, or raise UPRES_MAX_QUEUED")  # fmt: skip
            values = (
                _free_id(tx), new.key, new.spec.model_dump_json(), new.kind, new.model, new.frames, new.pixels,
                new.priority, Progress(frames_total=new.frames).model_dump_json(), time.time(),
                new.facts.model_dump_json() if new.facts is not None else None,
            )  # fmt: skip
            row = tx.execute(
                "INSERT INTO tasks (id, idempotency_key, spec, kind, model, frames, pixels, priority, progress,"
                " created_at, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *", values,
            ).fetchone()  # fmt: skip
            return _task(row)

    def keyed(self, key: str) -> Task | None:
        """The task that this idempotency key made."""
        rows = self._db.query("SELECT * FROM tasks WHERE idempotency_key = ?", key)
        return _task(rows[0]) if rows else None

    def get(self, task_id: str) -> Task:
        """Raises TaskNotFound."""
        rows = self._db.query("SELECT * FROM tasks WHERE id = ?", task_id)
        if not rows:
            raise _missing(task_id)
        return _task(rows[0])

    def unfinished(self) -> list[Task]:
        """In the order of work: running tasks first, then by priority and age."""
        return [_task(row) for row in self._db.query(f"SELECT * FROM tasks {_LINE}")]

    def line(self) -> list[Waiting]:
        """The same tasks in the same order, at a fraction of the cost."""
        return _line(self._db.query(f"SELECT {', '.join(_WAITING)} FROM tasks {_LINE}"))

    def overview(self, recent: int) -> Overview:
        """With the last `recent` finished tasks."""
        with self._db.snapshot() as query:
            unfinished, totals, finished = query(f"SELECT * FROM tasks {_LINE}"), query(_TOTALS), query(_RECENT, recent)
        return Overview([_task(row) for row in unfinished], _line(unfinished), _counted(totals),
                        [_task(row) for row in finished])  # fmt: skip

    def queued_count(self) -> int:
        return int(self._db.query("SELECT count(*) FROM tasks WHERE state = 'queued'")[0][0])

    def finished(self, limit: int) -> list[Task]:
        """Newest first."""
        return [_task(row) for row in self._db.query(_RECENT, limit)]

    def ended(self) -> list[Ended]:
        """Every finished task, oldest first."""
        rows = self._db.query("SELECT id, state, json_extract(spec, '$.input_path') AS input, completed_at FROM tasks"
                              " WHERE completed_at IS NOT NULL ORDER BY completed_at, seq")  # fmt: skip
        return [Ended(row["id"], TaskState(row["state"]), row["input"], row["completed_at"]) for row in rows]

    def inputs_in_use(self) -> set[str]:
        """The input files of unfinished tasks."""
        rows = self._db.query(f"SELECT json_extract(spec, '$.input_path') FROM tasks {_LINE}")
        return {row[0] for row in rows}

    def page(self, states: Collection[TaskState], page: int, page_size: int) -> TaskPage:
        """Newest first; pages count from 1."""
        counts = self.totals()
        wanted = ", ".join("?" * len(states))
        rows = self._db.query(f"SELECT * FROM tasks WHERE state IN ({wanted}) ORDER BY seq DESC LIMIT ? OFFSET ?",
                              *states, page_size, (page - 1) * page_size)  # fmt: skip
        total = sum(counts.get(state, 0) for state in states)
        return TaskPage(tasks=tuple(_task(row) for row in rows), total=total, counts=counts)

    def totals(self) -> dict[TaskState, int]:
        return _counted(self._db.query(_TOTALS))

    def cancel(self, task_id: str) -> Task:
        """A queued task is cancelled here and now, and so is one whose model is still being loaded: its worker loses
        it, and keeps the model for the next. A running one is flagged for its worker. Raises TaskNotFound.
        """
        with self._db.write("cancel") as tx:
            row = tx.execute("SELECT * FROM tasks WHERE id = ?", (task_id,)).fetchone()
            if row is None:
                raise _missing(task_id)
            at_once = "state = 'cancelled', slot = NULL, cancel = 1, completed_at = ?"
            begun = Progress.model_validate_json(row["progress"]).phase != "loading"
            change = {
                "queued": at_once, "processing": "cancel = 1, heartbeat_at = ?" if begun else at_once,
            }.get(row["state"])  # fmt: skip
            if change is None:
                return _task(row)
            return _task(tx.execute(f"UPDATE tasks SET {change} WHERE id = ? RETURNING *",
                                    (time.time(), task_id)).fetchone())  # fmt: skip

    def remove(self, task_id: str) -> Task:
        """Forgets a task in any state; returns what it was. A worker that runs it loses it at its next write, and
        leaves no file. Raises TaskNotFound.
        """
        with self._db.write("remove") as tx:
            row = tx.execute("DELETE FROM tasks WHERE id = ? RETURNING *", (task_id,)).fetchone()
        if row is None:
            raise _missing(task_id)
        return _task(row)

    def reads(self, path: str) -> bool:
        """Whether a task's input is at `path`."""
        return bool(self._db.query("SELECT EXISTS (SELECT 1 FROM tasks WHERE spec ->> '$.input_path' = ?)", path)[0][0])

    # ---- workers ----------------------------------------------------------------------------------------------

    def claim(self, slot: str) -> Claim | None:
        """The next task for this slot, or None. Raises Outdated, and claims nothing, if a newer Upres ordered it."""
        now = time.time()
        with self._db.write("claim") as tx:
            row = tx.execute(
                "UPDATE tasks SET state = 'processing', slot = ?, token = token + 1, attempt = attempt + 1,"
                " started_at = ?, heartbeat_at = ?,"
                " progress = json_object('phase', 'loading', 'frames_total', frames) WHERE seq ="
                " (SELECT seq FROM tasks WHERE state = 'queued' ORDER BY priority DESC, seq LIMIT 1) RETURNING *",
                (slot, now, now),
            ).fetchone()
            if row is None:
                return None
            try:
                TaskSpec.model_validate_json(row["spec"])
            except ValidationError as error:
                unknown = ".".join(map(str, error.errors()[0]["loc"]))
                raise Outdated(f"task {row['id']} asks for {unknown}", remedy="update Upres") from error
        return Claim(_task(row), row["token"])

    def heartbeat(self, claim: Claim, progress: Progress) -> None:
        """Writes progress and reads cancel back. Raises TaskCancelled or TaskLost."""
        with self._db.write("heartbeat") as tx:
            row = tx.execute(
                "UPDATE tasks SET progress = ?, heartbeat_at = ? WHERE id = ? AND token = ? AND state = 'processing'"
                " RETURNING cancel", (progress.model_dump_json(), time.time(), claim.task.id, claim.token),
            ).fetchone()  # fmt: skip
        if row is None:
            raise _lost(claim)
        if row["cancel"]:
            raise TaskCancelled(f"task {claim.task.id} was cancelled")

    def complete(self, claim: Claim, result: Result, publish: Callable[[], None]) -> None:
        """Publishes inside the fenced transaction: `publish` renames the finished file into place.

        A crash between the rename and the commit runs the task again, which overwrites the same file.
        Raises TaskCancelled (nothing is published) or TaskLost.
        """
        with self._db.write("complete") as tx:
            if self._fenced(tx, claim)["cancel"]:
                raise TaskCancelled(f"task {claim.task.id} was cancelled")
            tx.execute(
                "UPDATE tasks SET state = 'completed', slot = NULL, result = ?, completed_at = ? WHERE id = ?",
                (result.model_dump_json(), time.time(), claim.task.id),
            )
            publish()
            reached("complete.published")

    def fail(self, claim: Claim, failure: Failure) -> None:
        """Raises TaskLost."""
        with self._db.write("fail") as tx:
            self._fenced(tx, claim)
            _fail(tx, claim.task.id, failure)

    def end_cancelled(self, claim: Claim) -> None:
        """Raises TaskLost."""
        with self._db.write("end_cancelled") as tx:
            self._fenced(tx, claim)
            _end_cancelled(tx, claim.task.id)

    def give_back(self, claim: Claim) -> None:
        """Puts a task back whose worker was told to stop; the attempt does not count. A cancel that was asked for is
        carried out instead. Raises TaskLost.
        """
        with self._db.write("give_back") as tx:
            if self._fenced(tx, claim)["cancel"]:
                _end_cancelled(tx, claim.task.id)
            else:
                _requeue(tx, claim.task.id, attempts_back=1)

    def requeue_orphans(self, slot: str, max_attempts: int, cause: str = "the worker died") -> list[Task]:
        """Call it only while holding the slot's lock: whatever the slot still runs has lost its worker.

        Puts those tasks back, ends those whose cancel was asked for, and fails those that had `max_attempts`.
        Returns them as they now are.
        """
        with self._db.write("requeue_orphans") as tx:
            rows = tx.execute("SELECT * FROM tasks WHERE state = 'processing' AND slot = ?", (slot,)).fetchall()
            for row in rows:
                if row["cancel"]:
                    _end_cancelled(tx, row["id"])
                elif row["attempt"] >= max_attempts:
                    times = "once" if row["attempt"] == 1 else f"{row['attempt']} times"
                    message = f"{cause} while it ran this task, which was started {times}"
                    remedy = "see the worker's log (upres doctor names it); a smaller resolution needs less memory"
                    _fail(tx, row["id"], Failure(code="worker_failed", message=message, remedy=remedy))
                else:
                    _requeue(tx, row["id"], attempts_back=0)
            ids = [row["id"] for row in rows]
            return [_task(tx.execute("SELECT * FROM tasks WHERE id = ?", (i,)).fetchone()) for i in ids]

    def slots_in_use(self) -> list[str]:
        """Slots that run a task, as far as the store knows."""
        return [row[0] for row in self._db.query("SELECT DISTINCT slot FROM tasks WHERE state = 'processing'")]

    @staticmethod
    def _fenced(tx: sqlite3.Connection, claim: Claim) -> sqlite3.Row:
        row: sqlite3.Row | None = tx.execute(
            "SELECT cancel FROM tasks WHERE id = ? AND token = ? AND state = 'processing'",
            (claim.task.id, claim.token),
        ).fetchone()
        if row is None:
            raise _lost(claim)
        return row


def _free_id(tx: sqlite3.Connection) -> str:
    while True:
        task_id = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
        if tx.execute("SELECT 1 FROM tasks WHERE id = ?", (task_id,)).fetchone() is None:
            return task_id


def _lost(claim: Claim) -> TaskLost:
    return TaskLost(f"task {claim.task.id} now belongs to another worker")


def _end_cancelled(tx: sqlite3.Connection, task_id: str) -> None:
    tx.execute("UPDATE tasks SET state = 'cancelled', slot = NULL, completed_at = ? WHERE id = ?",
               (time.time(), task_id))  # fmt: skip


def _fail(tx: sqlite3.Connection, task_id: str, failure: Failure) -> None:
    tx.execute("UPDATE tasks SET state = 'failed', slot = NULL, failure = ?, completed_at = ? WHERE id = ?",
               (failure.model_dump_json(), time.time(), task_id))  # fmt: skip


def _requeue(tx: sqlite3.Connection, task_id: str, *, attempts_back: int) -> None:
    tx.execute(
        "UPDATE tasks SET state = 'queued', slot = NULL, started_at = NULL, attempt = attempt - ?,"
        " progress = json_object('frames_total', frames) WHERE id = ?", (attempts_back, task_id),
    )  # fmt: skip


def _missing(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"no task {task_id!r}", remedy="the queue's history lists the tasks there are")


def _line(rows: list[sqlite3.Row]) -> list[Waiting]:
    return [_waiting(*(row[name] for name in _WAITING)) for row in rows]


@lru_cache(REMEMBERED)
def _waiting(task_id: str, model: str, frames: int, pixels: int, state: str, progress: str) -> Waiting:
    return Waiting(task_id, model, Price(frames, pixels),
                   _NOTHING if state == "queued" else Progress.model_validate_json(progress))  # fmt: skip


def _counted(totals: list[sqlite3.Row]) -> dict[TaskState, int]:
    return {TaskState(row[0]): row[1] for row in totals}


@lru_cache(REMEMBERED)
def _task(row: sqlite3.Row) -> Task:
    """Shows also what a newer Upres ordered: parameters that this one does not know are left out."""
    return Task(
        id=row["id"], spec=TaskSpec.model_validate_json(row["spec"], extra="ignore"), kind=row["kind"],
        model=row["model"], state=TaskState(row["state"]), progress=Progress.model_validate_json(row["progress"]),
        facts=Facts.model_validate_json(row["facts"]) if row["facts"] is not None else None,
        created_at=row["created_at"], started_at=row["started_at"], completed_at=row["completed_at"],
        attempt=row["attempt"], cancel_requested=bool(row["cancel"]),
        failure=Failure.model_validate_json(row["failure"]) if row["failure"] is not None else None,
        result=Result.model_validate_json(row["result"]) if row["result"] is not None else None,
    )  # fmt: skip
