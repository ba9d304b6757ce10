"""A storm: many submitters, one slot, and a nemesis with dice that kills, stops, takes over and fills the disk."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.arena import SLOT, Arena, kill
from upres.engine import LocalEngine
from upres.errors import UpresError
from upres.queue.database import Database
from upres.queue.store import TaskStore
from upres.tasks import Task

FULL_FOR_S = 4.0
FOREVER = 10**6  # attempts


@dataclass(frozen=True)
class Weather:
    tasks: int
    kills: int
    takeovers: int  # of a stopped worker's task, which then wakes up
    submitters: int
    seed: int
    full_disk: bool = False  # once, in the middle; the data directory should then be a small file system
    timeout_s: float = 3000.0


@dataclass
class Storm:
    arena: Arena
    weather: Weather
    engine: LocalEngine
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.weather.seed)
        self.database = Database(self.arena.settings.data_dir / "upres.sqlite3")
        self.store = TaskStore(self.database)
        w = self.weather
        self.bounds = [round(i * w.tasks / w.submitters) for i in range(w.submitters + 1)]
        self.submitters: dict[int, subprocess.Popen[bytes]] = {}

    def blow(self) -> None:
        """Until every task has ended and every blow has fallen."""
        began = time.monotonic()
        for i in range(self.weather.submitters):
            self._submit(i)
        while not self._over():
            if time.monotonic() - began > self.weather.timeout_s:
                break
            with contextlib.suppress(UpresError):  # a full disk is part of the weather
                self.engine.queue()
                self._blow_once()
            for i, process in self.submitters.items():
                if process.poll() not in (None, 0):
                    self._submit(i)
            time.sleep(self.dice.uniform(0.02, 0.25))
        for process in self.submitters.values():
            process.kill()
            process.wait()
        self.arena.write_down(self._tasks())
        self.database.close()

    def _submit(self, i: int) -> None:
        self.submitters[i] = self.arena.submitter(self.bounds[i], self.bounds[i + 1])

    def _over(self) -> bool:
        if any(process.poll() != 0 for process in self.submitters.values()):
            return False
        return not self.store.line() and sum(self.store.totals().values()) >= self.weather.tasks

    def _blow_once(self) -> None:
        w, ended = self.weather, len(self.store.ended())
        share = 0.1 + ended / w.tasks  # of the blows that may have fallen by now: they last as long as the tasks do
        if w.full_disk and share > 0.5 and not self.done["full disk"]:
            self.done["full disk"] += 1
            with _full(self.arena.settings.data_dir):
                time.sleep(FULL_FOR_S)
        elif self.done["takeover"] < w.takeovers * share and self.dice.random() < 0.3:
            self._take_over_from_a_sleeper()
        elif sum(self.done[role] for role in ("worker", "keeper", "submitter")) < w.kills * share:
            self._kill_somebody()

    def _kill_somebody(self) -> None:
        row = self.engine.supervisor.alive(self.engine.supervisor.slots[0])
        writers = [process.pid for process in self.submitters.values() if process.poll() is None]
        throw = self.dice.random()
        if row is not None and throw < 0.55:
            self._kill_worker(row.pid)
        elif row is not None and row.keeper_pid and throw < 0.65:
            self.done["keeper"] += kill(row.keeper_pid)
        elif writers and throw < 0.95:
            self.done["submitter"] += kill(self.dice.choice(writers))

    def _kill_worker(self, pid: int) -> None:
        """Logs how long the death of a worker that ran a task went unnoticed."""
        running = self._running()
        if not kill(pid):
            return
        self.done["worker"] += 1
        began = time.monotonic()
        self.arena.log.write("kill", victim=pid, task=running[0] if running is not None else None)
        while running is not None and self._running() == running:
            if time.monotonic() - began > 30:
                break
            self.engine.supervisor.ensure()  # as any client does that looks: the keeper may have been killed before
            time.sleep(0.01)
        if running is not None:
            self.arena.log.write("noticed", victim=pid, task=running[0], seconds=time.monotonic() - began)

    def _take_over_from_a_sleeper(self) -> None:
        """As if the lock had failed: the task goes back to the queue while its worker sleeps, and then it wakes up."""
        row = self.engine.supervisor.alive(self.engine.supervisor.slots[0])
        if row is None or self._running() is None or not kill(row.pid, signal.SIGSTOP):
            return
        try:
            orphans = self.store.requeue_orphans(SLOT, FOREVER)
            for task in orphans:
                self.arena.log.write("takeover", victim=row.pid, task=task.id)
            self.done["takeover"] += bool(orphans)
        finally:
            kill(row.pid, signal.SIGCONT)

    def _running(self) -> tuple[str, int] | None:
        rows = self.database.query("SELECT id, token FROM tasks WHERE state = 'processing'")
        return (rows[0]["id"], rows[0]["token"]) if rows else None

    def _tasks(self) -> list[tuple[str | None, Task]]:
        keys = self.database.query("SELECT id, idempotency_key FROM tasks")
        return [(row["idempotency_key"], self.store.get(row["id"])) for row in keys]


@contextlib.contextmanager
def _full(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """Mounts a tmpfs of that size; needs root. Raises CalledProcessError."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
