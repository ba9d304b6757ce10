"""Files that are sent, while somebody else takes them away, exchanges them or writes to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from upres.errors import FileMissing, PathRefused
from upres.surfaces.rest import Download, install_problems

CONTENT = os.urandom(300_000)  # several pieces of 64 KiB
GONE = FileMissing("input.mp4, the input of a task, is gone", remedy="upload it again")
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="descriptors are opened again")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "input.mp4"
    path.write_bytes(CONTENT)
    os.utime(path, (1, 1))  # a file system may tell no two writes within some milliseconds apart
    return path


def server(path: Path, meanwhile: Callable[[], object], roots: tuple[Path, ...] = ()) -> httpx.AsyncClient:
    """A route that sends the file; `meanwhile` happens once it is checked and opened, and nothing is sent yet."""
    app = FastAPI()
    install_problems(app)

    @app.get("/input")
    def source() -> Download:
        answer = Download(path, GONE, roots)
        meanwhile()
        return answer

    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://here")


def exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    other.replace(path)


def link_away(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_bytes(b"none of your business")
    path.unlink()
    path.symlink_to(secret)


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("change", [Path.unlink, exchange, link_away])
async def test_what_was_checked_is_sent_whatever_becomes_of_its_name(
    path: Path, change: Callable[[Path], None], rooted: bool
) -> None:
    async with server(path, lambda: change(path), (path.parent,) if rooted else ()) as client:
        reply = await client.get("/input")
        assert (reply.status_code, reply.content) == (200, CONTENT)
        assert reply.headers["content-disposition"] == 'attachment; filename="input.mp4"'


async def test_a_range_is_of_the_file_that_was_checked(path: Path) -> None:
    async with server(path, path.unlink) as client:
        reply = await client.get("/input", headers={"range": "bytes=100-199"})
        assert (reply.status_code, reply.content) == (206, CONTENT[100:200])


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-99999"}, {"range": "bytes=0-9,20-29"}])
async def test_of_a_file_that_is_written_to_the_last_piece_is_kept_back(path: Path, headers: dict[str, str]) -> None:
    """The server then breaks the connection off: the client learns that it has not got the file."""
    sent = Sent(lambda: path.write_bytes(CONTENT[::-1]))
    await Download(path, GONE)(scope(headers), sent.receive, sent.send)
    assert sent.begun and not sent.ended


async def test_of_a_file_that_is_left_alone_the_last_piece_comes(path: Path) -> None:
    sent = Sent(lambda: None)
    await Download(path, GONE)(scope({}), sent.receive, sent.send)
    assert sent.ended


def scope(headers: dict[str, str]) -> dict[str, object]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "headers": raw, "asgi": {"spec_version": "2.4"}}


class Sent:
    """The server's side of a connection: `meanwhile` happens when the reply begins."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.meanwhile, self.begun, self.ended = meanwhile, False, False

    async def receive(self) -> dict[str, object]:
        return {"type": "http.request"}

    async def send(self, message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.meanwhile()
        else:
            self.ended = not message.get("more_body", False)


def no_file(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("change", [no_file, folder, pipe])
def test_what_is_no_file_is_called_gone(path: Path, change: Callable[[Path], None], rooted: bool) -> None:
    change(path)
    with pytest.raises(FileMissing) as refusal:
        Download(path, GONE, (path.parent,) if rooted else ())
    assert refusal.value is GONE


def test_a_link_out_of_the_roots_is_refused(path: Path) -> None:
    link_away(path)
    with pytest.raises(PathRefused):
        Download(path, GONE, (path.parent,))


async def test_no_descriptor_is_left_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for roots in ((), (path.parent,)):
        async with server(path, lambda: None, roots) as client:
            for ask in ({"method": "GET"}, {"method": "GET", "headers": {"range": "bytes=999999-"}}):
                await client.request(url="/input", **ask)
    assert len(os.listdir("/proc/self/fd")) == before
