"""Calls that read a media file, a few at a time in threads of their own. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import to_thread

Answer = TypeVar("Answer")
_READING = anyio.CapacityLimiter(4)


async def in_turn(call: Callable[[], Answer]) -> Answer:
    """Runs in a thread what waits for a process that reads a file: a hundred such calls at once would hold every
    thread that the others run in, and every core.
    """
    return await to_thread.run_sync(call, limiter=_READING)
