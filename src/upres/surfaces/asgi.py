"""One process that serves REST and MCP over HTTP: the application and its server. Knows nothing of restoring."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import uvicorn
from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings

from upres.engine import Engine, LocalEngine
from upres.errors import InvalidSetting
from upres.settings import Settings
from upres.surfaces import docs, rest_flashvsr, rest_seedvr2, rest_upres
from upres.surfaces.cors import Cors
from upres.surfaces.guard import TokenGuard, fit_to_serve
from upres.surfaces.hosts import WILDCARDS, HostGuard
from upres.surfaces.mcp import build_server
from upres.surfaces.rest import install_problems
from upres.version import __version__

GRACE_S = 3  # open event streams end only when cut; uploads and downloads get this long to finish
KEEP_ALIVE_S = 75  # longer than clients keep an idle connection: who closes first must not be the server
BACKLOG = 2048


def build_app(engine: Engine, settings: Settings) -> FastAPI:
    """REST under /api, MCP at /mcp (streamable HTTP) and /sse, a page about both at /docs."""
    mcp = build_server(engine, settings)
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # HostGuard covers every route
    over_http = mcp.streamable_http_app(transport_security=unguarded)
    over_sse = mcp.sse_app(transport_security=unguarded)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.session_manager.run():  # the lifespan of routes taken from another app never runs by itself
            yield

    app = FastAPI(title="Upres", version=__version__, description=docs.ABOUT, lifespan=lifespan,
                  docs_url=None, redoc_url=None)  # fmt: skip
    app.state.engine, app.state.settings = engine, settings
    if settings.token:
        app.add_middleware(TokenGuard, token=settings.token)
    if settings.cors_origins:  # outside TokenGuard: a preflight carries no token
        app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(HostGuard, bound=settings.host, allowed=settings.allowed_hosts, pages=settings.cors_origins)
    install_problems(app)
    app.include_router(docs.router)
    app.include_router(rest_seedvr2.router)
    app.include_router(rest_flashvsr.router)
    app.include_router(rest_upres.router)
    app.router.routes.extend((*over_http.routes, *over_sse.routes))
    return app


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM. Raises InvalidSetting when the address cannot or must not be bound.

    Always this machine's engine: SEEDVR2_API_URL is where clients look for a server, and often names this very one.
    """
    logging.getLogger("mcp").setLevel(logging.WARNING)  # it announces every session
    settings = fit_to_serve(settings)
    engine = LocalEngine(settings)
    with closing(engine), closing(_bind(settings.host, settings.port)) as listener:
        config = uvicorn.Config(build_app(engine, settings), log_level="warning", access_log=False,
                                timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=KEEP_ALIVE_S,
                                server_header=False, lifespan="on")  # fmt: skip
        # uvicorn has shut down in good order when it raises the interrupt again
        with suppress(KeyboardInterrupt):
            _Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "another program may hold the port: set PORT (0 takes any free one) or UPRES_HOST"
        raise InvalidSetting(f"cannot listen on {host}:{port}: {error.strerror}", remedy=remedy) from error
    # asyncio sends at once (TCP_NODELAY) only on what it knows to be TCP, and create_server leaves the protocol out: a
    # body would wait 40 ms for the client to acknowledge the headers
    return socket.socket(fileno=listener.detach())


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets if sockets is not None else ():
            name, port = listener.getsockname()[:2]
            host = "localhost" if name in WILDCARDS else f"[{name}]" if ":" in name else name
            sys.stderr.write(f"Upres {__version__} listens on http://{host}:{port}\n")
            sys.stderr.flush()
