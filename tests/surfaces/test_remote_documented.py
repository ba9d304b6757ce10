"""The engine over HTTP, beside a server that is only what the document says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.serving import remote_to
from upres.errors import RemoteFailed
from upres.remote import RemoteEngine
from upres.settings import Settings
from upres.surfaces import views
from upres.tasks import order

EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("document").joinpath("rest_examples.json").read_text("utf-8")
)
Answers = dict[str, tuple[int, Any]]  # "METHOD /path" -> status, body


class Documented(BaseHTTPRequestHandler):
    """A server that is the document's examples and nothing else: no additions, no JSON in its 404s, its own names."""

    answers: Answers

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer("POST")

    def _answer(self, method: str) -> None:
        path = self.path.partition("?")[0]
        status, body = self.answers.get(f"{method} {path}", (404, "<html>Not Found</html>"))
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        short = path.startswith("/api/download/") and data == b"short"
        self.send_header("Content-Length", str(len(data) + 100 * short))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def documented(settings: Settings, tmp_path: Path) -> Iterator[tuple[RemoteEngine, Answers]]:
    answers: dict[str, tuple[int, Any]] = {
        case.split(" processing")[0].split(" queued")[0].split(" completed")[0].replace("{task_id}", "abc12345"): (
            200,
            reply,
        )
        for case, reply in EXAMPLES.items()
    }
    answers["GET /api/download/abc12345"] = (200, b"a film")
    handler = type("Handler", (Documented,), {"answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for remote in remote_to(f"http://127.0.0.1:{server.server_port}", settings, tmp_path / "here"):
            yield remote, answers
        server.shutdown()
        thread.join()


def test_the_documents_examples_are_all_that_is_needed(
    documented: tuple[RemoteEngine, Answers], small_image: Path, tmp_path: Path
) -> None:
    remote, answers = documented
    task = remote.submit(order(input_path=str(small_image)))
    completed = EXAMPLES["GET /api/status/{task_id} completed"]
    assert task.result is not None
    assert Path(task.result.output_path) == tmp_path / "here" / "abc12345" / completed["output_filename"]
    assert Path(task.result.output_path).read_bytes() == b"a film"
    assert (task.result.width, task.result.height, task.result.process_time_s) == (1920, 1080, 25)
    assert views.iso(task.completed_at) == completed["completed_at"]
    answers["GET /api/status/abc12345"] = (200, EXAMPLES["GET /api/status/{task_id} processing"])
    running = remote.status("abc12345")
    assert (running.percent, running.model, running.queue_position) == (50, "seedvr2_ema_3b_fp8_e4m3fn.safetensors", 1)
    history = views.History.of(remote.history())
    assert history.history[0].output_path == task.result.output_path
    history.history[0].output_path = None  # an addition: no example has it
    for view, example in [(views.Queue.of(remote.queue()), "GET /api/queue/status"),
                          (history, "GET /api/queue/history"),
                          (views.Models.of(remote.models()), "GET /api/models"),
                          (views.Gpu.of(remote.gpu()), "GET /api/gpu/status")]:  # fmt: skip
        dumped = view.model_dump(exclude_defaults=True)
        assert {name: dumped[name] for name in EXAMPLES[example]} == EXAMPLES[example]
    assert remote.offload() == "GPU memory released"
    assert remote.switch("x") == EXAMPLES["POST /api/models/switch"]["model"]


def test_a_server_that_cannot_cancel_is_told_so(
    documented: tuple[RemoteEngine, Answers],
) -> None:
    with pytest.raises(RemoteFailed, match=r"has no POST /api/cancel; let the task end"):
        documented[0].cancel("abc12345")


def test_the_bare_task_id_in_a_queue_is_understood(
    documented: tuple[RemoteEngine, Answers],
) -> None:
    remote, answers = documented
    answers["GET /api/queue/status"] = (200, {"queue_length": 2, "processing": "aa", "pending_tasks": [{"id": "bb"}]})
    queue = remote.queue()
    assert ([task.id for task in queue.processing], [task.id for task in queue.pending]) == (["aa"], ["bb"])


@pytest.mark.parametrize(
    "answer",
    [(200, "<html>hello</html>"), (200, []), (200, {"id": "x"}), (200, {"id": "x", "status": "dancing"}),
     (500, "<html>oops</html>"), (503, {"error": "busy"}), (302, "")],
)  # fmt: skip
def test_an_answer_that_is_not_of_the_api_says_so(
    documented: tuple[RemoteEngine, Answers], answer: tuple[int, Any]
) -> None:
    remote, answers = documented
    answers["GET /api/status/abc12345"] = answer
    with pytest.raises(RemoteFailed, match=r"http://127\.0\.0\.1"):
        remote.status("abc12345")


def test_names_from_the_network_stay_inside_the_output_directory(
    documented: tuple[RemoteEngine, Answers], tmp_path: Path
) -> None:
    remote, answers = documented
    done = EXAMPLES["GET /api/status/{task_id} completed"]
    for given_id, name in [
        ("../../evil", "../../../evil.sh"),
        ("..", ".."),
        (".", "a\\..\\b"),
        ("x", ""),
        ("y", "a\0b"),
    ]:
        answers["GET /api/status/abc12345"] = (200, {**done, "id": given_id, "output_filename": name})
        for path in ("..%2F..%2Fevil", "_", "x", "y"):
            answers[f"GET /api/download/{path}"] = (200, b"a film")
        assert remote.output("abc12345").resolve().is_relative_to(tmp_path / "here")
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


def test_a_download_that_breaks_off_leaves_nothing(documented: tuple[RemoteEngine, Answers], tmp_path: Path) -> None:
    remote, answers = documented
    answers["GET /api/download/abc12345"] = (200, b"short")
    with pytest.raises(RemoteFailed, match="cannot be reached"):
        remote.output("abc12345")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
