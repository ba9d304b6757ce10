"""FlashVSR's documented REST API, and the routes its own web client uses beside it: checks, asks the engine, shapes.

The tasks are those of every other surface: one queue, one store. Where the document and the application it describes
disagree, the document holds (413 for a large upload, 400 for a bad parameter); what the document leaves open is as the
application has it. Knows nothing of how the engine works.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response

from upres.engine import ALL_STATES, Engine
from upres.errors import FileMissing, ModelUnavailable, TaskNotCompleted
from upres.surfaces import rest_flashvsr_system
from upres.surfaces.rest import PROBLEMS, BodyRefused, Download, EngineDep, SettingsDep, download_of, get
from upres.surfaces.rest_flashvsr_ids import as_id
from upres.surfaces.rest_flashvsr_schema import ParameterSchema, limits, parameter_schema
from upres.surfaces.rest_flashvsr_views import STATES, Status, TaskListResponse, TaskProgressResponse, TaskResponse
from upres.surfaces.turns import in_turn
from upres.surfaces.uploads import Upload, receive
from upres.tasks import FLASHVSR_API, Task, TaskState, order

router = APIRouter(tags=["FlashVSR"], responses=PROBLEMS)
router.include_router(rest_flashvsr_system.router)

FORM_FIELDS = ("scale", "sparse_ratio", "local_range", "seed", "preprocess_width", "preserve_aspect_ratio")
SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".ts", ".m2ts", ".mts", ".m4s", ".mpg", ".mpeg", ".webm")
PREVIEWS = CapacityLimiter(2)  # processes of ffmpeg at once: a page of tasks asks for all its pictures together
INSTEAD = {  # of a part of a result
    TaskState.FAILED: "POST /api/retry with its id goes on from the frames that were finished",
    TaskState.CANCELLED: "submit the video again",
}
UNCHANGING = {"Cache-Control": "private, max-age=86400, immutable"}


def _task_id(task_id: str) -> str:
    return as_id(task_id)


TaskId = Annotated[str, Depends(_task_id)]


async def _model(engine: EngineDep, settings: SettingsDep) -> str:
    """The model that will run, known to be there before the body is read."""
    name = settings.flashvsr_model
    listing = await to_thread.run_sync(engine.models)
    if name not in {info.name for info in listing.models}:
        missing = [file for info in listing.absent if info.name == name for file in info.missing]
        lacks = f"lacks {', '.join(missing)}" if missing else "is unknown"
        raise BodyRefused(ModelUnavailable(f"FlashVSR cannot run: model {name} {lacks}",
                                           remedy=f"run `upres download {name}` on the server"))  # fmt: skip
    return name


async def _upload(request: Request, settings: SettingsDep) -> Upload:
    return await receive(request, settings.upload_dir, settings.max_upload_mb, SUFFIXES,
                         reserve_mb=settings.disk_reserve_mb)  # fmt: skip


def _form() -> dict[str, Any]:
    """As OpenAPI; limits come from TaskSpec."""
    fields = {name: limits(name) for name in FORM_FIELDS}
    schema = {"type": "object", "required": ["file"],
              "properties": {"file": {"type": "string", "format": "binary"}, **fields}}  # fmt: skip
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post("/api/tasks/", status_code=201, summary="Submit a video", openapi_extra=_form())
async def create(
    model: Annotated[str, Depends(_model)], upload: Annotated[Upload, Depends(_upload)], engine: EngineDep
) -> TaskResponse:
    return TaskResponse.of(await in_turn(partial(_submitted, model, upload, engine)))


def _submitted(model: str, upload: Upload, engine: Engine) -> Task:
    given = {name: upload.fields[name] for name in FORM_FIELDS if upload.fields.get(name)}
    task = None
    try:
        task = engine.submit(order(input_path=str(upload.path), dit_model=model, **{**FLASHVSR_API, **given}))
    finally:
        if task is None:
            upload.discard()
    return task


@get(router, "/api/tasks/", summary="Tasks, newest first")
def tasks(
    engine: EngineDep,
    page: Annotated[int, Query(ge=1, le=2**31)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    status: Status | None = None,
) -> TaskListResponse:
    states = STATES[status] if status is not None else ALL_STATES
    return TaskListResponse.of(engine.tasks(states, page, page_size), page, page_size)


@get(router, "/api/tasks/parameter_schema", summary="What the form takes")
def schema() -> ParameterSchema:
    return parameter_schema()


@get(router, "/api/tasks/{task_id}", summary="A task")
def task(task_id: TaskId, engine: EngineDep) -> TaskResponse:
    return TaskResponse.of(engine.status(task_id))


@get(router, "/api/tasks/{task_id}/progress", summary="A task's progress")
def progress(task_id: TaskId, engine: EngineDep) -> TaskProgressResponse:
    return TaskProgressResponse.of(engine.status(task_id))


@router.delete("/api/tasks/{task_id}", status_code=204, summary="Stop a task, forget it and delete its files")
def remove(task_id: TaskId, engine: EngineDep) -> None:
    engine.remove(task_id)


@router.post("/api/tasks/{task_id}/export_from_chunks", summary="What can be had of a task that did not complete")
def export_from_chunks(task_id: TaskId, engine: EngineDep) -> TaskProgressResponse:
    """Of a completed task: all of it, at `/api/files/{task_id}/result`. Of any other: nothing.

    The application this API comes from wrote a result in chunks and meant to join what was left of them. Here a result
    is handed out whole or not at all; what a failed task had finished is kept for another try, which goes on from it.
    """
    task = engine.status(task_id)
    if task.state is not TaskState.COMPLETED:
        raise TaskNotCompleted(f"task {task_id} is {task.state}, and a part of a result is never handed out",
                               remedy=INSTEAD.get(task.state, "wait until it is completed"))  # fmt: skip
    return TaskProgressResponse.of(task)


@get(router, "/api/files/{task_id}/result", summary="The result's file", response_class=FileResponse)
def result(task_id: TaskId, engine: EngineDep) -> FileResponse:
    return download_of(engine, task_id)


@get(router, "/api/files/{task_id}/input", summary="The input's file", response_class=FileResponse)
def source(task_id: TaskId, engine: EngineDep, settings: SettingsDep) -> FileResponse:
    """The task may have been submitted on this machine, where other roots hold, and its file be a link by now."""
    path = Path(engine.status(task_id).spec.input_path)
    what, remedy = ("is a folder", "fetch its files one by one") if path.is_dir() else ("is gone", "upload it again")
    gone = FileMissing(f"{path.name}, the input of task {task_id}, {what}", remedy=remedy)
    return Download(path, gone, settings.all_roots)


@get(router, "/api/files/{task_id}/preview", summary="The result's first frame", response_class=Response)
async def preview(task_id: TaskId, engine: EngineDep) -> Response:
    picture = await to_thread.run_sync(engine.preview, task_id, limiter=PREVIEWS)
    return Response(picture, media_type="image/jpeg", headers=UNCHANGING)
