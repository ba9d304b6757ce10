"""Who may talk to a server that others can reach: whoever knows its token. Knows no route."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import replace
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from upres.errors import InvalidSetting
from upres.settings import TOKEN, Settings
from upres.surfaces.cors import ANY
from upres.surfaces.rest import HangUp, problem


class TokenGuard:
    """Lets a request pass that has `Authorization: Bearer <token>`; answers 401 to any other, whatever its route.

    The token is read from that header alone, never from a URL, which ends up in logs and histories.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._expected = f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._knows(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        refused = problem(HTTPStatus.UNAUTHORIZED, "unauthorized", "the request has no valid token",
                          f"send Authorization: Bearer <{TOKEN} of the server>",
                          headers={"WWW-Authenticate": "Bearer"}, kind=HangUp)  # fmt: skip
        await refused(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        """In a time that does not depend on how much of the token is right."""
        given = headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return hmac.compare_digest(f"{scheme.lower()} {token.strip()}".encode(), self._expected)


def fit_to_serve(settings: Settings) -> Settings:
    """The settings of a server at `settings.host`. Reachable from other machines, it needs a token, and tasks may use
    files of UPRES_ROOTS only; without any, only what was uploaded. Raises InvalidSetting.
    """
    if ANY in settings.cors_origins and not settings.token:
        raise InvalidSetting(f"UPRES_CORS_ORIGINS=* lets any page use this server and there is no {TOKEN}",
                             remedy=f"name the pages' origins, or set {TOKEN} to a secret")  # fmt: skip
    if is_loopback(settings.host):
        return settings
    if not settings.token:
        raise InvalidSetting(f"UPRES_HOST={settings.host} can be reached from other machines and there is no {TOKEN}",
                             remedy=f"set {TOKEN} to a secret (openssl rand -hex 32), or bind 127.0.0.1")  # fmt: skip
    return settings if settings.roots else replace(settings, roots=(settings.upload_dir,))


def is_loopback(host: str) -> bool:
    """Whether every address that `host` stands for can be reached from this machine alone."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # binding it will say what is wrong
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
