"""How models write tool calls: one value per family, recognised by what its chat template says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.engine.base import Chat, Grammar, Json
from agent.errors import RequestError

# How llguidance reads JSON Schema. Between the parts stands a space, or a new line with its indent, as models write
# JSON, or nothing: with more to choose from a small model can go on with blanks for ever.
JSON_OPTIONS: Json = {"whitespace_flexible": True, "whitespace_pattern": r"( |\n {0,40})?"}

# A tool whose schema has no word but these, and no properties, names no parameters: it is called with an empty object,
# though JSON Schema would let any property in.
_NAMES_NONE = frozenset({"type", "properties", "title", "description", "$schema"})
_NOTHING: Json = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way of writing calls: ``open`` begins each, ``close`` ends it; the call itself is JSON."""

    name: str
    opens: tuple[str, ...]  # any of these begins a call, wherever it stands
    close: str = ""  # stands after each call; a call without it counts all the same
    bare: bool = False  # an answer that begins with an object is a call, too, if it names a tool
    separator: str = ""  # may stand between calls
    arguments: str = "arguments"  # the key of the arguments, as the family writes it
    named: bool = False  # the name stands before the object: name[ARGS]{…}
    listed: bool = False  # the calls are one JSON array


HERMES = ToolFormat("hermes", ("<tool_call>",), "</tool_call>")  # Hermes, Qwen2.5, Qwen3
LLAMA = ToolFormat("llama", ("<|python_tag|>",), bare=True, separator=";", arguments="parameters")  # Llama 3.1 to 3.3
MISTRAL = ToolFormat("mistral", ("[TOOL_CALLS]",), listed=True)  # Mistral 7B v0.3, Nemo
MISTRAL_NAMED = ToolFormat("mistral-named", ("[TOOL_CALLS]",), named=True)  # Mistral Small 3.2 and later

GRANITE = ToolFormat("granite", ("<|tool_call|>",), listed=True)  # Granite 3


def recognise(template: str) -> ToolFormat | None:
    """The format that a chat template teaches its model; None when it teaches none that is known."""
    if "tools" not in template:
        return None
    if "[TOOL_CALLS]" in template:
        return MISTRAL_NAMED if "[ARGS]" in template else MISTRAL
    if "<tool_call>" in template:
        return HERMES
    if "<|tool_call|>" in template:
        return GRANITE
    if "<|python_tag|>" in template or '"parameters":' in template:
        return LLAMA
    return None


def call_grammar(chat: Chat, form: ToolFormat, token_id: Callable[[str], int | None]) -> Grammar | None:
    """A grammar for an answer that must call a tool: one named, or any; None when the model may choose.

    Names are those of the tools, arguments follow each tool's own schema, and the markup is the model's. ``token_id``
    tells which markup is a token of its own. Raises RequestError when the tool is not there.
    """
    names = allowed(chat)
    if names is None:
        return None

    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False)

    def markup(value: str) -> str:
        id = token_id(value)
        return text(value) if id is None else f"<[{id}]>"

    rules = []
    for index, (name, schema) in enumerate(names.items()):
        rules.append(f"args_{index}: %json {json.dumps({'type': 'object', **schema, 'x-guidance': JSON_OPTIONS})}")
        if form.named:
            body = f"{markup(form.opens[0])} {text(name)} {markup('[ARGS]')} args_{index}"
        else:
            head = '{"name": ' + json.dumps(name, ensure_ascii=False) + f', "{form.arguments}": '
            body = f"{text(head)} args_{index} {text('}')}"
        rules.append(f"call_{index}: {body}")
    rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(names))))
    many = chat.parallel_tool_calls
    if form.listed:
        inner = f"call ({text(', ')} call)*" if many else "call"
        # Mistral's first tokenizers write a space here, the later ones none.
        start = f"{markup(form.opens[0])} / ?/ {text('[')} {inner} {text(']')}"
    elif form.close:
        one = f"{markup(form.opens[0])} {text(chr(10))} call {text(chr(10))} {markup(form.close)}"
        rules.append(f"wrapped: {one}")
        start = f"wrapped ({text(chr(10))} wrapped)*" if many else "wrapped"
    else:
        between = text(form.separator + " ") + " " if form.separator else ""
        start = f"call ({between}call)*" if many else "call"
    return Grammar("lark", "\n".join([f"start: {start}", *rules]))


def allowed(chat: Chat) -> dict[str, Json] | None:
    """The tools that the answer must choose from, name to schema of arguments; None when it need not call any."""
    if chat.tool_choice in ("none", "auto"):
        return None
    tools = dict(map(described, chat.tools))
    if chat.tool_choice == "required":
        if not tools:
            raise RequestError("tool_choice is required, and there are no tools", param="tool_choice")
        return tools
    name = chat.tool_choice.removeprefix("function:")
    if name not in tools:
        raise RequestError(f"tool_choice names {name!r}, which is not among the tools", param="tool_choice")
    return {name: tools[name]}


def described(tool: Json) -> tuple[str, Json]:
    """A tool's name and the schema of its arguments. Raises RequestError for what is no function."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise RequestError("each tool is a function with a name", param="tools")
    schema = function.get("parameters")
    takes_some = isinstance(schema, Mapping) and (schema.get("properties") or not _NAMES_NONE.issuperset(schema))
    return name, schema if isinstance(schema, Mapping) and takes_some else _NOTHING


def tool_names(tools: Sequence[Json]) -> frozenset[str]:
    """The names of the tools."""
    return frozenset(name for name, _ in map(described, tools))
