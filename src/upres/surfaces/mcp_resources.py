"""What an MCP client can read and complete: tasks, their results and logs, names. Knows no tool."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.resources import FunctionResource
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from upres.engine import Engine
from upres.forecast_values import AUTO
from upres.surfaces import views
from upres.surfaces.mcp_replies import status_of

LARGEST_READ_BYTES = 600_000  # base64 makes 800 kB of it; hosts refuse a message over 1 MB
MOST_COMPLETIONS = 100  # the protocol's own limit
JSON, JPEG = "application/json", "image/jpeg"


class Shelf:
    """The resources of one engine. Raises UpresErrors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def queue(self) -> str:
        return _text(views.Queue.of(self._engine.queue()).model_dump(mode="json"))

    def models(self) -> str:
        return _text(views.Models.of(self._engine.models()).model_dump(mode="json"))

    def task(self, task_id: str) -> str:
        return _text(status_of(self._engine.status(task_id)).model_dump(mode="json", exclude_none=True))

    def sheet(self, task_id: str) -> bytes:
        return self._engine.sheet(task_id)

    def before(self, task_id: str) -> bytes:
        return self._engine.compare(task_id).before

    def after(self, task_id: str) -> bytes:
        return self._engine.compare(task_id).after

    def output(self, task_id: str) -> str:
        """Where the file is; the pictures of it are resources of their own. Videos never go through the protocol."""
        path = self._engine.output(task_id)
        media_type, _ = mimetypes.guess_type(path.name)
        facts = {"path": str(path), "mime_type": media_type, "bytes": path.stat().st_size,
                 "contact_sheet": f"upres://tasks/{task_id}/sheet"}  # fmt: skip
        return _text(facts)

    def contents(self, uri: str) -> ReadResourceContents | None:
        """An image that is small enough, as it is; None for all that the templates answer."""
        task_id = uri.removeprefix("upres://tasks/").removesuffix("/output")
        if uri != f"upres://tasks/{task_id}/output" or "/" in task_id:
            return None
        path: Path = self._engine.output(task_id)
        media_type, _ = mimetypes.guess_type(path.name)
        if media_type is None or not media_type.startswith("image/") or path.stat().st_size > LARGEST_READ_BYTES:
            return None
        return ReadResourceContents(content=path.read_bytes(), mime_type=media_type)


def add_resources(server: MCPServer[Any], shelf: Shelf) -> None:
    fixed: list[tuple[str, Callable[..., Any], str, str]] = [
        ("upres://queue", shelf.queue, "Queue", "The running task and the waiting ones"),
        ("upres://models", shelf.models, "Models", "The installed models"),
    ]
    for uri, fn, title, about in fixed:
        server.add_resource(FunctionResource.from_function(
            fn, uri=uri, name=title.lower(), title=title, description=about, mime_type=JSON))  # fmt: skip
    of_tasks: list[tuple[str, Callable[..., Any], str, str, str]] = [
        ("", shelf.task, "Task", "A task's state, progress and result", JSON),
        ("/output", shelf.output, "Result", "The restored file: a small image itself, else where it is", JSON),
        ("/sheet", shelf.sheet, "Contact sheet", "The result at a glance", JPEG),
        ("/before", shelf.before, "Before", "A frame of the input, enlarged", JPEG),
        ("/after", shelf.after, "After", "The same frame of the result", JPEG),
    ]
    for path, fn, title, about, media_type in of_tasks:
        server.resource(f"upres://tasks/{{task_id}}{path}", name=title.lower().replace(" ", "_"), title=title,
                        description=about, mime_type=media_type)(fn)  # fmt: skip


def add_completions(server: MCPServer[Any], engine: Engine) -> None:
    known: dict[str, Callable[[], list[str]]] = {
        "dit_model": partial(_model_names, engine), "task_id": partial(_task_ids, engine),
    }  # fmt: skip

    async def complete(
        ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, _: CompletionContext | None
    ) -> Completion | None:
        if argument.name not in known:
            return None
        names = await to_thread.run_sync(known[argument.name])
        found = [name for name in names if argument.value.lower() in name.lower()]
        return Completion(values=found[:MOST_COMPLETIONS], total=len(found), has_more=len(found) > MOST_COMPLETIONS)

    register: Callable[[object], object] = cast(Any, server).completion()  # the SDK leaves it untyped
    register(complete)


def _model_names(engine: Engine) -> list[str]:
    return [AUTO, *(model.name for model in engine.models().models)]


def _task_ids(engine: Engine) -> list[str]:
    queue = engine.queue()
    return [task.id for task in (*queue.processing, *queue.pending, *engine.history(MOST_COMPLETIONS))]


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
