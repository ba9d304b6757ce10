"""The suite's tools whose work outlives the call, and their tasks, which the product's tasks extension shows.

Nothing runs: how far a task is, the clock says. Knows neither server nor engine.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mcp.server.mcpserver.server import require_client_extension
from mcp.types import (
    INTERNAL_ERROR,
    CallToolResult,
    ElicitRequest,
    ErrorData,
    InputRequiredResult,
    TextContent,
)

from tests.conformance.asking import Ctx, answers_of, asks, question, said
from upres.errors import TaskNotFound
from upres.surfaces.mcp_tasks import IDENTIFIER, Work

FAILS_AFTER_S = 1.0


@dataclass
class Task:
    lasts_s: float
    says: str
    fails: bool = False
    breaks: bool = False
    questions: dict[str, ElicitRequest] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created_at: float = field(default_factory=time.time)
    changed_at: float = 0
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return self.cancelled or not (self.questions or time.time() < self.created_at + self.lasts_s)

    def work(self) -> Work:
        show = partial(Work, id=self.id, message=self.says, created_at=self.created_at,
                       changed_at=max(self.created_at, self.changed_at))  # fmt: skip
        if self.cancelled:
            return show(status="cancelled")
        if self.questions:
            return show(status="input_required", questions=self.questions)
        if not self.over:
            return show(status="working")
        if self.breaks:
            return show(status="failed", error=ErrorData(code=INTERNAL_ERROR, message=self.says))
        return show(status="completed", result=_text(self.says, self.fails))


class LongTools:
    """A source of tasks for the extension, and the tools that make them."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        made = (self.slow_compute, self.failing_job, self.protocol_error_job, self.confirm_delete, self.multi_input,
                self.test_tool_with_task)  # fmt: skip
        self.tools = [fn.__name__ for fn in made]
        self.functions: tuple[Callable[..., Any], ...] = (*made, self.greet)

    async def find(self, task_id: str) -> Work:
        return self._task(task_id).work()

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> None:
        task = self._task(task_id)
        for key in answers.keys() & task.questions.keys():
            del task.questions[key]
            task.changed_at = time.time()

    async def cancel(self, task_id: str) -> None:
        task = self._task(task_id)
        if not task.over:
            task.cancelled, task.changed_at = True, time.time()

    def _task(self, task_id: str) -> Task:
        if task_id not in self._tasks:
            raise TaskNotFound(f"there is no task {task_id}", remedy="call a tool that makes one")
        return self._tasks[task_id]

    def _made(self, task: Task) -> CallToolResult:
        self._tasks[task.id] = task
        return CallToolResult(content=_text(task.id).content, structured_content={"task_id": task.id})

    def greet(self, name: str) -> str:
        """Answers at once."""
        return f"Hello, {name}!"

    def slow_compute(self, seconds: float, label: str = "") -> CallToolResult:
        """Takes as long as it is told."""
        return self._made(Task(seconds, f"computed {label}"))

    def failing_job(self, ctx: Ctx) -> CallToolResult:
        """Fails, and only for a client that can poll it."""
        require_client_extension(ctx.request_context, IDENTIFIER)
        return self._made(Task(FAILS_AFTER_S, "This job fails on purpose", fails=True))

    def protocol_error_job(self) -> CallToolResult:
        """Ends with an error of the protocol."""
        return self._made(Task(0, "This job breaks on purpose", breaks=True))

    def confirm_delete(self, filename: str) -> CallToolResult:
        """Asks before it goes on."""
        asked = {"confirm": question(f"Delete {filename}?", "confirm", "boolean")}
        return self._made(Task(0, f"deleted {filename}", questions=asked))

    def multi_input(self) -> CallToolResult:
        """Asks two things at once."""
        asked = {name: question(f"What is your {name} name?") for name in ("first", "last")}
        return self._made(Task(0, "thank you", questions=asked))

    def test_tool_with_task(self, ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Asks in its answer, and goes on as a task."""
        require_client_extension(ctx.request_context, IDENTIFIER)
        answer = answers_of(ctx).get("user_name")
        if answer is None:
            return asks("with-task", user_name=question("What is your name?"))
        return self._made(Task(0, f"Hello, {said(answer, 'name')}!"))


def _text(words: str, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=words)], is_error=is_error)
