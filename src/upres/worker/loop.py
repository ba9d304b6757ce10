"""The worker's life: claim, run, report, idle, exit. Knows the store; what a device is and does, its `Bench` knows."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from upres.errors import (
    DiskFull,
    MediaFailed,
    Outdated,
    OutOfMemory,
    StoreUnusable,
    TaskCancelled,
    TaskLost,
    TaskNotFound,
    UpresError,
)
from upres.queue.database import Database
from upres.queue.exits import EX_DEVICE, EX_DONE, EX_OUTDATED
from upres.queue.store import Claim, TaskStore
from upres.queue.throughput import Measurement, Throughput
from upres.queue.workers import WorkerState, WorkerTable
from upres.settings import Settings
from upres.tasks import Failure, Progress, Result, Task, TaskState
from upres.version import __version__

POLL_S = 0.2
REPORT_EVERY_S = 0.5
STORE_RETRY_S = 1.0  # while the store cannot be written, as on a full disk
STORE_PATIENCE_S = 600.0  # without work, before the worker leaves the device to others

log = logging.getLogger("upres.worker")


class Stopped(Exception):
    """The worker was told to end while it ran a task."""


class DeviceFailed(Exception):
    """The device can no longer be used by this process; its task is left for the next one."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A task whose file is whole and only waits to be put in place.

    `publish` renames it into place and raises OSError or InvalidParameter; `sweep` removes what is left if it was not
    to be. `took` is None where there was nothing left to do but to join.
    """

    result: Result
    publish: Callable[[], None]
    sweep: Callable[[], None]
    took: Measurement | None


class Bench(Protocol):
    """A device and what it can do."""

    name: str

    @property
    def model(self) -> str | None:
        """What is resident."""

    def load(self, model: str) -> None:
        """Makes `model` resident. Raises ModelNotFound, WeightsInvalid, and whatever the device does."""

    def restore(self, claim: Claim, report: Callable[[Progress], None]) -> Finished:
        """Runs a task on its resident model. What `report` raises passes through; no file is left then."""

    def drop(self) -> None:
        """Makes room: nothing is resident afterwards."""

    def blame(self, error: Exception) -> Literal["memory", "device", "task"]:
        """Who is to blame for an error: the device's size, the device for good, or neither of them."""


