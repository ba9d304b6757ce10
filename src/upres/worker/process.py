"""The process that owns one GPU (or the CPU): takes the slot's lock, claims tasks, runs them, exits when idle.

    python -m upres.worker.process --slot cpu

Exit status 0 after idling or being told to stop, 75 if another worker holds the slot.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from filelock import Timeout

from upres.queue.locks import LOCK_PATIENCE_S, slot_lock
from upres.settings import Settings

EX_TEMPFAIL = 75  # sysexits.h: somebody else is at it

log = logging.getLogger("upres.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="run tasks on one device until there are none")
    parser.add_argument("--slot", required=True, help="cpu, or gpu-<uuid>")
    slot = parser.parse_args(arguments).slot
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format=f"%(asctime)s {slot} %(process)d %(levelname)s %(message)s")  # fmt: skip
    settings = Settings.from_env(os.environ)
    lock = slot_lock(settings.data_dir, slot)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S, poll_interval=0.02)
    except Timeout:
        log.info("another worker holds this slot")
        return EX_TEMPFAIL
    from upres.worker.loop import Worker  # torch begins here, after the lock: a second worker never pays for it

    worker = Worker(settings, slot)

    def stop(signum: int, frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()
    logging.shutdown()
    os._exit(0)  # the end of the process frees the lock, not a line before it: its next owner finds the device empty


if __name__ == "__main__":
    sys.exit(main())
