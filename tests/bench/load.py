"""A hundred REST clients and twenty MCP clients at once on a fresh server, while tasks run. Loopback only, bounded.

    python -m tests.bench.load --rest 100 --mcp 20

Each REST client submits one image, then asks for its status five times and for the queue twice; each MCP client opens a
session and calls the same three things once. A process apart, which does nothing else, meanwhile asks for the queue and
for a task's status every 20 ms: what it waits is what an idle client waits. Prints p50 and p99 of every kind of call,
errors, and for whose sake the machine was busy: server, readers of files, worker, clients.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import AsyncResult
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.support import make_settings, until, workers_of
from tests.surfaces.serving import serving
from upres.engine import LocalEngine
from upres.media.readers import NURSERY

STATUS_CALLS, QUEUE_CALLS = 5, 2
LOOK_EVERY_S = 0.02
PATIENCE_S = 120
BOUNDARY = "upres-load"


@dataclass
class Clock:
    """What one process of clients measured, and the time it took itself."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @contextmanager
    def timing(self, call: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Exception as error:  # whatever went wrong, it is an error of this call
            self.errors[f"{call}: {type(error).__name__} {error}"] += 1
        else:
            self.seconds[call].append(time.perf_counter() - began)


class Caller:
    """One REST client with one connection. The standard library's: it costs the machine least."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def call(self, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body is not None else {}
        self._http.request(method, path, body, headers)
        reply = self._http.getresponse()
        answer: dict[str, object] = json.loads(reply.read())
        assert reply.status == http.HTTPStatus.OK, answer
        return answer

    def submit(self, picture: bytes) -> str:
        form = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="resolution"\r\n\r\n32\r\n--{BOUNDARY}\r\n'
                'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n').encode()  # fmt: skip
        return str(self.call("POST", "/api/process", form + picture + f"\r\n--{BOUNDARY}--\r\n".encode())["task_id"])


def rest_clients(port: int, number: int, picture: bytes, clock: Clock) -> None:
    threads = [threading.Thread(target=_rest_client, args=(port, picture, clock)) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _rest_client(port: int, picture: bytes, clock: Clock) -> None:
    caller, task_id = Caller(port), ""
    with clock.timing("REST submit"):
        task_id = caller.submit(picture)
    for _ in range(STATUS_CALLS if task_id else 0):
        with clock.timing("REST status"):
            caller.call("GET", f"/api/status/{task_id}")
    for _ in range(QUEUE_CALLS):
        with clock.timing("REST queue"):
            caller.call("GET", "/api/queue/status")


def mcp_clients(port: int, number: int, path: Path, clock: Clock) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(_mcp_client(port, path, clock) for _ in range(number)))

    asyncio.run(all_of_them())


async def _mcp_client(port: int, path: Path, clock: Clock) -> None:
    from mcp import Client

    async with Client(f"http://127.0.0.1:{port}/mcp") as client:
        task_id = ""
        with clock.timing("MCP submit"):
            reply = await client.call_tool("submit_image_task", {"file_path": str(path), "resolution": 32})
            assert reply.structured_content is not None and not reply.is_error, reply
            task_id = reply.structured_content["task_id"]
        with clock.timing("MCP status"):
            assert not (await client.call_tool("get_task_status", {"task_id": task_id})).is_error
        with clock.timing("MCP queue"):
            assert not (await client.call_tool("get_queue_status", {})).is_error


def onlooker(port: int, task_id: str, clock: Clock, over: Event) -> None:
    caller = Caller(port)
    while not over.wait(LOOK_EVERY_S):
        with clock.timing("onlooker's queue"):
            caller.call("GET", "/api/queue/status")
        over.wait(LOOK_EVERY_S)
        with clock.timing("onlooker's status"):
            caller.call("GET", f"/api/status/{task_id}")


_start: Barrier
_over: Event


def _begin_process(start: Barrier, over: Event) -> None:
    global _start, _over
    _start, _over = start, over


def in_process(role: str, port: int, number: int, what: bytes | str) -> Clock:
    """Runs in a process of its own, from the moment on when all are ready."""
    import mcp  # noqa: F401  # now, and not while the clock runs

    clock, roles = Clock(), _roles(port, number, what)
    _start.wait()
    began, cpu_s = time.perf_counter(), time.process_time()
    roles[role](clock)
    return Clock(dict(clock.seconds), dict(clock.errors), time.process_time() - cpu_s, time.perf_counter() - began)


def _roles(port: int, number: int, what: bytes | str) -> dict[str, Callable[[Clock], None]]:
    return {
        "REST": lambda clock: rest_clients(port, number, bytes(what), clock),  # type: ignore[arg-type]
        "MCP": lambda clock: mcp_clients(port, number, Path(str(what)), clock),
        "onlooker": lambda clock: onlooker(port, str(what), clock, _over),
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds so far, and resident bytes of the server."""

    server: float
    readers: float
    worker: float
    rss: int

    @classmethod
    def by(cls, server: psutil.Process, workers: list[psutil.Process]) -> Spent:
        own, reaped = server.cpu_times()[:2], server.cpu_times()[2:4]
        forked = [child.cpu_times()[:4] for child in server.children() if str(NURSERY) in child.cmdline()]
        return cls(sum(own), sum(map(sum, [reaped, *forked])), sum(sum(worker.cpu_times()[:2]) for worker in workers),
                   server.memory_info().rss)  # fmt: skip


def some_picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def begun(port: int, picture: bytes) -> str:
    """A task that is done: from now on a worker is there."""
    caller = Caller(port)
    task_id = caller.submit(picture)
    until(lambda: caller.call("GET", f"/api/status/{task_id}")["status"] == "completed", "a worker runs")
    return task_id


def storm(port: int, rest: int, mcp: int, picture: bytes, looked_at: str, folder: Path) -> dict[str, Clock]:
    """Every process's clock, by its role."""
    (folder / "a.png").write_bytes(picture)
    context = multiprocessing.get_context("spawn")
    start, over = context.Barrier(3), context.Event()
    with context.Pool(3, _begin_process, (start, over)) as pool:
        def role(name: str, number: int, what: bytes | str) -> AsyncResult[Clock]:
            return pool.apply_async(in_process, (name, port, number, what))

        looking = role("onlooker", 1, looked_at)
        clients = {"REST": role("REST", rest, picture), "MCP": role("MCP", mcp, str(folder / "a.png"))}
        clocks = {name: clock.get() for name, clock in clients.items()}
        over.set()
        return clocks | {"onlooker": looking.get()}


def show(clocks: dict[str, Clock]) -> None:
    print(f"{'call':18}{'number':>8}{'p50 ms':>9}{'p99 ms':>9}")
    for clock in clocks.values():
        for call, seconds in sorted(clock.seconds.items()):
            ordered = sorted(seconds)
            p50, p99 = (1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99))
            print(f"{call:18}{len(ordered):8}{p50:9.0f}{p99:9.0f}")
    errors = {what: number for clock in clocks.values() for what, number in clock.errors.items()}
    print(f"errors: {errors if errors else 0}")


