"""A client that goes away in the middle of any call: the server ends within two seconds, and leaves nothing behind."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from tests.support import ffmpeg, workers_of
from tests.surfaces.serving import until
from tests.surfaces.stdio_process import PATIENCE_S, PROMPT_S, Host, call, request, start
from upres.engine import LocalEngine
from upres.settings import Settings
from upres.tasks import TaskState

CALLS = ["submit_video_task", "submit_image_task", "wait_for_task", "plan_task", "preview_task", "compare_task",
         "get_task_status", "get_task_position", "cancel_task", "get_queue_status", "get_queue_history",
         "list_available_models", "get_gpu_status", "release_gpu_memory"]  # fmt: skip


NEEDS_NO_STORE = {"list_available_models", "get_gpu_status", "release_gpu_memory"}  # while no worker lives


@contextmanager
def stuck_store(settings: Settings) -> Iterator[None]:
    """As another process holds it that hangs in a write: every call waits."""
    with closing(sqlite3.connect(settings.data_dir / "upres.sqlite3", isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        yield
        store.execute("ROLLBACK")


def arguments(tool: str, media: Path) -> dict[str, object]:
    if tool in ("submit_video_task", "submit_image_task", "plan_task", "preview_task"):
        return {"file_path": str(media)}
    return {"task_id": "whatever"} if "_task" in tool or "task_" in tool else {}


def test_the_server_ends_in_time_though_every_kind_of_call_is_stuck(
    fresh_settings: Settings, fresh_engine: LocalEngine, small_video: Path, small_image: Path
) -> None:
    with start(fresh_settings) as process:
        host = Host(process)
        with stuck_store(fresh_settings):
            for number, tool in enumerate(CALLS, start=1):
                host.say(call(tool, number, **arguments(tool, small_image if "image" in tool else small_video)))
            host.say(request("ping", 99))
            answered = {host.hear()["id"]}
            while 99 not in answered:  # all before it have begun
                answered.add(host.hear()["id"])
            assert {CALLS[number - 1] for number in answered - {99}} <= NEEDS_NO_STORE
            until(lambda: len(threads_in_calls(process.pid)) >= len(CALLS), "every call has its thread")
            children = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()
            assert process.wait(PROMPT_S) == 0
            _, alive = psutil.wait_procs(children, timeout=PROMPT_S)
            assert not alive
    assert fresh_engine.history() == []
    assert workers_of(fresh_settings) == []


def threads_in_calls(pid: int) -> list[int]:
    return [thread.id for thread in psutil.Process(pid).threads() if thread.id != pid]


def test_a_task_whose_submitter_was_killed_is_there_and_runs_once(
    fresh_settings: Settings, fresh_engine: LocalEngine, small_video: Path
) -> None:
    with start(fresh_settings) as process:
        host = Host(process)
        host.say(call("submit_video_task", file_path=str(small_video), resolution=48))
        task_id = host.hear()["result"]["structuredContent"]["task_id"]
        host.say(call("wait_for_task", 2, task_id=task_id))
        process.kill()
    assert fresh_engine.wait(task_id, 120).state is TaskState.COMPLETED
    assert fresh_engine.status(task_id).attempt == 1
    assert [task.id for task in fresh_engine.history()] == [task_id]


def test_what_reads_a_file_dies_with_a_killed_server(settings: Settings, small_video: Path, tmp_path: Path) -> None:
    endless = tmp_path / "endless.ts"  # real pictures, then 200 GB of nothing that has to be read
    ffmpeg("-i", small_video, "-c", "copy", "-f", "mpegts", endless)
    os.truncate(endless, 200 << 30)
    with start(settings) as process:
        host = Host(process)
        host.say(call("probe_media", file_path=str(endless)))
        server = psutil.Process(process.pid)
        until(lambda: bool(server.children()), "the file is being read")
        readers = server.children()
        process.kill()
        _, alive = psutil.wait_procs(readers, timeout=PATIENCE_S)  # one that had only begun to start ends once it has
        assert not alive
