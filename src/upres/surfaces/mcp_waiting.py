"""Waiting for a task without wedging a client: progress at once and often, an answer before patience ends.

Knows nothing of how tasks run. A wait that is cancelled, or whose client is gone, leaves the task alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from mcp.server.mcpserver import Context

from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces.mcp_replies import Status, in_words, status_of
from upres.surfaces.stdio import ONE_SHOT_CLIENT
from upres.tasks import Task

WAIT_SLICE_S = 0.5  # how long a thread may outlive a cancelled wait
LONGEST_SILENCE_S = 5  # between two progress notifications, whatever poll_interval says
CONCURRENT_WAITS = 64  # threads for waits alone, so that they never hold up the other tools
Looked = TypeVar("Looked")


class Waited(Status):
    """A finished task's status; of an unfinished one also how the wait ended."""

    timed_out: bool | None = None
    requested_timeout: float | None = None
    waited_seconds: float | None = None

    @classmethod
    def finished(cls, task: Task) -> Waited:
        return cls.model_validate(status_of(task).model_dump())

    @classmethod
    def still_running(cls, task: Task, asked_s: float, waited_s: float) -> Waited:
        status = status_of(task, _next_step(task))
        return cls(**status.model_dump(), timed_out=True, requested_timeout=asked_s, waited_seconds=round(waited_s, 1))


class Waiter:
    """Shared by all waits of one server."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._cap_s = settings.wait_cap_s
        self._caps_s = {name.lower(): float(seconds)
                        for name, _, seconds in (cap.partition("=") for cap in settings.wait_caps)}  # fmt: skip
        self._threads = anyio.CapacityLimiter(CONCURRENT_WAITS)

    def limit_s(self, ctx: Context[Any, Any], asked_s: float) -> float:
        """A script waits for this one reply only, as long as it likes; hosts lose patience, each kind at its time."""
        name = client_name(ctx)
        if name == ONE_SHOT_CLIENT:
            return asked_s
        caps = [cap_s for start, cap_s in self._caps_s.items() if name.lower().startswith(start)]
        return min(asked_s, max(caps, default=self._cap_s))

    async def wait(
        self, task_id: str, limit_s: float, ctx: Context[Any, Any], silence_s: float = LONGEST_SILENCE_S
    ) -> tuple[Task, float]:
        """The task as it is once it is finished or the time is over, and the seconds that passed."""
        tell = _Narrator(ctx, min(silence_s, LONGEST_SILENCE_S))
        started = anyio.current_time()
        task = await self.apart(partial(self._engine.status, task_id))
        while True:
            waited_s = anyio.current_time() - started
            if task.state.finished:
                return task, waited_s
            await tell(task)
            if waited_s >= limit_s:
                return task, waited_s
            look = partial(self._engine.wait, task_id, min(WAIT_SLICE_S, limit_s - waited_s), seen=task)
            task = await self.apart(look)

    async def apart(self, look: Callable[[], Looked]) -> Looked:
        """Runs what only looks in a thread; when the call is cancelled the thread is left to end by itself."""
        return await to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._threads)


class _Narrator:
    """Tells a waiting client how its task fares: at once, at every change, and before it could think us dead."""

    def __init__(self, ctx: Context[Any, Any], silence_s: float) -> None:
        self._ctx = ctx
        self._silence_s = silence_s
        self._said = ""
        self._said_at = 0.0
        self._progress = -1.0

    async def __call__(self, task: Task) -> None:
        words, now = in_words(task), anyio.current_time()
        if words == self._said and now - self._said_at < self._silence_s:
            return
        self._said, self._said_at = words, now
        self._progress = max(float(task.percent), self._progress + 1e-6)  # must grow, and a restart lowers the percent
        await self._ctx.report_progress(self._progress, 100, words)


def client_name(ctx: Context[Any, Any]) -> str:
    """Empty where the client did not say, as it need not from protocol 2026-07-28 on."""
    client = ctx.session.client_params
    return client.client_info.name if client is not None else ""


def _next_step(task: Task) -> str:
    left = f" (about {round(task.estimated_wait_s)} s left)" if task.estimated_wait_s is not None else ""
    goes = "it stops soon" if task.cancel_requested else "the task goes on meanwhile"
    return f"Call wait_for_task again with the same task_id; {goes}{left}."