def main() -> int:
    parser = argparse.ArgumentParser(description="many clients at once")
    parser.add_argument("--rest", type=int, default=100)
    parser.add_argument("--mcp", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        settings, picture = make_settings(Path(name) / "data"), some_picture()
        with serving(settings) as served:
            server, first = psutil.Process(served.process.pid), begun(served.port, picture)
            before, load = Spent.by(server, workers_of(settings)), os.getloadavg()[0]
            clocks = storm(served.port, options.rest, options.mcp, picture, first, Path(name))
            spent = Spent.by(server, workers_of(settings))
        LocalEngine(settings).stop()
    took = max(clock.wall_s for clock in clocks.values())
    calls = sum(len(seconds) for clock in clocks.values() for seconds in clock.seconds.values())
    print(f"{options.rest} REST and {options.mcp} MCP clients, {os.cpu_count()} cores, load before {load:.1f}: "
          f"{calls} calls in {took:.1f} s")  # fmt: skip
    show(clocks)
    ours = ", ".join(f"{role} {clock.cpu_s:.1f}" for role, clock in clocks.items())
    print(f"CPU seconds: server {spent.server - before.server:.1f}, readers {spent.readers - before.readers:.1f}, "
          f"worker {spent.worker - before.worker:.1f}; clients: {ours}")  # fmt: skip
    print(f"memory of the server: {before.rss / 2**20:.0f} MB before, {spent.rss / 2**20:.0f} MB after")
    return 1 if any(clock.errors for clock in clocks.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
