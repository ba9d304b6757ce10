"""The suite's tools that ask back in their answer (`InputRequiredResult`, protocol 2026-07-28). Knows no server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]


def question(message: str, field: str = "name", kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _prompt(text: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def asks(state: str | None = None, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def answers_of(ctx: Ctx) -> dict[str, Any]:
    return dict(ctx.input_responses) if ctx.input_responses else {}


def said(answer: object, field: str) -> object:
    return answer.content.get(field) if isinstance(answer, ElicitResult) and answer.content else None


async def test_input_required_result_elicitation(ctx: Ctx) -> str | InputRequiredResult:
    """Asks the user."""
    answer = answers_of(ctx).get("user_name")
    return asks(user_name=question("What is your name?")) if answer is None else f"Hello, {said(answer, 'name')}!"


async def test_input_required_result_sampling(ctx: Ctx) -> str | InputRequiredResult:
    """Asks the model."""
    match answers_of(ctx).get("capital_question"):
        case CreateMessageResult(content=TextContent(text=text)):
            return f"Model said: {text}"
        case _:
            return asks(capital_question=_prompt("What is the capital of France?"))


async def test_input_required_result_list_roots(ctx: Ctx) -> str | InputRequiredResult:
    """Asks for roots."""
    match answers_of(ctx).get("client_roots"):
        case ListRootsResult(roots=roots):
            return f"Client exposed {len(roots)} root(s)."
        case _:
            return asks(client_roots=ListRootsRequest())


async def test_input_required_result_request_state(ctx: Ctx) -> str | InputRequiredResult:
    """Wants its state back."""
    if "confirm" in answers_of(ctx) and ctx.request_state == "request-state-nonce":
        return "state-ok: confirmation received"
    return asks("request-state-nonce", confirm=question("Please confirm", "ok", "boolean"))


async def test_input_required_result_tampered_state(ctx: Ctx) -> str | InputRequiredResult:
    """Takes no state but its own: the SDK seals it."""
    if ctx.request_state is None:
        return asks("round-1", confirm=question("Please confirm", "ok", "boolean"))
    return f"state-ok: {ctx.request_state}"


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> str | InputRequiredResult:
    """Asks three things at once."""
    if {"user_name", "greeting", "client_roots"} <= answers_of(ctx).keys():
        return "All inputs received."
    return asks("multiple-inputs", user_name=question("What is your name?"), greeting=_prompt("Generate a greeting"),
                 client_roots=ListRootsRequest())  # fmt: skip


async def test_input_required_result_multi_round(ctx: Ctx) -> str | InputRequiredResult:
    """Asks twice, and remembers in between by its state."""
    state = json.loads(ctx.request_state) if ctx.request_state else {"round": 0}
    answers = answers_of(ctx)
    if state["round"] == 1 and "step1" in answers:
        known = json.dumps({"round": 2, "name": said(answers["step1"], "name")})
        return asks(known, step2=question("Step 2: What is your favorite color?", "color"))
    if state["round"] == 2 and "step2" in answers:
        return f"{state['name']} likes {said(answers['step2'], 'color')}."
    return asks(json.dumps({"round": 1}), step1=question("Step 1: What is your name?"))


async def test_input_required_result_capabilities(ctx: Ctx) -> InputRequiredResult:
    """Asks only what the client can answer."""
    can = ctx.client_capabilities
    requests: dict[str, InputRequest] = {}
    if can is None or can.sampling is not None:
        requests["sample"] = _prompt("Say hello")
    if can is None or can.elicitation is not None:
        requests["ask"] = question("What is your name?")
    return asks("capability-gated", **requests)


async def test_input_required_result_prompt(ctx: Ctx) -> list[UserMessage] | InputRequiredResult:
    """A prompt that asks the user."""
    answer = answers_of(ctx).get("user_context")
    if answer is None:
        return asks(user_context=question("What context should the prompt use?", "context"))
    text = f"Use the following context: {said(answer, 'context')}"
    return [UserMessage(role="user", content=TextContent(type="text", text=text))]


ASKING: tuple[Callable[..., Any], ...] = (
    test_input_required_result_elicitation, test_input_required_result_sampling,
    test_input_required_result_list_roots, test_input_required_result_request_state,
    test_input_required_result_tampered_state, test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round, test_input_required_result_capabilities,
)  # fmt: skip
