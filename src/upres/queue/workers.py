"""What each slot's worker does. Knows nothing of processes: the OS lock says who lives."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from upres.queue.database import Database
from upres.tasks import Failure

WorkerState = Literal["idle", "loading", "busy", "exiting"]
FAULTS, FAULTS_WITHIN_S, TASK_FAULTS = 3, 600.0, 2


@dataclass(frozen=True, slots=True)
class WorkerRow:
    slot: str
    pid: int
    version: str
    state: WorkerState
    device: str
    model: str | None
    loading_model: str | None
    wanted_model: str | None
    load_error: Failure | None
    stop: bool
    drain: bool
    keeper_pid: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A device that is not used until then (seconds since the epoch), and its last fault."""

    until: float
    what: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """`mark` changes whenever the worker gets on; `owed` says whether it has anything to do."""

    owed: bool
    task_id: str | None
    frames_done: int
    mark: tuple[object, ...]


class WorkerTable:
    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, slot: str) -> WorkerRow | None:
        rows = self._db.query("SELECT * FROM workers WHERE slot = ?", slot)
        if not rows:
            return None
        row = rows[0]
        error = row["load_error"]
        return WorkerRow(
            slot=row["slot"], pid=row["pid"], version=row["version"], state=row["state"], device=row["device"],
            model=row["model"], loading_model=row["loading_model"], wanted_model=row["wanted_model"],
            load_error=Failure.model_validate_json(error) if error is not None else None, stop=bool(row["stop"]),
            drain=bool(row["drain"]), keeper_pid=row["keeper_pid"],
        )  # fmt: skip

    def keep(self, slot: str, pid: int) -> None:
        """A keeper that has just taken its lock says so; its worker comes soon."""
        with self._db.write("keep") as tx:
            tx.execute(
                "INSERT INTO workers (slot, pid, version, state, device, started_at, keeper_pid)"
                " VALUES (?, 0, '', 'loading', '', ?, ?) ON CONFLICT (slot) DO UPDATE SET state = 'loading',"
                " model = NULL, loading_model = NULL, stop = 0, drain = 0, keeper_pid = excluded.keeper_pid",
                (slot, time.time(), pid),
            )

    def pulse(self, slot: str) -> Pulse:
        """What the worker of a slot shows of itself, for whoever watches it."""
        (row,) = self._db.query(
            "SELECT (SELECT count(*) FROM tasks WHERE state = 'queued') AS queued, w.state, w.loading_model,"
            " w.wanted_model, w.drain, t.id, t.token, t.progress, json_extract(t.progress, '$.frames_done') AS done"
            " FROM (SELECT ? AS slot) s LEFT JOIN workers w ON w.slot = s.slot"
            " LEFT JOIN tasks t ON t.slot = s.slot AND t.state = 'processing' ORDER BY t.seq LIMIT 1", slot,
        )  # fmt: skip
        owed = row["id"] is not None or row["wanted_model"] is not None or row["queued"] > 0
        return Pulse(owed=owed, task_id=row["id"], frames_done=row["done"] if row["done"] is not None else 0,
                     mark=(row["state"], row["loading_model"], row["wanted_model"], row["drain"], row["id"],
                           row["token"], row["progress"]))  # fmt: skip

    def register(self, slot: str, pid: int, version: str, device: str) -> None:
        """A worker that has just taken the slot's lock says so. What was wanted of its predecessor stays wanted."""
        with self._db.write("register") as tx:
            tx.execute(
                "INSERT INTO workers (slot, pid, version, state, device, started_at) VALUES (?, ?, ?, 'idle', ?, ?)"
                " ON CONFLICT (slot) DO UPDATE SET pid = excluded.pid, version = excluded.version, state = 'idle',"
                " device = excluded.device, model = NULL, loading_model = NULL, stop = 0, drain = 0,"
                " started_at = excluded.started_at", (slot, pid, version, device, time.time()),
            )  # fmt: skip

    def set_state(self, slot: str, state: WorkerState, *, model: str | None, loading_model: str | None = None) -> None:
        with self._db.write("set_state") as tx:
            tx.execute("UPDATE workers SET state = ?, model = ?, loading_model = ? WHERE slot = ?",
                       (state, model, loading_model, slot))  # fmt: skip

    def want(self, slot: str, model: str) -> None:
        """Asks the slot's worker, the present or the next one, to load a model."""
        with self._db.write("want") as tx:
            tx.execute(
                "INSERT INTO workers (slot, pid, version, state, device, wanted_model, started_at)"
                " VALUES (?, 0, '', 'exiting', '', ?, ?) ON CONFLICT (slot) DO UPDATE SET wanted_model = ?,"
                " load_error = NULL", (slot, model, time.time(), model),
            )  # fmt: skip

    def wanted_done(self, slot: str, model: str, error: Failure | None) -> None:
        with self._db.write("wanted_done") as tx:
            tx.execute("UPDATE workers SET wanted_model = NULL, load_error = ? WHERE slot = ? AND wanted_model = ?",
                       (error.model_dump_json() if error is not None else None, slot, model))  # fmt: skip

    def request_stop(self, slot: str) -> None:
        with self._db.write("request_stop") as tx:
            tx.execute("UPDATE workers SET stop = 1 WHERE slot = ?", (slot,))

    def request_drain(self, slot: str) -> None:
        """Asks the slot's worker to exit after its present task, whatever is queued."""
        with self._db.write("request_drain") as tx:
            tx.execute("UPDATE workers SET drain = 1 WHERE slot = ?", (slot,))

    def may_exit(self, slot: str) -> bool:
        """The exit decision, in one transaction with the look at the queue: a task added after it sees 'exiting'.

        Clears a stop request that work overtook.
        """
        with self._db.write("may_exit") as tx:
            work = tx.execute(
                "SELECT EXISTS (SELECT 1 FROM tasks WHERE state = 'queued')"
                " OR EXISTS (SELECT 1 FROM workers WHERE slot = ? AND wanted_model IS NOT NULL)", (slot,),
            ).fetchone()[0]  # fmt: skip
            state = "idle" if work else "exiting"
            tx.execute("UPDATE workers SET state = ?, stop = 0 WHERE slot = ?", (state, slot))
        return not work

    # ---- faults of devices ------------------------------------------------------------------------------------

    def record_fault(self, slot: str, task_id: str | None, what: str) -> None:
        with self._db.write("record_fault") as tx:
            tx.execute("INSERT INTO faults (slot, task_id, what, at) VALUES (?, ?, ?, ?)",
                       (slot, task_id, what, time.time()))  # fmt: skip

    def forgive(self, slot: str) -> None:
        """Ends the slot's quarantine."""
        with self._db.write("forgive") as tx:
            tx.execute("DELETE FROM faults WHERE slot = ?", (slot,))

    def quarantine(self, slot: str, length_s: float) -> Quarantine | None:
        """A device that failed FAULTS times within FAULTS_WITHIN_S rests for `length_s` from the last time on.

        One task alone cannot bring that about: its faults count at most TASK_FAULTS times, for the task may be to
        blame. A fault from the future (the clock was set back) does not count.
        """
        now = time.time()
        rows = self._db.query("SELECT * FROM faults WHERE slot = ? AND at <= ? AND at > ? ORDER BY at DESC",
                              slot, now + 1, now - FAULTS_WITHIN_S - length_s)  # fmt: skip
        if not rows or rows[0]["at"] + length_s <= now:
            return None
        recent = Counter(row["task_id"] for row in rows if row["at"] > rows[0]["at"] - FAULTS_WITHIN_S)
        counted = sum(count if task is None else min(count, TASK_FAULTS) for task, count in recent.items())
        return Quarantine(rows[0]["at"] + length_s, rows[0]["what"]) if counted >= FAULTS else None
