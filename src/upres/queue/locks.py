"""Two OS locks a slot, one for its worker and one for the worker's keeper: whoever holds one is the only such process,
and its death releases it. Knows nothing of workers.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

LOCK_PATIENCE_S = 2.0  # how long a new worker tries for its lock, so that somebody's look does not turn it away


def slot_lock(data_dir: Path, slot: str) -> FileLock:
    """Held by the process that uses the device."""
    folder = data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(folder / f"{slot}.lock", thread_local=False)


def keeper_lock(data_dir: Path, slot: str) -> FileLock:
    """Held by the process that starts and watches the slot's worker."""
    return slot_lock(data_dir, f"{slot}.keeper")


def is_held(lock: FileLock) -> bool:
    """True while another process, or another FileLock of this one, has it. Give it a lock nobody else acquires."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
