"""The tasks extension of MCP (io.modelcontextprotocol/tasks, protocol 2026-07-28) over the engine's tasks.

A client that declares it gets a handle from the submit tools and polls it itself; the result is what wait_for_task
would have answered. Every other client meets the tools as they are. Knows nothing of transports.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolRequestParams, CallToolResult, RequestParams
from pydantic import Field

from upres.engine import Engine
from upres.errors import TaskNotFound
from upres.surfaces import views
from upres.surfaces.mcp_replies import in_words, output_link, reply, status_of
from upres.surfaces.mcp_waiting import Waiter
from upres.tasks import Task, TaskState

VERSIONS = frozenset({"2026-07-28"})
SUBMITS = ("submit_video_task", "submit_image_task")
POLL_MS = 2000


class TaskParams(RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


class Finished(views.TaskStatus):
    """A finished task's status as the answer of the tool that submitted it: what Submitted requires is there too."""

    task_id: str


class TasksExtension(Extension):
    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, engine: Engine, waiter: Waiter) -> None:
        self._engine = engine
        self._waiter = waiter

    def methods(self) -> Sequence[MethodBinding]:
        return (
            MethodBinding("tasks/get", TaskParams, self._get, VERSIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, VERSIONS),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        answer = await call_next(ctx)
        if params.name not in SUBMITS or not self._declared(ctx) or not isinstance(answer, CallToolResult):
            return answer
        if answer.is_error or answer.structured_content is None:
            return answer
        task = await self._task(answer.structured_content["task_id"])
        return {"resultType": "task", **_handle(task)}

    def _declared(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        capabilities = ctx.session.client_capabilities
        extensions = capabilities.extensions if capabilities is not None else None
        return ctx.protocol_version in VERSIONS and extensions is not None and self.identifier in extensions

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        task = await self._task(params.task_id)
        answer: dict[str, Any] = {"resultType": "complete", **_handle(task)}
        if task.state in (TaskState.COMPLETED, TaskState.FAILED):
            answer["result"] = _result(task).model_dump(mode="json", by_alias=True, exclude_none=True)
        return answer

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> HandlerResult:
        """Our tasks ask nothing, so there is nothing to answer; stray answers are ignored as the extension says."""
        require_client_extension(ctx, self.identifier)
        await self._task(params.task_id)
        return {"resultType": "complete"}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        await self._task(params.task_id)
        await self._waiter.apart(partial(self._engine.cancel, params.task_id))
        return {"resultType": "complete"}

    async def _task(self, task_id: str) -> Task:
        try:
            return await self._waiter.apart(partial(self._engine.status, task_id))
        except TaskNotFound as error:
            raise MCPError(code=INVALID_PARAMS, message=f"{error.code}: {error}") from error


def _handle(task: Task) -> dict[str, Any]:
    """A failure of the work is an answer of the tool (isError); the extension's "failed" is for protocol errors."""
    status = {TaskState.COMPLETED: "completed", TaskState.FAILED: "completed", TaskState.CANCELLED: "cancelled"}
    changed = task.completed_at if task.completed_at is not None else (
        task.started_at if task.started_at is not None else task.created_at)  # fmt: skip
    return {
        "taskId": task.id, "status": status.get(task.state, "working"), "statusMessage": in_words(task),
        "createdAt": views.zoned(task.created_at), "lastUpdatedAt": views.zoned(changed), "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    }  # fmt: skip


def _result(task: Task) -> CallToolResult:
    status = status_of(task)
    view = Finished(**{**status.model_dump(), "queue_position": 0, "estimated_wait_seconds": 0}, task_id=task.id)
    answer = reply(view, *output_link(task))
    return answer.model_copy(update={"is_error": task.state is TaskState.FAILED})
