"""Asking a server of the documented REST API, and reading its refusals. Knows nothing of tasks or of its routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from upres.errors import DiskFull, GpuBusy, InvalidParameter, InvalidSetting, RemoteFailed, UploadTooLarge, UpresError
from upres.version import __version__

QUICK = httpx.Timeout(60.0, connect=10.0)
SLOW = httpx.Timeout(660.0, connect=10.0)  # a server probes an upload, or loads a model, before it answers
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BY_CODE = {cls.code: cls for cls in UpresError.__subclasses__()}
BY_STATUS: dict[int, type[UpresError]] = {400: InvalidParameter, 409: GpuBusy, 413: UploadTooLarge, 507: DiskFull}
NOT_AN_API = "does SEEDVR2_API_URL name an Upres or SeedVR2 server?"
ReplyT = TypeVar("ReplyT", bound=BaseModel)


class Unreachable(RemoteFailed):
    """No connection, or one that broke: what a restart of the server looks like."""


class Server:
    """One server and the connections to it. Thread-safe."""

    def __init__(self, url: str, token: str = "") -> None:
        """`token` goes with every request, and with none to another address: redirects are not followed.

        Raises InvalidSetting.
        """
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise _bad_url(url) from error
        if not parsed.host or parsed.scheme not in ("http", "https"):
            raise _bad_url(url)
        headers = {"User-Agent": f"upres/{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(base_url=parsed, timeout=QUICK, trust_env=parsed.host not in LOOPBACK,
                                  headers=headers)  # fmt: skip

    def close(self) -> None:
        self._http.close()

    def ask(
        self, shape: type[ReplyT], method: str, path: str, *, missing: UpresError | None = None, **options: Any
    ) -> ReplyT:
        """The reply as `shape`; `missing` is what a 404 without one of our codes means here. Raises UpresErrors."""
        reply = self.tell(method, path, missing=missing, **options)
        try:
            return shape.model_validate_json(reply)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("reply", *first["loc"]))
            raise RemoteFailed(f"{self.url}{path}: {where}: {first['msg']}", remedy=NOT_AN_API) from error

    def tell(self, method: str, path: str, *, missing: UpresError | None = None, **options: Any) -> bytes:
        """The reply, whatever it is. Raises as `ask` does."""
        with self._reaching():
            reply = self._http.request(method, path, **options)
        if not reply.is_success:
            raise self._refusal(reply, missing)
        return reply.content

    @contextmanager
    def download(self, path: str, missing: UpresError) -> Iterator[Iterator[bytes]]:
        """The file's bytes, block by block. Raises UpresErrors."""
        with self._reaching(), self._http.stream("GET", path) as reply:
            if not reply.is_success:
                reply.read()
                raise self._refusal(reply, missing)
            yield reply.iter_bytes(2**20)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            said = str(error) if str(error) else type(error).__name__
            raise Unreachable(f"{self.url} cannot be reached: {said}",
                              remedy="start the server there, or correct SEEDVR2_API_URL") from error  # fmt: skip

    def _refusal(self, reply: httpx.Response, missing: UpresError | None) -> UpresError:
        try:
            given = _Refusal.model_validate_json(reply.content)
        except ValidationError:
            given = _Refusal()
        if given.code in BY_CODE:
            return BY_CODE[given.code](given.error, remedy=given.detail.removeprefix(given.error).removeprefix("; "))
        if reply.status_code == httpx.codes.NOT_FOUND and missing is not None:
            return missing
        if not given.error:
            return RemoteFailed(f"{self.url} answered {reply.status_code}", remedy=NOT_AN_API)
        return BY_STATUS.get(reply.status_code, RemoteFailed)(f"{self.url}: {given.error}", remedy=given.detail)


class _Refusal(BaseModel):
    error: str = ""
    detail: str = ""  # addition
    code: str = ""  # addition


def _bad_url(url: str) -> InvalidSetting:
    return InvalidSetting(f"SEEDVR2_API_URL={url!r} is not a web address", remedy="write it like http://localhost:8200")
