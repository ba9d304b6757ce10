"""Every refusal: one JSON shape, the right status, and words that name the thing and the value."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.surfaces.long_task import running_long_task
from upres.engine import Engine, LocalEngine
from upres.settings import Settings
from upres.surfaces.asgi import build_app

FORM = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


def refusal(reply: httpx.Response, status: int, code: str) -> str:
    """The refusal's `detail`, once its form was checked."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json"), reply.text
    said: dict[str, str] = reply.json()
    assert set(said) == {"error", "detail", "code"}
    assert said["code"] == code
    assert said["detail"].startswith(said["error"])
    assert len(said["error"]) > 5
    return said["detail"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code", "words"),
    [
        ("GET", "/nowhere", {}, 404, "not_found", "/nowhere"),
        ("GET", "/api/process", {}, 405, "method_not_allowed", "GET /api/process"),
        ("DELETE", "/health", {}, 405, "method_not_allowed", "DELETE /health"),
        ("GET", "/api/status/nothere", {}, 404, "task_not_found", "nothere"),
        ("GET", "/api/queue/position/nothere", {}, 404, "task_not_found", "nothere"),
        ("GET", "/api/download/nothere", {}, 404, "task_not_found", "nothere"),
        ("POST", "/api/cancel/nothere", {}, 404, "task_not_found", "nothere"),
        ("GET", "/api/queue/history?limit=many", {}, 400, "invalid_parameter", "limit='many'"),
        ("GET", "/api/queue/history?limit=0", {}, 400, "invalid_parameter", "limit='0'"),
        ("POST", "/api/models/switch", {"json": {"model": "nomodel"}}, 404, "model_not_found", "nomodel"),
        ("POST", "/api/models/switch", {"json": {}}, 400, "invalid_parameter", "model=None"),
        ("POST", "/api/models/switch", {"json": {"model": ""}}, 400, "invalid_parameter", "model=''"),
        ("POST", "/api/models/switch", {"json": {"model": 7}}, 400, "invalid_parameter", "model=7"),
        ("POST", "/api/models/switch", {"json": ["compact"]}, 400, "invalid_parameter", "list"),
        ("POST", "/api/models/switch", {"content": b"{"}, 400, "invalid_parameter", "JSON"),
        ("POST", "/api/models/switch", {"content": b"\xff\xfe"}, 400, "invalid_parameter", "JSON"),
        ("POST", "/api/models/switch", {}, 400, "invalid_parameter", "JSON"),
        ("POST", "/api/models/switch", {"content": b" " * 100_000}, 400, "invalid_parameter", "65536 bytes"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_with_its_name(
    http: httpx.Client, method: str, path: str, options: dict[str, Any], status: int, code: str, words: str
) -> None:
    assert words in refusal(http.request(method, path, **options), status, code)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "No file provided"),
        ({"json": {"file": "x"}}, "No file provided"),
        ({"data": {"file": "input.mp4"}}, "No file provided"),
        ({"files": {"video": ("a.png", b"x")}}, "No file provided"),
        ({"content": PART % (b"file", b"x") + b"--b--\r\n", "headers": FORM}, "No file provided"),
        ({"files": {"file": ("a.png", b"x")}, "headers": {"content-type": "multipart/form-data"}}, "No file provided"),
        ({"content": b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--b--\r\n',
          "headers": FORM}, "Empty filename"),
        ({"files": [("file", ("a.png", b"x")), ("file", ("b.png", b"x"))]}, "more than one file"),
        ({"content": b"no form at all", "headers": FORM}, "cannot be read"),
        ({"content": PART % (b"seed", b"1"), "headers": FORM}, "closing boundary"),
        ({"content": (PART % (b"a", b"1")) * 101 + b"--b--\r\n", "headers": FORM}, None),
        ({"content": PART % (b"seed", b"1" * 5000) + b"--b--\r\n", "headers": FORM}, "seed is longer than 4096"),
        ({"content": b"", "headers": {"content-type": f"multipart/form-data; boundary={'b' * 300}"}}, "oundary"),
    ],
)  # fmt: skip
def test_a_form_without_one_whole_file_is_refused(
    http: httpx.Client, uploads: Path, options: dict[str, Any], words: str | None
) -> None:
    before = sorted(uploads.iterdir())
    said = refusal(http.post("/api/process", **options), 400, "invalid_parameter")
    assert words is None or words in said
    assert sorted(uploads.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("resolution", "abc"), ("resolution", ""), ("resolution", "1080.5"), ("resolution", "4"), ("resolution", "99999"),
     ("batch_size", "five"), ("batch_size", "6"), ("batch_size", "0"), ("seed", "x"), ("seed", "-1"),
     ("color_correction", "rainbow"), ("vae_tiling", "maybe"), ("vae_quality", "best"), ("kind", "sculpture")],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named_with_its_value(
    http: httpx.Client, uploads: Path, small_image: Path, name: str, value: str
) -> None:
    before = sorted(uploads.iterdir())
    reply = http.post("/api/process", files={"file": ("a.png", small_image.read_bytes())}, data={name: value})
    assert f"{name}={value!r}" in refusal(reply, 400, "invalid_parameter")
    assert sorted(uploads.iterdir()) == before


