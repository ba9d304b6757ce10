"""The suite's tools that answer with every kind of content, log, report progress and fail. Knows no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

Ctx = Context[Any, Any]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
STEP_S = 0.05


def test_simple_text() -> str:
    """Text."""
    return "This is a simple text response for testing."


def test_image_content() -> list[ImageContent]:
    """A picture."""
    return [ImageContent(type="image", data=PIXEL, mime_type="image/png")]


def test_audio_content() -> list[AudioContent]:
    """Sound."""
    return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


def embedded(uri: str, media_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=media_type, text=text))


def test_embedded_resource() -> list[EmbeddedResource]:
    """A resource."""
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Text, a picture and a resource."""
    return [TextContent(type="text", text="Multiple content types test:"),
            ImageContent(type="image", data=PIXEL, mime_type="image/png"),
            embedded("test://mixed-content-resource", "application/json", '{"test": "data"}')]  # fmt: skip


async def test_tool_with_logging(ctx: Ctx) -> str:
    """Logs three times."""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(words)
        await anyio.sleep(STEP_S)
    return "logged"


async def test_tool_with_progress(ctx: Ctx) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(STEP_S)
    return "progressed"


def test_error_handling() -> str:
    """Fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


async def test_sampling(prompt: str, ctx: Ctx) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message(messages=[message], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if answer.content.type == 'text' else ''}"


class Answer(BaseModel):
    response: str = Field(description="User's response")


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def titled(**titles: str) -> list[Any]:
    return [{"const": name, "title": title} for name, title in titles.items()]


class Enums(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["active", "inactive", "pending"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": titled(low="Low", medium="Medium", high="High")})
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["read", "write", "execute"]}})  # fmt: skip
    titledMulti: list[str] = Field(
        json_schema_extra={"items": {"anyOf": titled(feature="Feature", bug="Bug", docs="Documents")}})  # fmt: skip
    legacyEnum: str = Field(
        json_schema_extra={"enum": ["small", "medium", "large"], "enumNames": ["Small", "Medium", "Large"]}
    )


async def _asked(ctx: Ctx, message: str, schema: type[BaseModel]) -> str:
    answer = await ctx.elicit(message=message, schema=schema)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={content}"


async def test_elicitation(message: str, ctx: Ctx) -> str:
    """Asks the user."""
    return f"User response: {await _asked(ctx, message, Answer)}"


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
    """Asks with defaults of every kind."""
    return f"Elicitation result: {await _asked(ctx, 'Who are you?', Defaults)}"


async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
    """Asks with every kind of enumeration."""
    return f"Elicitation completed: {await _asked(ctx, 'Which?', Enums)}"


def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "<none>",
) -> str:
    """Its argument is repeated in a header."""
    return f"region={region}"


async def test_missing_capability(ctx: Ctx) -> str:
    """Refuses a client that cannot sample."""
    can = ctx.session.client_capabilities
    if can is None or can.sampling is None:
        raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="the client cannot sample",
                       data={"requiredCapabilities": {"sampling": {}}})  # fmt: skip
    return "it can"


async def test_reconnection(ctx: Ctx) -> str:
    """Hangs up in the middle of a call."""
    await ctx.info("Before disconnect")
    await ctx.close_sse_stream()
    await anyio.sleep(4 * STEP_S)
    await ctx.info("After reconnect")
    return "Reconnection test completed"


async def test_trigger_tool_change(ctx: Ctx) -> str:
    """Says that there are other tools."""
    await ctx.notify_tools_changed()
    return "said"


async def test_trigger_prompt_change(ctx: Ctx) -> str:
    """Says that there are other prompts."""
    await ctx.notify_prompts_changed()
    return "said"


PLAIN: tuple[Callable[..., Any], ...] = (
    test_simple_text, test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
    test_tool_with_logging, test_tool_with_progress, test_error_handling, test_sampling, test_elicitation,
    test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums, test_x_mcp_header, test_missing_capability,
    test_reconnection, test_trigger_tool_change, test_trigger_prompt_change,
)  # fmt: skip
