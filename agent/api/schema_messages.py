"""The messages of a chat: every role, content as text or as parts of text, calls of tools and their results.

The engine gets them in OpenAI's current shape: parts joined to one text (the models here read nothing else), the older
``function_call`` and role ``function`` turned into tool calls and role ``tool``.
"""

from __future__ import annotations

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.errors import RequestError

_PART_TYPE = Field("type", schema.string(1, 64))
_PART_TEXT = Field("text", schema.string())
_PART_REFUSAL = Field("refusal", schema.string())


def _part(value: Json, path: str) -> str:
    kind = _PART_TYPE.of(value, f"{path}.")
    if kind == "text":
        return _PART_TEXT.of(value, f"{path}.")
    if kind == "refusal":
        return _PART_REFUSAL.of(value, f"{path}.")
    raise RequestError(f"'{path}.type' is {kind!r}, and the models on this device read text only", param=f"{path}.type")


_PART_SCHEMA = schema.object_schema((Field("type", schema.choice("text")), _PART_TEXT))
_PARTS: Reader[tuple[str, ...]] = schema.array(schema.mapped(schema.mapping(), _part, _PART_SCHEMA), 1)
_CONTENT: Reader[str] = schema.either(
    "a string or a list of parts",
    (schema.is_string, schema.string()),
    (schema.is_list, schema.mapped(_PARTS, lambda parts, _path: "\n".join(parts))),
)

_CALL_ID = Field("id", schema.string(1, 256))
_CALL_TYPE = Field("type", schema.choice("function"), "function")
_CALL_NAME = Field("name", schema.string(1, 128))
_CALL_ARGUMENTS = Field("arguments", schema.string(), "{}")


def _called(value: Json, path: str) -> Json:
    return {"name": _CALL_NAME.of(value, f"{path}."), "arguments": _CALL_ARGUMENTS.of(value, f"{path}.")}


_CALLED: Reader[Json] = schema.mapped(schema.mapping(), _called, schema.object_schema((_CALL_NAME, _CALL_ARGUMENTS)))
_CALL_FUNCTION = Field("function", _CALLED)


def _call(value: Json, path: str) -> Json:
    kind, function = _CALL_TYPE.of(value, f"{path}."), _CALL_FUNCTION.of(value, f"{path}.")
    return {"id": _CALL_ID.of(value, f"{path}."), "type": kind, "function": function}


_CALL: Reader[Json] = schema.mapped(
    schema.mapping(), _call, schema.object_schema((_CALL_ID, _CALL_TYPE, _CALL_FUNCTION))
)

_ROLE = Field("role", schema.choice("system", "developer", "user", "assistant", "tool", "function"))
_TEXT = optional("content", _CONTENT)
_NAME = optional("name", schema.string(0, 256))
_REFUSAL = optional("refusal", schema.string())
_REASONING = optional("reasoning_content", schema.string(), "an extension: what the model thought, as it was answered")
_CALLS = Field("tool_calls", schema.array(_CALL, 0, 128), ())
_FUNCTION_CALL = optional("function_call", _CALLED, "the older form of tool_calls")
_TOOL_CALL_ID_TEXT = schema.string(1, 256)
_TOOL_CALL_ID = optional("tool_call_id", _TOOL_CALL_ID_TEXT, "which call a tool's message answers")


def _schema_of(roles: tuple[str, ...], *fields: Field[object]) -> dict[str, object]:
    return schema.object_schema((Field("role", schema.choice(*roles)), *fields))


_CONTENT_NEEDED = Field("content", _CONTENT)
_MESSAGE_SCHEMA: Json = {
    "anyOf": [
        _schema_of(("system", "developer", "user"), _CONTENT_NEEDED, _NAME),
        _schema_of(("assistant",), _CONTENT_NEEDED, _NAME, _REFUSAL, _REASONING, _CALLS, _FUNCTION_CALL),
        _schema_of(("assistant",), Field("tool_calls", schema.array(_CALL, 1, 128)), _TEXT, _NAME, _REASONING),
        _schema_of(("tool",), _CONTENT_NEEDED, Field("tool_call_id", _TOOL_CALL_ID_TEXT), _NAME),
        _schema_of(("function",), _CONTENT_NEEDED, Field("name", schema.string(1, 256))),
    ]
}


def _message(value: Json, path: str) -> Json:
    path += "."
    role, content, name = _ROLE.of(value, path), _TEXT.of(value, path), _NAME.of(value, path)
    if role == "assistant":
        return _assistant(value, path, content)
    if content is None:
        raise RequestError(f"'{path}content' is required", param=f"{path}content")
    message: dict[str, object] = {"role": role, "content": content}
    if role == "tool":
        call = _TOOL_CALL_ID.of(value, path)
        if call is None:
            raise RequestError(f"'{path}tool_call_id' is required", param=f"{path}tool_call_id")
        message["tool_call_id"] = call
    elif role == "function":
        if not name:
            raise RequestError(f"'{path}name' is required", param=f"{path}name")
        message.update(role="tool", tool_call_id=f"call_{name}")
    if name:
        message["name"] = name
    return message


def _assistant(value: Json, path: str, content: str | None) -> Json:
    calls, old = _CALLS.of(value, path), _FUNCTION_CALL.of(value, path)
    refusal, reasoning = _REFUSAL.of(value, path), _REASONING.of(value, path)
    if old is not None and not calls:
        calls = ({"id": f"call_{old['name']}", "type": "function", "function": old},)
    if content is None and not calls:
        content = refusal
        if content is None:
            raise RequestError(f"'{path}content' is required unless there are tool_calls", param=f"{path}content")
    message: dict[str, object] = {"role": "assistant", "content": content or ""}
    if calls:
        message["tool_calls"] = list(calls)
    if reasoning:
        message["reasoning_content"] = reasoning
    return message


MESSAGES: Field[tuple[Json, ...]] = Field(
    "messages",
    schema.array(schema.mapped(schema.mapping(), _message, _MESSAGE_SCHEMA), 1, 10_000),
    about="the conversation so far, oldest first",
)
