"""What FlashVSR's API refuses: the documented status, a `detail` in words, and nothing left on disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.surfaces.serving import UPLOAD_CAP_MB, Served, serving
from upres.engine import LocalEngine
from upres.settings import Settings

MB = 2**20
FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'


@pytest.fixture(scope="module")
def ready(settings: Settings, engine: LocalEngine) -> Iterator[Served]:
    with serving(settings, UPRES_FLASHVSR_MODEL="compact", MAX_UPLOAD_SIZE=str(UPLOAD_CAP_MB)) as served:
        yield served


@pytest.fixture(scope="module")
def api(ready: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ready.url, timeout=60) as client:
        yield client


def detail(reply: httpx.Response, status: int, code: str) -> str:
    assert reply.status_code == status, reply.text
    said: dict[str, str] = reply.json()
    assert said["code"] == code and said["detail"].startswith(said["error"])
    return said["detail"]


@pytest.mark.parametrize(("method", "path", "status", "code", "words"), [
    ("GET", "/api/tasks/nothere0", 404, "task_not_found", "nothere0"),
    ("GET", "/api/tasks/8f14e45f-ceea-467f-a8d5-0a3b2f0c1d2e", 404, "task_not_found", "8f14e45f-ceea"),
    ("GET", "/api/tasks/ffffffff-ffff-8000-8000-757072657300", 404, "task_not_found", "ffffffff"),
    ("GET", "/api/tasks/nothere0/progress", 404, "task_not_found", "nothere0"),
    ("DELETE", "/api/tasks/nothere0", 404, "task_not_found", "nothere0"),
    ("POST", "/api/tasks/nothere0/export_from_chunks", 404, "task_not_found", "nothere0"),
    ("GET", "/api/files/nothere0/result", 404, "task_not_found", "nothere0"),
    ("GET", "/api/files/nothere0/input", 404, "task_not_found", "nothere0"),
    ("GET", "/api/files/nothere0/preview", 404, "task_not_found", "nothere0"),
    ("GET", "/api/files/nothere0/other", 404, "not_found", "/other"),
    ("GET", "/api/tasks/?page=0", 400, "invalid_parameter", "page='0'"),
    ("GET", "/api/tasks/?page=first", 400, "invalid_parameter", "page='first'"),
    ("GET", "/api/tasks/?page_size=101", 400, "invalid_parameter", "page_size='101'"),
    ("GET", "/api/tasks/?page_size=0", 400, "invalid_parameter", "page_size='0'"),
    ("GET", "/api/tasks/?status=cancelled", 400, "invalid_parameter", "status='cancelled'"),
    ("PUT", "/api/tasks/nothere0", 405, "method_not_allowed", "PUT"),
])  # fmt: skip
def test_a_bad_request_is_answered_with_its_name(
    api: httpx.Client, method: str, path: str, status: int, code: str, words: str
) -> None:
    assert words in detail(api.request(method, path), status, code)


def test_a_page_beyond_the_last_is_empty(api: httpx.Client) -> None:
    reply = api.get("/api/tasks/?page=2147483648&page_size=100")
    assert (reply.status_code, reply.json()["tasks"]) == (200, [])


@pytest.mark.parametrize(("name", "value"), [
    ("scale", "0.9"), ("scale", "8.1"), ("scale", "two"), ("scale", "nan"), ("scale", "inf"),
    ("sparse_ratio", "0.5"), ("sparse_ratio", "4.5"), ("sparse_ratio", "x"),
    ("local_range", "6"), ("local_range", "16"), ("local_range", "9.5"),
    ("seed", "-1"), ("seed", "1.5"), ("seed", str(2**63)),
    ("preprocess_width", "127"), ("preprocess_width", "640.5"), ("preprocess_width", "16385"),
    ("preserve_aspect_ratio", "maybe"),
])  # fmt: skip
def test_a_parameter_that_cannot_be_used_is_named_with_its_value(
    api: httpx.Client, uploads: Path, small_video: Path, name: str, value: str
) -> None:
    before = sorted(uploads.iterdir())
    reply = api.post("/api/tasks/", files={"file": ("a.mp4", small_video.read_bytes())}, data={name: value})
    assert f"{name}={value!r}" in detail(reply, 400, "invalid_parameter")
    assert sorted(uploads.iterdir()) == before


@pytest.mark.parametrize(("form", "words"), [
    ({"preprocess_width": "160", "scale": "1"}, "use preserve_aspect_ratio=true, or a larger scale or preproc"),
    ({"preprocess_width": "4096", "scale": "8"}, "no side may exceed 16384"),
])  # fmt: skip
def test_a_size_that_cannot_be_made_is_refused_with_what_to_do(
    api: httpx.Client, uploads: Path, small_video: Path, form: dict[str, str], words: str
) -> None:
    before = sorted(uploads.iterdir())
    reply = api.post("/api/tasks/", files={"file": ("a.mp4", small_video.read_bytes())}, data=form)
    assert words in detail(reply, 400, "invalid_parameter")
    assert sorted(uploads.iterdir()) == before


@pytest.mark.parametrize(("options", "code", "words"), [
    ({}, "invalid_parameter", "No file provided"),
    ({"data": {"scale": "2"}}, "invalid_parameter", "No file provided"),
    ({"content": HEAD % b"" + b"\r\n--b--\r\n", "headers": FORM}, "invalid_parameter", "Empty filename"),
    ({"files": {"file": ("a.txt", b"x")}}, "unsupported_media", "a.txt"),
    ({"files": {"file": ("a.png", b"x")}}, "unsupported_media", ".mp4, .mov, .avi, .mkv"),
    ({"files": {"file": ("mp4", b"x")}}, "unsupported_media", "mp4"),
    ({"files": {"file": ("片.MP4", b"")}}, "invalid_input", "片.MP4 is empty"),
    ({"files": {"file": ("a.mkv", b"not a video")}}, "invalid_input", "a.mkv"),
    ({"files": {"file": ("a.mp4", None)}}, "unsupported_media", "a.mp4 is an image"),
])  # fmt: skip
def test_a_file_that_is_no_video_is_refused(
    api: httpx.Client, uploads: Path, small_image: Path, options: dict[str, Any], code: str, words: str
) -> None:
    before = sorted(uploads.iterdir())
    if "files" in options and options["files"]["file"][1] is None:
        options = {"files": {"file": ("a.mp4", small_image.read_bytes())}}
    assert words in detail(api.post("/api/tasks/", **options), 400, code)
    assert sorted(uploads.iterdir()) == before


def test_an_upload_over_the_limit_is_cut_off(api: httpx.Client, uploads: Path) -> None:
    def body() -> Iterator[bytes]:
        yield HEAD % b"big.mp4"
        for _ in range(64):
            yield bytes(MB)
        yield b"\r\n--b--\r\n"

    before = sorted(uploads.iterdir())
    reply = api.post("/api/tasks/", content=body(), headers=FORM)
    assert f"larger than {UPLOAD_CAP_MB} MB" in detail(reply, 413, "upload_too_large")
    assert sorted(uploads.iterdir()) == before


def answer_to_a_head(server: Served, length: int) -> bytes:
    """What a server says of an upload before a byte of it was sent."""
    head = (f"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['content-type']}\r\n"
            f"Content-Length: {length}\r\n\r\n")  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode())
        return client.recv(4096)


def test_an_upload_that_declares_too_much_is_refused_before_it_comes(ready: Served) -> None:
    assert answer_to_a_head(ready, 64 * MB).startswith(b"HTTP/1.1 413 ")


def test_without_weights_an_upload_is_refused_before_it_comes_with_what_to_run(
    server: Served, http: httpx.Client, uploads: Path, small_video: Path
) -> None:
    """`server` has the default setting, and no weights of FlashVSR."""
    before = sorted(uploads.iterdir())
    assert answer_to_a_head(server, MB).startswith(b"HTTP/1.1 503 ")
    reply = http.post("/api/tasks/", files={"file": ("a.mp4", small_video.read_bytes())})
    said = detail(reply, 503, "model_unavailable")
    assert "flashvsr_v1.1_dit.safetensors" in said and "run `upres download flashvsr-v1.1-tiny-long`" in said
    assert sorted(uploads.iterdir()) == before
    for path in ("/api/system/status", "/api/system/assets"):
        weights = http.get(path).json()["flashvsr"]
        assert (weights["version"], weights["default_variant"]) == ("v1.1", "tiny_long")
        assert weights["weights_ready"] is False and weights["model_source"] is None
        assert weights["available_variants"] == ["tiny_long", "tiny", "full"]
        assert weights["ready_variants"] == {"tiny_long": False, "tiny": False, "full": False}
        assert weights["missing_files"][0] == "flashvsr_v1.1_dit.safetensors" and len(weights["missing_files"]) == 4
