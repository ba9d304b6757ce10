"""The server as a neighbour: whom it answers, where it listens, how it ends, and that its page needs no internet."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from mcp import Client
from mcp.client.sse import sse_client

from tests.surfaces.serving import PATIENCE_S, Served, serving, until
from upres.engine import LocalEngine
from upres.errors import InvalidSetting
from upres.settings import Settings
from upres.surfaces.asgi import GRACE_S, build_app, serve

ROUTES = [("GET", "/health"), ("GET", "/api/gpu/status"), ("POST", "/api/gpu/offload"), ("GET", "/api/models"),
          ("POST", "/api/models/switch"), ("GET", "/api/queue/status"), ("GET", "/api/queue/position/x"),
          ("GET", "/api/queue/history"), ("POST", "/api/process"), ("GET", "/api/status/x"), ("GET", "/api/download/x"),
          ("POST", "/api/cancel/x"), ("POST", "/api/retry/x"),
          ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/mcp"), ("GET", "/mcp"),
          ("GET", "/sse"), ("POST", "/messages/"), ("GET", "/nowhere"),
          ("HEAD", "/health"), ("OPTIONS", "/api/process")]  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_a_foreign_host_or_a_foreign_page(http: httpx.Client, method: str, path: str) -> None:
    foreign_host = http.request(method, path, headers={"host": "evil.example"})
    assert foreign_host.status_code == 421
    foreign_page = http.request(method, path, headers={"origin": "https://evil.example"})
    assert foreign_page.status_code == 403
    if method != "HEAD":
        assert foreign_host.json()["code"] == "host_not_allowed"
        assert "UPRES_ALLOWED_HOSTS" in foreign_page.json()["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:8200", 200), ("127.0.0.1:1", 200), ("[::1]:8200", 200), ("box.example:80", 200),
     ("evil.example", 421), ("localhost.evil.example", 421), ("evil.example:8200", 421),
     ("127.0.0.1.evil.example", 421), ("192.0.2.7", 421), ("localhost@evil.example", 421), ("evil@localhost", 421),
     ("[::1", 421), ("", 421)],
)  # fmt: skip
def test_a_host_is_judged_by_its_name(http: httpx.Client, host: str, status: int) -> None:
    assert http.get("/health", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("https://127.0.0.1", 200), ("http://[::1]:8200", 200),
     ("http://box.example", 200), ("null", 403), ("http://evil.example", 403), ("http://localhost.evil.example", 403),
     ("file://localhost", 403), ("localhost", 403), ("", 403)],
)  # fmt: skip
def test_an_origin_is_judged_by_its_name(http: httpx.Client, origin: str, status: int) -> None:
    reply = http.get("/health", headers={"origin": origin})
    assert reply.status_code == status
    assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [("0.0.0.0", "192.0.2.7:8200", 200), ("0.0.0.0", "192.0.2.8", 421), ("0.0.0.0", "evil.example", 421),
     ("192.0.2.7", "192.0.2.7", 200), ("Box.Lan", "box.lan:8200", 200), ("127.0.0.1", "192.0.2.7", 421)],
)  # fmt: skip
async def test_the_bound_address_may_be_asked_for(
    engine: LocalEngine, settings: Settings, bound: str, host: str, status: int
) -> None:
    """Bound to every address, the one the request arrived at."""
    transport = httpx.ASGITransport(build_app(engine, replace(settings, host=bound)))
    async with httpx.AsyncClient(transport=transport, base_url="http://192.0.2.7") as client:
        assert (await client.get("/health", headers={"host": host})).status_code == status


@pytest.mark.anyio
async def test_mcp_answers_over_streamable_http_and_over_sse(server: Served) -> None:
    async with Client(f"{server.url}/mcp") as client:
        modern = await client.list_tools()
    async with Client(sse_client(f"{server.url}/sse"), mode="legacy") as client:
        legacy = await client.list_tools()
    assert {tool.name for tool in modern.tools} == {tool.name for tool in legacy.tools} >= {"submit_video_task"}


def test_the_docs_page_asks_nothing_of_other_hosts(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?:|[\"'(]//|@import|@font-face", page.text)
    assert "connect-src 'self'" in page.headers["content-security-policy"]

    class Links(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [str(value) for name, value in attrs if name in ("src", "href")]

    Links().feed(page.text)
    assert set(Links.found) == {"openapi.json", "data:,"}


def test_openapi_lists_the_documented_routes_and_our_own(http: httpx.Client) -> None:
    api = http.get("/openapi.json").json()
    listed = {
        (method.upper(), path.replace("{task_id}", "x")) for path, methods in api["paths"].items() for method in methods
    }
    flashvsr = {route for route in listed if route[1].startswith(("/api/tasks/", "/api/system/", "/api/files/"))}
    own = {("POST", "/api/plan"), ("GET", "/api/compare/x"), ("GET", "/api/sheet/x")}
    assert listed - flashvsr - own == set(ROUTES[:13])
    assert own < listed and len(flashvsr) == 12
    for methods in api["paths"].values():
        for operation in methods.values():
            success, *others = sorted(operation["responses"])
            assert success in ("200", "201", "204") and others == ["default"]


def test_a_taken_port_is_named_with_a_way_out(server: Served, fresh_settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match=f"127.0.0.1:{server.port}.*PORT"):
        serve(replace(fresh_settings, port=server.port))


def test_the_server_ends_soon_although_a_stream_and_an_upload_are_open(fresh_settings: Settings) -> None:
    with serving(fresh_settings) as served, httpx.Client(timeout=PATIENCE_S) as client:
        with client.stream("GET", f"{served.url}/sse") as stream, stalled_upload(served, fresh_settings.upload_dir):
            next(stream.iter_lines())
            served.process.terminate()
            served.process.wait(GRACE_S + 10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))
    assert list(fresh_settings.upload_dir.iterdir()) == []


@contextmanager
def stalled_upload(served: Served, folder: Path) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = (b"POST /api/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n')  # fmt: skip
        client.sendall(head + bytes(2**21))
        until(lambda: folder.is_dir() and any(folder.iterdir()), "the upload began")
        yield


def test_serve_never_works_for_another_server(fresh_settings: Settings) -> None:
    """SEEDVR2_API_URL often names this very server: to pass tasks on would be to pass them to itself."""
    with serving(fresh_settings, SEEDVR2_API_URL="http://127.0.0.1:9") as served, httpx.Client() as client:
        assert client.get(f"{served.url}/api/queue/status").json()["queue_length"] == 0
