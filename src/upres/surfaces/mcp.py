"""The MCP surface: one Engine as a server for any transport. Knows nothing of transports, stores or torch.

Names, parameters and defaults of ten tools are those of the public SeedVR2 document; the others are additions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mcp.server import MCPServer
from mcp.server.apps import Apps
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations

from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces.mcp_app import COMPARE_URI, compare_html
from upres.surfaces.mcp_failures import ToolServer
from upres.surfaces.mcp_looking import LookingTools
from upres.surfaces.mcp_parameters import CANCELS, READS, RELEASES, SUBMITS
from upres.surfaces.mcp_prompts import add_prompts
from upres.surfaces.mcp_resources import Shelf, add_completions, add_resources
from upres.surfaces.mcp_submits import Submits
from upres.surfaces.mcp_tasks import TasksExtension, TaskSource
from upres.surfaces.mcp_tools import Tools
from upres.surfaces.mcp_waiting import Waiter
from upres.version import __version__

INSTRUCTIONS = """\
Upres restores and enlarges video and images on this machine: its GPU, or the CPU where there is none.
1. submit_video_task or submit_image_task with an absolute file_path. It returns a task_id at once.
2. wait_for_task with that task_id. While the answer says timed_out, call it again: the task goes on meanwhile.
3. Once status is "completed", the restored file is at output_path. "failed" comes with error and error_code.
Before: plan_task says how long it takes, how large it gets and which model suits; preview_task shows a second of it.
After, or while it runs: compare_task shows before and after. Show these pictures to the user.
Tasks outlive this conversation; get_queue_status and get_queue_history find them again, cancel_task stops one.
Of a folder of separate files submit each; a folder as file_path is read as the frames of one video.
The defaults suit most files. resolution is the target short side in pixels (4K is 2160).
"""
READ_ONLY_INSTRUCTIONS = """\
Upres restores and enlarges video and images. This server only looks: it submits, cancels and releases nothing.
plan_task says what restoring a file would take; get_queue_status and get_queue_history list tasks, compare_task shows
before and after of one.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    fn: Callable[..., Any]
    title: str
    hints: ToolAnnotations
    core: bool = False  # part of the shortest way from a file to a result
    app: str | None = None  # the page in which hosts that can may show the answer


def build_server(
    engine: Engine, settings: Settings, more: Sequence[Tool] = (), source: TaskSource | None = None
) -> MCPServer[Any]:
    """A server with the tools that the settings allow, and `more` of them, ready for any transport.

    `source` is whose tasks the tasks extension shows; left out: the engine's.
    """
    waiter = Waiter(engine, settings)
    entries = [entry for entry in _entries(engine, settings, waiter)
               if (entry.core or settings.mcp_tools == "all")
               and (entry.hints.read_only_hint or not settings.mcp_read_only)]  # fmt: skip
    if source is None:
        source = Submits(engine, waiter)
    apps = Apps()
    apps.add_html_resource(COMPARE_URI, compare_html(), name="compare", title="Before and after", prefers_border=False)
    shelf = Shelf(engine)
    server = ToolServer(
        "upres", title="Upres", version=__version__, tools=[*map(_tool, entries), *more],
        instructions=READ_ONLY_INSTRUCTIONS if settings.mcp_read_only else INSTRUCTIONS,
        read=shelf.contents, extensions=[apps, TasksExtension(source)],
    )  # fmt: skip
    add_resources(server, shelf)
    add_completions(server, engine)
    if not settings.mcp_read_only:
        add_prompts(server)
    return server


def _entries(engine: Engine, settings: Settings, waiter: Waiter) -> list[Entry]:
    """In the order in which a model shall read them."""
    work, look = Tools(engine, settings, waiter), LookingTools(engine, settings, waiter)
    return [
        Entry(work.submit_video_task, "Restore a video", SUBMITS, core=True),
        Entry(work.submit_image_task, "Restore an image", SUBMITS, core=True),
        Entry(work.wait_for_task, "Wait for a task", READS, core=True),
        Entry(look.plan_task, "Plan: time, size, model", READS, core=True),
        Entry(look.preview_task, "Preview before and after", SUBMITS, core=True, app=COMPARE_URI),
        Entry(look.compare_task, "Compare before and after", READS, core=True, app=COMPARE_URI),
        Entry(look.probe_media, "Look at a file", READS),
        Entry(work.get_task_status, "Task status", READS, core=True),
        Entry(work.get_task_position, "Task position", READS),
        Entry(work.cancel_task, "Cancel a task", CANCELS, core=True),
        Entry(work.get_queue_status, "Queue status", READS, core=True),
        Entry(work.get_queue_history, "Finished tasks", READS),
        Entry(work.list_available_models, "Models", READS),
        Entry(work.get_gpu_status, "GPU status", READS),
        Entry(work.release_gpu_memory, "Release GPU memory", RELEASES),
    ]


def _tool(entry: Entry) -> Tool:
    meta = {"ui": {"resourceUri": entry.app}} if entry.app is not None else None
    return Tool.from_function(entry.fn, title=entry.title, description=inspect.getdoc(entry.fn),
                              annotations=entry.hints, meta=meta)  # fmt: skip
