"""`upres serve` with the fixtures that the official suite calls, besides all that it has.

    python -m tests.conformance.fixtures

Transport, guards, tool wrapping and protocol handling are the product's own; only tools, resources, prompts and two
requests are added. Names, texts and schemas are what the suite asks for.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from tests.conformance.asking import ASKING, test_input_required_result_prompt
from tests.conformance.long_tools import LongTools
from tests.conformance.plain_tools import PIXEL, PLAIN
from upres.engine import Engine
from upres.settings import Settings
from upres.surfaces import asgi, mcp

ADDRESS = {"$anchor": "addressDef", "type": "object",
           "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}  # fmt: skip
EVERY_KEYWORD: dict[str, Any] = {  # of JSON Schema 2020-12 that the suite looks for
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "$defs": {"address": ADDRESS},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "phone": {"type": "string"},
                   "email": {"type": "string"}, "contactMethod": {"type": "string", "enum": ["phone", "email"]}},
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]}, "else": {"required": ["email"]}, "additionalProperties": False,
}  # fmt: skip


def json_schema_2020_12_tool() -> str:
    """Its schema is kept as it is."""
    return "kept"


def tools(long: LongTools) -> Sequence[Tool]:
    made = [Tool.from_function(fn) for fn in (*PLAIN, *ASKING, *long.functions, json_schema_2020_12_tool)]
    return [*made[:-1], made[-1].model_copy(update={"parameters": EVERY_KEYWORD})]


def furnished(engine: Engine, settings: Settings) -> MCPServer[Any]:
    long = LongTools()
    server = mcp.build_server(engine, settings, tools(long), long)
    add_resources(server)
    add_prompts(server)
    add_handlers(server)
    return server


def add_resources(server: MCPServer[Any]) -> None:
    fixed: list[tuple[str, str, Callable[[], str | bytes]]] = [
        ("test://static-text", "text/plain", lambda: "This is the content of the static text resource."),
        ("test://static-binary", "image/png", lambda: base64.b64decode(PIXEL)),
        ("test://watched-resource", "text/plain", lambda: "Watched resource content"),
    ]
    for uri, media_type, fn in fixed:
        server.resource(uri, name=uri.partition("//")[2], mime_type=media_type)(fn)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        """The suite's template."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(server: MCPServer[Any]) -> None:
    def said(*contents: Any) -> list[UserMessage]:
        return [UserMessage(role="user", content=content) for content in contents]

    @server.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """Without arguments."""
        return said(TextContent(type="text", text="This is a simple prompt for testing."))

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """With two."""
        return said(TextContent(type="text", text=f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """With a resource in it."""
        inner = TextResourceContents(uri=resourceUri, mime_type="text/plain", text="Embedded resource content.")
        return said(EmbeddedResource(type="resource", resource=inner), TextContent(type="text", text="Look at it."))

    server.prompt()(test_input_required_result_prompt)

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """With a picture in it."""
        return said(ImageContent(type="image", data=PIXEL, mime_type="image/png"),
                    TextContent(type="text", text="Look at it."))  # fmt: skip


def add_handlers(server: MCPServer[Any]) -> None:
    """What Upres does not offer: log levels, and subscriptions of handshake clients."""

    async def granted(_: Any, __: Any) -> EmptyResult:
        await anyio.lowlevel.checkpoint()
        return EmptyResult()

    for method, params in (("logging/setLevel", SetLevelRequestParams), ("resources/subscribe", SubscribeRequestParams),
                           ("resources/unsubscribe", UnsubscribeRequestParams)):  # fmt: skip
        server._lowlevel_server.add_request_handler(method, params, granted)


if __name__ == "__main__":
    asgi.build_server = furnished
    asgi.serve(Settings.from_env(os.environ))
