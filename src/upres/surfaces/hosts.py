"""Who may talk to this server: the check of Host and Origin that stops DNS rebinding. Knows no route."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from upres.surfaces.cors import ANY
from upres.surfaces.rest import HangUp, problem

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})  # bound to every address of the machine


class HostGuard:
    """Refuses foreign Host names (421) and foreign Origins (403) before any route sees the request.

    A page of another site can make a browser send requests here, and with a DNS name of its own that
    resolves to this machine even read the answers. Its name then stands in Host or Origin; a number cannot
    be rebound, so on a server bound to every address the one the request arrived at is allowed too.
    """

    def __init__(self, app: ASGIApp, bound: str, allowed: Iterable[str], pages: Iterable[str] = ()) -> None:
        """`pages` are origins elsewhere that may ask, `*` any."""
        self.app = app
        self.pages = frozenset(pages)
        self.wildcard = bound in WILDCARDS
        self.names = LOOPBACK | {name.lower() for name in (bound, *allowed) if name not in WILDCARDS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["type"] == "lifespan" else self._refusal(scope)
        await (self.app if refused is None else refused)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, names = Headers(scope=scope), self.names
        if self.wildcard and scope["server"] is not None:
            names |= {scope["server"][0]}
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if not hosts or any(_name(f"http://{host}") not in names for host in hosts):
            status, header, given = HTTPStatus.MISDIRECTED_REQUEST, "Host", hosts
        elif ANY not in self.pages and any(_name(origin) not in names for origin in origins if not self._page(origin)):
            status, header, given = HTTPStatus.FORBIDDEN, "Origin", origins
        else:
            return None
        remedy = "if it is a name of this server, add it to UPRES_ALLOWED_HOSTS"
        if header == "Origin":
            remedy += "; if it is a page elsewhere that shall use this server, to UPRES_CORS_ORIGINS"
        return problem(status, f"{header.lower()}_not_allowed", f"{header} {', '.join(given)} is not allowed", remedy,
                       kind=HangUp)  # fmt: skip

    def _page(self, origin: str) -> bool:
        return origin.lower() in self.pages


def _name(url: str) -> str | None:
    """The host's name without its port; None for what is not one, such as the Origin `null`."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without its pair
        return None
    return parts.hostname if parts.scheme in ("http", "https") and parts.username is None else None
