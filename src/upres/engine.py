"""The facade every surface calls. Synchronous and thread-safe; knows nothing of torch, HTTP or MCP."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from upres.tasks import GpuStatus, ModelList, QueueStatus, Task, TaskSpec


class Engine(Protocol):
    """The verbs of Upres. `LocalEngine` works on this machine's store, `remote.RemoteEngine` on another server."""

    def submit(self, spec: TaskSpec, *, key: str | None = None) -> Task:
        """Checks the order, stores it durably and returns at once. The same `key` returns the same task.

        Raises FileMissing, InvalidInput, UnsupportedMedia, InvalidParameter, ModelNotFound, DiskFull, StoreUnusable.
        """

    def status(self, task_id: str) -> Task:
        """Raises TaskNotFound."""

    def wait(self, task_id: str, timeout_s: float | None = None, *, seen: Task | None = None) -> Task:
        """Blocks until the task is finished or `timeout_s` passed; with `seen`, also until it differs from `seen`.

        Returns the task as it then is, finished or not. Raises TaskNotFound.
        """

    def cancel(self, task_id: str) -> Task:
        """A queued task is cancelled at once, a running one within a window. Finished ones stay as they are."""

    def output(self, task_id: str) -> Path:
        """The result's file. Raises TaskNotFound, TaskNotCompleted, OutputMissing."""

    def queue(self) -> QueueStatus: ...

    def history(self, limit: int = 20) -> list[Task]:
        """Finished tasks, newest first."""

    def models(self) -> ModelList: ...

    def switch(self, model: str) -> str:
        """Loads `model` into the worker; returns its name once resident. Raises ModelNotFound, WorkerFailed."""

    def offload(self) -> str:
        """Ends every idle worker, so that its device memory is free; returns what was done. Raises GpuBusy."""

    def gpu(self) -> GpuStatus: ...
