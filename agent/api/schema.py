"""How a field of a request is read: small typed readers, each of which also is its own JSON Schema.

A reader turns a JSON value into ours, or raises RequestError that says what was expected and names the field. The
OpenAPI document is made from the same readers, so it cannot say anything else than what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.errors import RequestError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Json = Mapping[str, object]


@dataclass(frozen=True)
class Reader(Generic[T_co]):
    """``read(value, path)`` gives our value of a JSON value; ``schema`` is what it accepts, as JSON Schema."""

    read: Callable[[object, str], T_co]
    schema: Json


@dataclass(frozen=True)
class _Missing:
    """There is no default: the field must be there."""


@dataclass(frozen=True)
class Field(Generic[T_co]):
    """One field of a JSON object. Null counts as absent, as OpenAI's SDKs send it."""

    name: str
    reader: Reader[T_co]
    default: T_co | _Missing = _Missing()
    about: str = ""

    @property
    def required(self) -> bool:
        return isinstance(self.default, _Missing)

    def of(self, body: Json, path: str = "") -> T_co:
        """The field's value in ``body``; ``path`` is where that object stands in the request, with its dot."""
        value = body.get(self.name)
        if value is not None:
            return self.reader.read(value, path + self.name)
        if isinstance(self.default, _Missing):
            raise RequestError(f"'{path}{self.name}' is required", param=path + self.name)
        return self.default


def optional(name: str, reader: Reader[T], about: str = "") -> Field[T | None]:
    """A field whose absence is told from every value."""
    return Field[T | None](name, reader, None, about)


def object_schema(fields: Sequence[Field[object]]) -> dict[str, object]:
    """The JSON Schema of an object with these fields. Further fields are ignored, so they are allowed."""
    properties: dict[str, object] = {}
    for field in fields:
        schema: dict[str, object] = dict(field.reader.schema)
        if not field.required:
            schema = {"anyOf": [schema, {"type": "null"}]}
        if field.about:
            schema["description"] = field.about
        if not isinstance(field.default, _Missing) and isinstance(field.default, (bool, int, float, str)):
            schema["default"] = field.default
        properties[field.name] = schema
    document: dict[str, object] = {"type": "object", "properties": properties}
    required = [field.name for field in fields if field.required]
    if required:
        document["required"] = required
    return document


def fail(path: str, expected: str, value: object) -> RequestError:
    """What to raise for a value that is not what was expected."""
    return RequestError(f"'{path}' must be {expected}, not {_shown(value)}", param=path)


def integer(low: int, high: int) -> Reader[int]:
    def read(value: object, path: str) -> int:
        # JSON has one kind of number: 5.0 is 5. A boolean is not a number, though Python thinks so.
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int) or not low <= whole <= high:
            raise fail(path, f"a whole number from {low} to {high}", value)
        return whole

    return Reader(read, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float) -> Reader[float]:
    def read(value: object, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise fail(path, f"a number from {low:g} to {high:g}", value)
        return float(value)

    return Reader(read, {"type": "number", "minimum": low, "maximum": high})


def boolean() -> Reader[bool]:
    def read(value: object, path: str) -> bool:
        if not isinstance(value, bool):
            raise fail(path, "true or false", value)
        return value

    return Reader(read, {"type": "boolean"})


def string(least: int = 0, most: int | None = None) -> Reader[str]:
    schema: dict[str, object] = {"type": "string"}
    if least:
        schema["minLength"] = least
    if most is not None:
        schema["maxLength"] = most

    def read(value: object, path: str) -> str:
        if not isinstance(value, str):
            raise fail(path, "a string", value)
        if len(value) < least or len(value) > (most if most is not None else len(value)):
            raise RequestError(f"'{path}' must have {_span(least, most)} characters, not {len(value)}", param=path)
        return value

    return Reader(read, schema)


def choice(*names: str) -> Reader[str]:
    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise fail(path, "one of " + ", ".join(names), value)
        return value

    return Reader(read, {"type": "string", "enum": list(names)})


def mapping() -> Reader[Json]:
    """Any JSON object, as it is."""

    def read(value: object, path: str) -> Json:
        if not isinstance(value, dict):
            raise fail(path, "an object", value)
        return value

    return Reader(read, {"type": "object"})


def array(of: Reader[T], least: int = 0, most: int | None = None) -> Reader[tuple[T, ...]]:
    schema: dict[str, object] = {"type": "array", "items": of.schema}
    if least:
        schema["minItems"] = least
    if most is not None:
        schema["maxItems"] = most

    def read(value: object, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise fail(path, "a list", value)
        if len(value) < least or len(value) > (most if most is not None else len(value)):
            raise RequestError(f"'{path}' must have {_span(least, most)} entries, not {len(value)}", param=path)
        return tuple(of.read(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return Reader(read, schema)


def either(expected: str, *cases: tuple[Callable[[object], bool], Reader[T]]) -> Reader[T]:
    """The first reader whose test likes the value: so that a message is about the kind that the client meant."""

    def read(value: object, path: str) -> T:
        for test, reader in cases:
            if test(value):
                return reader.read(value, path)
        raise fail(path, expected, value)

    return Reader(read, {"anyOf": [reader.schema for _, reader in cases]})


def mapped(reader: Reader[T], turn: Callable[[T, str], T_co], schema: Json | None = None) -> Reader[T_co]:
    """What ``reader`` gives, turned into something else by ``turn(value, path)``."""
    return Reader(lambda value, path: turn(reader.read(value, path), path), reader.schema if schema is None else schema)


def is_string(value: object) -> bool:
    return isinstance(value, str)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_list(value: object) -> bool:
    return isinstance(value, list)


def is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if not least else f"{least} to {most}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return "an infinite number"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
