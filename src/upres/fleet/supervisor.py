"""Starts, finds and ends workers, each through the keeper that watches it. No torch here.

A keeper is detached: own session, all three descriptors redirected, so that it and its worker outlive the client that
started them and no client waits for them. OS locks tell which of the two live.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from filelock import Timeout

from upres.errors import GpuBusy, WorkerFailed
from upres.fleet.janitor import Janitor
from upres.fleet.slots import Slot, find_slots
from upres.queue.exits import EX_OUTDATED
from upres.queue.locks import is_held, keeper_lock, slot_lock
from upres.queue.store import TaskStore
from upres.queue.workers import Quarantine, WorkerRow, WorkerTable
from upres.settings import TOKEN, Settings
from upres.version import __version__

KEEPER_MODULE = "upres.fleet.keeper"
WORKER_MODULE = "upres.worker.process"
START_GRACE_S = 10.0  # a started keeper takes its lock within this, or another may be started
OUTDATED_S = 60.0  # how long this version leaves a queue alone whose next task needs a newer one
EXIT_PATIENCE_S = 10.0
KEEPER_PATIENCE_S = 25.0  # a keeper gives its worker TERM_PATIENCE_S before it kills it
KEEPER_GRACE_S = 1.0  # it needs a tenth
LOOK_EVERY_S = 0.25  # of all verbs together: a hundred clients that poll look no oftener for dead workers than one
POLL_S = 0.05
LOG_LIMIT_BYTES = 5_000_000
# torch's idle OpenMP threads spin by default, against the decoder and the encoder: half the speed on two busy cores
CALM_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}


class Supervisor:
    """Any number of processes may run one on the same data directory."""

    def __init__(self, settings: Settings, store: TaskStore, workers: WorkerTable, worker: str = WORKER_MODULE) -> None:
        self.slots = find_slots(settings.visible_devices)
        self._settings = settings
        self._store = store
        self._workers = workers
        self._worker_module = worker
        self._janitor = Janitor(settings, store)
        self._looked_at = float("-inf")
        self._lost_at: dict[str, float] = {}  # slot -> when its task was first seen without a worker
        self._looking = threading.Lock()  # whoever finds it held has somebody who looks already
        self._started: dict[str, tuple[subprocess.Popen[bytes], float]] = {}  # slot -> the last one, and when
        self._children: list[subprocess.Popen[bytes]] = []  # not reaped yet
        self._spawning = threading.Lock()  # threads of one front end; between front ends the slot's lock decides

    @property
    def gpus(self) -> tuple[str, ...]:
        """Their UUIDs; none where workers run on the CPU."""
        return tuple(slot.uuid for slot in self.slots if slot.uuid)

    def close(self) -> None:
        """Lets go of the workers it started; they live on."""
        self._reap()
        for process in self._children:
            process.returncode = 0  # nobody will wait for it here: keeps Popen from warning of that
        self._children.clear()

    def ensure(self, *, at_once: bool = False) -> None:
        """Puts tasks of dead workers back and starts workers while tasks wait. Cheap: call it from every verb."""
        if at_once:
            self._look()
        elif time.monotonic() - self._looked_at >= LOOK_EVERY_S and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        for slot_name in self._store.slots_in_use():
            self._take_over(slot_name)
        waiting = self._store.queued_count()
        for slot in sorted(self.slots, key=lambda slot: self.quarantine(slot) is not None)[:waiting]:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Returns once a keeper or worker that has yet to look at the queue lives or was started."""
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while self._kept(slot.name) or self._busy(slot):
            row = self._workers.get(slot.name)
            if row is None or row.state != "exiting" or time.monotonic() > deadline:
                if row is not None and newer(__version__, row.version) and not row.drain:
                    self._workers.request_drain(slot.name)
                return
            time.sleep(POLL_S)
        with self._spawning:
            if not self._starting(slot.name):
                process = self._spawn(slot)
                self._children.append(process)
                self._started[slot.name] = (process, time.monotonic())

    def quarantine(self, slot: Slot) -> Quarantine | None:
        """Since when and why the slot's device rests."""
        return self._workers.quarantine(slot.name, self._settings.quarantine_s)

    def alive(self, slot: Slot) -> WorkerRow | None:
        """The row of a living worker."""
        self._reap()
        return self._workers.get(slot.name) if self._busy(slot) else None

    def log_path(self, slot: Slot) -> Path:
        return self._settings.data_dir / "logs" / f"{slot.name}.log"

    def release(self) -> list[int]:
        """Ends idle workers and returns their pids, all gone. Raises GpuBusy before ending any if one works."""
        living = [(slot, row) for slot in self.slots if (row := self.alive(slot)) is not None]
        for slot, row in living:
            if not self._settles(slot):
                raise self._in_use(slot, row)
        for slot, row in living:
            self._workers.request_stop(slot.name)
            if not self._gone(slot, row.pid, give_up_if_busy=True):
                raise self._in_use(slot, row)
        return [row.pid for _, row in living]

    def _settles(self, slot: Slot) -> bool:
        """False if the worker has a task, or does something else for too long: load the model of a cancelled one."""
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while time.monotonic() < deadline:
            row = self._workers.get(slot.name)
            if row is None or row.state not in ("busy", "loading"):
                return True
            if self._workers.pulse(slot.name).task_id is not None:
                return False
            time.sleep(POLL_S)
        return False

    def _in_use(self, slot: Slot, row: WorkerRow) -> GpuBusy:
        task_id = self._workers.pulse(slot.name).task_id
        if task_id is not None:
            return GpuBusy(f"{slot.device_name} is in use by task {task_id}",
                           remedy=f"wait for task {task_id} or cancel it, then release again")  # fmt: skip
        loading = f" {row.loading_model}" if row.loading_model is not None else ""
        return GpuBusy(f"the worker on {slot.device_name} is loading a model{loading}",
                       remedy="release again in a moment")  # fmt: skip

    def stop(self) -> list[int]:
        """Ends every worker of these slots, busy or not; their tasks go back to the queue. Ends quarantines too."""
        ended = []
        for slot in self.slots:
            ended += self._end(slot, signal.SIGTERM)
            self._end(slot, signal.SIGKILL)
            self._take_over(slot.name)
            self._workers.forgive(slot.name)
        return ended

    def _end(self, slot: Slot, signum: int) -> list[int]:
        """Signals whoever has the slot until nobody does, or for a while; a keeper ends its worker. Pids of workers."""
        told: set[int] = set()
        ended = []
        deadline = time.monotonic() + KEEPER_PATIENCE_S
        while time.monotonic() < deadline:
            kept, busy = self._kept(slot.name), self._busy(slot)
            row, living = self._workers.get(slot.name), self._own_keeper(slot)
            if row is not None and (kept or busy):
                living.add(row.keeper_pid if kept else row.pid)
                if busy and row.pid not in ended and row.state != "exiting":
                    ended.append(row.pid)
            if not living:
                break
            for pid in living - told:  # more than one where keepers raced for the slot
                told.add(pid)
                self._signal(pid, signum)
            self._reap()
            time.sleep(POLL_S)
        return ended

    def _own_keeper(self, slot: Slot) -> set[int]:
        """The pid of the one started here, if it lives: it may not have come as far as its lock yet."""
        process, _ = self._started.get(slot.name, (None, 0.0))
        return {process.pid} if process is not None and process.poll() is None else set()

    def _signal(self, pid: int, signum: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if {KEEPER_MODULE, self._worker_module} & set(process.cmdline()):  # not whoever has the number now
                process.send_signal(signum)

    def _kept(self, slot_name: str) -> bool:
        return is_held(keeper_lock(self._settings.data_dir, slot_name))

    def _busy(self, slot: Slot) -> bool:
        return is_held(slot_lock(self._settings.data_dir, slot.name))

    def _take_over(self, slot_name: str) -> None:
        """The failure detector: a slot that runs a task and whose lock is free has lost its worker."""
        lock = slot_lock(self._settings.data_dir, slot_name)
        try:
            with lock.acquire(blocking=False):
                if not self._left_to_keeper(slot_name):
                    self._janitor.clear(self._store.requeue_orphans(slot_name, self._settings.max_attempts))
        except Timeout:
            self._lost_at.pop(slot_name, None)

    def _left_to_keeper(self, slot_name: str) -> bool:
        """A living keeper sees to the task at once and knows what its worker died of; but it may stand still itself."""
        if not self._kept(slot_name):
            return False
        lost_at = self._lost_at.setdefault(slot_name, time.monotonic())
        return time.monotonic() - lost_at < KEEPER_GRACE_S

    def _starting(self, slot_name: str) -> bool:
        """Is the keeper we started yet to take its lock? One that had it and is on its way out no longer looks at the
        queue: to wait for it would leave a task that has just come to nobody."""
        process, since = self._started.get(slot_name, (None, 0.0))
        if process is None:
            return False
        status, age_s = process.poll(), time.monotonic() - since
        if status == EX_OUTDATED:
            return age_s < OUTDATED_S
        row = self._workers.get(slot_name)
        left = row is not None and row.keeper_pid == process.pid  # it had the lock, which nobody has now
        return status is None and age_s < START_GRACE_S and not left

    def _spawn(self, slot: Slot) -> subprocess.Popen[bytes]:
        log_path = self.log_path(slot)
        log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if log_path.exists() and log_path.stat().st_size > LOG_LIMIT_BYTES:
            os.replace(log_path, log_path.with_suffix(".old.log"))
        package_root = str(Path(__file__).parents[2])  # this very package, also where it is not installed
        environment = {
            **CALM_THREADS, **os.environ, **self._settings.to_env(), "CUDA_VISIBLE_DEVICES": slot.uuid,
            "PYTHONPATH": os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH")))),
        }  # fmt: skip
        environment.pop(TOKEN, None)
        with log_path.open("ab") as log:
            try:
                return subprocess.Popen(
                    [sys.executable, "-P", "-m", KEEPER_MODULE, "--slot", slot.name, f"--worker={self._worker_module}"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True, cwd=self._settings.data_dir, env=environment,
                )  # fmt: skip
            except OSError as error:
                raise WorkerFailed(f"cannot start {sys.executable}: {error.strerror}") from error

    def _gone(self, slot: Slot, pid: int, *, give_up_if_busy: bool = False) -> bool:
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while time.monotonic() < deadline:
            self._reap()
            if not self._busy(slot) and not self._kept(slot.name) and not _runs(pid):
                return True
            row = self._workers.get(slot.name)
            if give_up_if_busy and row is not None and row.state in ("busy", "loading"):
                return False
            time.sleep(POLL_S)
        return False

    def _reap(self) -> None:
        """Zombies would look alive to others."""
        with self._spawning:
            self._children = [process for process in self._children if process.poll() is None]


def newer(ours: str, theirs: str) -> bool:
    """Compares versions number by number; a worker that has not said its version is not older."""
    numbers = [tuple(map(int, re.findall(r"\d+", version))) for version in (ours, theirs)]
    return theirs != "" and numbers[0] > numbers[1]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
