"""What a chat may call: ``tools`` and ``tool_choice``, and the older ``functions`` and ``function_call``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.errors import RequestError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def _name(value: str, path: str) -> str:
    if not _NAME.fullmatch(value):
        raise RequestError(f"'{path}' must have 1 to 128 letters, digits, and . _ - only", param=path)
    return value


_FUNCTION_NAME = Field(
    "name",
    schema.mapped(schema.string(), _name, {"type": "string", "pattern": f"^{_NAME.pattern}$"}),
    about="letters, digits and . _ -",
)
_DESCRIPTION = optional("description", schema.string())
_PARAMETERS = optional("parameters", schema.mapping(), "a JSON Schema")
_STRICT = optional("strict", schema.boolean())
_FUNCTION_FIELDS = (_FUNCTION_NAME, _DESCRIPTION, _PARAMETERS, _STRICT)


def _function(value: Json, path: str) -> Json:
    function: dict[str, object] = {"name": _FUNCTION_NAME.of(value, f"{path}.")}
    description, strict = _DESCRIPTION.of(value, f"{path}."), _STRICT.of(value, f"{path}.")
    if description is not None:
        function["description"] = description
    function["parameters"] = _PARAMETERS.of(value, f"{path}.") or {"type": "object", "properties": {}}
    if strict is not None:
        function["strict"] = strict
    return {"type": "function", "function": function}


_FUNCTION: Reader[Json] = schema.mapped(schema.mapping(), _function, schema.object_schema(_FUNCTION_FIELDS))
_TOOL_TYPE = Field("type", schema.choice("function"))
_TOOL_FUNCTION = Field("function", _FUNCTION)
_TOOL: Reader[Json] = schema.mapped(
    schema.mapping(),
    lambda value, path: (_TOOL_TYPE.of(value, f"{path}."), _TOOL_FUNCTION.of(value, f"{path}."))[1],
    schema.object_schema((_TOOL_TYPE, _TOOL_FUNCTION)),
)

_NAMED_FUNCTION: Reader[str] = schema.mapped(
    schema.mapping(), lambda value, path: _FUNCTION_NAME.of(value, f"{path}."), schema.object_schema((_FUNCTION_NAME,))
)
_NAMED = Field("function", _NAMED_FUNCTION)
_CHOICE_TYPE = Field("type", schema.choice("function", "allowed_tools"))
_MODE = Field("mode", schema.choice("auto", "required"))
_ALLOWED_LIST = Field("tools", schema.array(schema.mapping(), 1, 128))
_ALLOWED = Field(
    "allowed_tools",
    schema.mapped(schema.mapping(), lambda value, _path: value, schema.object_schema((_MODE, _ALLOWED_LIST))),
)


@dataclass(frozen=True, slots=True)
class _Choice:
    mode: str  # none, auto, required
    only: tuple[str, ...] | None = None  # the names that may be called; None: all
    named: bool = False  # exactly this one must be called


def _choice(value: Json, path: str) -> _Choice:
    if _CHOICE_TYPE.of(value, f"{path}.") == "function":
        return _Choice("required", (_NAMED.of(value, f"{path}."),), named=True)
    allowed, path = _ALLOWED.of(value, f"{path}."), f"{path}.allowed_tools."
    names = tuple(_NAMED.of(tool, f"{path}tools[{i}].") for i, tool in enumerate(_ALLOWED_LIST.of(allowed, path)))
    return _Choice(_MODE.of(allowed, path), names)


def _function_call(value: str, _path: str) -> _Choice:
    return _Choice("required", (value,), named=True)


def _mode(value: str, _path: str) -> _Choice:
    return _Choice(value)


_CHOICE_SCHEMA: Json = {
    "anyOf": [
        schema.object_schema((Field("type", schema.choice("function")), _NAMED)),
        schema.object_schema((Field("type", schema.choice("allowed_tools")), _ALLOWED)),
    ]
}

TOOLS = Field("tools", schema.array(_TOOL, 0, 128), ())
TOOL_CHOICE = optional(
    "tool_choice",
    schema.either(
        "none, auto, required or a tool",
        (schema.is_string, schema.mapped(schema.choice("none", "auto", "required"), _mode)),
        (schema.is_mapping, schema.mapped(schema.mapping(), _choice, _CHOICE_SCHEMA)),
    ),
)
PARALLEL = Field("parallel_tool_calls", schema.boolean(), True)
FUNCTIONS = Field("functions", schema.array(_FUNCTION, 0, 128), (), about="the older form of tools")
FUNCTION_CALL = optional(
    "function_call",
    schema.either(
        "none, auto or a function",
        (schema.is_string, schema.mapped(schema.choice("none", "auto"), _mode)),
        (schema.is_mapping, schema.mapped(_NAMED_FUNCTION, _function_call)),
    ),
    "the older form of tool_choice",
)
TOOL_FIELDS: tuple[Field[object], ...] = (TOOLS, TOOL_CHOICE, PARALLEL, FUNCTIONS, FUNCTION_CALL)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Which tools a chat has and whether it must use one, as Chat takes it."""

    tools: tuple[Json, ...]
    choice: str  # none, auto, required, or function:<name>
    parallel: bool
    legacy: bool

    @classmethod
    def of(cls, body: Json) -> ToolUse:
        """From whichever form the client uses; ``tools`` win over ``functions``. Raises RequestError."""
        tools, functions, new, old = TOOLS.of(body), FUNCTIONS.of(body), TOOL_CHOICE.of(body), FUNCTION_CALL.of(body)
        legacy = bool(functions) and not tools
        tools, choice, field = (functions, old, FUNCTION_CALL) if legacy else (tools, new, TOOL_CHOICE)
        if choice is None:
            choice = _Choice("auto" if tools else "none")
        if choice.only is not None or choice.mode == "required":
            tools = _narrowed(tools, choice, field.name)
        mode = f"function:{choice.only[0]}" if choice.named and choice.only else choice.mode
        return cls(tools, mode, PARALLEL.of(body) and not legacy, legacy)


def _narrowed(tools: tuple[Json, ...], choice: _Choice, param: str) -> tuple[Json, ...]:
    """The tools that may be called. A named one stays among the others: the model may know them from its prompt."""
    if not tools:
        raise RequestError(f"'{param}' asks for a tool, and the request has none", param=param)
    names = [_tool_name(tool) for tool in tools]
    for name in choice.only or ():
        if name not in names:
            raise RequestError(f"'{param}' names {name!r}, which is not among the tools", param=param)
    if choice.only is None or choice.named:
        return tools
    return tuple(tool for tool, name in zip(tools, names, strict=True) if name in choice.only)


def _tool_name(tool: Json) -> object:
    function = tool["function"]
    return function["name"] if isinstance(function, dict) else None
