"""Starts, finds and ends workers. Knows a worker only as the name of the module it starts; no torch here.

A worker is detached: own session, all three descriptors redirected, so that it outlives the client that started it
and no client waits for it. The slot's OS lock tells whether it lives.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from filelock import Timeout

from upres.errors import GpuBusy, WorkerFailed
from upres.fleet.slots import Slot, find_slots
from upres.queue.locks import is_held, slot_lock
from upres.queue.store import TaskStore
from upres.queue.workers import WorkerRow, WorkerTable
from upres.settings import Settings

WORKER_MODULE = "upres.worker.process"
START_GRACE_S = 10.0  # a started worker takes its lock within this, or another may be started
EXIT_PATIENCE_S = 10.0
POLL_S = 0.05
LOG_LIMIT_BYTES = 5_000_000
# torch's idle OpenMP threads spin by default, against the decoder and the encoder: half the speed on two busy cores
CALM_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}


class Supervisor:
    """Any number of processes may run one on the same data directory."""

    def __init__(self, settings: Settings, store: TaskStore, workers: WorkerTable) -> None:
        self.slots = find_slots(settings.visible_devices)
        self._settings = settings
        self._store = store
        self._workers = workers
        self._started: dict[str, tuple[subprocess.Popen[bytes], float]] = {}  # slot -> the last one, and when
        self._children: list[subprocess.Popen[bytes]] = []  # not reaped yet
        self._spawning = threading.Lock()  # threads of one front end; between front ends the slot's lock decides

    def close(self) -> None:
        """Lets go of the workers it started; they live on."""
        self._reap()
        for process in self._children:
            process.returncode = 0  # nobody will wait for it here: keeps Popen from warning of that
        self._children.clear()

    def ensure(self) -> None:
        """Puts tasks of dead workers back and starts workers while tasks wait. Cheap: call it from every verb."""
        for slot_name in self._store.slots_in_use():
            self._take_over(slot_name)
        waiting = self._store.queued_count()
        for slot in self.slots[:waiting]:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Returns once a worker that has yet to look at the queue lives or was started."""
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while is_held(self._settings.data_dir, slot.name):
            row = self._workers.get(slot.name)
            if row is None or row.state != "exiting" or time.monotonic() > deadline:
                return
            time.sleep(POLL_S)
        with self._spawning:
            if not self._starting(slot.name):
                process = self._spawn(slot)
                self._children.append(process)
                self._started[slot.name] = (process, time.monotonic())

    def alive(self, slot: Slot) -> WorkerRow | None:
        """The row of a living worker."""
        self._reap()
        return self._workers.get(slot.name) if is_held(self._settings.data_dir, slot.name) else None

    def log_path(self, slot: Slot) -> Path:
        return self._settings.data_dir / "logs" / f"{slot.name}.log"

    def release(self) -> list[int]:
        """Ends idle workers and returns their pids, all gone. Raises GpuBusy before ending any if one works."""
        living = [(slot, row) for slot in self.slots if (row := self.alive(slot)) is not None]
        for slot, row in living:
            if row.state in ("busy", "loading"):
                raise GpuBusy(f"the worker on {slot.device_name} is {row.state}",
                              remedy="wait for its task or cancel it, then release again")  # fmt: skip
        for slot, row in living:
            self._workers.request_stop(slot.name)
            if not self._gone(slot, row.pid, give_up_if_busy=True):
                raise GpuBusy(f"the worker on {slot.device_name} took up new work",
                              remedy="wait for its task or cancel it, then release again")  # fmt: skip
        return [row.pid for _, row in living]

    def stop(self) -> list[int]:
        """Ends every worker of these slots, busy or not; their tasks go back to the queue."""
        ended = []
        for slot in self.slots:
            row = self.alive(slot)
            if row is None or row.state == "exiting":
                continue
            process = psutil.Process(row.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                if not self._gone(slot, row.pid):
                    process.kill()
                    self._gone(slot, row.pid)
            self._take_over(slot.name)
            ended.append(row.pid)
        return ended

    def _take_over(self, slot_name: str) -> None:
        """The failure detector: a slot that runs a task and whose lock is free has lost its worker."""
        lock = slot_lock(self._settings.data_dir, slot_name)
        with contextlib.suppress(Timeout), lock.acquire(blocking=False):
            self._store.requeue_orphans(slot_name, self._settings.max_attempts)

    def _starting(self, slot_name: str) -> bool:
        process, since = self._started.get(slot_name, (None, 0.0))
        return process is not None and process.poll() is None and time.monotonic() - since < START_GRACE_S

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
        with log_path.open("ab") as log:
            try:
                return subprocess.Popen(
                    [sys.executable, "-P", "-m", WORKER_MODULE, "--slot", slot.name],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True, cwd=self._settings.data_dir, env=environment,
                )  # fmt: skip
            except OSError as error:
                raise WorkerFailed(f"cannot start {sys.executable}: {error.strerror}") from error

    def _gone(self, slot: Slot, pid: int, *, give_up_if_busy: bool = False) -> bool:
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while time.monotonic() < deadline:
            self._reap()
            if not is_held(self._settings.data_dir, slot.name) and not _runs(pid):
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


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
