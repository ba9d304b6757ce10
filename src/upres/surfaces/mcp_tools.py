"""The documented MCP tools and cancel_task. Docstrings are what a model reads; the logic is the engine's."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, ContentBlock

from upres.engine import Engine
from upres.errors import UpresError
from upres.settings import Settings
from upres.surfaces import views
from upres.surfaces.mcp_parameters import (
    BatchSize,
    Correction,
    FilePath,
    Limit,
    ModelName,
    PollInterval,
    Resolution,
    Seed,
    TaskId,
    Timeout,
)
from upres.surfaces.mcp_replies import Status, output_link, picture, reply, status_of
from upres.surfaces.mcp_waiting import Waited, Waiter, client_name
from upres.surfaces.stdio import ONE_SHOT_CLIENT
from upres.surfaces.turns import in_turn
from upres.tasks import Task, TaskSpec

STOPPING = "It stops within seconds; wait_for_task tells when it has."

log = logging.getLogger(__name__)


class Tools:
    """The synchronous ones are run in a thread by the SDK."""

    def __init__(self, engine: Engine, settings: Settings, waiter: Waiter) -> None:
        self._engine = engine
        self._images = settings.mcp_images
        self._waiter = waiter

    async def submit_video_task(
        self,
        file_path: FilePath,
        resolution: Resolution,
        batch_size: BatchSize,
        dit_model: ModelName,
        color_correction: Correction,
        seed: Seed,
    ) -> Annotated[CallToolResult, views.Submitted]:
        """Restore and enlarge a video. Returns a task_id at once; then call wait_for_task with it.

        The result is a new file with the frames, frame rate, sound and subtitles of the input, which stays as it is.
        A folder of images of one size is a video too: its frames in the order of their names, 24 a second.
        Several files: call it once for each, they queue up. Before: plan_task says how long, preview_task shows how.
        """
        spec = TaskSpec(input_path=file_path, kind="video", resolution=resolution, batch_size=batch_size,
                        dit_model=dit_model, color_correction=color_correction, seed=seed)  # fmt: skip
        return reply(views.Submitted.of(await in_turn(partial(self._engine.submit, spec))))

    async def submit_image_task(
        self,
        file_path: FilePath,
        resolution: Resolution,
        dit_model: ModelName,
        color_correction: Correction,
        seed: Seed,
    ) -> Annotated[CallToolResult, views.Submitted]:
        """Restore and enlarge an image. Returns a task_id at once; then call wait_for_task with it.

        The result is a new PNG that keeps transparency; the input stays as it is.
        """
        spec = TaskSpec(input_path=file_path, kind="image", resolution=resolution, dit_model=dit_model,
                        color_correction=color_correction, seed=seed)  # fmt: skip
        return reply(views.Submitted.of(await in_turn(partial(self._engine.submit, spec))))

    async def wait_for_task(
        self, task_id: TaskId, timeout: Timeout = 600, poll_interval: PollInterval = 5, *, ctx: Context[Any, Any]
    ) -> Annotated[CallToolResult, Waited]:
        """Wait for a task to end; returns its status, with output_path if it is completed, error if it failed.

        A completed one comes with a small picture of the result, of a video with several of its moments: show it.
        timed_out in the answer: the task goes on (doing says with what); call wait_for_task again. Only cancel_task
        stops a task.
        """
        task, waited_s = await self._waiter.wait(task_id, self._waiter.limit_s(ctx, timeout), ctx, poll_interval)
        if not task.state.finished:
            return reply(Waited.still_running(task, timeout, waited_s))
        return reply(Waited.finished(task), *await self._result(task, ctx))

    def get_task_status(self, task_id: TaskId) -> Annotated[CallToolResult, Status]:
        """What a task does now, how far it is, its result. To wait for the result, wait_for_task is better."""
        task = self._engine.status(task_id)
        return reply(status_of(task), *output_link(task))

    def get_task_position(self, task_id: TaskId) -> Annotated[CallToolResult, views.Position]:
        """A task's place in the queue (1 is next, 0 runs or is finished) and its estimated wait in seconds."""
        return reply(views.Position.of(self._engine.status(task_id)))

    def cancel_task(self, task_id: TaskId) -> Annotated[CallToolResult, Status]:
        """Stop a task for good: a waiting or loading one at once, a running one within seconds.

        If the answer still says processing, wait_for_task tells when it has stopped. get_queue_status lists the ids of
        what runs and waits, with their files. Finished tasks stay as they are.
        """
        return reply(status_of(self._engine.cancel(task_id), STOPPING))

    def get_queue_status(self) -> Annotated[CallToolResult, views.Queue]:
        """The running task and the waiting ones with their files, and the estimated seconds until all are done."""
        return reply(views.Queue.of(self._engine.queue()))

    def get_queue_history(self, limit: Limit = 20) -> Annotated[CallToolResult, views.History]:
        """The finished tasks, newest first, each with the path of its file; what preview_task made says preview."""
        return reply(views.History.of(self._engine.history(limit), views.zoned))

    def list_available_models(self) -> Annotated[CallToolResult, views.Models]:
        """The installed models with what each is best for and why, the default one and the one that is loaded now.

        Only these can be used; not_installed has the others, with their size, the memory they take and how the user
        gets one.
        """
        return reply(views.Models.of(self._engine.models()))

    def get_gpu_status(self) -> Annotated[CallToolResult, views.Gpu]:
        """The GPU, its memory in MB, the model on it and the task it runs."""
        return reply(views.Gpu.of(self._engine.gpu()))

    def release_gpu_memory(self) -> Annotated[CallToolResult, views.Outcome]:
        """Free the GPU's memory (the host's, without a GPU) by ending the idle worker. Refused, with its id, while a
        task runs.

        The next task loads its model again.
        """
        return reply(views.Outcome(status="success", message=self._engine.offload()))

    async def _result(self, task: Task, ctx: Context[Any, Any]) -> list[ContentBlock]:
        """The file as a link and, for who can see, a contact sheet of it."""
        shown: list[ContentBlock] = [*output_link(task)]
        if shown and self._images and client_name(ctx) != ONE_SHOT_CLIENT:
            try:
                shown.append(picture(await self._waiter.apart(partial(self._engine.sheet, task.id))))
            except UpresError as error:  # the result is there all the same
                log.warning("no contact sheet of task %s: %s", task.id, error)
        return shown
