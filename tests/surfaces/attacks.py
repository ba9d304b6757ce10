"""Attacks on a server that other machines can reach, each with the answer it must get: the table of docs/security.md.

`python -m tests.surfaces.attacks` prints that table. Knows the requests; the test sends them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TOKEN = "t" * 40
BEARER = {"authorization": f"Bearer {TOKEN}"}
BOMB_SIDE = 20_000


@dataclass(frozen=True)
class Attack:
    """`{outside}`, `{link}`, `{image}` in a path stand for files of the test."""

    way: str
    name: str
    answer: str  # status and code
    method: str = "GET"
    path: str = "/api/queue/status"
    headers: dict[str, str] = field(default_factory=lambda: dict(BEARER))
    upload: str | None = None  # which file of the test is sent as an upload, under `filename`
    filename: str = "a.png"
    fields: dict[str, str] = field(default_factory=dict)
    tool: dict[str, Any] | None = None  # arguments of an MCP tool
    called: str = "submit_image_task"

    @property
    def row(self) -> str:
        return f"| {self.way} | {self.name} | {self.answer} |"


def _upload(way: str, name: str, answer: str, upload: str, filename: str, **fields: str) -> Attack:
    return Attack(way, name, answer, "POST", "/api/process", upload=upload, filename=filename, fields=fields)


def _tool(name: str, path: str) -> Attack:
    return Attack("path", name, "path_not_allowed", "POST", "/mcp", tool={"file_path": path, "resolution": 64})


ATTACKS = (
    Attack("token", "none", "401 unauthorized", headers={}),
    Attack("token", "a wrong one", "401 unauthorized", headers={"authorization": "Bearer " + "x" * 40}),
    Attack("token", "the right one's beginning", "401 unauthorized", headers={"authorization": f"Bearer {TOKEN[:-1]}"}),
    Attack("token", "in the URL", "401 unauthorized", path=f"/api/queue/status?token={TOKEN}", headers={}),
    Attack("token", "as a password", "401 unauthorized", headers={"authorization": f"Basic {TOKEN}"}),
    Attack("token", "none, on a route that does not exist", "401 unauthorized", path="/nowhere", headers={}),
    Attack("token", "none, on the MCP route", "401 unauthorized", "POST", "/mcp", {}),
    Attack("token", "none, with an upload", "401 unauthorized", "POST", "/api/process", {}, upload="image"),
    Attack("rebinding", "a foreign Host", "421 host_not_allowed", headers={**BEARER, "host": "evil.example"}),
    Attack("rebinding", "a Host that begins like ours", "421 host_not_allowed",
           headers={**BEARER, "host": "127.0.0.1.evil.example"}),
    Attack("rebinding", "no Host", "421 host_not_allowed", headers={**BEARER, "host": ""}),
    Attack("rebinding", "a foreign Origin", "403 origin_not_allowed",
           headers={**BEARER, "origin": "https://evil.example"}),
    Attack("rebinding", "the Origin null, of a file or a sandbox", "403 origin_not_allowed",
           headers={**BEARER, "origin": "null"}),
    Attack("rebinding", "a preflight of a foreign page", "403 origin_not_allowed", "OPTIONS", "/api/process",
           {"origin": "https://evil.example", "access-control-request-method": "POST"}),
    Attack("path", "a download of ../", "404 not_found", path="/api/download/..%2F..%2Fetc%2Fpasswd"),
    Attack("path", "a task id with a NUL", "404 task_not_found", path="/api/status/%00"),
    _tool("MCP: a file outside the roots", "{outside}"),
    _tool("MCP: a link inside the roots to a file outside", "{link}"),
    _tool("MCP: ../ out of the roots", "{roots}/../outside.png"),
    _tool("MCP: a file outside that does not exist", "/etc/no-such-file.png"),
    Attack("path", "MCP: probe of a file outside the roots", "path_not_allowed", "POST", "/mcp",
           tool={"file_path": "{outside}"}, called="probe_media"),
    _tool("MCP: a URL", "http://169.254.169.254/latest/meta-data"),
    _tool("MCP: an ffmpeg protocol", "concat:/etc/passwd|/etc/hosts"),
    _upload("path", "form fields input_path and output_path", "200", "image", "a.png",
            input_path="/etc/passwd", output_path="/etc/cron.d/x"),
    _upload("upload", "a name with folders", "200", "image", "../../../etc/cron.d/x.png"),
    _upload("upload", "a name of Windows with folders", "200", "image", "C:\\Windows\\system32\\x.png"),
    _upload("upload", "a name of 255 bytes", "200", "image", "ü" * 125 + ".png"),
    _upload("upload", "a name in many scripts and emoji", "200", "image", "相片 صورة तस्वीर 👩‍👩‍👧.png"),
    _upload("upload", "a name with line feeds and a NUL", "200", "image", "a\r\nX-Evil: 1\0.png"),
    _upload("upload", "larger than the limit", "413 upload_too_large", "large", "a.mp4"),
    _upload("bomb", f"a PNG that claims {BOMB_SIDE}x{BOMB_SIDE} pixels", "400 invalid_input", "bomb", "a.png"),
    _upload("bomb", "a task beyond the limit of gigapixels", "413 task_too_large", "image", "a.png",
            resolution="13000"),
    _upload("pickle", "a pickle that would run a function, named as a video", "400 invalid_input", "pickle", "a.mp4"),
    _upload("playlist", "HLS that names a local file", "400 unsupported_media", "hls", "a.mp4"),
    _upload("playlist", "ffconcat that names a local file", "400 unsupported_media", "concat", "a.mp4"),
    _upload("playlist", "an SVG with an external image", "400 unsupported_media", "svg", "a.png"),
    Attack("header", "a range of a thousand parts", "404 task_not_found", path="/api/download/nothere0",
           headers={**BEARER, "range": "bytes=" + ",".join("0-1" for _ in range(1000))}),
    Attack("header", "an idempotency key of 10,000 characters", "400 invalid_parameter", "POST", "/api/process",
           {**BEARER, "idempotency-key": "k" * 10_000}, upload="image"),
)  # fmt: skip


def table() -> str:
    return "\n".join(["| way | attack | answer |", "|---|---|---|", *(attack.row for attack in ATTACKS)])


if __name__ == "__main__":
    print(table())
