"""Uploads: the cap holds while bytes come in, nothing half-received stays, and any file name is taken."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.serving import UPLOAD_CAP_MB, Served, serving, until
from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces.uploads import NAME_BYTES, safe_name

MB = 2**20
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=b"}


def chunks(size_mb: int, part: bytes = b"file") -> Iterator[bytes]:
    yield HEAD.replace(b'"file"', b'"%s"' % part) % b"big.mp4"
    for _ in range(size_mb):
        yield bytes(MB)
    yield b"\r\n--b--\r\n"


def submitted(http: httpx.Client, engine: Engine, filename: str, content: bytes) -> Path:
    """Where the upload of an accepted task lies; the task itself is cancelled."""
    reply = http.post("/api/process", headers=FORM,
                      content=HEAD % filename.encode() + content + b"\r\n--b--\r\n")  # fmt: skip
    assert reply.status_code == 200, reply.text
    return Path(engine.cancel(reply.json()["task_id"]).spec.input_path)


@pytest.mark.parametrize("beyond_mb", [1, 64])
def test_a_declared_length_over_the_cap_is_refused_before_the_body(
    server: Served, uploads: Path, beyond_mb: int
) -> None:
    before = sorted(uploads.iterdir())
    head = (f"POST /api/process HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['content-type']}\r\n"
            f"Content-Length: {(UPLOAD_CAP_MB + beyond_mb) * MB + 1}\r\n\r\n")  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert sorted(uploads.iterdir()) == before


@pytest.mark.parametrize("size_mb", [UPLOAD_CAP_MB + 1, 64])
@pytest.mark.parametrize("client", [httpx, requests])
def test_a_body_of_undeclared_length_is_refused_once_it_is_over_the_cap(
    server: Served, uploads: Path, client: object, size_mb: int
) -> None:
    before = sorted(uploads.iterdir())
    if client is httpx:
        with httpx.Client() as session:
            status = session.post(f"{server.url}/api/process", content=chunks(size_mb), headers=FORM).status_code
    else:
        with requests.Session() as other:
            status = other.post(f"{server.url}/api/process", data=chunks(size_mb), headers=FORM).status_code
    assert status == 413
    until(lambda: sorted(uploads.iterdir()) == before, "the refused upload is gone")


@pytest.mark.parametrize(("first", "status"), [(HEAD % b"a.mp4", 413), (b"no form at all", 400)])
@pytest.mark.parametrize("path", ["/api/process", "/api/models/switch"])
def test_a_client_that_listens_only_once_it_has_said_all_hears_the_refusal(
    server: Served, path: str, first: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['content-type']}\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n".encode())  # fmt: skip
        for block in (first, *[bytes(MB)] * 64):
            client.sendall(b"%x\r\n%s\r\n" % (len(block), block))
        client.sendall(b"0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 %d " % (status if path == "/api/process" else 400))


def test_parts_that_nobody_asked_for_count_too(http: httpx.Client) -> None:
    reply = http.post("/api/process", content=chunks(UPLOAD_CAP_MB + 2, b"other"), headers=FORM)
    assert reply.status_code == 413


def test_a_file_of_exactly_the_cap_is_received(http: httpx.Client, uploads: Path, small_image: Path) -> None:
    content = small_image.read_bytes()
    for size, code in ((UPLOAD_CAP_MB * MB, None), (UPLOAD_CAP_MB * MB + 1, "upload_too_large")):
        reply = http.post("/api/process", files={"file": ("a.png", content.ljust(size, b"\0"))})
        assert reply.json().get("code") == code
        if code is None:
            http.post(f"/api/cancel/{reply.json()['task_id']}")


def test_nothing_is_left_of_an_upload_whose_client_went_away(server: Served, uploads: Path) -> None:
    before = set(uploads.iterdir())
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = (f"POST /api/process HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['content-type']}\r\n"
                f"Content-Length: {2 * MB}\r\n\r\n")  # fmt: skip
        client.sendall(head.encode() + HEAD % b"a.mp4" + bytes(MB + MB // 2))
        until(lambda: set(uploads.iterdir()) != before, "the upload began")
    until(lambda: set(uploads.iterdir()) == before, "the broken upload is gone")
    assert not any("Traceback" in line for line in server.log)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_upload_never_lies_in_memory_whole(fresh_settings: Settings) -> None:
    def peak_mb() -> float:
        status = Path(f"/proc/{served.process.pid}/status").read_text("ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    with serving(fresh_settings) as served, httpx.Client(base_url=served.url) as client:
        client.get("/health")
        before = peak_mb()
        reply = client.post("/api/process", files={"file": ("a.mp4", bytes(96 * MB))})
        assert reply.json()["code"] in ("invalid_input", "unsupported_media")
        assert peak_mb() - before < 24
        assert list(fresh_settings.upload_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("中文.png", "中文.png"), ("видео клип.png", "видео клип.png"), ("👩‍👩‍👧 día.png", "👩‍👩‍👧 día.png"),
     ("../../etc/x.png", "x.png"), ("..\\..\\x.png", "x.png"), ("C:\\fakepath\\x.png", "x.png"),
     ("/abs/x.png", "x.png"), ("..", "upload"), (".png", "upload.png"), (" .png", "upload.png"),
     ("nul.png", "_nul.png"), ("a\x01b\x7f.png", "ab.png"), ("a:b*c?.png", "a_b_c_.png"),
     ("\u202egnp.exe.png", "gnp.exe.png"), ("-rf.png", "-rf.png"), ("a.png. ", "a.png"),
     ("x" * 251 + ".png", "x" * 196 + ".png"), ("片" * 90 + ".png", "片" * 65 + ".png")],
)  # fmt: skip
def test_a_file_keeps_its_name_as_far_as_that_is_safe(
    http: httpx.Client, engine: Engine, uploads: Path, small_image: Path, sent: str, kept: str
) -> None:
    path = submitted(http, engine, sent, small_image.read_bytes())
    assert path.name == kept
    assert path.parent.parent == uploads
    assert path.read_bytes() == small_image.read_bytes()


@given(st.text(max_size=300))
def test_a_safe_name_is_one_short_visible_path_part(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode("utf-8", "strict")) <= NAME_BYTES
    assert Path(safe).name == safe not in (".", "..")
    assert not set(safe) & set('<>:"/\\|?*\0\n')
    assert safe == safe.strip(" .")


def test_two_uploads_of_one_name_are_two_files(http: httpx.Client, engine: Engine, small_image: Path) -> None:
    first, second = (submitted(http, engine, "same.png", small_image.read_bytes()) for _ in range(2))
    assert first != second
    assert first.exists() and second.exists()


@pytest.mark.parametrize("model", [None, "", "default"])
def test_no_model_and_default_and_an_empty_one_mean_the_default(
    http: httpx.Client, engine: Engine, small_image: Path, model: str | None
) -> None:
    data = {} if model is None else {"dit_model": model}
    reply = http.post("/api/process", files={"file": ("a.png", small_image.read_bytes())}, data=data).json()
    engine.cancel(reply["task_id"])
    assert reply["model"] == engine.models().default


def test_fields_reach_the_task_and_unknown_ones_are_let_pass(
    http: httpx.Client, engine: Engine, small_image: Path
) -> None:
    data = {"resolution": "72", "batch_size": "9", "seed": "7", "color_correction": "wavelet", "vae_tiling": "on",
            "vae_quality": "low", "kind": "image", "tf32": "on",
            "input_path": "/etc/passwd", "overwrite": "true"}  # fmt: skip
    reply = http.post("/api/process", files={"file": ("a.png", small_image.read_bytes())}, data=data)
    spec = engine.cancel(reply.json()["task_id"]).spec
    assert (spec.resolution, spec.batch_size, spec.seed, spec.color_correction, spec.vae_tiling, spec.vae_quality,
            spec.kind, spec.overwrite) == (72, 9, 7, "wavelet", "on", "low", "image", False)  # fmt: skip
    assert Path(spec.input_path).name == "a.png"


def test_the_same_idempotency_key_makes_one_task_and_keeps_one_upload(
    http: httpx.Client, engine: Engine, uploads: Path, small_image: Path
) -> None:
    before = len(list(uploads.iterdir()))
    first, second = (
        http.post("/api/process", files={"file": ("a.png", small_image.read_bytes())},
                  headers={"Idempotency-Key": "rest-uploads-1"}).json()["task_id"]
        for _ in range(2)
    )  # fmt: skip
    engine.cancel(first)
    assert first == second
    assert len(list(uploads.iterdir())) == before + 1


def test_many_may_submit_at_once(http: httpx.Client, engine: Engine, small_image: Path) -> None:
    content = small_image.read_bytes()

    def submit(number: int) -> httpx.Response:
        return http.post("/api/process", files={"file": (f"{number}.png", content)})

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(submit, range(32)))
    ids = {reply.json()["task_id"] for reply in replies if reply.status_code == 200}
    for task_id in ids:
        engine.cancel(task_id)
    assert len(ids) == 32, [reply.text for reply in replies if reply.status_code != 200]


def test_a_result_is_downloaded_whole_by_range_and_by_head(
    http: httpx.Client, engine: Engine, small_image: Path
) -> None:
    files = {"file": ("中文 ü.png", small_image.read_bytes())}
    task_id = http.post("/api/process", files=files, data={"resolution": "72"}).json()["task_id"]
    engine.wait(task_id, 60)
    content = engine.output(task_id).read_bytes()
    url = f"/api/download/{task_id}"
    whole, head = http.get(url), http.head(url)
    assert whole.content == content
    assert head.content == b""
    for name in ("content-type", "content-length", "content-disposition", "accept-ranges", "etag"):
        assert whole.headers[name] == head.headers[name]
    assert whole.headers["content-type"] == "image/png"
    assert "filename*=utf-8''%E4%B8%AD%E6%96%87%20%C3%BC" in whole.headers["content-disposition"]
    part = http.get(url, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    rest = http.get(url, headers={"range": "bytes=-5", "if-range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, content[-5:])


def test_every_readable_route_answers_head(http: httpx.Client) -> None:
    for path in ("/health", "/api/models", "/api/queue/status", "/api/queue/history", "/api/gpu/status", "/docs"):
        reply = http.head(path)
        assert (reply.status_code, reply.content) == (200, b""), path
