"""The process that owns one GPU (or the CPU): takes the slot's lock, claims tasks, runs them, exits when idle.

    python -m upres.worker.process --slot cpu

Exit statuses are those of `queue.exits`. With `--kept`, stdin is a pipe whose other end only the keeper holds.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from filelock import Timeout

from upres.queue.exits import EX_HELD
from upres.queue.locks import LOCK_PATIENCE_S, slot_lock
from upres.settings import Settings
from upres.worker.loop import Bench, Worker

ORPHAN_PATIENCE_S = 30.0  # for the present window to end, once nobody watches any more

log = logging.getLogger("upres.worker")


def torch_bench(settings: Settings, slot: str) -> Bench:
    # the way all figures of large windows were measured: 4K then fits in 80 GB; means nothing to a CPU
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from upres.worker.bench import TorchBench  # torch begins here, after the lock: a second worker never pays for it

    return TorchBench(settings, slot)


def main(arguments: Sequence[str] | None = None, bench: Callable[[Settings, str], Bench] = torch_bench) -> int:
    parser = argparse.ArgumentParser(description="run tasks on one device until there are none")
    parser.add_argument("--slot", required=True, help="cpu, or gpu-<uuid>")
    parser.add_argument("--kept", action="store_true", help="end when stdin does")
    options = parser.parse_args(arguments)
    slot = options.slot
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format=f"%(asctime)s {slot} %(process)d %(levelname)s %(message)s")  # fmt: skip
    settings = Settings.from_env(os.environ)
    lock = slot_lock(settings.data_dir, slot)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S, poll_interval=0.02)
    except Timeout:
        log.info("another worker holds this slot")
        return EX_HELD
    worker = Worker(settings, slot, bench(settings, slot))

    def stop(signum: int, frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if options.kept:
        threading.Thread(target=_end_with_keeper, args=(worker,), daemon=True).start()
    status = worker.run()
    logging.shutdown()
    # the end of the process frees the lock, not a line before it: its next owner finds the device empty
    os._exit(status)


def _end_with_keeper(worker: Worker) -> None:
    """A worker that nobody watches gives its task back and leaves; the next look at the queue starts both anew."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    log.warning("the keeper is gone")
    worker.stop()
    time.sleep(ORPHAN_PATIENCE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
