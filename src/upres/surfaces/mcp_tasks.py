"""The tasks extension of MCP (io.modelcontextprotocol/tasks, protocol 2026-07-28) over any source of tasks.

A client that declares it gets a handle from the source's tools and polls it itself. Every other client meets the tools
as they are. Knows neither the engine nor transports; mcp_submits.py is the source that is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, decode_header_value
from mcp.types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    InputRequest,
    RequestParams,
)
from pydantic import BaseModel, Field

from upres.errors import TaskNotFound
from upres.surfaces.views import zoned

IDENTIFIER = "io.modelcontextprotocol/tasks"
VERSIONS = frozenset({"2026-07-28"})
POLL_MS = 2000
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task as the extension shows it. Work that went wrong is "completed", with a result that says isError; "failed"
    is for errors of the protocol.
    """

    id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    message: str
    created_at: float  # seconds since the epoch, as the next one
    changed_at: float
    result: CallToolResult | None = None  # of completed work
    error: ErrorData | None = None  # of failed work
    questions: Mapping[str, InputRequest] = field(default_factory=dict)  # still open, by the keys of their answers


class TaskSource(Protocol):
    """Every method raises TaskNotFound."""

    @property
    def tools(self) -> Collection[str]:
        """Names of those whose answers hold a `task_id` to poll."""

    async def find(self, task_id: str) -> Work: ...

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> None:
        """Keys that no open question has are ignored."""

    async def cancel(self, task_id: str) -> None:
        """Finished work stays as it is."""


class TaskParams(RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


class TasksExtension(Extension):
    identifier = IDENTIFIER

    def __init__(self, source: TaskSource) -> None:
        self._source = source

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
        if params.name not in self._source.tools or not _declared(ctx) or not isinstance(answer, CallToolResult):
            return answer
        if answer.is_error or answer.structured_content is None:
            return answer
        return {"resultType": "task", **_handle(await _known(self._source.find(answer.structured_content["task_id"])))}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        _admit(ctx, params)
        work = await _known(self._source.find(params.task_id))
        shown: dict[str, Any] = {"resultType": "complete", **_handle(work)}
        if work.result is not None:
            shown["result"] = _wire(work.result)
        if work.error is not None:
            shown["error"] = _wire(work.error)
        if work.questions:
            shown["inputRequests"] = {key: _wire(question) for key, question in work.questions.items()}
        return shown

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> HandlerResult:
        _admit(ctx, params)
        await _known(self._source.answer(params.task_id, params.input_responses))
        return {"resultType": "complete"}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        _admit(ctx, params)
        await _known(self._source.cancel(params.task_id))
        return {"resultType": "complete"}


def _declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in VERSIONS and extensions is not None and IDENTIFIER in extensions


def _admit(ctx: ServerRequestContext[Any, Any], params: TaskParams) -> None:
    """What the SDK checks of its own methods: that the header by which HTTP intermediaries route names the task (other
    transports have no such headers), and what the client declared.
    """
    headers = ctx.request.headers if ctx.request is not None else {}
    if MCP_METHOD_HEADER in headers and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(code=HEADER_MISMATCH, message=f"{MCP_NAME_HEADER} header does not match 'taskId' of the request")
    require_client_extension(ctx, IDENTIFIER)


async def _known(asked: Awaitable[Answer]) -> Answer:
    try:
        return await asked
    except TaskNotFound as error:
        raise MCPError(code=INVALID_PARAMS, message=f"{error.code}: {error}") from error


def _handle(work: Work) -> dict[str, Any]:
    return {
        "taskId": work.id, "status": work.status, "statusMessage": work.message, "createdAt": zoned(work.created_at),
        "lastUpdatedAt": zoned(work.changed_at), "ttlMs": None, "pollIntervalMs": POLL_MS,
    }  # fmt: skip


def _wire(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)
