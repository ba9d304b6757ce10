"""A client killed with SIGKILL in the middle of each kind of call, as a crash or a task manager does: its server ends,
no task and no file suffers, and the next client finds everything.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import ffmpeg, make_settings, make_video
from tests.surfaces.serving import until
from tests.surfaces.stdio_process import PATIENCE_S, PROMPT_S, SERVER, Host, request, start
from upres.engine import LocalEngine
from upres.fleet.supervisor import KEEPER_MODULE, WORKER_MODULE
from upres.media.probe import probe
from upres.settings import Settings
from upres.tasks import TaskSpec, TaskState

# A host: starts the server, tells its pid, shakes hands, then passes lines on both ways until it is killed.
CLIENT = """
import subprocess, sys
server = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(server.pid, flush=True)
for line in sys.argv[2:]:
    print(line, file=server.stdin, flush=True)
print(server.stdout.readline(), end="", flush=True)
print(sys.stdin.readline(), end="", file=server.stdin, flush=True)
for line in server.stdout:
    print(line, end="", flush=True)
"""
HELLO = (request("initialize", 0, protocolVersion="2025-11-25", capabilities={},
                 clientInfo={"name": "host", "version": "1"}),
         '{"jsonrpc":"2.0","method":"notifications/initialized"}')  # fmt: skip


@dataclass
class Client:
    process: subprocess.Popen[str]
    server: psutil.Process

    @classmethod
    def of(cls, settings: Settings) -> "Client":
        process = subprocess.Popen([sys.executable, "-c", CLIENT, str(SERVER), *HELLO], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings.to_env())  # fmt: skip
        assert process.stdout is not None
        return cls(process, psutil.Process(int(process.stdout.readline())))

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def readers(self) -> list[psutil.Process]:
        """What the server started, but for workers and their keepers, which are to live on."""
        return [child for child in self.server.children(recursive=True) if not _lives_on(child)]


def _lives_on(process: psutil.Process) -> bool:
    try:
        return bool({KEEPER_MODULE, WORKER_MODULE} & set(process.cmdline()))
    except psutil.Error:
        return False


AT_ONCE = 4
Moment = Callable[[Client], object]  # returns once the call is so far


def said(_: Client) -> None:
    """The request is on its way; whether it was begun or answered, nobody knows."""


def heard(client: Client) -> dict[str, Any]:
    """The first word came back: a progress notification of what goes on, the answer of what is done."""
    return client.hear()


def a_file_is_read(client: Client) -> None:
    until(lambda: bool(client.readers()), "the file is being read")


@dataclass
class Kind:
    tool: str
    moment: Moment
    arguments: dict[str, object] = field(default_factory=dict)


@dataclass
class Death:
    seconds: float
    left: list[psutil.Process]
    word: Any  # what the moment gave


@dataclass
class World:
    settings: Settings
    engine: LocalEngine
    files: dict[str, str]
    running: str
    done: str
    deaths: dict[str, Death] = field(default_factory=dict)


ENDLESS, IMAGE, DONE, RUNNING = "ENDLESS", "IMAGE", "DONE", "RUNNING"  # stand for paths and ids
KINDS = {
    "submit a video, its file being read": Kind("submit_video_task", a_file_is_read, {"file_path": ENDLESS}),
    "submit an image, answered": Kind("submit_image_task", heard, {"file_path": IMAGE, "resolution": 72}),
    "submit an image, just said": Kind("submit_image_task", said, {"file_path": IMAGE, "resolution": 72}),
    "wait": Kind("wait_for_task", heard, {"task_id": RUNNING}),
    "preview, its file being read": Kind("preview_task", a_file_is_read, {"file_path": ENDLESS}),
    "preview, waiting": Kind("preview_task", heard, {"file_path": IMAGE, "resolution": 72}),
    "plan": Kind("plan_task", a_file_is_read, {"file_path": ENDLESS}),
    "probe": Kind("probe_media", a_file_is_read, {"file_path": ENDLESS}),
    "compare": Kind("compare_task", a_file_is_read, {"task_id": DONE}),
    "status": Kind("get_task_status", said, {"task_id": RUNNING}),
    "queue": Kind("get_queue_status", said),
    "release": Kind("release_gpu_memory", said),
    "cancel": Kind("cancel_task", said, {"task_id": RUNNING}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, small_image: Path, small_video: Path) -> Iterator[World]:
    """After all of them were killed, a few at once. They start all at once: that saves time."""
    folder = tmp_path_factory.mktemp("killed")
    settings = make_settings(folder / "data")
    engine = LocalEngine(settings)
    long = make_video(folder / "long.mp4", frames=300, size="160x120", sound=False)
    endless = folder / "endless.ts"  # real pictures, then 200 GB of nothing that has to be read
    ffmpeg("-i", small_video, "-c", "copy", "-f", "mpegts", endless)
    os.truncate(endless, 200 << 30)
    image = folder / "image.png"
    shutil.copyfile(small_image, image)
    done = engine.submit(TaskSpec(input_path=str(image), resolution=72)).id
    running = engine.submit(TaskSpec(input_path=str(long), resolution=720)).id
    world = World(settings, engine, {ENDLESS: str(endless), IMAGE: str(small_image)}, running, done)
    clients = {name: Client.of(settings) for name in KINDS}
    try:
        assert engine.wait(done, 60).state is TaskState.COMPLETED
        image.unlink()
        os.link(endless, image)  # now who compares it reads without end
        with ThreadPoolExecutor(AT_ONCE) as pool:
            deaths = {name: pool.submit(_kill, clients[name], kind, world) for name, kind in KINDS.items()}
        world.deaths.update({name: death.result() for name, death in deaths.items()})
        yield world
    finally:
        for client in clients.values():
            client.process.kill()
            client.process.communicate()
        engine.stop()
        engine.close()


def _kill(client: Client, kind: Kind, world: World) -> Death:
    names = {**world.files, DONE: world.done, RUNNING: world.running}
    arguments = {key: names.get(str(value), value) for key, value in kind.arguments.items()}
    assert client.hear()["result"]["serverInfo"]["name"] == "upres"
    client.say(request("tools/call", 1, name=kind.tool, arguments=arguments, _meta={"progressToken": 1}))
    word, began = kind.moment(client), time.monotonic()
    family = [client.server, *client.readers()]
    client.process.kill()
    client.process.wait()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    return Death(time.monotonic() - began, alive, word)


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_and_all_it_started_end(world: World, kind: str) -> None:
    assert world.deaths[kind].left == []


def test_they_end_within_two_seconds(world: World) -> None:
    """By their median, and longer on a machine that gives each process only a part of a core."""
    granted = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    assert statistics.median(death.seconds for death in world.deaths.values()) < PROMPT_S * granted


def test_the_next_client_finds_every_task_and_each_is_done_once(world: World) -> None:
    answered = world.deaths["submit an image, answered"].word["result"]["structuredContent"]["task_id"]
    with start(world.settings) as process:
        host = Host(process)
        host.ask("cancel_task", task_id=world.running)
        queue = host.ask("get_queue_status")
        waiting = [task["task_id"] for task in queue["pending_tasks"]]
        for task_id in {world.running, answered, *waiting}:
            while (final := host.ask("wait_for_task", task_id=task_id)).get("timed_out"):
                pass
            assert final["status"] == ("cancelled" if task_id == world.running else "completed"), final
        history = host.ask("get_queue_history", limit=100)["history"]
        assert {world.done, world.running, answered, *waiting} <= {item["id"] for item in history}
        host.leave()
    tasks = world.engine.history(100)
    assert {task.attempt for task in tasks if task.state is TaskState.COMPLETED} == {1}
    ordered = [task for task in tasks if task.id not in (world.done, world.running)]
    assert 2 <= len(ordered) <= 3  # those that were answered, and the one that was just said, or not


def test_no_half_written_file_stays(world: World) -> None:
    until(lambda: not world.engine.queue().processing and not world.engine.queue().pending, "all is done")
    results = {task.result.output_path for task in world.engine.history(100) if task.result is not None}
    assert {str(path) for path in world.settings.output_dir.rglob("*") if path.is_file()} == results
    pieces = [path for path in world.settings.upload_dir.rglob("*_preview.*") if path.suffix != ".part"]
    assert [probe(path).path for path in pieces] == pieces, "what bears its whole name is whole"
