"""Pages of other origins that may use this server, as browsers ask for it (CORS). Knows no route.

Credentials are never allowed: who may do what is told by a token that the page itself sends, not by a cookie that the
browser adds to whatever any page asks.
"""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

ANY = "*"
SENT = ("Authorization", "Content-Type", "Idempotency-Key", "Range", "Last-Event-ID", "Mcp-Session-Id",
        "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name")  # fmt: skip
READ = ("Accept-Ranges", "Content-Disposition", "Content-Range", "Retry-After", "Mcp-Session-Id", "WWW-Authenticate")
METHODS = ("GET", "HEAD", "POST", "DELETE")


class Cors(CORSMiddleware):
    """Answers preflights, and names the page's origin in every reply to it. Foreign ones do not get here: HostGuard."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=READ,
                         allow_private_network=True)  # a page on the internet, and this server on its reader's machine
