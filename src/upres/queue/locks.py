"""One OS lock a slot: whoever holds it is the slot's only worker, and death releases it. Knows nothing of workers."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def slot_lock(data_dir: Path, slot: str) -> FileLock:
    folder = data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(folder / f"{slot}.lock", thread_local=False)


def is_held(data_dir: Path, slot: str) -> bool:
    """True while a worker lives. A starting worker outwaits this look (see LOCK_PATIENCE_S)."""
    lock = slot_lock(data_dir, slot)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


LOCK_PATIENCE_S = 2.0  # how long a new worker tries for its lock, so that somebody's look does not turn it away
