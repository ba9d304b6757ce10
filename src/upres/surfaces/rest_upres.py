"""REST routes beyond the documented APIs: plan, compare, contact sheet. Knows nothing of how they are made."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from upres.errors import InvalidParameter
from upres.forecast_values import Forecast, MediaFacts
from upres.pictures.values import Comparison, Focus
from upres.surfaces.rest import PROBLEMS, EngineDep, get, json_object
from upres.surfaces.turns import in_turn
from upres.tasks import TaskSpec, order

router = APIRouter(tags=["Upres"], responses=PROBLEMS)


async def _planned(request: Request) -> tuple[MediaFacts, TaskSpec]:
    body = await json_object(request)
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise InvalidParameter(f"params={params!r} is no object", remedy='give {"resolution": 1080, …}')
    _check_kinds(body.get("media"))
    try:
        media = MediaFacts.model_validate(body.get("media"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["media", *map(str, first["loc"])])
        raise InvalidParameter(f"{where}: {first['msg']}", remedy="kind, width, height and file are needed") from error
    return media, order(**{**params, "input_path": media.file})


_KINDS = {name: schema.get("type") for name, schema in MediaFacts.model_json_schema()["properties"].items()}


def _check_kinds(media: object) -> None:
    """pydantic takes "1" and true for numbers, and 1 for true; the schema that clients read does not."""
    for name, value in media.items() if isinstance(media, dict) else ():
        number, flag = _KINDS.get(name) in ("integer", "number"), _KINDS.get(name) == "boolean"
        if (number and isinstance(value, bool | str)) or (flag and not isinstance(value, bool)):
            raise InvalidParameter(f"media.{name}={value!r} cannot be used", remedy=f"give a JSON {_KINDS[name]}")


_PLAN_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": {
    "type": "object", "required": ["media"],
    "properties": {"media": MediaFacts.model_json_schema(), "params": {"type": "object"}}}}}}}  # fmt: skip


@router.post("/api/plan", summary="What a task would be", openapi_extra=_PLAN_BODY)
def plan(planned: Annotated[tuple[MediaFacts, TaskSpec], Depends(_planned)], engine: EngineDep) -> Forecast:
    """A dry run for a file that need not be here: what it is (`media`) and the parameters of /api/process."""
    return engine.plan_for(*planned)


@get(router, "/api/compare/{task_id}", summary="Before and after, as two small JPEGs in base64")
async def compare(
    task_id: str,
    engine: EngineDep,
    at: Annotated[float | None, Query(ge=0, description="seconds; none: the middle")] = None,
    focus: Focus = "auto",
    against: Annotated[str | None, Query(description="a task whose result shall be the before")] = None,
) -> Comparison:
    return await in_turn(partial(engine.compare, task_id, at_s=at, focus=focus, against=against))


@get(router, "/api/sheet/{task_id}", summary="The result at a glance, JPEG", response_class=Response)
async def sheet(task_id: str, engine: EngineDep) -> Response:
    return Response(await in_turn(partial(engine.sheet, task_id)), media_type="image/jpeg")
