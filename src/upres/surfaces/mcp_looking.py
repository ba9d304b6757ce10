"""MCP tools to look before and after: probe, plan, preview, compare. Knows nothing of how pictures are made."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from upres.engine import Engine
from upres.errors import TaskNotCompleted
from upres.forecast_values import Forecast, MediaFacts
from upres.pictures.values import Comparison, Excerpt
from upres.settings import Settings
from upres.surfaces import views
from upres.surfaces.mcp_parameters import (
    Against,
    BatchSize,
    Correction,
    DetailAt,
    FilePath,
    ModelName,
    Moment,
    Region,
    Resolution,
    Seconds,
    Seed,
    Start,
    TaskId,
)
from upres.surfaces.mcp_replies import caption, in_words, picture, reply
from upres.surfaces.mcp_waiting import Waiter
from upres.surfaces.turns import in_turn
from upres.tasks import Task, TaskSpec, TaskState

PREVIEW_PATIENCE_S = 600
STILL_RUNS = "The task still runs; these pictures are of what is restored so far. wait_for_task waits for the rest."


class Planned(Forecast):
    """Seconds and bytes are estimates; `fits` compares a model's rough need with the device's memory."""

    next_step: str


class Looked(BaseModel):
    """What the two pictures show. `detail` is left, top, right, bottom of the part shown pixel for pixel.

    Moments count from the start of the file that the user named, also in a preview of a piece of it: compare_task can
    show those from `from_seconds` (0 if absent) on, for `duration_seconds`. `ready_seconds`: the task still runs and is
    restored up to there.
    """

    task_id: str
    status: str
    model: str
    at_seconds: Annotated[float | None, Field(description="Seconds from the start of the file the user named.")] = None
    from_seconds: float | None = None
    duration_seconds: float | None = None
    ready_seconds: float | None = None
    output_resolution: str | None = None
    detail: list[int] | None = None
    pictures: list[str] | None = None
    output_path: str | None = None
    error: str | None = None
    error_code: str | None = None
    timed_out: bool | None = None
    progress: int | None = None
    doing: str | None = None
    estimated_wait_seconds: int | None = None
    next_step: str | None = None


class LookingTools:
    """Nothing here commits to a whole file: previews are tasks of a second or less that go before all others."""

    def __init__(self, engine: Engine, settings: Settings, waiter: Waiter) -> None:
        self._engine = engine
        self._images = settings.mcp_images
        self._waiter = waiter

    async def probe_media(self, file_path: FilePath) -> Annotated[CallToolResult, MediaFacts]:
        """What a video or image file is: size, frames, rate, codec, sound, and what a restored file will not carry.

        A folder of images counts as a video of these frames; to restore them one by one, submit each as an image.
        """
        return reply(await in_turn(partial(self._engine.probe, file_path)))

    async def plan_task(
        self, file_path: FilePath, resolution: Resolution, batch_size: BatchSize, dit_model: ModelName = "auto"
    ) -> Annotated[CallToolResult, Planned]:
        """How long, how large, with which model: a dry run of a submit tool that starts nothing.

        Answers "how long would this take", "will it fit" and "which model". With dit_model auto (the default) it
        chooses the best installed model and says why; options lists the others, not_installed what those that can be
        had would need. Where the time's basis is unmeasured,
        tell the user the range, not the likely figure.
        """
        spec = TaskSpec(input_path=file_path, resolution=resolution, batch_size=batch_size, dit_model=dit_model)
        plan = await in_turn(partial(self._engine.plan, spec))
        step = (f"preview_task shows a piece of it; submit_{plan.media.kind}_task with dit_model={plan.model} "
                "restores all of it.")  # fmt: skip
        return reply(Planned(**plan.model_dump(), next_step=step))

    async def preview_task(
        self,
        file_path: FilePath,
        resolution: Resolution,
        batch_size: BatchSize,
        dit_model: ModelName,
        color_correction: Correction,
        seed: Seed,
        start: Start,
        seconds: Seconds,
        region: Region,
        *,
        ctx: Context[Any, Any],
    ) -> Annotated[CallToolResult, Looked]:
        """Show before and after of a short piece of a video, or of an image, before the whole is restored.

        Takes the parameters of the submit tools, restores a second or less ahead of the queue and returns two
        pictures: show them. Nothing else is started; once the user likes it, call submit_video_task or
        submit_image_task.
        """
        spec = TaskSpec(input_path=file_path, resolution=resolution, batch_size=batch_size, dit_model=dit_model,
                        color_correction=color_correction, seed=seed)  # fmt: skip
        piece = Excerpt(start_s=start, seconds=seconds, place=region)
        task = await self._waiter.apart(partial(self._engine.sample, spec, piece))
        task, _ = await self._waiter.wait(task.id, self._waiter.limit_s(ctx, PREVIEW_PATIENCE_S), ctx)
        if task.state is not TaskState.COMPLETED:
            return reply(_unfinished(task).model_copy(update={"timed_out": not task.state.finished or None}))
        return await self._shown(task, None, "auto", None, "the file, enlarged as a player would",
                                 next_step=f"If the user likes it: submit_{task.kind}_task with the same arguments.")

    async def compare_task(
        self, task_id: TaskId, at: Moment = None, region: DetailAt = "auto", against: Against = None,
    ) -> Annotated[CallToolResult, Looked]:
        """Show before and after of a task (also of a preview) at one moment, as two pictures.

        Of a running video task: of what is restored so far. Large frames come with a part of them pixel for pixel.
        Transparency is shown as a checkerboard. With against, two tasks' results are compared: one file restored with
        two models or settings.
        """
        task = await self._waiter.apart(partial(self._engine.status, task_id))
        before = "the input, enlarged as a player would" if against is None else f"the result of task {against}"
        try:
            return await self._shown(task, at, region, against, before)
        except TaskNotCompleted:
            task = await self._waiter.apart(partial(self._engine.status, task_id))
            if task.state.finished:
                raise
            return reply(_unfinished(task))

    async def _shown(
        self, task: Task, at: float | None, region: DetailAt, against: str | None, before: str,
        next_step: str | None = None,
    ) -> CallToolResult:  # fmt: skip
        look = partial(self._engine.compare, task.id, at_s=at, focus=region, against=against)
        pair: Comparison = await self._waiter.apart(look)
        view = Looked(
            task_id=task.id, status=task.state, model=task.model, at_seconds=pair.at_s,
            from_seconds=pair.start_s if pair.start_s else None, duration_seconds=pair.duration_s,
            ready_seconds=pair.ready_s, next_step=next_step if pair.ready_s is None else STILL_RUNS,
            output_resolution=f"{pair.width}x{pair.height}",
            detail=list(pair.detail) if pair.detail is not None else None,
            pictures=[f"before: {before}", f"after: {task.model}"] if self._images else [],
            output_path=task.result.output_path if task.result is not None else None,
        )  # fmt: skip
        if not self._images:
            return reply(view)
        return reply(view, caption("before"), picture(pair.before), caption("after"), picture(pair.after))


def _unfinished(task: Task) -> Looked:
    status = views.TaskStatus.of(task)
    if task.state.finished:
        return Looked(task_id=task.id, status=task.state, model=task.model, error=status.error,
                      error_code=status.error_code)  # fmt: skip
    return Looked(
        task_id=task.id, status=task.state, model=task.model, progress=task.percent, doing=in_words(task),
        estimated_wait_seconds=status.estimated_wait_seconds,
        next_step="Nothing of it can be shown yet. Call wait_for_task with this task_id, then compare_task with it.",
    )  # fmt: skip
