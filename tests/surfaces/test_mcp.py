"""The tools as an MCP client meets them: in memory, in both eras of the protocol, over the real engine."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator
from mcp import Client

from tests.surfaces.long_task import running_long_task
from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces.mcp import INSTRUCTIONS, build_server
from upres.tasks import TaskSpec, TaskState

REQUIRED = object()
VIDEO = {"file_path": REQUIRED, "resolution": 1080, "batch_size": 5, "dit_model": None, "color_correction": "lab",
         "seed": 42}  # fmt: skip
DOCUMENTED: dict[str, dict[str, object]] = {
    "get_queue_status": {}, "get_gpu_status": {}, "list_available_models": {}, "release_gpu_memory": {},
    "submit_image_task": {name: default for name, default in VIDEO.items() if name != "batch_size"},
    "submit_video_task": VIDEO,
    "get_task_status": {"task_id": REQUIRED}, "get_task_position": {"task_id": REQUIRED},
    "wait_for_task": {"task_id": REQUIRED, "timeout": 600, "poll_interval": 5},
    "get_queue_history": {"limit": 20}}  # fmt: skip
CAP_S = 1.5

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, engine: Engine, settings: Settings) -> AsyncIterator[Client]:
    async with Client(build_server(engine, replace(settings, wait_cap_s=CAP_S)), mode=request.param) as client:
        yield client


@pytest.fixture
def long_task(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_long_task(engine, tmp_path_factory.getbasetemp()) as task_id:
        yield task_id


async def ask(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return result.content[0].text


async def test_the_documented_tools_have_the_documented_parameters_and_defaults(client: Client) -> None:
    schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
    for name, parameters in DOCUMENTED.items():
        offered = {key: REQUIRED if key in schemas[name].get("required", ()) else given["default"]
                   for key, given in schemas[name]["properties"].items()}  # fmt: skip
        assert list(offered.items()) == list(parameters.items()), name


async def test_beyond_the_documented_tools_five_are_offered(client: Client) -> None:
    assert {tool.name for tool in (await client.list_tools()).tools} - set(DOCUMENTED) == {
        "cancel_task", "plan_task", "preview_task", "compare_task", "probe_media"}  # fmt: skip


async def test_ranges_and_choices_stand_in_the_input_schema(client: Client) -> None:
    schemas = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
    video = schemas["submit_video_task"]
    assert (video["resolution"]["minimum"], video["resolution"]["maximum"]) == (16, 16384)
    assert {"lab", "wavelet", "hsv", "none"} <= set(video["color_correction"]["enum"])
    assert schemas["wait_for_task"]["timeout"]["minimum"] == 0


async def test_every_tool_has_a_title_a_description_and_says_what_it_changes(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert all(tool.title and tool.description and tool.annotations for tool in tools.values())
    changing = {name for name, tool in tools.items() if not tool.annotations.read_only_hint}
    assert changing == {"submit_video_task", "submit_image_task", "preview_task", "cancel_task", "release_gpu_memory"}
    assert {name for name, tool in tools.items() if tool.annotations.destructive_hint} == {"cancel_task"}


async def test_schemas_are_valid_and_closed(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema)
        assert tool.input_schema["additionalProperties"] is False


async def test_the_instructions_name_the_tools_of_the_way_to_a_result(client: Client) -> None:
    assert client.instructions == INSTRUCTIONS
    places = [INSTRUCTIONS.index(word) for word in ("submit_video_task", "wait_for_task", "output_path")]
    assert places == sorted(places)


@pytest.mark.parametrize("kind", ["video", "image"])
async def test_submit_then_wait_leads_to_the_restored_file(
    client: Client, kind: str, small_video: Path, small_image: Path
) -> None:
    path = str(small_video if kind == "video" else small_image)
    submitted = await ask(client, f"submit_{kind}_task", file_path=path, resolution=72)
    assert submitted.keys() == {"status", "task_id", "queue_position", "estimated_wait_seconds", "model"}
    while (final := await ask(client, "wait_for_task", task_id=submitted["task_id"])).get("timed_out"):
        pass
    assert (final["status"], final["progress"]) == ("completed", 100), final
    assert Path(final["output_path"]).is_file()
    assert final["output_resolution"] == "96x72"
    facts = [final.get(name) for name in ("frames", "frame_rate", "duration_seconds", "audio")]
    assert facts == ([9, 23.976, 0.375, ["aac"]] if kind == "video" else [1, None, None, None])
    assert final["output_bytes"] == Path(final["output_path"]).stat().st_size
    for name in ("created_at", "started_at", "completed_at"):
        assert datetime.fromisoformat(final[name]).utcoffset() == timedelta(0), "times carry a zone"
    assert final == await ask(client, "get_task_status", task_id=submitted["task_id"])
    assert (await ask(client, "get_task_position", task_id=submitted["task_id"]))["position"] == 0
    finished = (await ask(client, "get_queue_history", limit=1000))["history"]
    assert submitted["task_id"] in {item["id"] for item in finished}
    assert (await ask(client, "get_queue_history", limit=1))["history"] == finished[:1]


async def test_a_wait_that_runs_out_is_an_answer_and_no_error(client: Client, long_task: str) -> None:
    answer = await ask(client, "wait_for_task", task_id=long_task, timeout=0)
    assert answer["status"] in ("queued", "processing")
    assert answer["timed_out"] is True
    assert answer["waited_seconds"] < 1
    assert "wait_for_task" in answer["next_step"]


async def test_a_client_that_may_lose_patience_waits_no_longer_than_the_cap(client: Client, long_task: str) -> None:
    answer = await ask(client, "wait_for_task", task_id=long_task)
    assert answer["timed_out"] is True
    assert CAP_S <= answer["waited_seconds"] < 10 * CAP_S


async def heard_progress(client: Client, **arguments: object) -> list[tuple[float, str | None]]:
    """What a client hears during one wait."""
    heard = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total == 100
        heard.append((progress, message))

    await client.call_tool("wait_for_task", dict(arguments), progress_callback=hear)
    return heard


async def test_progress_is_told_at_once(client: Client, long_task: str) -> None:
    [(progress, message)] = await heard_progress(client, task_id=long_task, timeout=0)
    assert 0 <= progress < 100
    assert message


async def test_a_task_in_which_nothing_moves_is_still_told_of_and_progress_only_grows(
    client: Client, engine: Engine, long_task: str, small_image: Path
) -> None:
    behind = engine.submit(TaskSpec(input_path=str(small_image))).id
    heard = await heard_progress(client, task_id=behind, poll_interval=1)
    engine.cancel(behind)
    assert len(heard) >= 2
    assert all(str(message).startswith("queued, position ") for _, message in heard)
    assert all(earlier < later < 1 for (earlier, _), (later, _) in pairwise(heard))


async def test_stopping_a_wait_does_not_stop_the_task(client: Client, long_task: str) -> None:
    waiting = anyio.Event()

    async def hear(*_: object) -> None:
        waiting.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.call_tool("wait_for_task", {"task_id": long_task}, progress_callback=hear))
        await waiting.wait()
        tasks.cancel_scope.cancel()
    assert (await ask(client, "get_task_status", task_id=long_task))["status"] in ("queued", "processing")


async def test_cancel_task_ends_a_task_and_its_wait(client: Client, long_task: str) -> None:
    begun = await ask(client, "get_task_status", task_id=long_task)
    assert begun["doing"].startswith(("queued", "loading", "restoring"))
    answer = await ask(client, "cancel_task", task_id=long_task)
    if answer["status"] == "processing":  # else it had not begun
        assert answer["doing"].startswith("stopping, as was asked for") and "wait_for_task" in answer["next_step"]
    while (final := await ask(client, "wait_for_task", task_id=long_task)).get("timed_out"):
        pass
    assert final["status"] == "cancelled"
    assert not {"output_path", "output_filename", "process_time", "phase"} & final.keys()


async def test_gpu_memory_is_not_released_under_a_running_task(client: Client, engine: Engine, long_task: str) -> None:
    seen = engine.status(long_task)
    while seen.state is TaskState.QUEUED:
        seen = await anyio.to_thread.run_sync(partial(engine.wait, long_task, 10, seen=seen))
    says = await refusal(client, "release_gpu_memory")
    assert says.startswith("gpu_busy: ") and f"wait for task {long_task} or cancel it" in says


async def test_released_gpu_memory_is_a_success(client: Client, engine: Engine) -> None:
    queue = engine.queue()
    for left_over in (*queue.processing, *queue.pending):
        engine.wait(left_over.id)
    answer = await ask(client, "release_gpu_memory")
    assert answer["status"] == "success"
    assert answer["message"].startswith("GPU memory released")


@pytest.mark.parametrize(("tool", "fields"), [
    ("get_queue_status", {"queue_length", "processing", "pending_tasks", "estimated_total_wait"}),
    ("get_gpu_status", {"cuda_available", "gpu_name", "vram_used_mb", "current_model", "current_task"}),
    ("list_available_models", {"models", "default", "current", "loading", "loading_model"}),
    ("get_queue_history", {"history"}),
])  # fmt: skip
async def test_what_the_documented_examples_show_is_there_even_when_null(
    client: Client, tool: str, fields: set[str]
) -> None:
    assert fields <= (await ask(client, tool)).keys()


async def test_every_model_says_what_it_is_best_for(client: Client) -> None:
    for model in (await ask(client, "list_available_models"))["models"]:
        assert ":" in model["best_for"], "a purpose and the reason"


async def test_what_a_model_that_is_not_installed_would_take_is_told(client: Client) -> None:
    answer = await ask(client, "list_available_models")
    absent = {model["name"]: model for group in answer["not_installed"] for model in group["models"]}
    assert absent["seedvr2_ema_7b_fp16.safetensors"] == {
        "name": "seedvr2_ema_7b_fp16.safetensors", "size": "16GB", "vram": "~24GB"}  # fmt: skip
    assert not absent.keys() & {model["name"] for model in answer["models"]}


@pytest.mark.parametrize(("tool", "arguments", "says"), [
    ("submit_video_task", {"file_path": "/no/such.mp4"}, "file_not_found: /no/such.mp4 does not exist; "),
    ("submit_video_task", {}, "invalid_parameter: file_path is missing: give a string"),
    ("submit_video_task", {"file_path": "x", "resolution": 5},
     "invalid_parameter: resolution=5: give an integer from 16 to 16384"),
    ("submit_video_task", {"file_path": "x", "batch_size": 6},
     "invalid_parameter: batch_size=6: 6 frames are not 4n+1; use 5 or 9"),
    ("submit_image_task", {"file_path": "x", "color_correction": "sepia"},
     'invalid_parameter: color_correction="sepia": give one of lab, wavelet, wavelet_adaptive, hsv, adain, none'),
    ("submit_image_task", {"file_path": "x", "dit_model": 3, "seed": "blue"},
     'invalid_parameter: dit_model=3: give a string or null; seed="blue": give an integer from 0 to'),
    ("submit_image_task", {"file_path": "x", "batch_size": 5},
     "invalid_parameter: submit_image_task has no parameter batch_size; parameters: file_path, resolution"),
    ("get_queue_status", {"x": 1}, "invalid_parameter: get_queue_status has no parameter x; parameters: none"),
    ("get_task_status", {"task_id": "nobody"}, "task_not_found: "),
    ("wait_for_task", {"task_id": "nobody"}, "task_not_found: "),
    ("cancel_task", {"task_id": "nobody"}, "task_not_found: "),
    ("restore", {}, "invalid_parameter: there is no tool restore; tools: submit_video_task"),
])  # fmt: skip
async def test_a_failure_reads_code_message_remedy(
    client: Client, tool: str, arguments: dict[str, object], says: str
) -> None:
    text = await refusal(client, tool, **arguments)
    assert text.startswith(says)
    assert "\n" not in text


async def test_a_wrong_model_or_kind_is_refused_at_once(client: Client, small_video: Path) -> None:
    path = str(small_video)
    assert (await refusal(client, "submit_video_task", file_path=path, dit_model="x")).startswith("model_not_found: ")
    assert (await refusal(client, "submit_image_task", file_path=path)).startswith("unsupported_media: ")
