"""The worker's life: claim, run, report, idle, exit. Knows the store and the pipeline, not who submitted."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable

import torch

from upres.catalog import Catalog
from upres.errors import OutOfMemory, TaskCancelled, TaskLost, TaskNotFound, UpresError
from upres.queue.database import Database
from upres.queue.store import Claim, Price, TaskStore
from upres.queue.workers import WorkerTable
from upres.settings import Settings
from upres.tasks import Failure, Progress, Task
from upres.version import __version__
from upres.worker.residency import Residency
from upres.worker.run import own_folder, run_task, sweep_work

POLL_S = 0.2
REPORT_EVERY_S = 0.5

log = logging.getLogger("upres.worker")


class Stopped(Exception):
    """The worker was told to end while it ran a task."""


class Worker:
    """Build it only while holding the slot's lock."""

    def __init__(self, settings: Settings, slot: str) -> None:
        self._settings = settings
        self._slot = slot
        self._stopping = threading.Event()
        database = Database(settings.data_dir / "upres.sqlite3")
        self._store, self._workers = TaskStore(database), WorkerTable(database)
        device = torch.device("cuda" if slot.startswith("gpu-") and torch.cuda.is_available() else "cpu")
        self._device_name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._residency = Residency(Catalog(settings.model_dir), device)

    def stop(self) -> None:
        """Safe in a signal handler: a running task goes back to the queue at its next window."""
        self._stopping.set()

    def run(self) -> None:
        sweep_work(self._settings, lambda task_id: task_id in {task.id for task, _ in self._store.unfinished()})
        orphans = self._store.requeue_orphans(self._slot, self._settings.max_attempts)
        self._workers.register(self._slot, os.getpid(), __version__, self._device_name)
        log.info("started device=%s orphans=%s", self._device_name, orphans)
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            if self._load_wanted():
                idle_since = time.monotonic()
            claim = self._store.claim(self._slot)
            if claim is not None:
                self._run(claim)
                self._workers.set_state(self._slot, "idle", model=self._residency.name)
                idle_since = time.monotonic()
                continue
            if self._told_to_end(idle_since) and self._workers.may_exit(self._slot):
                log.info("exiting: nothing to do")
                return
            self._stopping.wait(POLL_S)
        self._workers.set_state(self._slot, "exiting", model=None)
        log.info("exiting: told to stop")

    def _told_to_end(self, idle_since: float) -> bool:
        row = self._workers.get(self._slot)
        asked = row is not None and row.stop
        return asked or time.monotonic() - idle_since >= self._settings.idle_timeout_s

    def _load_wanted(self) -> bool:
        row = self._workers.get(self._slot)
        if row is None or row.wanted_model is None:
            return False
        wanted, error = row.wanted_model, None
        self._workers.set_state(self._slot, "loading", model=None, loading_model=wanted)
        try:
            self._residency.load(wanted)
        except UpresError as caught:
            error = _failure(caught)
        except torch.OutOfMemoryError as caught:
            error = _failure(_out_of_memory(wanted, caught))
        self._workers.set_state(self._slot, "idle", model=self._residency.name)
        self._workers.wanted_done(self._slot, wanted, error)
        return True

    def _run(self, claim: Claim) -> None:
        """Ends the claim one way or another; never raises for anything that is the task's own fault."""
        task = claim.task
        log.info("task %s attempt %d model %s", task.id, task.attempt, task.model)
        try:
            self._workers.set_state(self._slot, "loading", model=None, loading_model=task.model)
            restorer = self._residency.load(task.model)
            self._workers.set_state(self._slot, "busy", model=task.model)
            done = run_task(claim, restorer, self._settings, self._device_name, self._reporter(claim))
            try:
                self._store.complete(claim, done.result, done.publish)
            finally:
                done.sweep()
            self._workers.measured(task.model, self._device_name, Price(done.result.frames, done.pixels), done.seconds)
            log.info("task %s completed: %s", task.id, done.result.output_path)
        except TaskCancelled:
            log.info("task %s cancelled", task.id)
            self._end(claim, self._store.end_cancelled)
        except TaskLost:
            self._lose(task)
        except Stopped:
            log.info("task %s given back", task.id)
            self._end(claim, self._store.give_back)
        except UpresError as error:
            self._fail(claim, error)
        except torch.OutOfMemoryError as error:
            self._residency.drop()
            self._fail(claim, _out_of_memory(task.model, error))
        except Exception:  # the last stand: one broken task must not end the worker
            log.exception("task %s", task.id)
            self._fail(claim, UpresError("the task failed for a reason we did not foresee",
                                         remedy=f"the traceback is in {self._settings.data_dir / 'logs'}"))  # fmt: skip

    def _fail(self, claim: Claim, error: UpresError) -> None:
        log.warning("task %s failed: %s: %s", claim.task.id, error.code, error)
        self._end(claim, lambda claim: self._store.fail(claim, _failure(error)))

    def _end(self, claim: Claim, write: Callable[[Claim], None]) -> None:
        try:
            write(claim)
        except TaskLost:
            self._lose(claim.task)

    def _lose(self, task: Task) -> None:
        """To another worker, or for good: then nobody else tidies up after it."""
        try:
            self._store.get(task.id)
            log.warning("task %s was taken over by another worker", task.id)
        except TaskNotFound:
            shutil.rmtree(own_folder(task, self._settings), ignore_errors=True)
            log.info("task %s was removed", task.id)

    def _reporter(self, claim: Claim) -> _Reporter:
        return _Reporter(self._store, claim, self._stopping)


class _Reporter:
    """Writes progress at most every REPORT_EVERY_S and when the phase changes; raises what ends the task."""

    def __init__(self, store: TaskStore, claim: Claim, stopping: threading.Event) -> None:
        self._store, self._claim, self._stopping = store, claim, stopping
        self._last = Progress()
        self._at = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._stopping.is_set():
            raise Stopped
        due = time.monotonic() - self._at >= REPORT_EVERY_S
        if due or progress.phase != self._last.phase or progress.frames_done == progress.frames_total:
            self._store.heartbeat(self._claim, progress)
            self._last, self._at = progress, time.monotonic()


def _failure(error: UpresError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


def _out_of_memory(model: str, error: torch.OutOfMemoryError) -> OutOfMemory:
    first_line = str(error).splitlines()[0]
    return OutOfMemory(f"{model} ran out of device memory: {first_line}",
                       remedy="use a smaller resolution or batch_size, or a smaller model")  # fmt: skip
