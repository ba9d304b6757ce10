"""The documented SeedVR2 REST API, route by route: checks, asks the engine, shapes. Knows nothing of how it works."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from upres.engine import Engine
from upres.errors import InvalidParameter
from upres.limits import MOST_PRIORITY
from upres.surfaces import views
from upres.surfaces.rest import PROBLEMS, EngineDep, SettingsDep, download_of, get, json_object, without_folders
from upres.surfaces.turns import in_turn
from upres.surfaces.uploads import Upload, receive
from upres.tasks import Task, TaskSpec, order
from upres.version import __version__

router = APIRouter(tags=["SeedVR2"], responses=PROBLEMS)

OUTPUT_FIELDS = ("width", "height", "fit", "max_side", "codec", "output_format", "crf", "quality", "bit_depth",
                 "preset", "encoder", "interlaced", "strict")  # fmt: skip
ADDED_FIELDS = ("vae_tiling", "vae_quality", "kind", *views.FURTHER_PARAMS, *OUTPUT_FIELDS)  # not in the document
FORM_FIELDS = ("resolution", "batch_size", "dit_model", "color_correction", "seed", *ADDED_FIELDS)


class Health(BaseModel):
    status: Literal["healthy"] = "healthy"
    version: str
    queue_enabled: bool = True
    queue_length: int
    timestamp: str


@get(router, "/health", summary="Health check")
def health(engine: EngineDep) -> Health:
    queue = engine.queue()
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return Health(version=__version__, queue_length=len(queue.processing) + len(queue.pending), timestamp=now)


@get(router, "/api/gpu/status", summary="GPU and its memory")
def gpu_status(engine: EngineDep) -> views.Gpu:
    return views.Gpu.of(engine.gpu())


@router.post("/api/gpu/offload", summary="Release GPU memory")
def gpu_offload(engine: EngineDep) -> views.Outcome:
    return views.Outcome(status="success", message=engine.offload())


@get(router, "/api/models", summary="Installed models")
def models(engine: EngineDep) -> views.Models:
    return views.Models.of(engine.models())


async def _model_to_load(request: Request) -> str:
    model = (await json_object(request)).get("model")
    if not isinstance(model, str) or not model:
        raise InvalidParameter(f"model={model!r}: a model's file name is needed", remedy="GET /api/models lists them")
    return model


_SWITCH_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {
    "type": "object", "required": ["model"], "properties": {
        "model": {"type": "string", "minLength": 1}}}}}}}  # fmt: skip


@router.post("/api/models/switch", summary="Load a model", openapi_extra=_SWITCH_BODY)
def switch_model(model: Annotated[str, Depends(_model_to_load)], engine: EngineDep) -> views.Switched:
    return views.Switched(status="loaded", model=engine.switch(model))


@get(router, "/api/queue/status", summary="The queue")
def queue_status(engine: EngineDep) -> views.Queue:
    return views.Queue.of(engine.queue())


@get(router, "/api/queue/position/{task_id}", summary="A task's place in the queue")
def queue_position(task_id: str, engine: EngineDep) -> views.Position:
    return views.Position.of(engine.status(task_id))


@get(router, "/api/queue/history", summary="Finished tasks, newest first")
def queue_history(engine: EngineDep, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> views.History:
    return views.History.of(engine.history(limit))


async def _upload(request: Request, settings: SettingsDep) -> Upload:
    return await receive(request, settings.upload_dir, settings.max_upload_mb,
                         reserve_mb=settings.disk_reserve_mb)  # fmt: skip


def _in_a_form(schema: dict[str, Any]) -> dict[str, Any]:
    """A text field has no null: what is not sent is absent."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**rest, **kinds[0]} if kinds else rest


def _process_body() -> dict[str, Any]:
    """The form as OpenAPI; defaults and limits come from TaskSpec."""
    known = TaskSpec.model_json_schema()["properties"]
    fields = {name: _in_a_form(known[name]) for name in FORM_FIELDS}
    fields["dit_model"] = {"type": "string", "default": "default", "title": "Dit Model"}
    for name in ADDED_FIELDS:
        fields[name]["description"] = "addition"
    fields["kind"]["description"] = "addition: refuse the file unless it is one"
    fields["priority"] = {"type": "integer", "default": 0, "minimum": -MOST_PRIORITY, "maximum": MOST_PRIORITY,
                          "description": "addition: tasks of a higher one run first"}  # fmt: skip
    schema = {"type": "object", "required": ["file"],
              "properties": {"file": {"type": "string", "format": "binary"}, **fields}}  # fmt: skip
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _priority(text: str) -> int:
    try:
        value = float(text)  # JSON's 1.0 is an integer too
    except ValueError:
        value = float("nan")
    if not value.is_integer():
        raise InvalidParameter(f"priority={text!r} cannot be used", remedy="give an integer")
    return int(value)


@router.post("/api/process", summary="Submit a video or an image", openapi_extra=_process_body())
async def process(
    upload: Annotated[Upload, Depends(_upload)],
    engine: EngineDep,
    idempotency_key: Annotated[str | None, Header(description="addition: the same key returns the same task")] = None,
) -> views.Submitted:
    return views.Submitted.of(await in_turn(partial(_submitted, upload, engine, idempotency_key)))


def _submitted(upload: Upload, engine: Engine, idempotency_key: str | None) -> Task:
    given = {name: upload.fields[name] for name in FORM_FIELDS if name in upload.fields}
    if given.get("dit_model") in ("", "default"):
        del given["dit_model"]
    task = None
    try:
        spec = order(input_path=str(upload.path), **given)
        task = engine.submit(spec, key=idempotency_key, priority=_priority(upload.fields.get("priority", "0")))
    finally:
        if task is None or task.spec.input_path != str(upload.path):
            upload.discard()
    return task


def _shown(task: Task) -> views.TaskStatus:
    view = views.TaskStatus.of(task)
    if view.error is not None:
        view.error = without_folders(view.error)
    return view


@get(router, "/api/status/{task_id}", summary="A task", response_model_exclude_none=True)
def task_status(task_id: str, engine: EngineDep) -> views.TaskStatus:
    return _shown(engine.status(task_id))


@router.post("/api/cancel/{task_id}", summary="Cancel a task (addition)", response_model_exclude_none=True)
def cancel(task_id: str, engine: EngineDep) -> views.TaskStatus:
    return _shown(engine.cancel(task_id))


@router.post("/api/retry/{task_id}", summary="Submit a finished task's order again (addition)")
async def retry(task_id: str, engine: EngineDep) -> views.Submitted:
    return views.Submitted.of(await in_turn(partial(engine.retry, task_id)))


@get(router, "/api/download/{task_id}", summary="The result's file", response_class=FileResponse)
def download(task_id: str, engine: EngineDep) -> FileResponse:
    return download_of(engine, task_id)
