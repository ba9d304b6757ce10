"""The page at /docs: every route with a form to try it, drawn from /openapi.json. Asks nothing of the internet."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from upres.surfaces.rest import get

ABOUT = """Restores and enlarges video and images.

Agents use MCP: streamable HTTP at /mcp, SSE at /sse. The routes below are the same engine over REST."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"

router = APIRouter()


@get(router, "/docs", include_in_schema=False)
def page() -> HTMLResponse:
    text = files("upres.surfaces").joinpath("docs.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY, "X-Frame-Options": "DENY"})
