"""Every attack of `attacks.py` against a real server, and what it must never say or leave behind."""

from __future__ import annotations

import json
import pickle
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support import make_settings
from tests.surfaces.attacks import ATTACKS, BEARER, BOMB_SIDE, TOKEN, Attack, table
from tests.surfaces.serving import PATIENCE_S, Served, serving
from upres.engine import LocalEngine
from upres.errors import InvalidSetting
from upres.settings import Settings
from upres.surfaces.asgi import serve
from upres.surfaces.guard import fit_to_serve, is_loopback
from upres.tasks import TaskSpec

LIMIT_MB = 1
MCP = {**BEARER, "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "attacker", "version": "1"}}


class Exploit:
    """What a pickle could run; loading it would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("attacks")
    roots = folder / "roots"
    roots.mkdir()
    outside = folder / "outside.png"
    Image.new("RGB", (20, 16)).save(outside)
    (roots / "link.png").symlink_to(outside)
    secret = folder / "secret.txt"
    secret.write_text("top secret")
    content = {
        "image": outside.read_bytes(), "large": bytes(LIMIT_MB * 2**20 + 1), "bomb": bomb(),
        "pickle": pickle.dumps(Exploit()), "svg": f'<svg><image href="file://{secret}"/></svg>'.encode(),
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode(),
        "concat": f"ffconcat version 1.0\nfile {secret.name}\n".encode(),
    }  # fmt: skip
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return {"roots": roots, "outside": outside, "link": roots / "link.png",
            "secret": secret, **{name: folder / name for name in content}}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = make_settings(tmp_path_factory.mktemp("guarded") / "data", MAX_UPLOAD_SIZE=str(LIMIT_MB),
                             UPRES_ROOTS=str(files["roots"]), UPRES_MAX_GIGAPIXELS="0.2",
                             GPU_IDLE_TIMEOUT="0")  # fmt: skip
    files["data"] = settings.data_dir
    with serving(settings, UPRES_TOKEN=TOKEN) as served:
        yield served
    LocalEngine(settings).stop()
    assert TOKEN not in "".join(served.log)
    for log in (settings.data_dir / "logs").glob("*"):
        assert TOKEN not in log.read_text("utf-8")


def sent(attack: Attack, server: Served, files: dict[str, Path]) -> httpx.Response:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        if attack.tool is None:
            upload = {"file": (attack.filename, files[attack.upload].read_bytes())} if attack.upload else None
            return client.request(attack.method, attack.path, headers=attack.headers, files=upload,
                                  data=attack.fields or None)  # fmt: skip
        arguments = {**attack.tool, "file_path": str(attack.tool["file_path"]).format(**files)}
        hello = client.post("/mcp", headers=MCP, json={"jsonrpc": "2.0", "id": 0, "method": "initialize",
                                                       "params": HELLO})  # fmt: skip
        session = {**MCP, "mcp-session-id": hello.headers["mcp-session-id"]}
        client.post("/mcp", headers=session, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        return client.post("/mcp", headers=session, json={
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": attack.called, "arguments": arguments}})  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.way}: {attack.name}")
def test_an_attack_gets_its_answer_and_learns_nothing(
    attack: Attack, guarded: Served, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    reply = sent(attack, guarded, files)
    if attack.tool is not None:
        assert attack.answer in reply.text and '"isError":true' in reply.text.replace(" ", "")
        return
    code = json.loads(reply.text).get("code") if reply.text else None
    assert " ".join(filter(None, (str(reply.status_code), code))) == attack.answer, reply.text
    assert not [name for name in reply.headers if name.startswith("access-control-") or name == "x-evil"]
    assert "Traceback" not in reply.text and str(tmp_path_factory.getbasetemp()) not in reply.text
    if reply.status_code == 200:
        answer = httpx.get(f"{guarded.url}/api/status/{reply.json()['task_id']}", headers=BEARER).json()
        assert answer["kind"] == "image"


def test_the_table_in_the_documentation_is_this_one() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "security.md").read_text("utf-8")
    assert table() in page


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_without_the_token_no_method_gets_through(guarded: Served, method: str) -> None:
    for path in ("/", "/docs", "/openapi.json", "/health", "/sse", "/messages/", "/api/v1/tasks"):
        assert httpx.request(method, guarded.url + path).status_code == 401, path


def test_with_the_token_the_server_answers(guarded: Served) -> None:
    assert httpx.get(f"{guarded.url}/health", headers=BEARER).status_code == 200
    assert httpx.get(f"{guarded.url}/health", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "no-such-host.invalid"])
def test_an_address_that_others_can_reach_needs_a_token(fresh_settings: Settings, host: str) -> None:
    from dataclasses import replace

    with pytest.raises(InvalidSetting, match="UPRES_TOKEN"):
        serve(replace(fresh_settings, host=host, port=0))
    allowed = fit_to_serve(replace(fresh_settings, host=host, token=TOKEN))
    assert allowed.roots == (fresh_settings.upload_dir,)  # nobody else's files, unless UPRES_ROOTS names them


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "localhost", "::1"])
def test_a_loopback_address_needs_none(fresh_settings: Settings, host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    assert is_loopback(host)


@pytest.fixture
def accepted_elsewhere(guarded: Served, files: dict[str, Path]) -> Iterator[str]:
    """A task that the machine's owner submitted, who may use any file."""
    with closing(LocalEngine(make_settings(files["data"]))) as owners:
        task_id = owners.submit(TaskSpec(input_path=str(files["outside"]), resolution=16)).id
        yield task_id
        owners.remove(task_id)


def test_of_a_task_that_was_accepted_elsewhere_no_input_outside_the_roots_is_shown(
    guarded: Served, accepted_elsewhere: str
) -> None:
    for path in ("files/{}/input", "compare/{}"):
        reply = httpx.get(f"{guarded.url}/api/{path.format(accepted_elsewhere)}", headers=BEARER, timeout=PATIENCE_S)
        assert (reply.status_code, reply.json()["code"]) == (403, "path_not_allowed")


def test_an_input_that_became_a_link_out_of_the_roots_is_not_shown(guarded: Served, files: dict[str, Path]) -> None:
    path = files["roots"] / "mine.png"
    path.write_bytes(files["image"].read_bytes())
    with closing(LocalEngine(make_settings(files["data"], UPRES_ROOTS=str(files["roots"])))) as engine:
        task_id = engine.submit(TaskSpec(input_path=str(path), resolution=16)).id
    url = f"{guarded.url}/api/files/{task_id}/input"
    assert httpx.get(url, headers=BEARER).content == path.read_bytes()
    path.unlink()
    path.symlink_to(files["secret"])
    reply = httpx.get(url, headers=BEARER)
    assert (reply.status_code, reply.json()["code"]) == (403, "path_not_allowed")
