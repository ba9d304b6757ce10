"""One table of cases, met by clients of both eras: in memory, over a real subprocess and over a real port."""

import base64
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.types import PromptReference, ResourceTemplateReference
from PIL import Image

from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import Served
from tests.surfaces.stdio_process import SERVER
from upres.engine import LocalEngine
from upres.settings import Settings
from upres.surfaces.mcp import INSTRUCTIONS, build_server
from upres.tasks import TaskSpec, TaskState

WAYS = [("memory", "auto"), ("memory", "legacy"), ("stdio", "auto"), ("stdio", "legacy"), ("stdio", "2026-07-28"),
        ("http", "auto"), ("http", "legacy"), ("sse", "legacy")]  # fmt: skip

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class World:
    client: Client
    mode: str
    engine: LocalEngine
    video: Path
    done: str  # a completed task
    running: str  # one that nobody will see finished


@pytest.fixture(scope="module")
def done(engine: LocalEngine, small_video: Path) -> str:
    task = engine.wait(engine.submit(TaskSpec(input_path=str(small_video), resolution=72)).id, 120)
    assert task.state is TaskState.COMPLETED
    return task.id


@pytest.fixture
def running(engine: LocalEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_long_task(engine, tmp_path_factory.getbasetemp()) as task_id:
        yield task_id


@asynccontextmanager
async def connected(
    way: str, mode: str, engine: LocalEngine, settings: Settings, server: Served
) -> AsyncIterator[Client]:
    if way == "memory":
        there: Any = build_server(engine, settings)
    elif way == "stdio":
        there = StdioServerParameters(command=sys.executable, args=[str(SERVER)], env=settings.to_env())
    else:
        there = f"{server.url}/mcp" if way == "http" else sse_client(f"{server.url}/sse")
    async with Client(there, mode=mode) as client:
        yield client


@pytest.mark.parametrize(("way", "mode"), WAYS)
async def test_every_case_holds_for_every_transport_and_era(
    way: str, mode: str, engine: LocalEngine, settings: Settings, server: Served, small_video: Path, done: str,
    running: str,
) -> None:  # fmt: skip
    async with connected(way, mode, engine, settings, server) as client:
        world = World(client, mode, engine, small_video, done, running)
        for case in CASES:
            try:
                await case(world)
            except Exception as error:
                raise AssertionError(f"{case.__name__}, over {way}, client in mode {mode}: {error}") from error


async def tools_have_titles_schemas_and_hints(world: World) -> None:
    tools = (await world.client.list_tools()).tools
    assert len(tools) == 15
    assert all(tool.title and tool.description and tool.annotations and tool.output_schema for tool in tools)
    assert [tool.name for tool in tools] == [tool.name for tool in (await world.client.list_tools()).tools]


async def the_instructions_arrive(world: World) -> None:
    asks_nothing = world.mode == "2026-07-28"
    assert world.client.instructions == (None if asks_nothing else INSTRUCTIONS)


async def an_answer_is_structured_and_text(world: World) -> None:
    answer = await world.client.call_tool("probe_media", {"file_path": str(world.video)})
    assert answer.structured_content is not None
    assert (answer.structured_content["width"], answer.structured_content["frames"]) == (64, 9)
    assert answer.content[0].type == "text" and '"width": 64' in answer.content[0].text


async def a_failure_has_a_code_a_value_and_a_next_step(world: World) -> None:
    answer = await world.client.call_tool("plan_task", {"file_path": f"{world.video}x"})
    assert answer.is_error
    assert answer.content[0].text == f"file_not_found: {world.video}x does not exist; did you mean {world.video.name}?"


async def progress_is_heard_during_a_wait(world: World) -> None:
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total == 100 and message
        heard.append(progress)

    answer = await world.client.call_tool("wait_for_task", {"task_id": world.running, "timeout": 0},
                                          progress_callback=hear)  # fmt: skip
    assert answer.structured_content is not None and answer.structured_content["timed_out"] is True
    assert len(heard) == 1


async def a_cancelled_wait_leaves_the_task_alone(world: World) -> None:
    waiting = anyio.Event()

    async def hear(*_: object) -> None:
        waiting.set()

    async with anyio.create_task_group() as tasks:
        wait = {"task_id": world.running, "timeout": 600}
        tasks.start_soon(lambda: world.client.call_tool("wait_for_task", wait, progress_callback=hear))
        with anyio.fail_after(30):
            await waiting.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        answer = await world.client.call_tool("get_task_status", {"task_id": world.running})
    assert answer.structured_content is not None
    assert answer.structured_content["status"] in ("queued", "processing")


async def a_completed_task_comes_with_a_link_and_a_contact_sheet(world: World) -> None:
    answer = await world.client.call_tool("wait_for_task", {"task_id": world.done})
    assert [part.type for part in answer.content] == ["text", "resource_link", "image"]
    link, sheet = answer.content[1:]
    assert (link.uri, link.mime_type) == (f"upres://tasks/{world.done}/output", "video/mp4")
    assert link.size == world.engine.output(world.done).stat().st_size
    small_picture(sheet.data)


async def before_and_after_are_two_small_pictures_of_one_size(world: World) -> None:
    answer = await world.client.call_tool("compare_task", {"task_id": world.done})
    before, after = (part for part in answer.content if part.type == "image")
    assert small_picture(before.data).size == small_picture(after.data).size == (96, 72)


async def the_result_is_a_readable_resource(world: World) -> None:
    [facts] = (await world.client.read_resource(f"upres://tasks/{world.done}/output")).contents
    assert facts.mime_type == "application/json" and str(world.engine.output(world.done)) in facts.text
    [sheet] = (await world.client.read_resource(f"upres://tasks/{world.done}/sheet")).contents
    assert sheet.mime_type == "image/jpeg"
    small_picture(sheet.blob)


async def a_resource_that_is_not_there_is_a_protocol_error(world: World) -> None:
    for uri, says in [("upres://tasks/nothere0/output", "task_not_found"), ("upres://nothing", "Unknown resource"),
                      (f"upres://tasks/{world.running}/sheet", "task_not_completed")]:  # fmt: skip
        with pytest.raises(MCPError, match=says) as caught:
            await world.client.read_resource(uri)
        assert caught.value.code == -32602


async def a_prompt_names_the_tools_in_order(world: World) -> None:
    names = {prompt.name for prompt in (await world.client.list_prompts()).prompts}
    assert names == {"restore_old_footage", "restore_anime", "restore_ai_video", "restore_folder"}
    text = (await world.client.get_prompt("restore_anime", {"path": "/a b.mp4"})).messages[0].content.text
    places = [text.index(word) for word in ("probe_media /a b.mp4", "plan_task", "preview_task", "submit_video_task")]
    assert places == sorted(places)


async def model_names_and_task_ids_are_completed(world: World) -> None:
    prompt = PromptReference(type="ref/prompt", name="restore_anime")
    found = await world.client.complete(prompt, {"name": "dit_model", "value": "COMP"})
    assert found.completion.values == ["compact"]
    task = ResourceTemplateReference(type="ref/resource", uri="upres://tasks/{task_id}")
    found = await world.client.complete(task, {"name": "task_id", "value": world.done})
    assert found.completion.values == [world.done]


def small_picture(data: str) -> Image.Image:
    """Within what every client takes."""
    raw = base64.b64decode(data)
    assert len(raw) <= 100_000
    image = Image.open(io.BytesIO(raw))
    assert image.format == "JPEG" and max(image.size) <= 768
    return image


CASES: list[Callable[[World], Awaitable[None]]] = [
    tools_have_titles_schemas_and_hints, the_instructions_arrive, an_answer_is_structured_and_text,
    a_failure_has_a_code_a_value_and_a_next_step, progress_is_heard_during_a_wait,
    a_cancelled_wait_leaves_the_task_alone, a_completed_task_comes_with_a_link_and_a_contact_sheet,
    before_and_after_are_two_small_pictures_of_one_size, the_result_is_a_readable_resource,
    a_resource_that_is_not_there_is_a_protocol_error, a_prompt_names_the_tools_in_order,
    model_names_and_task_ids_are_completed,
]  # fmt: skip
