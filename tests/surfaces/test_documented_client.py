"""The Python client of the public document against the real server, unchanged.

The document ends its example with `result['task_id']`. But `_call_tool` returns the whole JSON-RPC reply, in which the
tool's answer stands under `result`, where JSON-RPC 2.0 wants it; no server can serve that last line without breaking
the protocol for everybody else. So the class is taken to the letter, and the task id is read where a reply has it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import upres.mcp_server
from tests.surfaces.documented_client import SeedVR2MCPClient
from upres.engine import Engine
from upres.settings import Settings
from upres.tasks import TaskState


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> SeedVR2MCPClient:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    return SeedVR2MCPClient(str(upres.mcp_server.__file__))


def answer(reply: dict[str, Any]) -> dict[str, Any]:
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", 1)
    assert not reply["result"]["isError"], reply
    assert json.loads(reply["result"]["content"][0]["text"]) == reply["result"]["structuredContent"]
    return reply["result"]["structuredContent"]


def test_the_documented_client_submits_a_video_and_waits_for_its_file(
    client: SeedVR2MCPClient, small_video: Path
) -> None:
    submitted = answer(client.submit_video(str(small_video), resolution=96, color_correction="wavelet", seed=7))
    final = answer(client.wait_for_task(submitted["task_id"]))
    assert final["status"] == "completed", final
    asked = {"resolution": 96, "batch_size": 5, "color_correction": "wavelet", "seed": 7}
    assert {name: final["params"][name] for name in asked} == asked
    assert Path(final["output_path"]).is_file()
    assert Path(final["output_path"]).name == final["output_filename"]


def test_the_documented_client_reads_the_queue(client: SeedVR2MCPClient) -> None:
    assert answer(client.get_queue_status()).keys() == {
        "queue_length", "processing", "processing_progress", "pending_tasks", "total_completed", "total_failed",
        "avg_process_time", "estimated_total_wait",
    }  # fmt: skip


def test_a_task_goes_on_after_the_client_that_submitted_it_has_ended(
    client: SeedVR2MCPClient, small_video: Path, engine: Engine
) -> None:
    submitted = answer(client.submit_video(str(small_video), resolution=48))
    assert engine.wait(submitted["task_id"], timeout_s=60).state is TaskState.COMPLETED
