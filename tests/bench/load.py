"""A hundred REST clients and twenty MCP clients at once on a fresh server, while tasks run. Loopback only, bounded.

    python -m tests.bench.load --rest 100 --mcp 20

Each REST client submits one image, then asks for its status five times and for the queue twice; each MCP client opens a
session and calls the same three things once. Prints p50 and p99 of every kind of call, errors, and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from mcp import Client
from PIL import Image

from tests.support import make_settings
from tests.surfaces.serving import serving
from upres.engine import LocalEngine

STATUS_CALLS, QUEUE_CALLS = 5, 2


class Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, int] = defaultdict(int)

    @asynccontextmanager
    async def timing(self, call: str) -> AsyncIterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Exception as error:  # whatever went wrong, it is an error of this call
            self.errors[f"{call}: {type(error).__name__} {error}"] += 1
        else:
            self.seconds[call].append(time.perf_counter() - began)

    def show(self) -> None:
        print(f"{'call':18}{'number':>8}{'p50 ms':>9}{'p99 ms':>9}")
        for call, seconds in sorted(self.seconds.items()):
            ordered = sorted(seconds)
            p50, p99 = (1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99))
            print(f"{call:18}{len(ordered):8}{p50:9.0f}{p99:9.0f}")
        print(f"errors: {dict(self.errors) if self.errors else 0}")


async def rest_client(http: httpx.AsyncClient, picture: bytes, clock: Clock) -> None:
    task_id = ""
    async with clock.timing("REST submit"):
        reply = await http.post("/api/process", files={"file": ("a.png", picture)}, data={"resolution": "32"})
        task_id = reply.raise_for_status().json()["task_id"]
    for _ in range(STATUS_CALLS if task_id else 0):
        async with clock.timing("REST status"):
            (await http.get(f"/api/status/{task_id}")).raise_for_status()
    for _ in range(QUEUE_CALLS):
        async with clock.timing("REST queue"):
            (await http.get("/api/queue/status")).raise_for_status()


async def mcp_client(url: str, path: Path, clock: Clock) -> None:
    async with Client(f"{url}/mcp") as client:
        task_id = ""
        async with clock.timing("MCP submit"):
            reply = await client.call_tool("submit_image_task", {"file_path": str(path), "resolution": 32})
            assert reply.structured_content is not None and not reply.is_error, reply
            task_id = reply.structured_content["task_id"]
        async with clock.timing("MCP status"):
            assert not (await client.call_tool("get_task_status", {"task_id": task_id})).is_error
        async with clock.timing("MCP queue"):
            assert not (await client.call_tool("get_queue_status", {})).is_error


async def storm(url: str, rest: int, mcp: int, folder: Path, clock: Clock) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (folder / "a.png").write_bytes(buffer.getvalue())
    limits = httpx.Limits(max_connections=rest, max_keepalive_connections=rest)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        await asyncio.gather(*(rest_client(http, buffer.getvalue(), clock) for _ in range(rest)),
                             *(mcp_client(url, folder / "a.png", clock) for _ in range(mcp)))  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="many clients at once")
    parser.add_argument("--rest", type=int, default=100)
    parser.add_argument("--mcp", type=int, default=20)
    options = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        settings = make_settings(Path(name) / "data")
        with serving(settings) as served:
            server = psutil.Process(served.process.pid)
            before = server.memory_info().rss
            began = time.perf_counter()
            asyncio.run(storm(served.url, options.rest, options.mcp, Path(name), clock))
            took = time.perf_counter() - began
            after = server.memory_info().rss
            total = sum(map(len, clock.seconds.values()))
            print(f"{options.rest} REST and {options.mcp} MCP clients, {os.cpu_count()} cores, load before and during "
                  f"{os.getloadavg()[0]:.1f}: {total} calls in {took:.1f} s, {total / took:.0f} a second")  # fmt: skip
            clock.show()
            print(f"memory of the server: {before / 2**20:.0f} MB before, {after / 2**20:.0f} MB after")
        LocalEngine(settings).stop()
    return 1 if clock.errors else 0


if __name__ == "__main__":
    sys.exit(main())
