"""The engine over HTTP: beside its server's own engine, and beside a server that is only what the document says."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import make_video
from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import PATIENCE_S, UPLOAD_CAP_MB, Served, serving, until
from upres.engine import LocalEngine, open_engine
from upres.errors import (
    FileMissing,
    InvalidInput,
    InvalidParameter,
    InvalidSetting,
    ModelNotFound,
    OutputMissing,
    RemoteFailed,
    TaskNotCompleted,
    TaskNotFound,
    UnsupportedMedia,
    UploadTooLarge,
    UpresError,
)
from upres.remote import RemoteEngine
from upres.settings import Settings
from upres.surfaces import views
from upres.tasks import TaskSpec, TaskState, order

EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("document").joinpath("rest_examples.json").read_text("utf-8")
)


@pytest.fixture
def remote(server: Served, settings: Settings, tmp_path: Path) -> Iterator[RemoteEngine]:
    yield from _remote(server.url, settings, tmp_path / "here")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=2, size="160x90")


def _remote(url: str, settings: Settings, output_dir: Path) -> Iterator[RemoteEngine]:
    engine = open_engine(replace(settings, remote_url=url, output_dir=output_dir))
    assert isinstance(engine, RemoteEngine)
    yield engine
    engine.close()


def test_a_task_is_restored_there_and_its_file_comes_here(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    spec = order(input_path=str(small_image), resolution=72, seed=7, kind="image")
    task = remote.wait(remote.submit(spec).id, PATIENCE_S)
    assert task.result is not None
    assert (task.state, task.kind) == (TaskState.COMPLETED, "image")
    assert (task.result.width, task.result.height) == (96, 72)
    assert task.result.size_bytes == engine.output(task.id).stat().st_size
    here = Path(task.result.output_path)
    assert here == remote.output(task.id) == tmp_path / "here" / task.id / engine.output(task.id).name
    assert here.read_bytes() == engine.output(task.id).read_bytes()
    assert [entry.name for entry in here.parent.iterdir()] == [here.name]


def test_surfaces_cannot_tell_a_remote_task_from_a_local_one(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path) as running:
        task = engine.status(running)
        while task.state is not TaskState.PROCESSING or task.progress.phase == "loading":
            task = engine.wait(running, PATIENCE_S, seen=task)
        waiting = remote.submit(order(input_path=str(small_image), color_correction="wavelet")).id
        seen = views.TaskStatus.of(remote.status(waiting))
        assert seen.model_copy(update={"estimated_wait_seconds": 0}) == views.TaskStatus.of(
            engine.status(waiting)).model_copy(update={"estimated_wait_seconds": 0})  # fmt: skip
        mine, its = views.TaskStatus.of(remote.status(running)), views.TaskStatus.of(engine.status(running))
        assert mine.phase == its.phase and mine.frames_total == its.frames_total
        assert mine.model_dump(exclude_none=True).keys() == its.model_dump(exclude_none=True).keys()
        queue = views.Queue.of(remote.queue())
        assert queue.processing is not None and queue.processing.task_id == running
        assert queue.pending_tasks == views.Queue.of(engine.queue()).pending_tasks
        assert remote.cancel(waiting).state is TaskState.CANCELLED
    for verb in ("models", "gpu"):
        view = {"models": views.Models, "gpu": views.Gpu}[verb]
        assert view.of(getattr(remote, verb)()) == view.of(getattr(engine, verb)())
    assert views.History.of(remote.history(3)) == views.History.of(engine.history(3))


def test_tasks_are_listed_looked_at_and_removed_there(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    done = remote.wait(remote.submit(order(input_path=str(small_image), resolution=72)).id, PATIENCE_S)
    with running_long_task(engine, tmp_path) as running:
        until(lambda: engine.status(running).state is TaskState.PROCESSING, "it runs")
        waiting = remote.submit(order(input_path=str(small_image))).id
        assert [task.id for task in remote.tasks(page_size=3).tasks] == [waiting, running, done.id]
        assert [task.id for task in remote.tasks((TaskState.COMPLETED,), page_size=1).tasks] == [done.id]
        assert remote.tasks((TaskState.QUEUED,)).total == 1
        assert remote.remove(waiting).id == waiting
        assert remote.tasks((TaskState.QUEUED,)).tasks == ()
    assert remote.preview(done.id) == engine.preview(done.id)
    assert (tmp_path / "here" / done.id).is_dir()
    remote.remove(done.id)
    assert not (tmp_path / "here" / done.id).exists()
    for act in (engine.status, remote.status, remote.remove, remote.preview):
        with pytest.raises(TaskNotFound, match=done.id):
            act(done.id)


def test_an_order_keeps_all_that_was_given_on_its_way(remote: RemoteEngine, engine: LocalEngine, clip: Path) -> None:
    spec = order(input_path=str(clip), kind="video", scale=1.5, preprocess_width=160, preserve_aspect_ratio=False,
                 sparse_ratio=1.5, local_range=9, kv_ratio=2, color_correction="adain", vae_tiling="on", seed=7,
                 batch_size=9, vae_quality="low", dit_model="compact", resolution=1080, preset="slow")  # fmt: skip
    task = remote.submit(spec)
    there = engine.cancel(task.id).spec
    assert there.model_copy(update={"input_path": spec.input_path}) == spec
    assert (task.spec.scale, task.spec.preserve_aspect_ratio, task.spec.kv_ratio) == (1.5, False, 2)
    engine.remove(task.id)


def test_the_encoders_preset_is_decided_at_submit_and_shown(
    remote: RemoteEngine, engine: LocalEngine, clip: Path
) -> None:
    task = remote.submit(order(input_path=str(clip), dit_model="compact"))
    assert engine.cancel(task.id).spec.preset == "medium"  # on a CPU the encoder has time
    assert remote.status(task.id).spec.preset == "medium"
    assert remote.plan(order(input_path=str(clip), dit_model="compact")).preset == "medium"
    engine.remove(task.id)


def test_a_model_is_switched_and_memory_released_there(remote: RemoteEngine, engine: LocalEngine) -> None:
    model = engine.models().default
    assert remote.switch(model) == model
    assert remote.gpu().current_model == model
    assert remote.offload() == "GPU memory released"
    assert remote.gpu().worker_pid is None


def test_an_order_may_say_where_its_result_shall_lie(remote: RemoteEngine, small_image: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "mine.png"
    spec = order(input_path=str(small_image), resolution=72, output_path=str(wanted))
    task = remote.wait(remote.submit(spec).id, PATIENCE_S)
    assert task.result is not None and task.result.output_path == str(wanted)
    assert remote.output(task.id) == wanted
    assert not (tmp_path / "here").exists()
    with pytest.raises(InvalidParameter, match=r"mine\.png exists"):
        remote.submit(spec)
    wanted.write_bytes(b"old")
    task = remote.wait(remote.submit(spec.model_copy(update={"overwrite": True})).id, PATIENCE_S)
    assert wanted.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileMissing, match="nofolder"):
        remote.submit(spec.model_copy(update={"output_path": str(tmp_path / "nofolder" / "x.png")}))


def test_a_name_of_any_script_survives_both_ways(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    source = tmp_path / "中文 👩‍👧 (1).png"
    source.write_bytes(small_image.read_bytes())
    task = remote.submit(order(input_path=str(source), resolution=72))
    assert Path(engine.status(task.id).spec.input_path).name == source.name
    remote.wait(task.id, PATIENCE_S)
    assert remote.output(task.id).name == engine.output(task.id).name
    assert remote.output(task.id).name.startswith("中文")


def test_a_key_makes_one_task_there(remote: RemoteEngine, small_image: Path) -> None:
    first, second = (remote.submit(order(input_path=str(small_image)), key="remote-1").id for _ in range(2))
    remote.cancel(first)
    assert first == second


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda remote, image, folder: remote.status("nothere0"), TaskNotFound),
        (lambda remote, image, folder: remote.wait("nothere0", 5), TaskNotFound),
        (lambda remote, image, folder: remote.cancel("nothere0"), TaskNotFound),
        (lambda remote, image, folder: remote.output("../health"), TaskNotFound),
        (lambda remote, image, folder: remote.switch("nomodel"), ModelNotFound),
        (lambda remote, image, folder: remote.submit(order(input_path=str(image), dit_model="nomodel")), ModelNotFound),
        (lambda remote, image, folder: remote.submit(order(input_path=str(image), kind="video")), UnsupportedMedia),
        (lambda remote, image, folder: remote.submit(order(input_path=str(folder / "no.png"))), FileMissing),
        (lambda remote, image, folder: remote.submit(order(input_path=str(folder))), InvalidInput),
        (lambda remote, image, folder: remote.submit(TaskSpec.model_construct(
            input_path=str(image), resolution=7)), InvalidParameter),
    ],
)  # fmt: skip
def test_a_refusal_there_is_the_same_refusal_here(
    remote: RemoteEngine, small_image: Path, tmp_path: Path, act: Callable[..., object], error: type[UpresError]
) -> None:
    with pytest.raises(error) as caught:
        act(remote, small_image, tmp_path)
    assert type(caught.value) is error
    assert caught.value.message and caught.value.remedy


def test_a_file_over_the_servers_cap_is_refused_by_name(remote: RemoteEngine, tmp_path: Path) -> None:
    (tmp_path / "big.mp4").write_bytes(bytes((UPLOAD_CAP_MB + 1) * 2**20))
    with pytest.raises(UploadTooLarge, match=f"{UPLOAD_CAP_MB} MB.*MAX_UPLOAD_SIZE"):
        remote.submit(order(input_path=str(tmp_path / "big.mp4")))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises((InvalidInput, UnsupportedMedia), match=r"text\.png"):
        remote.submit(order(input_path=str(tmp_path / "text.png")))


def test_an_unfinished_task_has_no_output_and_a_lost_one_says_so(
    remote: RemoteEngine, engine: LocalEngine, small_image: Path, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path) as running, pytest.raises(TaskNotCompleted, match=running):
        remote.output(running)
    task = engine.submit(order(input_path=str(small_image), resolution=72))
    engine.wait(task.id, PATIENCE_S)
    there = engine.output(task.id)
    there.unlink()
    shown = remote.status(task.id)
    assert shown.result is not None and shown.result.output_path == str(there)
    with pytest.raises(OutputMissing, match=task.id):
        remote.output(task.id)


def test_wait_returns_when_its_time_is_over_and_when_the_task_moved(
    remote: RemoteEngine, engine: LocalEngine, tmp_path: Path
) -> None:
    with running_long_task(engine, tmp_path) as running:
        task = remote.wait(running, 0)
        assert not task.state.finished
        moved = remote.wait(running, PATIENCE_S, seen=task)
        assert (moved.state, moved.progress) != (task.state, task.progress)


def test_wait_outlasts_a_restart_of_the_server(fresh_settings: Settings, small_image: Path, tmp_path: Path) -> None:
    with serving(fresh_settings) as first:
        port = first.port
        remote = RemoteEngine(replace(fresh_settings, remote_url=first.url, output_dir=tmp_path / "here"))
        task = remote.submit(order(input_path=str(small_image), resolution=72))
    outcome: list[TaskState] = []
    waiter = threading.Thread(target=lambda: outcome.append(remote.wait(task.id, PATIENCE_S).state))
    waiter.start()
    with serving(fresh_settings, PORT=str(port)):
        waiter.join(PATIENCE_S)
    LocalEngine(fresh_settings).stop()
    remote.close()
    assert outcome == [TaskState.COMPLETED]


@pytest.mark.parametrize("url", ["localhost:8200", "ftp://box", "http://", "http://[::1", "nonsense"])
def test_an_address_that_is_none_is_refused_at_once(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidSetting, match="SEEDVR2_API_URL"):
        RemoteEngine(replace(settings, remote_url=url))


def test_a_server_that_is_not_there_is_named_with_a_way_out(settings: Settings, tmp_path: Path) -> None:
    for remote in _remote("http://127.0.0.1:9/", settings, tmp_path):
        with pytest.raises(RemoteFailed, match=r"http://127\.0\.0\.1:9 cannot be reached.*SEEDVR2_API_URL"):
            remote.queue()


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
        for remote in _remote(f"http://127.0.0.1:{server.server_port}", settings, tmp_path / "here"):
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
