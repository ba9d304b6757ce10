"""The main job, as an agent does it: start the stdio server, submit a clip, wait with progress, look at the result.

    python tests/demo/demo.py [clip] [--resolution N] [--out DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult
from picture import before_after

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="restore a clip through the MCP stdio server")
    parser.add_argument("clip", nargs="?", type=Path, default=HERE / "city.mp4")
    parser.add_argument("--resolution", type=int, default=404)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    anyio.run(demo, options.clip.resolve(), options.resolution, options.out.resolve())


async def demo(clip: Path, resolution: int, out: Path) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "upres.mcp_server"],
        env={**os.environ, "UPRES_DATA_DIR": str(out / "data")},
    )  # fmt: skip
    began = time.monotonic()
    async with Client(server) as client:
        tools = await client.list_tools()
        say(f"server ready with {len(tools.tools)} tools after {time.monotonic() - began:.1f} s")
        arguments = {"file_path": str(clip), "resolution": resolution}
        task = payload(await client.call_tool("submit_video_task", arguments))
        say(f"submitted {clip.name}: task {task['task_id']}, model {task['model']}")
        done: dict[str, Any] = {"status": "queued"}
        while done["status"] in ("queued", "processing"):
            waited = await client.call_tool("wait_for_task", {"task_id": task["task_id"]}, progress_callback=progress)
            done = payload(waited)
        say(f"{done['status']} in {done.get('process_time')} s: {done}")
        if done["status"] != "completed":
            sys.exit(1)
        await client.call_tool("release_gpu_memory")
    result = out / f"{clip.stem}_{resolution}p.mp4"
    shutil.copyfile(done["output_path"], result)
    picture = out / f"{clip.stem}_before_after.png"
    facts = before_after(clip, result, picture)
    say(facts)
    print(f"restored clip:  {result}\nbefore | after: {picture}")


async def progress(done: float, total: float | None, message: str | None) -> None:
    say(f"  {message}")


def payload(result: CallToolResult) -> dict[str, Any]:
    if result.is_error or not isinstance(result.structured_content, Mapping):
        sys.exit(f"the server refused: {result.content}")
    return dict(result.structured_content)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
