"""The stdio server as a process of its own, fed by a pipe or spoken to by a host."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcp_types.version import LATEST_HANDSHAKE_VERSION

import upres.mcp_server
from upres.settings import Settings

SERVER = Path(str(upres.mcp_server.__file__))
PATIENCE_S = 30  # of the tests; only what hangs takes that long
PROMPT_S = 2  # within this a host sees the server gone after it closed stdin


def start(settings: Settings, *command: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *(command if command else (str(SERVER),))], text=True, encoding="utf-8",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            cwd=cwd, env={**settings.to_env(), **env})  # fmt: skip


def pipe(settings: Settings, text: str, *command: str, cwd: Path | None = None, **env: str) -> tuple[list[Any], str]:
    """The messages on stdout and the text on stderr of a server that is fed `text` and then the end of stdin."""
    with start(settings, *command, cwd=cwd, **env) as process:
        out, err = process.communicate(text, timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def request(method: str, request_id: int = 1, **params: object) -> str:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return json.dumps({**message, "params": params} if params else message)


def call(tool: str, request_id: int = 1, **arguments: object) -> str:
    return request("tools/call", request_id, name=tool, arguments=arguments)


class Host:
    """A client that shakes hands, as Claude Desktop does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.say(request("initialize", 0, protocolVersion=LATEST_HANDSHAKE_VERSION, capabilities={},
                         clientInfo={"name": "host", "version": "1"}))  # fmt: skip
        self.greeting = self.hear()
        self.say('{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, tool: str, **arguments: object) -> dict[str, Any]:
        self.say(call(tool, **arguments))
        return self.hear()["result"]["structuredContent"]

    def leave(self, within_s: float = PROMPT_S) -> tuple[str, str]:
        """Closes stdin; what was still said on stdout and stderr."""
        out, err = self.process.communicate(timeout=within_s)
        assert self.process.returncode == 0, err
        return out, err
