"""The stdio server and its host: the handshake, two hosts at once, and every way a host goes away."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from tests.support import workers_of
from tests.surfaces.long_task import running_long_task
from tests.surfaces.stdio_process import PROMPT_S, SERVER, Host, call, pipe, request, start
from upres.engine import Engine, LocalEngine
from upres.settings import Settings
from upres.tasks import TaskState


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def host(settings: Settings) -> Iterator[Host]:
    with start(settings) as process:
        yield Host(process)
        process.kill()


@pytest.fixture
def long_task(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_long_task(engine, tmp_path_factory.getbasetemp()) as task_id:
        yield task_id


def test_a_host_that_asks_for_less_than_its_cap_gets_it(host: Host, long_task: str) -> None:
    assert host.greeting["result"]["serverInfo"]["name"] == "upres"
    assert host.ask("wait_for_task", task_id=long_task, timeout=0)["timed_out"] is True


def test_a_piped_handshake_loses_no_reply_to_the_end_of_stdin(settings: Settings) -> None:
    hello = request("initialize", 0, protocolVersion=LATEST_HANDSHAKE_VERSION, capabilities={},
                    clientInfo={"name": "host", "version": "1"})  # fmt: skip
    lines = (hello, '{"jsonrpc":"2.0","method":"notifications/initialized"}', call("get_queue_status"))
    answers, _ = pipe(settings, "\n".join(lines))
    assert [answer["id"] for answer in answers] == [0, 1]
    assert "structuredContent" in answers[1]["result"]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_sdk_client_lists_calls_and_hears_progress_in_every_era(
    settings: Settings, long_task: str, mode: str
) -> None:
    heard = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    process = StdioServerParameters(command=sys.executable, args=[str(SERVER)], env=settings.to_env())
    async with Client(process, mode=mode) as client:
        assert "wait_for_task" in {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("wait_for_task", {"task_id": long_task, "timeout": 0}, progress_callback=hear)
    assert answer.structured_content["timed_out"] is True
    assert len(heard) == 1


def test_a_host_may_shake_hands_after_its_first_request(settings: Settings) -> None:
    with start(settings) as process:
        process.stdin.write(request("ping", 7) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"jsonrpc": "2.0", "id": 7, "result": {}}
        host = Host(process)
        assert host.greeting["result"]["protocolVersion"] == LATEST_HANDSHAKE_VERSION
        assert host.ask("get_queue_status")["queue_length"] >= 0
        host.leave()


def test_the_server_ends_promptly_once_its_host_is_gone(host: Host) -> None:
    assert host.ask("get_queue_status")["queue_length"] >= 0
    assert host.leave(PROMPT_S) == ("", "")


def test_a_call_in_flight_at_the_end_of_stdin_is_answered_and_ends_soon(host: Host, long_task: str) -> None:
    host.say(call("wait_for_task", task_id=long_task, timeout=60))
    out, _ = host.leave()
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1]


def test_a_cancelled_call_does_not_hold_up_the_end(host: Host, long_task: str) -> None:
    host.say(call("wait_for_task", task_id=long_task, timeout=60))
    host.say('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}')
    assert host.leave(PROMPT_S)[0] == ""


def test_two_servers_share_one_queue_and_the_first_may_leave(host: Host, settings: Settings, small_video: Path) -> None:
    with start(settings) as process:
        other = Host(process)
        task_id = host.ask("submit_video_task", file_path=str(small_video), resolution=48)["task_id"]
        host.leave()
        assert other.ask("wait_for_task", task_id=task_id)["status"] == "completed"
        other.leave()


def test_tasks_of_two_servers_killed_right_after_submitting_are_done_by_one_worker(
    fresh_settings: Settings, fresh_engine: LocalEngine, small_video: Path
) -> None:
    with start(fresh_settings) as first, start(fresh_settings) as second:
        hosts = [Host(first), Host(second)]
        for host in hosts:
            host.say(call("submit_video_task", file_path=str(small_video), resolution=96))
        tasks = [host.hear()["result"]["structuredContent"]["task_id"] for host in hosts]
        first.kill()
        second.kill()
    assert {fresh_engine.wait(task_id, 120).state for task_id in tasks} == {TaskState.COMPLETED}
    assert len(workers_of(fresh_settings)) == 1


def test_ctrl_c_ends_it_at_once_and_quietly(host: Host) -> None:
    host.process.send_signal(signal.SIGINT)
    assert host.process.wait(PROMPT_S) == -signal.SIGINT
    assert host.process.stderr.read() == ""


def test_a_host_that_vanishes_leaves_no_traceback(host: Host) -> None:
    host.process.stdout.close()
    host.say(request("ping"))
    host.process.stdin.close()
    assert host.process.wait(PROMPT_S) == 0
    assert host.process.stderr.read() == "INFO upres.surfaces.stdio: the client closed stdout\n"
