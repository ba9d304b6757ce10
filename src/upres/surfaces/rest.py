"""What REST routes share: failures as JSON, the engine, small JSON bodies. Knows nothing of any one API."""

from __future__ import annotations

import inspect
import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import anyio
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from upres.engine import Engine
from upres.errors import FileMissing, InvalidInput, InvalidParameter, OutputMissing, UpresError
from upres.limits import DESCRIPTORS, beneath, opened
from upres.settings import Settings
from upres.surfaces.turns import looking

MEDIA_TYPES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".webm": "video/webm",
               ".avi": "video/x-msvideo", ".ts": "video/mp2t", ".mts": "video/mp2t", ".m2ts": "video/mp2t",
               ".m4s": "video/iso.segment", ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
               ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
               ".tif": "image/tiff", ".tiff": "image/tiff", ".zip": "application/zip"}  # fmt: skip
JSON_BODY_BYTES = 64 * 1024
HEAR_ON_S = 2.0
# The folders of an absolute path, in which blanks are rare; our own routes are no paths.
_FOLDERS = re.compile(r"(?<![\w/.:])(?:[A-Za-z]:)?(?!/(?:api|docs|mcp|sse)\b)"
                      r"(?:[/\\][^/\\\s'\":;,]+)+[/\\](?=[^/\\\s])")  # fmt: skip
Endpoint = TypeVar("Endpoint", bound=Callable[..., object])


class Problem(BaseModel):
    """Every failure of every route. `error` says what and which value; `detail` adds what to do next."""

    error: str
    detail: str
    code: str


PROBLEMS: dict[int | str, dict[str, Any]] = {"default": {"model": Problem, "description": "What went wrong"}}


class HangUp(JSONResponse):
    """A refusal of a body that is still coming. Hears on for a while before it hangs up.

    Most clients listen only once they have said everything: to hang up at once would lose them the reply.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with anyio.move_on_after(HEAR_ON_S):
            while (await receive()).get("more_body", False):
                pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def problem(
    status: int, code: str, error: str, remedy: str = "",
    *, headers: Mapping[str, str] | None = None, kind: type[JSONResponse] = JSONResponse,
) -> Response:  # fmt: skip
    body = Problem(error=error, detail=f"{error}; {remedy}" if remedy else error, code=code)
    return kind(body.model_dump(), status, headers=headers)


def without_folders(text: str) -> str:
    """What a client on another machine may read: of an absolute path, its last part."""
    return _FOLDERS.sub("", text)


class BodyRefused(Exception):
    """A refusal while the request's body is still coming: answered by hanging up."""

    def __init__(self, refusal: UpresError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Download(FileResponse):
    """A file, whole or by ranges; a range that cannot be served is a problem like any other, not plain text.

    It is opened here, and what is sent is that file, whatever becomes of its name (elsewhere than on Linux it is opened
    once more). If somebody writes to it meanwhile, the connection breaks off before its end: no reply is of two files.
    """

    def __init__(self, path: Path, gone: UpresError, roots: tuple[Path, ...] = ()) -> None:
        """Raises `gone` where there is no such file; PathRefused where it does not lie under one of `roots`."""
        kind = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
        self._file = _open(path, gone, roots)
        self._opened = os.fstat(self._file.fileno())
        again = DESCRIPTORS / str(self._file.fileno()) if DESCRIPTORS.is_dir() else path
        super().__init__(again, media_type=kind, filename=path.name, stat_result=self._opened,
                         headers={"X-Content-Type-Options": "nosniff"})  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await self._send(scope, receive, send)

    def _written_to(self) -> bool:
        now = os.fstat(self._file.fileno())
        return (now.st_mtime_ns, now.st_size) != (self._opened.st_mtime_ns, self._opened.st_size)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None

        async def checked(message: Message) -> None:
            nonlocal refused
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                size = Headers(raw=message["headers"]).get("content-range")
                asked = f"Range {Headers(scope=scope)['range']} cannot be served"
                refused = problem(message["status"], "invalid_range", asked,
                                  "ask for bytes that the file has, as in bytes=0-99",
                                  headers={"content-range": size} if size is not None else None)  # fmt: skip
            elif refused is None and not (last and self._written_to()):
                await send(message)

        await super().__call__(scope, receive, checked)
        if refused is not None:
            await refused(scope, receive, send)


def _open(path: Path, gone: UpresError, roots: tuple[Path, ...]) -> BinaryIO:
    try:
        path = beneath(path, roots)
    except FileMissing as error:
        raise gone from error
    if not path.is_file():
        raise gone
    try:
        return os.fdopen(opened(path), "rb") if roots and DESCRIPTORS.is_dir() else path.open("rb")
    except (FileMissing, FileNotFoundError) as error:
        raise gone from error
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read ({error.strerror})", remedy="check its rights") from error


def download_of(engine: Engine, task_id: str) -> Download:
    """A completed task's result. Raises what `Engine.output` raises, also where it goes in this moment."""
    path = engine.output(task_id)
    return Download(path, OutputMissing(f"{path.name} of task {task_id} is gone", remedy="submit the input again"))


def install_problems(app: FastAPI) -> None:
    """Replaces FastAPI's HTML, text and 422 replies."""
    app.add_exception_handler(UpresError, _on_upres_error)
    app.add_exception_handler(BodyRefused, _on_body_refused)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_parameter)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_defect)


