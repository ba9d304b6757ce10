"""The engine's tasks as the tasks extension shows them: the result is what wait_for_task would have answered.

Knows nothing of the extension's wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp.types import CallToolResult

from upres.engine import Engine
from upres.surfaces import views
from upres.surfaces.mcp_replies import in_words, output_link, reply, status_of
from upres.surfaces.mcp_tasks import Work
from upres.surfaces.mcp_waiting import Waiter
from upres.tasks import Task, TaskState


class Finished(views.TaskStatus):
    """A finished task's status as the answer of the tool that submitted it: what Submitted requires is there too."""

    task_id: str


class Submits:
    tools = ("submit_video_task", "submit_image_task")

    def __init__(self, engine: Engine, waiter: Waiter) -> None:
        self._engine = engine
        self._waiter = waiter

    async def find(self, task_id: str) -> Work:
        return _work(await self._waiter.apart(partial(self._engine.status, task_id)))

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> None:
        """A restoration asks nothing."""
        await self.find(task_id)

    async def cancel(self, task_id: str) -> None:
        await self.find(task_id)
        await self._waiter.apart(partial(self._engine.cancel, task_id))


def _work(task: Task) -> Work:
    changed = task.completed_at if task.completed_at is not None else (
        task.started_at if task.started_at is not None else task.created_at)  # fmt: skip
    show = partial(Work, id=task.id, message=in_words(task), created_at=task.created_at, changed_at=changed)
    if not task.state.finished:
        return show(status="working")
    if task.state is TaskState.CANCELLED:
        return show(status="cancelled")
    return show(status="completed", result=_result(task))


def _result(task: Task) -> CallToolResult:
    status = status_of(task)
    view = Finished(**{**status.model_dump(), "queue_position": 0, "estimated_wait_seconds": 0}, task_id=task.id)
    answer = reply(view, *output_link(task))
    return answer.model_copy(update={"is_error": task.state is TaskState.FAILED})
