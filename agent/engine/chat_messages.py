"""Messages as templates expect them, out of those that clients send."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.engine.base import Json
from agent.engine.tokenizer import MARKUP
from agent.errors import RequestError

_NINE = re.compile(r"[A-Za-z0-9]{9}")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_PRIVATE = range(0xF0000, 0xF0100)  # characters that no text has a use for


def plain_messages(messages: Sequence[Json], *, nine_letters: bool) -> list[dict[str, object]]:
    """Copies of the messages: plain values, content as one text, arguments of calls as objects, no empty fields.

    ``nine_letters``: ids of calls are shortened to nine letters, the same id always to the same nine.
    Raises RequestError for what no text model can read.
    """
    if not messages:
        raise RequestError("messages is empty", param="messages", hint="send at least one message")
    return [_plain(message, f"messages[{index}]", nine_letters) for index, message in enumerate(messages)]


def without_system(messages: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """The messages with what the system says put before what the user says first: for a model without that role."""
    count = next((at for at, message in enumerate(messages) if message["role"] != "system"), len(messages))
    said = [str(message.get("content", "")) for message in messages[:count]]
    rest = [*messages[count:]]
    if not said:
        return rest
    if rest and rest[0]["role"] == "user":
        said.append(str(rest.pop(0).get("content", "")))
    return [{"role": "user", "content": "\n\n".join(said)}, *rest]


def plain_json(value: object, param: str) -> object:
    """A copy made of nothing but JSON's own types: a template can do no harm with those. Raises RequestError."""
    try:
        return json.loads(json.dumps(value, default=dict))
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"{param} is no plain JSON: {error}", param=param) from error


def _plain(message: Json, where: str, nine_letters: bool) -> dict[str, object]:
    read = plain_json(message, "messages")
    if not isinstance(read, dict):
        raise RequestError(f"{where} is not an object", param="messages")
    plain: dict[str, object] = {key: value for key, value in read.items() if value is not None}
    role = plain.get("role")
    if not isinstance(role, str):
        raise RequestError(f"{where} has no role", param="messages")
    # OpenAI's newer name for the same thing.
    plain["role"] = "system" if role == "developer" else role
    if "content" in plain:
        plain["content"] = _text(plain["content"], where)
    thought = next((plain[key] for key in _REASONING if key in plain), None)
    if thought is not None:
        plain["reasoning_content"] = thought
    calls = plain.get("tool_calls")
    if isinstance(calls, list):
        plain["tool_calls"] = [_call(call, where, nine_letters) for call in calls]
        if not calls:
            del plain["tool_calls"]
    if nine_letters and isinstance(plain.get("tool_call_id"), str):
        plain["tool_call_id"] = _nine(str(plain["tool_call_id"]))
    return plain


def _text(content: object, where: str) -> str:
    """One text out of a content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(f"the content of {where} is neither text nor a list of parts", param="messages")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else part
        if kind not in (None, "text", "refusal") or not isinstance(text, str):
            raise RequestError(
                f"{where} holds a part of type {kind!r}, and this model reads text alone",
                param="messages",
                hint="send parts of type text, or a model's name that reads images",
            )
        texts.append(text)
    return "\n".join(texts)


def _call(call: object, where: str, nine_letters: bool) -> dict[str, object]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestError(f"a tool call in {where} has no function with a name", param="messages")
    plain: dict[str, object] = {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}
    if nine_letters:
        plain["id"] = _nine(str(call.get("id", "")))
    return plain


def _arguments(arguments: object) -> object:
    """The object that a string of arguments holds; what is no JSON, as a model may have written it, stays a string."""
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
        return read if isinstance(read, dict) else arguments
    return arguments


def _nine(id: str) -> str:
    return id if _NINE.fullmatch(id) else hashlib.sha256(id.encode()).hexdigest()[:9]


# --- special tokens in what a client wrote -------------------------------------------------------------------------


def marked(
    variables: Mapping[str, object], control: re.Pattern[str], beginnings: tuple[str, ...] = ()
) -> tuple[Mapping[str, object], tuple[str, str] | None]:
    """The variables with the text of special tokens put between two marks, and the marks; None when there is none.

    A text that ends with one of the ``beginnings`` of such a text has a mark behind it: a template may write another
    text directly after it. In what the assistant is said to have written, the markup of calls and of reasoning stays
    what it is.
    """
    if not any(control.search(text) or text.endswith(beginnings) for text in _texts(variables)):
        return variables, None
    start, end = _unused("".join(_texts(variables)))
    marking = _Marking(control, start + r"\g<0>" + end, beginnings, end)
    return {key: marking.of(value) for key, value in variables.items()}, (start, end)


def size(value: object) -> int:
    """How many characters a value holds."""
    return sum(map(len, _texts(value)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@dataclass(frozen=True, slots=True)
class _Marking:
    control: re.Pattern[str]
    wrapped: str  # a special text between two marks
    beginnings: tuple[str, ...]
    behind: str

    def of(self, value: object, spared: frozenset[str] = frozenset()) -> object:
        if isinstance(value, str):
            marked = self.control.sub(
                lambda found: found[0] if found[0] in spared else found.expand(self.wrapped), value
            )
            return marked + self.behind if marked.endswith(self.beginnings) else marked
        if isinstance(value, Mapping):
            if value.get("role") == "assistant":
                spared = MARKUP
            return {
                self.of(key): self.of(inner, spared if key == "content" else frozenset())
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self.of(inner) for inner in value]
        return value


def _unused(text: str) -> tuple[str, str]:
    free = [chr(code) for code in _PRIVATE if chr(code) not in text]
    if len(free) < 2:
        raise RequestError("the messages hold too many private-use characters", param="messages")
    return free[0], free[1]
