"""The tasks extension, by raw requests: what a client that declares it sees, and that nobody else sees any of it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import validate

from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import Served, until
from tests.surfaces.stdio_process import pipe, request
from upres.engine import LocalEngine
from upres.settings import Settings
from upres.tasks import TaskSpec

TASKS = "io.modelcontextprotocol/tasks"
VERSION = "2026-07-28"


class Wire:
    """A stateless client: one POST a request."""

    def __init__(self, server: Served, *, declares: bool) -> None:
        self._url = f"{server.url}/mcp"
        capabilities = {"extensions": {TASKS: {}}} if declares else {}
        self._meta = {"io.modelcontextprotocol/protocolVersion": VERSION,
                      "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
                      "io.modelcontextprotocol/clientCapabilities": capabilities}  # fmt: skip

    def ask(self, method: str, *, header: str | None = None, **params: Any) -> dict[str, Any]:
        """`header` is what Mcp-Name says; left out: the right name; empty: there is no such header."""
        headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method,
                   "Accept": "application/json, text/event-stream"}  # fmt: skip
        names = [header] if header is not None else [params[key] for key in ("name", "taskId") if key in params]
        if names and names[0]:
            headers["Mcp-Name"] = names[0]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": self._meta}}
        reply = httpx.post(self._url, json=body, headers=headers, timeout=60)
        if reply.headers["content-type"].startswith("application/json"):
            return dict(reply.json())
        [line] = [line for line in reply.text.splitlines() if line.startswith("data: ") and '"id"' in line]
        return dict(httpx.Response(200, content=line.removeprefix("data: ")).json())

    def submit(self, path: Path, **arguments: object) -> dict[str, Any]:
        arguments = {"file_path": str(path), "resolution": 72, **arguments}
        return self.ask("tools/call", name="submit_image_task", arguments=arguments)["result"]


def test_a_submit_becomes_a_task_that_ends_with_the_result(server: Served, small_image: Path) -> None:
    wire = Wire(server, declares=True)
    handle = wire.submit(small_image)
    assert (handle["resultType"], handle["status"], handle["ttlMs"]) == ("task", "working", None)
    assert datetime.fromisoformat(handle["createdAt"]).utcoffset() == timedelta(0) and handle["pollIntervalMs"] > 0

    def state() -> dict[str, Any]:
        return dict(wire.ask("tasks/get", taskId=handle["taskId"])["result"])

    until(lambda: state()["status"] == "completed", "the task is completed")
    end = state()
    assert end["resultType"] == "complete"
    assert end["result"]["structuredContent"]["output_resolution"] == "96x72"
    assert end["result"]["structuredContent"]["task_id"] == handle["taskId"]
    assert end["result"]["isError"] is False


def test_the_result_fits_the_tools_own_output_schema(server: Served, small_image: Path) -> None:
    wire = Wire(server, declares=True)
    task_id = wire.submit(small_image)["taskId"]
    until(lambda: wire.ask("tasks/get", taskId=task_id)["result"]["status"] == "completed", "it is completed")
    tools = {tool["name"]: tool for tool in wire.ask("tools/list")["result"]["tools"]}
    result = wire.ask("tasks/get", taskId=task_id)["result"]["result"]
    validate(result["structuredContent"], tools["submit_image_task"]["outputSchema"])


def test_cancelling_ends_the_task(server: Served, engine: LocalEngine, tmp_path: Path) -> None:
    wire = Wire(server, declares=True)
    with running_long_task(engine, tmp_path) as task_id:
        assert wire.ask("tasks/cancel", taskId=task_id)["result"]["resultType"] == "complete"
        until(lambda: wire.ask("tasks/get", taskId=task_id)["result"]["status"] == "cancelled", "it is cancelled")


def test_a_refused_submit_is_an_ordinary_error(server: Served, tmp_path: Path) -> None:
    answer = Wire(server, declares=True).submit(tmp_path / "no.png")
    assert answer["isError"] is True
    assert answer["content"][0]["text"].startswith("file_not_found: ")


def test_stray_answers_are_acknowledged_and_unknown_tasks_are_invalid(server: Served, engine: LocalEngine,
                                                                      small_image: Path) -> None:  # fmt: skip
    wire = Wire(server, declares=True)
    task_id = wire.submit(small_image)["taskId"]
    assert wire.ask("tasks/update", taskId=task_id, inputResponses={"x": {}})["result"]["resultType"] == "complete"
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        error = wire.ask(method, taskId="nothere0", inputResponses={})["error"]
        assert (error["code"], error["message"].partition(":")[0]) == (-32602, "task_not_found")


@pytest.mark.parametrize("header", ["another0", ""])
def test_a_header_that_does_not_name_the_task_is_refused_before_anything_happens(
    server: Served, engine: LocalEngine, tmp_path: Path, header: str
) -> None:
    wire = Wire(server, declares=True)
    with running_long_task(engine, tmp_path) as task_id:
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            error = wire.ask(method, taskId=task_id, header=header)["error"]
            assert error["code"] == -32020 and "mcp-name" in error["message"]
        assert not engine.status(task_id).cancel_requested


def test_over_stdio_there_are_no_headers_to_check(settings: Settings, engine: LocalEngine, small_image: Path) -> None:
    task_id = engine.submit(TaskSpec(input_path=str(small_image), resolution=72)).id
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}  # fmt: skip
    [answer], _ = pipe(settings, request("tasks/get", taskId=task_id, _meta=meta))
    assert answer["result"]["taskId"] == task_id


def test_a_client_that_declares_nothing_sees_no_task(server: Served, small_image: Path) -> None:
    wire = Wire(server, declares=False)
    answer = wire.submit(small_image)
    assert answer["resultType"] == "complete" and answer["structuredContent"]["status"] == "queued"
    error = wire.ask("tasks/get", taskId=answer["structuredContent"]["task_id"])["error"]
    assert error["code"] == -32021
    assert TASKS in error["data"]["requiredCapabilities"]["extensions"]


def test_a_handshake_client_has_no_such_method(settings: Settings) -> None:
    [answer], _ = pipe(settings, request("tasks/get", taskId="x"))
    assert answer["error"]["code"] == -32601
