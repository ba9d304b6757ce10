"""The stdio server fed by a pipe: one request without a handshake, one line back; and what never reaches stdout."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.long_task import running_long_task
from tests.surfaces.stdio_process import PATIENCE_S, SERVER, call, pipe, request, start
from upres.engine import Engine
from upres.settings import Settings


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