def _on_upres_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, UpresError)
    return problem(error.http_status, error.code, without_folders(error.message), without_folders(error.remedy),
                   headers=_retry_after(error))  # fmt: skip


def _on_body_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, BodyRefused)
    refusal = error.refusal
    return problem(refusal.http_status, refusal.code, refusal.message, refusal.remedy, headers=_retry_after(refusal),
                   kind=HangUp)  # fmt: skip


def _retry_after(error: UpresError) -> dict[str, str] | None:
    return {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else None


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    asked = f"{phrase}: {request.method} {request.url.path}"
    code = phrase.lower().replace(" ", "_")
    headers = dict(error.headers) if error.headers is not None else {}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(error.status_code, code, asked, "GET /docs lists every route", headers=headers)


def _methods(request: Request) -> set[str]:
    """Of all routes at the request's path: Starlette names those of the first alone."""
    here = [route for route in request.app.routes if isinstance(route, Route)]
    return {method for route in here if route.matches(request.scope)[0] is not Match.NONE
            for method in (route.methods if route.methods is not None else ())}  # fmt: skip


def _on_bad_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    said = f"{first['loc'][-1]}={textwrap.shorten(repr(first['input']), 100)} cannot be used"
    return problem(InvalidParameter.http_status, InvalidParameter.code, said, first["msg"])


def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


def _on_defect(_: Request, __: Exception) -> Response:
    """The traceback goes to the server's log (uvicorn writes it), never into the reply."""
    return problem(500, UpresError.code, "internal error", "the server's log has the cause; please report it")


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


EngineDep = Annotated[Engine, Depends(_engine)]
SettingsDep = Annotated[Settings, Depends(_settings)]


async def json_object(request: Request) -> dict[str, object]:
    """The body as a JSON object, whatever content type it claims. Raises InvalidParameter, BodyRefused."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BODY_BYTES:
            long = f"the body is longer than {JSON_BODY_BYTES} bytes"
            raise BodyRefused(InvalidParameter(long, remedy="send a JSON object"))
    try:
        value = json.loads(body)
    except ValueError as error:
        raise InvalidParameter(f"the body is not JSON: {error}", remedy="send a JSON object") from error
    if not isinstance(value, dict):
        raise InvalidParameter(f"the body is a JSON {type(value).__name__}", remedy="send a JSON object")
    return value


def get(router: APIRouter, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
    """A GET route that answers HEAD too, as HTTP asks and `curl -I` expects. One that is no coroutine only looks into
    the store; what reads media is one.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        answer = endpoint if inspect.iscoroutinefunction(endpoint) else looking(endpoint)
        router.get(path, **options)(answer)
        router.head(path, **{**options, "include_in_schema": False})(answer)
        return endpoint

    return register
