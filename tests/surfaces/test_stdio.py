"""The stdio server as a process: one request piped in, a host with a handshake, and the ends of both."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types.version import LATEST_HANDSHAKE_VERSION

import upres.mcp_server
from surfaces.long_task import running_long_task
from upres.engine import Engine
from upres.settings import Settings

SERVER = Path(str(upres.mcp_server.__file__))
PATIENCE_S = 30  # of the tests; only what hangs takes that long
PROMPT_S = 2  # within this a host sees the server gone after it closed stdin


def start(settings: Settings, *command: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *(command if command else (str(SERVER),))], text=True, encoding="utf-8",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            cwd=cwd, env={**settings.to_env(), **env})  # fmt: skip


def pipe(settings: Settings, text: str, *command: str, cwd: Path | None = None, **env: str) -> tuple[list[Any], str]:
    """The messages on stdout and the text on stderr of a server that is fed `text` and then the end of stdin."""
    with start(settings, *command, cwd=cwd, **env) as process:
        out, err = process.communicate(text, timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def request(method: str, request_id: int = 1, **params: object) -> str:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return json.dumps({**message, "params": params} if params else message)


def call(tool: str, request_id: int = 1, **arguments: object) -> str:
    return request("tools/call", request_id, name=tool, arguments=arguments)


class Host:
    """A client that shakes hands, as Claude Desktop does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.say(request("initialize", 0, protocolVersion=LATEST_HANDSHAKE_VERSION, capabilities={},
                         clientInfo={"name": "host", "version": "1"}))  # fmt: skip
        self.greeting = self.hear()
        self.say('{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, tool: str, **arguments: object) -> dict[str, Any]:
        self.say(call(tool, **arguments))
        return self.hear()["result"]["structuredContent"]

    def leave(self, within_s: float = PROMPT_S) -> tuple[str, str]:
        """Closes stdin; what was still said on stdout and stderr."""
        out, err = self.process.communicate(timeout=within_s)
        assert self.process.returncode == 0, err
        return out, err


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


MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.mark.parametrize(("text", "reply"), [
    pytest.param(request("tools/list") + "\n", {"result": {"tools": ...}}, id="tools/list"),
    pytest.param(request("tools/list"), {"result": {"tools": ...}}, id="no newline at the end"),
    pytest.param(f"\n{request('tools/list')}\r\n\n", {"result": {"tools": ...}}, id="blank lines around it"),
    pytest.param(call("get_queue_status"), {"result": {"structuredContent": {"queue_length": ...}}}, id="tools/call"),
    pytest.param(request("tools/call", name="get_gpu_status"), {"result": {"structuredContent": {"device": "cpu"}}},
                 id="no arguments"),
    pytest.param(request("tools/call", name="get_gpu_status", _meta=MODERN),
                 {"result": {"structuredContent": {"device": "cpu"}}}, id="the envelope of 2026-07-28"),
    pytest.param(call("restore"), {"result": {"isError": True}}, id="unknown tool"),
    pytest.param(request("ping"), {"result": {}}, id="ping"),
    pytest.param(request("no/such"), {"error": {"code": -32601}}, id="unknown method"),
    pytest.param(request("tools/call"), {"error": {"code": -32602}}, id="no tool named"),
    pytest.param("garbage\n", {"id": None, "error": {"code": -32700}}, id="garbage"),
    pytest.param("[]\n", {"id": None, "error": {"code": -32600}}, id="no object"),
    pytest.param('{"jsonrpc":"2.0","id":1}', {"error": {"code": -32600}}, id="no method"),
])  # fmt: skip
def test_one_request_without_a_handshake_gets_one_line(settings: Settings, text: str, reply: dict[str, Any]) -> None:
    answers, _ = pipe(settings, text)
    assert len(answers) == 1
    assert_like(answers[0], {"jsonrpc": "2.0", "id": 1, **reply})


def assert_like(found: Any, wanted: Any) -> None:
    """Whatever `wanted` names is found; `...` is anything."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_like(found[key], value)
    elif wanted is not ...:
        assert found == wanted


@pytest.mark.parametrize("text", ["", "\n\n", '{"jsonrpc":"2.0","method":"notifications/initialized"}'])
def test_what_asks_for_nothing_gets_nothing(settings: Settings, text: str) -> None:
    assert pipe(settings, text)[0] == []


def test_many_requests_in_one_pipe_are_all_answered(settings: Settings) -> None:
    answers, _ = pipe(settings, "\n".join(call("get_queue_status", number) for number in range(20)))
    assert sorted(answer["id"] for answer in answers) == list(range(20))


def test_a_one_shot_wait_is_as_long_as_asked_whatever_the_cap_for_hosts(settings: Settings, long_task: str) -> None:
    [answer], _ = pipe(replace(settings, wait_cap_s=1.0), call("wait_for_task", task_id=long_task, timeout=2))
    assert answer["result"]["structuredContent"]["timed_out"] is True
    assert answer["result"]["structuredContent"]["waited_seconds"] >= 2


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
    out, _ = host.leave(within_s=6)
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


NOISY = """
import subprocess
from upres.engine import LocalEngine
from upres.mcp_server import main
opened, queue = LocalEngine.__init__, LocalEngine.queue
def noisy_open(self, settings):
    print("stray 1", flush=True)
    opened(self, settings)
def noisy_queue(self):
    print("stray 2", flush=True)
    subprocess.run(["echo", "stray 3"])
    return queue(self)
LocalEngine.__init__, LocalEngine.queue = noisy_open, noisy_queue
main()
"""


def test_whatever_is_printed_stdout_carries_only_protocol(settings: Settings) -> None:
    answers, err = pipe(settings, call("get_queue_status"), "-c", NOISY, PATH="/usr/bin:/bin")
    assert [answer["id"] for answer in answers] == [1]
    assert err.split("\n")[:3] == ["stray 1", "stray 2", "stray 3"]


def test_the_front_end_carries_neither_torch_nor_the_web_stack(settings: Settings) -> None:
    code = "import sys; from upres.mcp_server import main; main(); print(*sys.modules, file=sys.stderr)"
    answers, err = pipe(settings, f"{request('tools/list')}\n{call('get_gpu_status', 2)}", "-c", code)
    assert len(answers) == 2
    assert not {"torch", "numpy", "av", "PIL", "fastapi", "httpx", "upres.surfaces.asgi"} & set(err.split())


@pytest.mark.parametrize("how", ["as a module", "beside the package, which is not installed"])
def test_it_starts_from_any_directory(settings: Settings, tmp_path: Path, how: str) -> None:
    command, env = ("-m", "upres.mcp_server"), {}
    if how != "as a module":
        libraries = str(Path(pytest.__file__).parents[1])
        command, env = ("-S", str(SERVER)), {"PYTHONPATH": libraries}  # without site, no .pth leads to the package
    answers, _ = pipe(settings, request("ping"), *command, cwd=tmp_path, **env)
    assert answers == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


def test_a_setting_that_cannot_be_used_is_said_on_stderr(settings: Settings) -> None:
    with start(settings, PORT="many") as process:
        out, err = process.communicate(request("ping"), timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("upres: invalid_setting: PORT='many'")
    assert "Traceback" not in err


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
