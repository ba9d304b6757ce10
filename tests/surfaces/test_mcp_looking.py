"""Plan, preview and compare as an agent meets them; tool sets; waits as long as a client's patience."""

import io
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import Implementation
from PIL import Image

from tests.support import make_settings
from tests.surfaces.long_task import running_long_task
from tests.surfaces.stdio_process import call, pipe
from upres.engine import LocalEngine
from upres.errors import InvalidParameter
from upres.media.probe import probe
from upres.settings import Settings
from upres.surfaces.mcp import READ_ONLY_INSTRUCTIONS, build_server
from upres.tasks import TaskSpec, TaskState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, engine: LocalEngine, settings: Settings) -> AsyncIterator[Client]:
    async with Client(build_server(engine, settings), mode=request.param) as client:
        yield client


@pytest.fixture
def long_task(engine: LocalEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_long_task(engine, tmp_path_factory.getbasetemp()) as task_id:
        yield task_id


async def ask(client: Client, tool: str, **arguments: object) -> tuple[dict[str, Any], list[Image.Image]]:
    """The data and the pictures of an answer."""
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    pictures = [Image.open(io.BytesIO(b64decode(part.data))) for part in answer.content if part.type == "image"]
    return answer.structured_content, pictures


async def refusal(client: Client, tool: str, **arguments: object) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer.structured_content
    return str(answer.content[0].text)


async def test_a_plan_starts_nothing_and_says_what_it_would_be(
    client: Client, engine: LocalEngine, small_video: Path
) -> None:
    before = engine.history(1000), engine.queue()
    plan, _ = await ask(client, "plan_task", file_path=str(small_video), resolution=96)
    assert (plan["width"], plan["height"], plan["frames"], plan["model"]) == (128, 96, 9, "compact")
    assert plan["model_reason"] == "the only installed model"
    assert plan["work"]["low_s"] <= plan["work"]["likely_s"] <= plan["work"]["high_s"]
    assert plan["summary"].startswith("9 frames of 128x96 with compact: about ")
    assert "submit_video_task" in plan["next_step"]
    assert (engine.history(1000), engine.queue()) == before


async def test_a_plan_refuses_what_a_submit_would(client: Client, small_video: Path) -> None:
    path = str(small_video)
    assert (await refusal(client, "plan_task", file_path=path, dit_model="x")).startswith("model_not_found: ")
    assert (await refusal(client, "plan_task", file_path=path, resolution=16384)).startswith("invalid_parameter: ")


async def test_auto_is_a_model_for_a_submit_too(client: Client, engine: LocalEngine, small_image: Path) -> None:
    answer, _ = await ask(client, "submit_image_task", file_path=str(small_image), resolution=72, dit_model="auto")
    assert answer["model"] == "compact"
    assert engine.wait(answer["task_id"], 120).state is TaskState.COMPLETED


async def test_a_preview_shows_a_piece_of_a_video_and_starts_nothing_else(
    client: Client, engine: LocalEngine, small_video: Path
) -> None:
    seen, pictures = await ask(client, "preview_task", file_path=str(small_video), resolution=96, seconds=0.15,
                               region="top left")  # fmt: skip
    assert seen["status"] == "completed", seen
    assert [picture.size for picture in pictures] == [(64, 48), (64, 48)]
    assert seen["pictures"] == ["before: the file, enlarged as a player would", "after: compact"]
    task = engine.status(seen["task_id"])
    assert task.result is not None and task.result.frames == 4


async def test_the_history_tells_previews_from_what_was_asked_for(
    client: Client, engine: LocalEngine, small_image: Path
) -> None:
    seen, _ = await ask(client, "preview_task", file_path=str(small_image), resolution=72)
    whole = engine.wait(engine.submit(TaskSpec(input_path=str(small_image), resolution=72)).id, 120).id
    answer, _ = await ask(client, "get_queue_history", limit=1000)
    marks = {item["id"]: item.get("preview", False) for item in answer["history"]}
    assert (marks[seen["task_id"]], marks[whole]) == (True, False)
    status, _ = await ask(client, "get_task_status", task_id=seen["task_id"])
    assert status["params"]["preview"] is True


async def test_a_previews_moments_count_from_the_start_of_the_file_that_was_named(
    client: Client, small_video: Path
) -> None:
    path = str(small_video)
    seen, _ = await ask(client, "preview_task", file_path=path, resolution=96, start=0.2, seconds=0.1)
    assert seen["from_seconds"] == pytest.approx(0.2, abs=0.05)
    assert 0.2 <= seen["at_seconds"] <= 0.35
    first, _ = await ask(client, "compare_task", task_id=seen["task_id"], at=seen["from_seconds"])
    assert first["at_seconds"] == seen["from_seconds"]
    says = await refusal(client, "compare_task", task_id=seen["task_id"], at=0)
    assert says.startswith("invalid_parameter: at=0 lies outside the clip; give 0.")
    early, _ = await ask(client, "preview_task", file_path=path, resolution=96, start=0, seconds=0.05)
    says = await refusal(client, "compare_task", task_id=seen["task_id"], against=early["task_id"])
    assert says.startswith("invalid_parameter: the two have no moment in common")
    part, _ = await ask(client, "preview_task", file_path=path, resolution=96, start=0.2, seconds=0.1, region="left")
    says = await refusal(client, "compare_task", task_id=seen["task_id"], against=part["task_id"])
    assert says.startswith("invalid_parameter: the two show different parts")
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    for name in ("preview_task", "compare_task"):
        assert "file the user named" in tools[name].output_schema["properties"]["at_seconds"]["description"]


async def test_of_a_running_task_what_is_restored_so_far_is_shown(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data", UPRES_SEGMENT_FRAMES="4")
    engine = LocalEngine(settings)
    try:
        with running_long_task(engine, tmp_path) as task_id:
            task = engine.status(task_id)
            while task.progress.frames_done < 12:
                assert not task.state.finished, task
                task = await anyio.to_thread.run_sync(partial(engine.wait, task_id, 5, seen=task))
            async with Client(build_server(engine, settings)) as client:
                seen, pictures = await ask(client, "compare_task", task_id=task_id)
                assert seen["status"] == "processing" and len(pictures) == 2
                assert 0 < seen["at_seconds"] <= seen["ready_seconds"] and "still runs" in seen["next_step"]
                first, _ = await ask(client, "compare_task", task_id=task_id, at=0)
                assert first["at_seconds"] == 0
                says = await refusal(client, "compare_task", task_id=task_id, at=18)
                assert says.startswith("invalid_parameter: at=18 lies outside what is restored so far; give 0 to ")
    finally:
        engine.stop()
        engine.close()


async def test_a_folder_is_refused_with_what_to_do_instead(client: Client, small_image: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    says = await refusal(client, "submit_video_task", file_path=str(tmp_path))
    assert says.startswith(f"invalid_input: {tmp_path.name} is a folder without images; submit each file in it by")
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(small_image.read_bytes())
    says = await refusal(client, "submit_image_task", file_path=str(tmp_path))
    assert says.startswith(f"unsupported_media: {tmp_path.name} is a folder of 2 images; submit each image by itself")
    plan, _ = await ask(client, "plan_task", file_path=str(tmp_path))
    assert (plan["media"]["kind"], plan["frames"]) == ("video", 2)
    assert plan["media"]["bytes"] == 2 * small_image.stat().st_size


async def test_a_folder_of_frames_is_previewed_and_compared_like_a_video(
    client: Client, small_image: Path, tmp_path: Path
) -> None:
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(small_image.read_bytes())
    seen, pictures = await ask(client, "preview_task", file_path=str(tmp_path), resolution=72, seconds=0.1, start=0.2)
    assert seen["status"] == "completed", seen
    assert seen["from_seconds"] == pytest.approx(0.2, abs=0.05)
    assert [picture.size for picture in pictures] == [(96, 72), (96, 72)]


@pytest.mark.parametrize(("frame_rate", "fps"), [(12.5, Fraction(25, 2)), (23.976, Fraction(24000, 1001))])
async def test_a_folder_becomes_a_video_of_the_rate_asked_for(
    client: Client, engine: LocalEngine, small_image: Path, tmp_path: Path, frame_rate: float, fps: Fraction
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(small_image.read_bytes())
    spec = TaskSpec(input_path=str(tmp_path), resolution=72, frame_rate=frame_rate)
    assert engine.plan(spec).media.fps == pytest.approx(frame_rate, abs=0.001)
    final, _ = await ask(client, "wait_for_task", task_id=engine.submit(spec).id)
    assert final["params"]["frame_rate"] == frame_rate
    result = probe(Path(final["output_path"]))
    assert (result.frames, result.fps) == (3, fps)


def test_a_rate_that_would_have_no_effect_is_refused(engine: LocalEngine, small_video: Path) -> None:
    spec = TaskSpec(input_path=str(small_video), frame_rate=12)
    for verb in (engine.submit, engine.plan):
        with pytest.raises(InvalidParameter, match=r"frame_rate=12: small\.mp4 is no folder of images; leave it out"):
            verb(spec)


async def test_a_folder_is_compared_at_the_rate_that_its_task_gave_it(
    client: Client, engine: LocalEngine, tmp_path: Path
) -> None:
    for number in range(10):
        Image.new("RGB", (64, 48), (number * 25, 0, 0)).save(tmp_path / f"{number}.png")
    spec = TaskSpec(input_path=str(tmp_path), resolution=96, frame_rate=2, color_correction="none")
    task_id = engine.wait(engine.submit(spec).id, 120).id
    seen, (before, after) = await ask(client, "compare_task", task_id=task_id, at=4)
    assert seen["duration_seconds"] == 5
    for picture in (before, after):  # frame 8
        assert picture.getpixel((10, 10))[0] == pytest.approx(200, abs=8)


async def test_a_preview_of_an_image_shows_it(client: Client, small_image: Path) -> None:
    seen, pictures = await ask(client, "preview_task", file_path=str(small_image), resolution=72)
    assert seen["output_resolution"] == "96x72"
    assert [picture.size for picture in pictures] == [(96, 72), (96, 72)]


async def test_a_preview_goes_before_what_waits(
    engine: LocalEngine, settings: Settings, long_task: str, small_image: Path
) -> None:
    waiting = engine.submit(TaskSpec(input_path=str(small_image))).id
    async with Client(build_server(engine, replace(settings, wait_cap_s=0.0))) as client:
        seen, pictures = await ask(client, "preview_task", file_path=str(small_image), resolution=72)
        assert (seen["status"], seen["timed_out"], pictures) == ("queued", True, [])
        assert "compare_task" in seen["next_step"]
        position = {task.id: task.queue_position for task in engine.queue().pending}
        assert position[seen["task_id"]] < position[waiting]
        early, _ = await ask(client, "compare_task", task_id=seen["task_id"])
        assert early["status"] == "queued" and "pictures" not in early
    engine.cancel(waiting)
    engine.cancel(seen["task_id"])


@pytest.mark.parametrize(("arguments", "says"), [
    ({"start": 5}, "invalid_parameter: start=5 lies behind the end of small.mp4"),
    ({"seconds": 11}, "invalid_parameter: seconds=11: give a number above 0, up to 10 or null"),
    ({"region": "middle"}, 'invalid_parameter: region="middle": give one of all, center'),
    ({"batch_size": 6}, "invalid_parameter: batch_size=6"),
])  # fmt: skip
async def test_a_preview_that_cannot_be_says_why(
    client: Client, small_video: Path, settings: Settings, arguments: dict[str, object], says: str
) -> None:
    assert (await refusal(client, "preview_task", file_path=str(small_video), **arguments)).startswith(says)


async def test_two_tasks_results_can_be_compared(client: Client, engine: LocalEngine, small_video: Path) -> None:
    ids = [engine.submit(TaskSpec(input_path=str(small_video), resolution=size)).id for size in (48, 96)]
    for task_id in ids:
        assert engine.wait(task_id, 120).state is TaskState.COMPLETED
    seen, pictures = await ask(client, "compare_task", task_id=ids[1], against=ids[0], region="bottom right")
    assert seen["pictures"] == [f"before: the result of task {ids[0]}", "after: compact"]
    assert pictures[0].size == pictures[1].size == (128, 96)
    assert (await refusal(client, "compare_task", task_id=ids[0], at=7)).startswith("invalid_parameter: at=7 lies")
    assert (await refusal(client, "compare_task", task_id=ids[0], against="nobody00")).startswith("task_not_found: ")


async def test_a_comparison_whose_input_is_gone_says_so(client: Client, engine: LocalEngine, tmp_path: Path,
                                                        small_image: Path) -> None:  # fmt: skip
    copy = tmp_path / "gone.png"
    copy.write_bytes(small_image.read_bytes())
    task = engine.wait(engine.submit(TaskSpec(input_path=str(copy), resolution=72)).id, 120)
    copy.unlink()
    assert (await refusal(client, "compare_task", task_id=task.id)).startswith("file_not_found: gone.png does not")


async def test_a_small_image_is_a_readable_resource(client: Client, engine: LocalEngine, small_image: Path) -> None:
    task = engine.wait(engine.submit(TaskSpec(input_path=str(small_image), resolution=72)).id, 120)
    [content] = (await client.read_resource(f"upres://tasks/{task.id}/output")).contents
    assert content.mime_type == "image/png"
    assert b64decode(content.blob) == engine.output(task.id).read_bytes()


async def test_without_pictures_the_answers_are_the_same_text(
    engine: LocalEngine, settings: Settings, small_image: Path
) -> None:
    task = engine.wait(engine.submit(TaskSpec(input_path=str(small_image), resolution=72)).id, 120)
    async with Client(build_server(engine, replace(settings, mcp_images=False))) as client:
        assert (await ask(client, "wait_for_task", task_id=task.id))[1] == []
        seen, pictures = await ask(client, "compare_task", task_id=task.id)
        assert (seen["output_resolution"], pictures) == ("96x72", [])


async def test_a_one_shot_script_gets_no_pictures(settings: Settings, engine: LocalEngine, small_image: Path) -> None:
    task = engine.wait(engine.submit(TaskSpec(input_path=str(small_image), resolution=72)).id, 120)
    [answer], _ = pipe(settings, call("wait_for_task", task_id=task.id))
    assert [part["type"] for part in answer["result"]["content"]] == ["text", "resource_link"]


@pytest.mark.parametrize(("change", "offered"), [
    ({"mcp_tools": "core"}, {"submit_video_task", "submit_image_task", "wait_for_task", "plan_task", "preview_task",
                             "compare_task", "get_task_status", "cancel_task", "get_queue_status"}),
    ({"mcp_read_only": True}, {"wait_for_task", "plan_task", "compare_task", "probe_media", "get_task_status",
                               "get_task_position", "get_queue_status", "get_queue_history", "list_available_models",
                               "get_gpu_status"}),
    ({"mcp_read_only": True, "mcp_tools": "core"}, {"wait_for_task", "plan_task", "compare_task", "get_task_status",
                                                    "get_queue_status"}),
])  # fmt: skip
async def test_fewer_tools_are_offered_on_demand(
    engine: LocalEngine, settings: Settings, change: dict[str, Any], offered: set[str]
) -> None:
    async with Client(build_server(engine, replace(settings, **change))) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == offered
        assert (client.instructions == READ_ONLY_INSTRUCTIONS) == bool(change.get("mcp_read_only"))
        if "mcp_read_only" in change:
            assert all(tool.annotations.read_only_hint for tool in tools)
            says = await refusal(client, "submit_video_task", file_path="x")
            assert says.startswith("invalid_parameter: there is no tool submit_video_task")


@pytest.mark.parametrize(("name", "cap_s"), [("claude-code", 2.0), ("Claude-Code/2", 2.0), ("other", 1.0)])
async def test_each_kind_of_client_waits_as_long_as_its_patience(
    engine: LocalEngine, settings: Settings, long_task: str, name: str, cap_s: float
) -> None:
    server = build_server(engine, replace(settings, wait_cap_s=1.0, wait_caps=("claude=1.5", "claude-code=2")))
    async with Client(server, mode="legacy", client_info=Implementation(name=name, version="1")) as client:
        answer, _ = await ask(client, "wait_for_task", task_id=long_task)
    assert answer["timed_out"] is True and answer["requested_timeout"] == 600
    assert cap_s <= answer["waited_seconds"] < cap_s + 0.9
    assert "left" in answer["next_step"]
