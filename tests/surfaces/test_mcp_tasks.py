"""The tasks extension, by raw requests: what a client that declares it sees, and that nobody else sees any of it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from jsonschema import validate

from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import Served, until
from tests.surfaces.stdio_process import pipe, request
from upres.engine import LocalEngine
from upres.settings import Settings

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

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method,
                   "Accept": "application/json, text/event-stream"}  # fmt: skip
        if names := [params[key] for key in ("name", "taskId") if key in params]:
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
