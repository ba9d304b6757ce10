"""Deletes what no task needs any more: leftovers of tasks that ended without a result, and files past their time.

Only files that Upres itself named are touched: the folder `<outputs>/<task id>`, upload folders, and `.part` files. A
file at an `output_path` of the caller's choice is the caller's. Rows of tasks stay; a deleted result says that it is
gone.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from upres.errors import UpresError
from upres.queue.store import TaskStore
from upres.settings import Settings
from upres.tasks import Task, TaskState

EVERY_S = 600.0
DAY_S = 86400.0
AT_ONCE_S = 1e-9
WORK_S = 7 * DAY_S
STRAY_S = DAY_S  # an upload whose server died before it became a task
UPLOAD_FOLDER = re.compile(r"[0-9a-f]{16}")

log = logging.getLogger("upres.janitor")


@dataclass(frozen=True, slots=True)
class _Kept:
    folder: Path
    ended_at: float
    keep_s: float  # 0: for ever
    size_bytes: int


class Janitor:
    def __init__(self, settings: Settings, store: TaskStore) -> None:
        self._settings, self._store = settings, store
        self._last = float("-inf")

    def clear(self, tasks: Iterable[Task]) -> None:
        """Deletes what attempts left of those tasks that ended without a result."""
        for task in tasks:
            if task.state in (TaskState.FAILED, TaskState.CANCELLED):
                shutil.rmtree(self._settings.data_dir / "inputs" / task.id, ignore_errors=True)
                if task.state is TaskState.CANCELLED:
                    shutil.rmtree(self._settings.work_dir / task.id, ignore_errors=True)
                if task.spec.output_path is None:
                    shutil.rmtree(self._settings.output_dir / task.id, ignore_errors=True)
                else:
                    for part in Path(task.spec.output_path).parent.glob(f".{task.id}.*"):
                        part.unlink(missing_ok=True)

    def tidy_now_and_then(self) -> None:
        """Tidies at the first call and then every EVERY_S; a disk or store in trouble is for the next time."""
        if time.monotonic() - self._last < EVERY_S:
            return
        self._last = time.monotonic()
        try:
            self.tidy()
        except (OSError, UpresError) as error:
            log.warning("not tidied: %s", error)

    def tidy(self) -> None:
        in_use = {Path(path).parent for path in self._store.inputs_in_use()}
        kept = sorted(self._kept(), key=lambda entry: entry.ended_at)
        excess = sum(entry.size_bytes for entry in kept) - self._settings.keep_gb * 1e9
        now = time.time()
        for entry in kept:
            too_much = self._settings.keep_gb > 0 and excess > 0
            if entry.folder not in in_use and (too_much or 0 < entry.keep_s < now - entry.ended_at):
                shutil.rmtree(entry.folder, ignore_errors=True)
                excess -= entry.size_bytes
                log.info("deleted %s", entry.folder)

        self._tidy_work(now)

    def _tidy_work(self, now: float) -> None:
        """What was finished of a failed task serves the next one of the same order, for a while."""
        unfinished = {task.id for task in self._store.unfinished()}
        for name, folder in _folders(self._settings.work_dir).items():
            if name not in unfinished and now - folder.stat().st_mtime > WORK_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _kept(self) -> list[_Kept]:
        """Folders of finished tasks, and of uploads that never became one."""
        outputs, uploads = _folders(self._settings.output_dir), _folders(self._settings.upload_dir)
        strays = {path for name, path in uploads.items() if UPLOAD_FOLDER.fullmatch(name)}
        found = {path: _Kept(path, path.stat().st_mtime, STRAY_S, _size(path)) for path in strays}
        for task in self._store.ended():  # oldest first: of an upload that was used twice, the last use counts
            upload = Path(task.input_path).parent
            if upload in strays:
                keep_s = self._settings.keep_uploads_days * DAY_S
                found[upload] = _Kept(upload, task.completed_at, keep_s, _size(upload))
            if task.id in outputs:
                useless = task.state is not TaskState.COMPLETED
                keep_s = AT_ONCE_S if useless else self._settings.keep_outputs_days * DAY_S
                output = outputs[task.id]
                found[output] = _Kept(output, task.completed_at, keep_s, _size(output))
        return list(found.values())


def _folders(parent: Path) -> dict[str, Path]:
    if not parent.is_dir():
        return {}
    return {path.name: path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
