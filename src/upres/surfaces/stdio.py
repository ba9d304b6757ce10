"""MCP over stdin and stdout, also for callers without a handshake. Knows nothing of tools, tasks or the engine.

A script pipes one request in, closes the pipe and reads one line. The SDK's stdio alone refuses a request that comes
before `initialize`, and at the end of stdin drops every call that still runs. So a relay stands between its transport
(which keeps stray prints off stdout) and its server: it shakes hands for a caller that does not, and lets the server
see the end of stdin only when every request has its reply.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError

log = logging.getLogger(__name__)

DRAIN_S = 1.0  # how long calls in flight may go on after a host closed stdin; hosts kill two seconds after it
LINGER_S = 0.4  # … and threads that cannot be cancelled after that: then the process ends under them
ONE_SHOT_CLIENT = "upres-one-shot"  # the client's name, and the id, in the handshake made for a caller without one
ENDLESS = "subscriptions/listen"  # the one request whose reply comes only when the connection ends

Inbox = MemoryObjectReceiveStream[SessionMessage | Exception]
Outbox = MemoryObjectSendStream[SessionMessage]
Send = Callable[[SessionMessage], Awaitable[None]]


def run_stdio(server: MCPServer[Any]) -> None:
    """Serves until stdin ends and the open requests are answered, or are not within DRAIN_S of a host's."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread reads stdin: Python's own Ctrl-C would wait for a line
    try:
        anyio.run(_serve, server)
    except* BrokenPipeError:
        log.info("the client closed stdout")


async def _serve(server: MCPServer[Any]) -> None:
    lowlevel = server._lowlevel_server  # the SDK has no public way to run an MCPServer over given streams
    async with relayed_stdio() as (inbox, outbox):
        await lowlevel.run(inbox, outbox, lowlevel.create_initialization_options())


@asynccontextmanager
async def relayed_stdio() -> AsyncIterator[tuple[Inbox, Outbox]]:
    """The streams to give to a server: what it is to read, and where it is to write."""
    to_server, inbox = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outbox, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    unanswered = _Unanswered()
    async with stdio_server() as (wire_in, wire_out), wire_out, anyio.create_task_group() as relay:
        relay.start_soon(_pass_requests, wire_in, to_server, wire_out.send, unanswered)
        relay.start_soon(_pass_replies, from_server, wire_out.send, unanswered)
        yield inbox, outbox


async def _pass_requests(
    wire_in: AsyncIterable[SessionMessage | Exception],
    to_server: MemoryObjectSendStream[SessionMessage | Exception],
    reply: Send,
    unanswered: _Unanswered,
) -> None:
    one_shot: bool | None = None  # unknown until the first request
    async with to_server:
        async for item in wire_in:
            if isinstance(item, Exception):
                if (rejection := _rejection(item)) is not None:
                    await reply(SessionMessage(rejection))
                continue
            if one_shot is None and isinstance(item.message, JSONRPCRequest):
                one_shot = _skips_handshake(item.message)
                for made_up in _handshake() if one_shot else ():
                    await to_server.send(SessionMessage(made_up))
            unanswered.asked(item.message)
            await to_server.send(item)
        with anyio.move_on_after(None if one_shot else DRAIN_S):
            await unanswered.none_left()
        _end_soon()


def _end_soon() -> None:
    """A thread in a system call (a locked store, a slow disk) cannot be stopped, and Python would wait for it.

    Nothing is half done by that: the store's writes are transactions, and children die with this process.
    """
    end = threading.Timer(LINGER_S, os._exit, (0,))
    end.daemon = True
    end.start()


async def _pass_replies(replies: AsyncIterable[SessionMessage], reply: Send, unanswered: _Unanswered) -> None:
    async for item in replies:
        if isinstance(item.message, JSONRPCResponse | JSONRPCError) and item.message.id == ONE_SHOT_CLIENT:
            continue
        await reply(item)
        unanswered.answered(item.message)


class _Unanswered:
    """The ids of the client's requests that have no reply yet."""

    def __init__(self) -> None:
        self._ids: set[str] = set()  # as text: a cancellation may write the id 1 as "1"
        self._changed = anyio.Event()

    def asked(self, message: JSONRPCMessage) -> None:
        match message:
            case JSONRPCRequest(id=request_id, method=method) if method != ENDLESS:
                self._ids.add(str(request_id))
            case JSONRPCNotification(method="notifications/cancelled", params={"requestId": request_id}):
                self._settle(request_id)

    def answered(self, message: JSONRPCMessage) -> None:
        match message:
            case JSONRPCResponse(id=request_id) | JSONRPCError(id=request_id):
                self._settle(request_id)

    def _settle(self, request_id: object) -> None:
        self._ids.discard(str(request_id))
        self._changed.set()
        self._changed = anyio.Event()

    async def none_left(self) -> None:
        while self._ids:
            await self._changed.wait()


def _skips_handshake(first: JSONRPCRequest) -> bool:
    """Neither opens with `initialize` nor carries the envelope that replaces it from protocol 2026-07-28 on."""
    match first.params:
        case {"_meta": {**meta}} if PROTOCOL_VERSION_META_KEY in meta:
            return False
        case _:
            return first.method != "initialize"


def _handshake() -> tuple[JSONRPCRequest, JSONRPCNotification]:
    hello = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": {},
             "clientInfo": {"name": ONE_SHOT_CLIENT, "version": "1"}}  # fmt: skip
    return (
        JSONRPCRequest(jsonrpc="2.0", id=ONE_SHOT_CLIENT, method="initialize", params=hello),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized"),
    )


def _rejection(fault: Exception) -> JSONRPCError | None:
    """The reply to a line that is no message; a blank line gets none."""
    if not isinstance(fault, ValidationError):
        raise fault
    *_, last = fault.errors()
    match last:
        case {"type": "json_invalid", "input": str(line)}:
            if not line.strip():
                return None
            return _error(None, PARSE_ERROR, "Parse error: a message is one line of JSON")
        case {"input": {"id": str() | int() as request_id}}:
            return _error(request_id, INVALID_REQUEST, "Invalid request")
        case _:
            return _error(None, INVALID_REQUEST, "Invalid request")


def _error(request_id: RequestId | None, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))
