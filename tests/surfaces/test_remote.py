"""The engine over HTTP, beside its server's own engine."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import make_video
from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import PATIENCE_S, UPLOAD_CAP_MB, Served, remote_to, serving, until
from upres.engine import LocalEngine
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


@pytest.fixture
def remote(server: Served, settings: Settings, tmp_path: Path) -> Iterator[RemoteEngine]:
    yield from remote_to(server.url, settings, tmp_path / "here")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=2, size="160x90")


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
    for remote in remote_to("http://127.0.0.1:9/", settings, tmp_path):
        with pytest.raises(RemoteFailed, match=r"http://127\.0\.0\.1:9 cannot be reached.*SEEDVR2_API_URL"):
            remote.queue()
