"""The MCP surface: one Engine as tools. Knows nothing of transports, stores or torch.

Names, parameters and defaults of the tools are those of the public SeedVR2 document; `cancel_task` is an addition.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import anyio
from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces import views
from upres.surfaces.mcp_failures import ToolServer
from upres.surfaces.stdio import ONE_SHOT_CLIENT
from upres.tasks import ColorCorrection, Task, TaskSpec, TaskState
from upres.version import __version__

INSTRUCTIONS = """\
Upres restores and enlarges video and images on this machine's GPU.
1. submit_video_task or submit_image_task with an absolute file_path. It returns a task_id at once.
2. wait_for_task with that task_id. While the answer says timed_out, call it again: the task goes on meanwhile.
3. Once status is "completed", the restored file is at output_path. "failed" comes with error and error_code.
Tasks outlive this conversation; get_queue_status and get_queue_history find them again, cancel_task stops one.
The defaults suit most files. resolution is the target short side in pixels; list_available_models names the models.
"""

WAIT_SLICE_S = 0.5  # how long a thread may outlive a cancelled wait
LONGEST_SILENCE_S = 5  # between two progress notifications, whatever poll_interval says
CONCURRENT_WAITS = 64  # threads for waits alone, so that they never hold up the other tools

_ORDER = TaskSpec.model_fields  # gives the parameters below their limits and their defaults

FilePath = Annotated[str, Field(description="Absolute path of the file, on the machine that runs Upres.")]
Resolution = Annotated[int, _ORDER["resolution"], Field(description="Target short side in pixels.")]
BatchSize = Annotated[int, _ORDER["batch_size"], Field(description="Frames restored together: 1, 5, 9, 13 … (4n+1).")]
ModelName = Annotated[str | None, _ORDER["dit_model"], Field(
    description="A name from list_available_models; without one the default model runs.")]  # fmt: skip
Correction = Annotated[ColorCorrection, _ORDER["color_correction"], Field(
    description="How colours are matched to the input.")]  # fmt: skip
Seed = Annotated[int, _ORDER["seed"], Field(description="The same seed gives the same result.")]
TaskId = Annotated[str, Field(description="The task_id that submit_video_task or submit_image_task returned.")]
Timeout = Annotated[int, Field(ge=0, le=86_400, description="Longest wait in seconds; a server may answer earlier.")]
PollInterval = Annotated[int, Field(ge=1, le=3600, description="Seconds between two progress notifications.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="How many tasks, newest first.")]

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
SUBMITS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
RELEASES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CANCELS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


def build_server(engine: Engine, settings: Settings) -> MCPServer[Any]:
    """A server with every tool, ready for any transport."""
    its = _Tools(engine, settings)
    table: list[tuple[Callable[..., Any], str, ToolAnnotations]] = [
        (its.submit_video_task, "Restore a video", SUBMITS),
        (its.submit_image_task, "Restore an image", SUBMITS),
        (its.wait_for_task, "Wait for a task", READS),
        (its.get_task_status, "Task status", READS),
        (its.get_task_position, "Task position", READS),
        (its.cancel_task, "Cancel a task", CANCELS),
        (its.get_queue_status, "Queue status", READS),
        (its.get_queue_history, "Finished tasks", READS),
        (its.list_available_models, "Models", READS),
        (its.get_gpu_status, "GPU status", READS),
        (its.release_gpu_memory, "Release GPU memory", RELEASES),
    ]
    tools = [Tool.from_function(fn, title=title, description=inspect.getdoc(fn), annotations=hints)
             for fn, title, hints in table]  # fmt: skip
    return ToolServer("upres", title="Upres", version=__version__, instructions=INSTRUCTIONS, tools=tools)


class _Tools:
    """The tools. The synchronous ones are run in a thread by the SDK; docstrings are what a model reads."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._wait_cap_s = settings.wait_cap_s
        self._waiters = anyio.CapacityLimiter(CONCURRENT_WAITS)

    def submit_video_task(
        self,
        file_path: FilePath,
        resolution: Resolution,
        batch_size: BatchSize,
        dit_model: ModelName,
        color_correction: Correction,
        seed: Seed,
    ) -> Annotated[CallToolResult, views.Submitted]:
        """Start restoring and enlarging a video. Returns a task_id at once; then call wait_for_task with it.

        The result has the same frames, frame rate, sound and subtitles as the input.
        """
        spec = TaskSpec(input_path=file_path, kind="video", resolution=resolution, batch_size=batch_size,
                        dit_model=dit_model, color_correction=color_correction, seed=seed)  # fmt: skip
        return _reply(views.Submitted.of(self._engine.submit(spec)))

    def submit_image_task(
        self,
        file_path: FilePath,
        resolution: Resolution,
        dit_model: ModelName,
        color_correction: Correction,
        seed: Seed,
    ) -> Annotated[CallToolResult, views.Submitted]:
        """Start restoring and enlarging an image. Returns a task_id at once; then call wait_for_task with it."""
        spec = TaskSpec(input_path=file_path, kind="image", resolution=resolution, dit_model=dit_model,
                        color_correction=color_correction, seed=seed)  # fmt: skip
        return _reply(views.Submitted.of(self._engine.submit(spec)))

    async def wait_for_task(
        self, task_id: TaskId, timeout: Timeout = 600, poll_interval: PollInterval = 5, *, ctx: Context[Any, Any]
    ) -> Annotated[CallToolResult, Waited]:
        """Wait until a task is finished and return its status, with output_path once it is completed.

        If the answer says timed_out, the task still runs: call wait_for_task again. Stopping the wait stops no task.
        """
        limit_s = timeout if _is_one_shot(ctx) else min(timeout, self._wait_cap_s)
        tell = _Narrator(ctx, silence_s=min(poll_interval, LONGEST_SILENCE_S))
        started = anyio.current_time()
        task = await to_thread.run_sync(self._engine.status, task_id)
        while not task.state.finished:
            await tell(task)
            waited_s = anyio.current_time() - started
            if waited_s >= limit_s:
                return _reply(Waited.still_running(task, waited_s))
            look = partial(self._engine.wait, task_id, min(WAIT_SLICE_S, limit_s - waited_s), seen=task)
            task = await to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._waiters)
        return _reply(Waited.model_validate(views.TaskStatus.of(task).model_dump()))

    def get_task_status(self, task_id: TaskId) -> Annotated[CallToolResult, views.TaskStatus]:
        """The state, progress and result of a task, now. To wait for the result, wait_for_task is better."""
        return _reply(views.TaskStatus.of(self._engine.status(task_id)))

    def get_task_position(self, task_id: TaskId) -> Annotated[CallToolResult, views.Position]:
        """A task's place in the queue (1 is next, 0 runs or is finished) and its estimated wait in seconds."""
        return _reply(views.Position.of(self._engine.status(task_id)))

    def cancel_task(self, task_id: TaskId) -> Annotated[CallToolResult, views.TaskStatus]:
        """Stop a task for good: a queued one at once, a running one within seconds. Finished ones stay as they are."""
        return _reply(views.TaskStatus.of(self._engine.cancel(task_id)))

    def get_queue_status(self) -> Annotated[CallToolResult, views.Queue]:
        """The running task, the waiting ones and an estimate of the time until all are done, in seconds."""
        return _reply(views.Queue.of(self._engine.queue()))

    def get_queue_history(self, limit: Limit = 20) -> Annotated[CallToolResult, views.History]:
        """The finished tasks, newest first."""
        return _reply(views.History.of(self._engine.history(limit)))

    def list_available_models(self) -> Annotated[CallToolResult, views.Models]:
        """The installed models with what each is best for and why, the default one and the one that is loaded now."""
        return _reply(views.Models.of(self._engine.models()))

    def get_gpu_status(self) -> Annotated[CallToolResult, views.Gpu]:
        """The GPU, its memory in MB, and what the worker on it is doing."""
        return _reply(views.Gpu.of(self._engine.gpu()))

    def release_gpu_memory(self) -> Annotated[CallToolResult, views.Outcome]:
        """Free the GPU's memory by ending the idle worker. Refused while a task runs. The next task loads again."""
        return _reply(views.Outcome(status="success", message=self._engine.offload()))


