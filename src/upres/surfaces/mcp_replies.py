"""Answers as MCP wants them: data twice (structured and as text), then pictures and links. Knows nothing of tools.

Times carry their offset here, which the documented REST form of the same fields does not have.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from pathlib import Path

from mcp.types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel

from upres.surfaces import views
from upres.tasks import Task, TaskState


class Status(views.TaskStatus):
    """`doing` and `next_step` only of an unfinished task."""

    doing: str | None = None
    next_step: str | None = None


def status_of(task: Task, next_step: str | None = None) -> Status:
    view = Status.of(task, views.zoned)
    if not task.state.finished:
        view.doing, view.next_step = in_words(task), next_step
    return view


def in_words(task: Task) -> str:
    """What is going on."""
    if task.state is not TaskState.PROCESSING:
        return f"{task.state}, position {task.queue_position}" if task.queue_position is not None else task.state
    now = task.progress
    frames = f", frame {now.frames_done} of {now.frames_total}" if now.frames_total else ""
    if task.cancel_requested:
        return f"stopping, as was asked for, after the frames that are being restored{frames}"
    return f"loading the model {task.model}" if now.phase == "loading" else f"{now.phase}{frames}"


def reply(view: BaseModel, *extras: ContentBlock) -> CallToolResult:
    """Fields that do not apply (None by default) are left out."""
    data = view.model_dump(mode="json", exclude_defaults=True)
    text = TextContent(type="text", text=json.dumps(data, ensure_ascii=False))
    return CallToolResult(content=[text, *extras], structured_content=data)


def caption(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def picture(jpeg: bytes) -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg")


def output_link(task: Task) -> list[ResourceLink]:
    """Where a completed task's file can be read from; nothing of any other task or of a file that is gone."""
    if task.result is None or not (path := Path(task.result.output_path)).is_file():
        return []
    media_type, _ = mimetypes.guess_type(path.name)
    link = ResourceLink(
        type="resource_link", uri=output_uri(task.id), name=path.name, title="The restored file",
        description=f"The file is {path}", mime_type=media_type, size=path.stat().st_size,
    )  # fmt: skip
    return [link]


def output_uri(task_id: str) -> str:
    return f"upres://tasks/{task_id}/output"
