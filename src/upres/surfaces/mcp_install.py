"""The entry for Upres in an MCP client's configuration: where it goes, what it is, how it gets there.

Keeps every other entry and a copy of the file as it was. Knows nothing of the server that the entry starts.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upres.errors import InvalidSetting

Client = Literal["claude-desktop", "claude-code", "cursor", "vscode", "windsurf", "gemini"]


@dataclass(frozen=True, slots=True)
class Place:
    """`user` is a path under the client's own folder of a platform, `project` one under a project's."""

    title: str
    key: str  # of the object that holds the servers
    user: str
    project: str | None = None
    url_key: str | None = "url"  # None: takes no server by address
    typed: bool = False  # entries say their transport


PLACES: dict[Client, Place] = {
    "claude-desktop": Place("Claude Desktop", "mcpServers", "{app}/Claude/claude_desktop_config.json", url_key=None),
    "claude-code": Place("Claude Code", "mcpServers", "{home}/.claude.json", ".mcp.json", typed=True),
    "cursor": Place("Cursor", "mcpServers", "{home}/.cursor/mcp.json", ".cursor/mcp.json"),
    "vscode": Place("VS Code", "servers", "{app}/Code/User/mcp.json", ".vscode/mcp.json", typed=True),
    "windsurf": Place("Windsurf", "mcpServers", "{home}/.codeium/windsurf/mcp_config.json", url_key="serverUrl"),
    "gemini": Place("Gemini CLI", "mcpServers", "{home}/.gemini/settings.json", ".gemini/settings.json",
                    url_key="httpUrl"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """What writing would do; `before` is None where there is no file."""

    path: Path
    before: str | None
    after: str

    @property
    def diff(self) -> str:
        """Empty where nothing changes."""
        old, new = "" if self.before is None else self.before, self.after
        if old == new:
            return ""
        names = (str(self.path) if self.before is not None else "/dev/null", str(self.path))
        return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), *names))

    def write(self) -> Path | None:
        """Replaces the file in one step; returns the copy of what was there. Raises InvalidSetting."""
        try:
            return self._write()
        except OSError as error:
            raise InvalidSetting(f"{self.path} cannot be written: {error.strerror}",
                                 remedy="add the lines shown by hand") from error  # fmt: skip

    def _write(self) -> Path | None:
        target = self.path.resolve()  # a symbolic link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        backup = None
        if self.before is not None:
            backup = target.with_name(f"{target.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
            backup.write_text(self.before, "utf-8")
            backup.chmod(target.stat().st_mode & 0o777)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.after)
            Path(name).chmod(0o600 if self.before is None else target.stat().st_mode & 0o777)
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
        return backup


def config_path(client: Client, project: Path | None, env: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Raises InvalidSetting for a client that has no file of projects."""
    place = PLACES[client]
    if project is not None:
        if place.project is None:
            raise InvalidSetting(f"{place.title} has no settings of projects", remedy="leave --project out")
        return project.absolute() / place.project
    home = Path(env.get("USERPROFILE" if platform == "win32" else "HOME", str(Path.home())))
    if platform == "win32":
        app = Path(env.get("APPDATA", home / "AppData" / "Roaming"))
    elif platform == "darwin":
        app = home / "Library" / "Application Support"
    else:
        app = Path(env.get("XDG_CONFIG_HOME", home / ".config"))
    return Path(place.user.format(app=app, home=home))


def local_entry(client: Client, flags: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """Starts this very installation: clients know neither our PATH nor our environment."""
    script = Path(sys.executable).with_name("upres.exe" if sys.platform == "win32" else "upres")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "upres.surfaces.cli"]
    entry: dict[str, Any] = {"type": "stdio"} if PLACES[client].typed else {}
    entry |= {"command": command[0], "args": [*command[1:], "mcp", *flags]}
    return entry | ({"env": dict(variables)} if variables else {})


def remote_entry(client: Client, url: str, token: str) -> dict[str, Any]:
    """Raises InvalidSetting for a client that starts its servers itself and for no web address."""
    place = PLACES[client]
    if place.url_key is None:
        raise InvalidSetting(f"{place.title} takes no server by address",
                             remedy="set SEEDVR2_API_URL instead: a local server then passes tasks on")  # fmt: skip
    if not url.startswith(("http://", "https://")):
        raise InvalidSetting(f"--url {url} is not a web address", remedy="write it like http://localhost:8200/mcp")
    entry: dict[str, Any] = {"type": "http"} if place.typed else {}
    entry[place.url_key] = url
    return entry | ({"headers": {"Authorization": f"Bearer {token}"}} if token else {})


def change(client: Client, path: Path, name: str, entry: dict[str, Any]) -> Change:
    """Raises InvalidSetting where the file is not plain JSON: comments in it must not get lost."""
    try:
        before = path.read_text("utf-8")
    except FileNotFoundError:
        before = None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} cannot be read: {error}", remedy="check its rights") from error
    key = PLACES[client].key
    try:
        config = json.loads(before) if before is not None and before.strip() else {}
    except ValueError as error:
        shown = json.dumps({name: entry}, indent=2)
        raise InvalidSetting(f"{path} is not plain JSON ({error})",
                             remedy=f"add this under {key!r} by hand:\n{shown}") from error  # fmt: skip
    if not isinstance(config, dict) or not isinstance(config.setdefault(key, {}), dict):
        raise InvalidSetting(f"{path}: {key!r} is not an object", remedy="correct the file first")
    if config[key].get(name) == entry and before is not None:
        return Change(path, before, before)
    config[key][name] = entry
    return Change(path, before, json.dumps(config, indent=_indent(before), ensure_ascii=False) + "\n")


def _indent(text: str | None) -> int | str:
    found = re.search(r"^\{\s*\n([ \t]+)\S", text) if text is not None else None
    if found is None:
        return 2
    return "\t" if "\t" in found[1] else len(found[1])