class Worker:
    """Build it only while holding the slot's lock."""

    def __init__(self, settings: Settings, slot: str, bench: Bench) -> None:
        self._settings, self._slot, self._bench = settings, slot, bench
        self._stopping = threading.Event()
        database = Database(settings.data_dir / "upres.sqlite3")
        self._store, self._workers, self._throughput = TaskStore(database), WorkerTable(database), Throughput(database)
        self._shown: tuple[WorkerState, str | None, str | None] = ("idle", None, None)  # as `register` writes it

    def stop(self) -> None:
        """Safe in a signal handler: a running task goes back to the queue at its next window."""
        self._stopping.set()

    def run(self) -> int:
        """Returns one of `queue.exits`. Outlasts a store that cannot be written for a time."""
        self._insist(lambda: self._store.requeue_orphans(self._slot, self._settings.max_attempts))
        self._insist(lambda: self._workers.register(self._slot, os.getpid(), __version__, self._bench.name))
        log.info("started device=%s", self._bench.name)
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            try:
                if self._work():
                    idle_since = time.monotonic()
                elif self._may_end(idle_since):
                    log.info("exiting: nothing to do")
                    return EX_DONE
                else:
                    self._stopping.wait(POLL_S)
            except (DiskFull, StoreUnusable) as error:
                log.warning("the store: %s", error)
                if time.monotonic() - idle_since > max(STORE_PATIENCE_S, self._settings.idle_timeout_s):
                    raise
                self._stopping.wait(STORE_RETRY_S)
            except DeviceFailed:
                return EX_DEVICE
            except Outdated as error:
                log.warning("exiting: %s", error)
                return EX_OUTDATED
        self._insist(lambda: self._workers.set_state(self._slot, "exiting", model=None))
        log.info("exiting: told to stop")
        return EX_DONE

    def _work(self) -> bool:
        """Does the next thing there is to do; False if there is none."""
        row = self._workers.get(self._slot)
        if row is not None and row.drain:
            self.stop()
            return True
        loaded = self._load_wanted()
        claim = self._store.claim(self._slot)
        if claim is not None:
            self._run(claim)
        else:
            self._show("idle")
        return loaded or claim is not None

    def _show(self, state: WorkerState, loading_model: str | None = None) -> None:
        """What others see of this worker, where it changes; not worth a task where it cannot be written."""
        model = self._bench.model if loading_model is None else None
        if (state, model, loading_model) == self._shown:
            return
        with suppress(DiskFull, StoreUnusable):
            self._workers.set_state(self._slot, state, model=model, loading_model=loading_model)
            self._shown = (state, model, loading_model)

    def _may_end(self, idle_since: float) -> bool:
        row = self._workers.get(self._slot)
        asked = row is not None and row.stop
        due = asked or time.monotonic() - idle_since >= self._settings.idle_timeout_s
        return due and self._workers.may_exit(self._slot)

    def _insist(self, write: Callable[[], object]) -> None:
        """Does a write that must not get lost, as soon as the store takes it; gives up only when told to stop."""
        while True:
            try:
                write()
                return
            except (DiskFull, StoreUnusable) as error:
                log.warning("the store: %s", error)
                if self._stopping.wait(STORE_RETRY_S):
                    return

    def _load_wanted(self) -> bool:
        row = self._workers.get(self._slot)
        if row is None or row.wanted_model is None:
            return False
        wanted, error = row.wanted_model, None
        self._show("loading", loading_model=wanted)
        try:
            self._bench.load(wanted)
        except UpresError as caught:
            error = _failure(caught)
        except RuntimeError as caught:
            match self._bench.blame(caught):
                case "device":
                    raise DeviceFailed from caught
                case "memory":
                    error = _failure(_out_of_memory(wanted, caught))
                case _:
                    raise
        self._show("idle")
        self._workers.wanted_done(self._slot, wanted, error)
        return True

    def _run(self, claim: Claim) -> None:
        """Ends the claim one way or another; never raises for anything that is the task's own fault."""
        task = claim.task
        log.info("task %s attempt %d model %s", task.id, task.attempt, task.model)
        try:
            if task.model != self._bench.model:
                self._show("loading", loading_model=task.model)
            self._bench.load(task.model)
            self._show("busy")
            done = self._bench.restore(claim, self._reporter(claim))
            self._publish(claim, done)
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
        except Exception as error:  # the last stand: one broken task must not end the worker, one broken device must
            self._despair(claim, error)

    def _publish(self, claim: Claim, done: Finished) -> None:
        """Once the file is in place it is not made again, however long the store takes to say so."""
        published = False

        def publish() -> None:
            nonlocal published
            if not published:
                _put_in_place(done)
                published = True

        try:
            self._insist(lambda: self._store.complete(claim, done.result, publish))
        except TaskCancelled:
            if published:
                Path(done.result.output_path).unlink(missing_ok=True)
            raise
        finally:
            done.sweep()
        if done.took is not None:
            with suppress(DiskFull, StoreUnusable):
                self._throughput.add(claim.task.model, self._bench.name, done.took)

    def _despair(self, claim: Claim, error: Exception) -> None:
        """Of an error that is not one of ours."""
        blamed = self._bench.blame(error)
        if blamed == "memory":
            self._bench.drop()
            self._fail(claim, _out_of_memory(claim.task.model, error))
            return
        log.exception("task %s", claim.task.id)
        if blamed == "device":
            raise DeviceFailed from error
        remedy = "the traceback is in the worker's log (upres doctor names it)"
        self._fail(claim, UpresError("the task failed for a reason we did not foresee", remedy=remedy))

    def _fail(self, claim: Claim, error: UpresError) -> None:
        log.warning("task %s failed: %s: %s", claim.task.id, error.code, error)
        self._end(claim, lambda claim: self._store.fail(claim, _failure(error)))

    def _end(self, claim: Claim, write: Callable[[Claim], None]) -> None:
        try:
            self._insist(lambda: write(claim))
        except TaskLost:
            self._lose(claim.task)

    def _lose(self, task: Task) -> None:
        """To another worker, or for good: then nobody else tidies up after it."""
        try:
            if self._store.get(task.id).state is not TaskState.CANCELLED:
                log.warning("task %s was taken over by another worker", task.id)
                return
            log.info("task %s was cancelled before its work began", task.id)
        except TaskNotFound:
            log.info("task %s was removed", task.id)
        for folder in self._settings.folders_of(task.id):
            shutil.rmtree(folder, ignore_errors=True)

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
        if due or progress.phase != self._last.phase:
            with suppress(DiskFull, StoreUnusable):  # a report that cannot be written is no reason to end the work
                self._store.heartbeat(self._claim, progress)
            self._last, self._at = progress, time.monotonic()


def _put_in_place(done: Finished) -> None:
    try:
        done.publish()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no space left to publish the result", remedy="free space where outputs go") from error
        name = Path(done.result.output_path).name
        raise MediaFailed(f"{name} cannot be put in place: {error.strerror}",
                          remedy="check its folder and the folder's rights") from error  # fmt: skip


def _failure(error: UpresError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


def _out_of_memory(model: str, error: Exception) -> OutOfMemory:
    first_line = str(error).splitlines()[0]
    return OutOfMemory(f"{model} ran out of device memory: {first_line}",
                       remedy="use a smaller resolution or batch_size, or a smaller model")  # fmt: skip
