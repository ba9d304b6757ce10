"""Starts one slot's worker, watches it from outside, and sees to what it leaves behind when it dies.

    python -m upres.fleet.keeper --slot cpu --worker upres.worker.process

A process of its own without torch or CUDA: what hangs, poisons or kills a worker cannot reach it, and a crash is
noticed the moment it happens, whether or not any client still looks. It waits for the worker's end, ends it when it
stands still, puts its task back, and starts the next one while there is work. It knows the worker as a module name and
exit statuses.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from filelock import Timeout

from upres.errors import UpresError
from upres.fleet.janitor import Janitor
from upres.fleet.stopwatch import Stopwatch
from upres.queue.database import Database
from upres.queue.exits import EX_DEVICE, EX_DONE, EX_HELD, EX_OUTDATED
from upres.queue.locks import LOCK_PATIENCE_S, is_held, keeper_lock, slot_lock
from upres.queue.store import TaskStore
from upres.queue.workers import WorkerTable
from upres.settings import Settings

PULSE_S = 1.0
POLL_S = 0.1
TERM_PATIENCE_S = 10.0  # between SIGTERM and SIGKILL
EARLY_S = 30.0  # a worker that dies within this without ever having had a task could not start

log = logging.getLogger("upres.keeper")


class Keeper:
    """Build it only while holding the slot's keeper lock."""

    def __init__(self, settings: Settings, slot: str, worker_module: str) -> None:
        self._settings, self._slot, self._worker_module = settings, slot, worker_module
        database = Database(settings.data_dir / "upres.sqlite3")
        self._store, self._workers = TaskStore(database), WorkerTable(database)
        self._janitor = Janitor(settings, self._store)
        self._wake = threading.Event()  # the worker ended, or this process was told to
        self._stopping = False
        self._task_id: str | None = None  # what the worker ran when last seen

    def stop(self) -> None:
        """Safe in a signal handler: the worker is ended too, its task goes back to the queue."""
        self._stopping = True
        self._wake.set()

    def run(self) -> int:
        """Returns EX_OUTDATED if the worker did, else EX_DONE."""
        self._workers.keep(self._slot, os.getpid())
        log.info("keeping slot %s", self._slot)
        status = EX_DONE
        while self._may_start():
            began = time.monotonic()
            status, stuck = self._watch(self._spawn())
            if self._stopping or (stuck is None and status in (EX_DONE, EX_OUTDATED)):
                break
            if stuck is not None or status != EX_HELD:
                self._mourn(status, stuck, early=time.monotonic() - began < EARLY_S)
        self._take_over("the worker was stopped")
        log.info("left slot %s", self._slot)
        return EX_OUTDATED if status == EX_OUTDATED else EX_DONE

    def _may_start(self) -> bool:
        """Waits until the device is free and may be used. False if there is nothing to do, or it was told to stop."""
        said = False
        while not self._stopping:
            if not is_held(slot_lock(self._settings.data_dir, self._slot)):
                if self._workers.may_exit(self._slot):
                    return False
                resting = self._workers.quarantine(self._slot, self._settings.quarantine_s)
                if resting is None:
                    return True
                if not said:
                    log.error("the device rests for %.0f s: %s", resting.until - time.time(), resting.what)
                    said = True
            self._wake.wait(POLL_S)
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        """The worker reads its stdin to the end, which comes when this process ends, however it does."""
        command = [sys.executable, "-P", "-m", self._worker_module, "--slot", self._slot, "--kept"]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    def _watch(self, worker: subprocess.Popen[bytes]) -> tuple[int, str | None]:
        """The worker's exit status once it is gone; and, if it was ended because it stood still, how long it did."""
        self._wake.clear()
        self._task_id = None

        def wait() -> None:
            worker.wait()
            self._wake.set()

        threading.Thread(target=wait, daemon=True).start()
        watch, stuck = Stopwatch(self._settings.stall_timeout_s, time.monotonic()), None
        while worker.returncode is None:
            stuck = self._look(watch)
            if self._stopping or stuck is not None:
                self._end(worker)
            self._janitor.tidy_now_and_then()
            self._wake.wait(PULSE_S)
        assert worker.stdin is not None
        worker.stdin.close()
        return worker.returncode, stuck

    def _look(self, watch: Stopwatch) -> str | None:
        try:
            pulse = self._workers.pulse(self._slot)
        except UpresError as error:  # a store that cannot be read now says nothing about the worker
            log.warning("no pulse: %s", error)
            return None
        self._task_id = pulse.task_id
        stuck_s = watch.stuck_s(pulse, time.monotonic())
        return f"the worker made no progress for {stuck_s:.0f} s and was ended" if stuck_s is not None else None

    def _end(self, worker: subprocess.Popen[bytes]) -> None:
        """A worker that no signal ends is stuck in the driver: it keeps its device, and its lock, until it is gone."""
        worker.terminate()
        deadline = time.monotonic() + TERM_PATIENCE_S
        while worker.returncode is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        worker.kill()
        warned = False
        while worker.returncode is None:
            if not warned and time.monotonic() > deadline + TERM_PATIENCE_S:
                log.critical("worker %d does not end: the device may need a reboot", worker.pid)
                warned = True
            time.sleep(POLL_S)

    def _mourn(self, status: int, stuck: str | None, *, early: bool) -> None:
        """After a death: its task goes back, and a device that may be to blame is remembered."""
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        device = "the device failed" if status == EX_DEVICE else None
        cause = f"the worker died ({how})"
        blamed = stuck if stuck is not None else device
        log.error("%s, task %s", cause if blamed is None else blamed, self._task_id)
        orphans = self._take_over(cause if blamed is None else blamed)
        if blamed is not None:
            self._workers.record_fault(self._slot, orphans[0] if orphans else None, blamed)
        elif early and not orphans and self._task_id is None:
            self._workers.record_fault(self._slot, None, f"the worker could not start ({how})")
            self._wake.clear()
            self._wake.wait(PULSE_S)

    def _take_over(self, cause: str) -> list[str]:
        """Puts back what the slot still runs; insists while the store cannot be written. Ids of those tasks."""
        lock = slot_lock(self._settings.data_dir, self._slot)
        while True:
            try:
                with lock.acquire(timeout=LOCK_PATIENCE_S):
                    orphans = self._store.requeue_orphans(self._slot, self._settings.max_attempts, cause)
                self._janitor.clear(orphans)
                return [task.id for task in orphans]
            except Timeout:
                return []  # another worker has the slot, and has seen to them
            except UpresError as error:
                log.warning("cannot put tasks back yet: %s", error)
                if self._stopping:
                    return []
                self._wake.wait(PULSE_S)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="start and watch the worker of one device while there are tasks")
    parser.add_argument("--slot", required=True, help="cpu, or gpu-<uuid>")
    parser.add_argument("--worker", required=True, metavar="MODULE", help="what runs the tasks")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format=f"%(asctime)s {options.slot} keeper %(process)d %(levelname)s %(message)s")  # fmt: skip
    settings = Settings.from_env(os.environ)
    lock = keeper_lock(settings.data_dir, options.slot)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S, poll_interval=0.02)
    except Timeout:
        return EX_HELD
    keeper = Keeper(settings, options.slot, options.worker)

    def stop(signum: int, frame: FrameType | None) -> None:
        keeper.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main())
