"""`upres mcp install`: the right file, the change shown, only our entry touched, a copy kept."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from tests.surfaces.stdio_process import request
from upres.errors import InvalidSetting
from upres.surfaces import cli
from upres.surfaces.mcp_install import Client, change, config_path, local_entry

Run = Callable[..., int]
OTHERS = {"theme": "dark", "mcpServers": {"other": {"command": "x"}, "upres": {"command": "old"}}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In a home of its own."""
    for name in ("XDG_CONFIG_HOME", "UPRES_DATA_DIR", "OUTPUT_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda *arguments: cli.main(["mcp", "install", *map(str, arguments)])


@pytest.mark.parametrize("client", get_args(Client))
def test_without_write_the_change_is_shown_and_not_made(
    run: Run, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--client", client) == 0
    shown = capsys.readouterr()
    assert '+    "upres": {' in shown.out and "--write changes" in shown.err
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("client", get_args(Client))
def test_the_entry_that_is_written_starts_the_server(run: Run, client: Client, tmp_path: Path) -> None:
    assert run("--client", client, "--write", "--tools", "core") == 0
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path == config_path(client, None, {"HOME": str(tmp_path)})
    assert path.stat().st_mode & 0o077 == 0
    [servers] = json.loads(path.read_text()).values()
    entry = servers["upres"]
    assert Path(entry["command"]).is_file() and entry["args"][-3:] == ["mcp", "--tools", "core"]
    assert run("--client", client, "--write", "--tools", "core") == 0
    assert list(tmp_path.rglob("*.bak")) == []  # nothing to change, nothing to keep


def test_an_entry_really_serves(tmp_path: Path) -> None:
    entry = local_entry("cursor", ["--read-only"], {"UPRES_DATA_DIR": str(tmp_path), "NVIDIA_VISIBLE_DEVICES": "none"})
    answer = subprocess.run([entry["command"], *entry["args"]], env=entry["env"], input=request("tools/list"),
                            text=True, capture_output=True, timeout=60, check=True).stdout  # fmt: skip
    assert "submit_video_task" not in {tool["name"] for tool in json.loads(answer)["result"]["tools"]}


def test_other_entries_stay_and_the_old_file_is_kept(run: Run, tmp_path: Path) -> None:
    path = tmp_path / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text(before := json.dumps(OTHERS, indent=4))
    path.chmod(0o640)
    assert run("--client", "cursor", "--write") == 0
    after = json.loads(path.read_text())
    assert after.pop("theme") == "dark" and after["mcpServers"].pop("other") == {"command": "x"}
    assert list(after["mcpServers"]) == ["upres"] and after["mcpServers"]["upres"] != {"command": "old"}
    assert '\n    "theme"' in path.read_text()  # its own indentation
    [copy] = path.parent.glob("*.bak")
    assert copy.read_text() == before
    assert {copy.stat().st_mode & 0o777, path.stat().st_mode & 0o777} == {0o640}


def test_a_project_has_a_file_of_its_own(run: Run, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert run("--client", "vscode", "--project", project, "--write") == 0
    assert json.loads((project / ".vscode" / "mcp.json").read_text())["servers"]["upres"]["type"] == "stdio"
    assert run("--client", "claude-desktop", "--project", project) == 1


def test_a_running_server_is_entered_by_its_address(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPRES_TOKEN", "s" * 32)
    assert run("--client", "claude-code", "--url", "http://box:8200/mcp", "--write") == 0
    entry = json.loads((tmp_path / ".claude.json").read_text())["mcpServers"]["upres"]
    assert entry == {"type": "http", "url": "http://box:8200/mcp", "headers": {"Authorization": f"Bearer {'s' * 32}"}}
    assert "s" * 32 not in capsys.readouterr().out
    assert run("--client", "claude-desktop", "--url", "http://box:8200/mcp") == 1
    assert run("--client", "cursor", "--url", "box:8200") == 1


def test_the_settings_of_the_shell_come_along(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPUT_FOLDER", "/films")
    run("--client", "gemini", "--write")
    assert json.loads((tmp_path / ".gemini" / "settings.json").read_text())["mcpServers"]["upres"]["env"] == {
        "OUTPUT_FOLDER": "/films"}  # fmt: skip


@pytest.mark.parametrize("text", ['{ // mine\n "servers": {} }', "[1]", '{"servers": []}', "\xff"])
def test_a_file_that_is_not_plain_json_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSetting, match=r"mcp\.json"):
        change("vscode", path, "upres", {"command": "x"})
    assert path.read_bytes() == text.encode("latin-1")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    change("cursor", tmp_path / "link.json", "upres", {"command": "x"}).write()
    assert (tmp_path / "link.json").is_symlink()
    assert "upres" in (tmp_path / "real.json").read_text()


@pytest.mark.parametrize(("platform", "path"), [
    ("darwin", "/home/Library/Application Support/Claude/claude_desktop_config.json"),
    ("linux", "/home/.config/Claude/claude_desktop_config.json")])  # fmt: skip
def test_each_platform_has_its_place(platform: str, path: str) -> None:
    assert config_path("claude-desktop", None, {"HOME": "/home"}, platform) == Path(path)


def test_windows_has_its_place() -> None:
    env = {"APPDATA": "C:/Roaming", "USERPROFILE": "C:/me"}
    assert config_path("vscode", None, env, "win32").as_posix() == "C:/Roaming/Code/User/mcp.json"
    assert config_path("cursor", None, env, "win32").as_posix() == "C:/me/.cursor/mcp.json"


def test_an_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match=r"cannot be (written|read)"):
        change("cursor", tmp_path / "file" / "mcp.json", "upres", {"command": sys.executable}).write()
