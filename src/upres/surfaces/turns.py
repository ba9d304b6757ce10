"""Who waits for whom: calls that look at the queue, and calls that read a media file. Knows nothing of what they do.

A submit that waits for a reader of its file must not keep a look at the queue waiting. Readers are few, for they take a
core each; looks are many, for they share what they see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import anyio
from anyio import to_thread

Answer = TypeVar("Answer")
Given = ParamSpec("Given")
_LOOKING, _READING = anyio.CapacityLimiter(40), anyio.CapacityLimiter(4)


async def in_turn(call: Callable[[], Answer]) -> Answer:
    """Runs in a thread what waits for a process that reads a media file."""
    return await to_thread.run_sync(call, limiter=_READING)


def looking(look: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """The same function as a coroutine, for one that looks into the store and comes back at once."""

    @wraps(look)
    async def looked(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        return await to_thread.run_sync(partial(look, *args, **kwargs), limiter=_LOOKING)

    return looked
