"""Pages of another origin, as the original front ends are: let in by name, asked for by preflight, never by cookie."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from upres.engine import LocalEngine
from upres.errors import InvalidSetting
from upres.settings import Settings
from upres.surfaces.asgi import build_app
from upres.surfaces.guard import fit_to_serve

PAGE, TOKEN = "https://app.example:8443", "t" * 32
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["", TOKEN])
async def http(
    request: pytest.FixtureRequest, engine: LocalEngine, settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    app = httpx.ASGITransport(build_app(engine, replace(settings, cors_origins=(PAGE,), token=request.param)))
    headers = {"authorization": f"Bearer {request.param}"} if request.param else {}
    async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1", headers=headers) as http:
        yield http


async def test_a_preflight_of_a_named_page_is_answered_without_a_token(http: httpx.AsyncClient) -> None:
    http.headers.pop("authorization", None)
    for path in ("/api/process", "/api/tasks/", "/mcp"):
        reply = await http.options(path, headers=PREFLIGHT)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "POST" in reply.headers["access-control-allow-methods"]
        allowed = reply.headers["access-control-allow-headers"].lower()
        assert "authorization" in allowed and "mcp-protocol-version" in allowed
        assert "access-control-allow-credentials" not in reply.headers


async def test_a_named_page_reads_replies_and_refusals(http: httpx.AsyncClient) -> None:
    for path, status in (("/health", 200), ("/api/status/nothere0", 404)):
        reply = await http.get(path, headers={"origin": PAGE})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "content-disposition" in reply.headers["access-control-expose-headers"].lower()
        assert "origin" in reply.headers["vary"].lower()
        assert "access-control-allow-credentials" not in reply.headers


async def test_a_page_that_shows_no_token_can_read_why(http: httpx.AsyncClient) -> None:
    if http.headers.pop("authorization", None) is None:
        return
    reply = await http.get("/health", headers={"origin": PAGE})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize("origin", ["https://app.example", "http://app.example:8443", "https://evil.example", "null",
                                    "https://app.example:8443.evil.example"])  # fmt: skip
async def test_any_other_page_is_refused_and_told_nothing(http: httpx.AsyncClient, origin: str) -> None:
    for reply in (await http.get("/health", headers={"origin": origin}),
                  await http.options("/api/process", headers={**PREFLIGHT, "origin": origin})):  # fmt: skip
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers


async def test_any_page_may_ask_only_where_a_token_guards(engine: LocalEngine, settings: Settings) -> None:
    anyone = replace(settings, cors_origins=("*",))
    with pytest.raises(InvalidSetting, match=r"UPRES_CORS_ORIGINS=\* lets any page use this server"):
        fit_to_serve(anyone)
    app = build_app(engine, fit_to_serve(replace(anyone, token=TOKEN)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        headers = {"origin": "https://any.example", "authorization": f"Bearer {TOKEN}"}
        reply = await http.get("/health", headers=headers)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in reply.headers
        foreign_host = await http.get("/health", headers={**headers, "host": "evil.example"})
        assert foreign_host.status_code == 421


@pytest.mark.parametrize("wrong", ["app.example", "https://app.example/", "https://user@app.example", "ftp://a.example"])
def test_what_is_no_origin_is_refused_at_start(wrong: str) -> None:
    with pytest.raises(InvalidSetting, match="UPRES_CORS_ORIGINS"):
        Settings.from_env({"UPRES_CORS_ORIGINS": wrong})
