"""POST /v1/chat/completions: from its JSON to a Request."""

from __future__ import annotations

from dataclasses import dataclass

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.api.schema_json import log_unknown
from agent.api.schema_messages import MESSAGES
from agent.api.schema_sampling import (
    MAX_TOKENS,
    MODEL,
    SHARED,
    Delivery,
    N,
    read_grammar,
    read_sampling,
)
from agent.api.schema_tools import TOOL_FIELDS, ToolUse
from agent.engine.base import Chat, Request
from agent.errors import RequestError

# What a template gets from us; a client's own options must not take their place.
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token")


def _template_options(value: Json, path: str) -> Json:
    for name in _RESERVED:
        if name in value:
            raise RequestError(f"'{path}.{name}' is not for clients to set", param=f"{path}.{name}")
    return value


_EFFORT = schema.choice("none", "minimal", "low", "medium", "high", "xhigh", "max")
_OPTIONS: Reader[Json] = schema.mapped(schema.mapping(), _template_options)

MAX_COMPLETION_TOKENS = optional("max_completion_tokens", MAX_TOKENS.reader, "the longest answer, reasoning included")
LOGPROBS = Field("logprobs", schema.boolean(), False)
TOP_LOGPROBS = optional("top_logprobs", schema.integer(0, 20), "alternatives beside each token; needs logprobs")
REASONING_EFFORT = optional("reasoning_effort", _EFFORT, "none: the model answers without thinking first")
TEMPLATE_OPTIONS = optional("chat_template_kwargs", _OPTIONS, "an extension: options of the model's own template")

FIELDS: tuple[Field[object], ...] = (
    MESSAGES,
    *SHARED,
    MAX_COMPLETION_TOKENS,
    LOGPROBS,
    TOP_LOGPROBS,
    *TOOL_FIELDS,
    REASONING_EFFORT,
    TEMPLATE_OPTIONS,
)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat request as the engine takes it, and how its answer is to be sent."""

    model: str
    request: Request
    delivery: Delivery
    legacy: bool  # asked with ``functions``: a call is answered as ``function_call``


def read_chat(body: Json, request_id: str) -> ChatCall:
    """Raises RequestError that names the field at fault."""
    log_unknown(body, FIELDS)
    model, tools = MODEL.of(body), ToolUse.of(body)
    chat = Chat(
        messages=MESSAGES.of(body),
        tools=tools.tools,
        tool_choice=tools.choice,
        parallel_tool_calls=tools.parallel,
        template_options=_options(body),
    )
    top, longest, shorter = TOP_LOGPROBS.of(body), MAX_TOKENS.of(body), MAX_COMPLETION_TOKENS.of(body)
    wanted = LOGPROBS.of(body)
    if top and not wanted:
        raise RequestError("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
    request = Request(
        id=request_id,
        prompts=(chat,),
        sampling=read_sampling(body, longest if shorter is None else shorter, (top or 0) if wanted else None),
        grammar=read_grammar(body),
        n=N.of(body),
    )
    return ChatCall(model, request, Delivery.of(body), tools.legacy)


def _options(body: Json) -> Json:
    effort = REASONING_EFFORT.of(body)
    options: dict[str, object] = {}
    if effort is not None:
        options["reasoning_effort"] = effort
        if effort == "none":
            options["enable_thinking"] = False
    return {**options, **(TEMPLATE_OPTIONS.of(body) or {})}
