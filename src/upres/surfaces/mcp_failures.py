"""An MCP server that says each failure as `code: message; remedy`. Knows nothing of tools, tasks or transports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import AnyUrl, ValidationError

from upres.errors import InvalidParameter, TaskNotCompleted, UpresError

LONGEST_SHOWN_VALUE = 80  # characters
Reader = Callable[[str], ReadResourceContents | None]


class ToolServer(MCPServer[Any]):
    """The SDK alone puts a prefix before an error, hides every exception but its own and ignores unknown arguments."""

    def __init__(self, name: str, *, tools: list[Tool], read: Reader, **about: Any) -> None:
        """`read` may give a resource's contents itself, with a media type of their own."""
        super().__init__(name, tools=tools, **about)
        self._read = read
        self._schemas = {tool.name: tool.parameters for tool in tools}
        for tool in tools:
            _drop_titles(tool.parameters)
            _drop_titles(tool.output_schema)
            tool.parameters["additionalProperties"] = False

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        if name not in self._schemas:
            raise _said(InvalidParameter(f"there is no tool {name}", remedy=f"tools: {', '.join(self._schemas)}"))
        known: dict[str, Any] = self._schemas[name]["properties"]
        for argument in arguments:
            if argument not in known:
                names = ", ".join(known) if known else "none"
                raise _said(InvalidParameter(f"{name} has no parameter {argument}", remedy=f"parameters: {names}"))
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, UpresError):
                raise _said(error.__cause__) from error.__cause__
            crash = UpresError(f"{name} failed as it never should", remedy="the server's log on stderr says how")
            raise UnexpectedToolError(_text(crash)) from error.__cause__
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise _said(_refusal(error.__cause__, known)) from error.__cause__
            raise


    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        try:
            own = await to_thread.run_sync(self._read, str(uri))
            return [own] if own is not None else await super().read_resource(uri, context)
        except UpresError as error:
            raise _unread(error) from error
        except UnexpectedResourceError as error:
            if isinstance(error.__cause__, UpresError):
                raise _unread(error.__cause__) from error.__cause__
            raise


def _drop_titles(schema: Any) -> None:
    """pydantic's say every name twice, to a model that pays for each word."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for part in schema.values():
            _drop_titles(part)
    elif isinstance(schema, list):
        for part in schema:
            _drop_titles(part)


def _unread(error: UpresError) -> ResourceError:
    missing = error.http_status == HTTPStatus.NOT_FOUND or isinstance(error, TaskNotCompleted)
    return (ResourceNotFoundError if missing else ResourceError)(_text(error))


def _said(error: UpresError) -> ToolError:
    return ToolError(_text(error))


def _text(error: UpresError) -> str:
    return f"{error.code}: {error}"


def _refusal(error: ValidationError, known: dict[str, Any]) -> InvalidParameter:
    """Every refused argument: its name, its value, what is allowed."""
    faults: dict[str, str] = {}  # one a parameter: of a choice of types, pydantic tells one fault for each
    for fault in error.errors():
        name = str(fault["loc"][0])
        if fault["type"] == "missing":
            faults[name] = f"{name} is missing: give {_allowed(known[name])}"
        elif fault["type"] == "value_error":
            faults[name] = f"{name}={_shown(fault['input'])}: {fault['ctx']['error']}"
        else:
            faults[name] = f"{name}={_shown(fault['input'])}: give {_allowed(known[name])}"
    return InvalidParameter("; ".join(faults.values()))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN_VALUE else text[: LONGEST_SHOWN_VALUE - 1] + "…"


def _allowed(schema: dict[str, Any]) -> str:
    """What a parameter's JSON schema allows, in words."""
    match schema:
        case {"enum": [*choices]}:
            return f"one of {', '.join(choices)}"
        case {"minimum": low, "maximum": high}:
            return f"{'an integer' if schema['type'] == 'integer' else 'a number'} from {low} to {high}"
        case {"anyOf": [*kinds]}:
            return " or ".join(_allowed(kind) for kind in kinds)
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"a number above {low:g}, up to {high:g}"
        case {"type": "null"}:
            return "null"
        case {"minimum": low}:
            return f"a number from {low:g} on"
        case _:
            return f"a {schema['type']}"