class Waited(views.TaskStatus):
    """A finished task's status; of an unfinished one also how the wait ended."""

    timed_out: bool | None = None
    waited_seconds: float | None = None
    next_step: str | None = None

    @classmethod
    def still_running(cls, task: Task, waited_s: float) -> Waited:
        return cls(**views.TaskStatus.of(task).model_dump(), timed_out=True, waited_seconds=round(waited_s, 1),
                   next_step="Call wait_for_task again with the same task_id; the task goes on meanwhile.")  # fmt: skip


class _Narrator:
    """Tells a waiting client how its task fares: at once, at every change, and before it could think us dead."""

    def __init__(self, ctx: Context[Any, Any], silence_s: float) -> None:
        self._ctx = ctx
        self._silence_s = silence_s
        self._said = ""
        self._said_at = 0.0
        self._progress = -1.0

    async def __call__(self, task: Task) -> None:
        words, now = _in_words(task), anyio.current_time()
        if words == self._said and now - self._said_at < self._silence_s:
            return
        self._said, self._said_at = words, now
        self._progress = max(float(task.percent), self._progress + 1e-6)  # must grow, and a restart lowers the percent
        await self._ctx.report_progress(self._progress, 100, words)


def _in_words(task: Task) -> str:
    if task.state is not TaskState.PROCESSING:
        return f"{task.state}, position {task.queue_position}"
    now = task.progress
    return f"{now.phase}, frame {now.frames_done} of {now.frames_total}" if now.frames_total else now.phase


def _is_one_shot(ctx: Context[Any, Any]) -> bool:
    """Whether the caller waits for this one reply only, as a script does; hosts lose patience after a minute."""
    client = ctx.session.client_params
    return client is not None and client.client_info.name == ONE_SHOT_CLIENT


def _reply(view: BaseModel) -> CallToolResult:
    """Fields that do not apply (None by default) are left out."""
    data = view.model_dump(mode="json", exclude_defaults=True)
    text = TextContent(type="text", text=json.dumps(data, ensure_ascii=False))
    return CallToolResult(content=[text], structured_content=data)