@pytest.mark.parametrize(
    ("filename", "content", "data", "status", "code"),
    [("a.png", b"not a picture", {}, 400, "unsupported_media"), ("a.mp4", b"", {}, 400, "invalid_input"),
     (None, None, {"dit_model": "nomodel"}, 404, "model_not_found"),
     (None, None, {"kind": "video"}, 400, "unsupported_media")],
)  # fmt: skip
def test_an_upload_the_engine_refuses_is_deleted_and_its_path_stays_ours(
    http: httpx.Client, uploads: Path, small_image: Path, filename: str | None, content: bytes | None,
    data: dict[str, str], status: int, code: str,
) -> None:  # fmt: skip
    before = sorted(uploads.iterdir())
    file = ("a.png", small_image.read_bytes()) if filename is None else (filename, content)
    reply = http.post("/api/process", files={"file": file}, data=data)
    assert str(uploads) not in refusal(reply, status, code)
    assert sorted(uploads.iterdir()) == before


def test_a_result_that_is_not_there_yet_cannot_be_downloaded(
    http: httpx.Client, engine: Engine, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path) as task_id:
        assert task_id in refusal(http.get(f"/api/download/{task_id}"), 400, "task_not_completed")


def test_a_range_beyond_the_file_is_refused_in_json(http: httpx.Client, engine: Engine, small_image: Path) -> None:
    task_id = http.post("/api/process", files={"file": ("a.png", small_image.read_bytes())}).json()["task_id"]
    output = Path(str(engine.wait(task_id, 60).result.output_path))  # type: ignore[union-attr]
    beyond = http.get(f"/api/download/{task_id}", headers={"range": "bytes=99999999-"})
    assert "bytes=99999999-" in refusal(beyond, 416, "invalid_range")
    assert beyond.headers["content-range"] == f"bytes */{output.stat().st_size}"
    refusal(http.get(f"/api/download/{task_id}", headers={"range": "bytes=nonsense"}), 400, "invalid_range")
    output.unlink()
    assert output.name in refusal(http.get(f"/api/download/{task_id}"), 404, "output_not_found")


@pytest.mark.anyio
async def test_a_defect_shows_neither_its_traceback_nor_a_path(
    fresh_settings: Settings, fresh_engine: LocalEngine
) -> None:
    with closing(sqlite3.connect(fresh_settings.data_dir / "upres.sqlite3")) as store, store:
        store.execute("INSERT INTO tasks"
                      " (id, spec, kind, model, frames, pixels, state, completed_at, created_at, result)"
                      " VALUES ('damaged0', '{}', 'image', 'compact', 1, 1, 'completed', 1, 1, '{}')")  # fmt: skip
    transport = httpx.ASGITransport(build_app(fresh_engine, fresh_settings), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path in ("/api/status/damaged0", "/api/download/damaged0", "/api/queue/history"):
            said = refusal(await client.get(path), 500, "internal_error")
            assert "Traceback" not in said
            assert str(fresh_settings.data_dir) not in said
