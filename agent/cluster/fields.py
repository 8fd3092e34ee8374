"""Strict reading of JSON that came from elsewhere: from another node, or from a file.

A Check takes a place, to be named in errors, and the value that came there, and gives what it means; for whatever is
not exactly that it raises FieldError. Checks of objects and lists are made of the checks of what is in them. Whatever
came, no error is long or holds characters that move a cursor.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from agent.errors import RequestError

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)
Check = Callable[[str, object], T]

MAX_COUNT: Final = 2**53 - 1  # what every JSON reader keeps exactly


class FieldError(ValueError):
    """What stands at ``place`` is not what it must be; ``why`` says what is needed. No place: the whole of it."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}" if place else why)
        self.place, self.why = place, why


def read(check: Check[T], body: object) -> T:
    """What a check makes of another node's question or answer. Raises RequestError where that is anything else."""
    try:
        return check("", body)
    except FieldError as error:
        hint, param = "the nodes may run different versions", error.place or None
        raise RequestError(f"not understood: {error}", hint=hint, param=param) from error


def number(most: float, least: float = 0.0) -> Check[float]:
    """No NaN, no infinity, and no integer that is too large for a float."""

    def check(place: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise FieldError(place, f"a number from {least:g} to {most:g} is needed")
        return float(value)

    return check


def whole(most: int = MAX_COUNT, least: int = 0) -> Check[int]:
    def check(place: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FieldError(place, f"an integer from {least} to {most} is needed")
        return value

    return check


def flag(place: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise FieldError(place, "true or false is needed")
    return value


def text(most: int) -> Check[str]:
    """No control characters: it may reach a terminal."""

    def check(place: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise FieldError(place, f"text of at most {most} characters is needed")
        return value

    return check


def matching(form: str, why: str) -> Check[str]:
    """Text that has this form, a regular expression, as a whole."""
    pattern = re.compile(form)

    def check(place: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise FieldError(place, why)
        return value

    return check


def uuid_text(place: str, value: object) -> str:
    """A UUID in the one way of writing it that ``str`` has."""
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise FieldError(place, "a UUID is needed")


def one_of(choices: Iterable[Choice]) -> Check[Choice]:
    by_text = {each: each for each in choices}

    def check(place: str, value: object) -> Choice:
        if not isinstance(value, str) or value not in by_text:
            raise FieldError(place, f"one of {', '.join(by_text)} is needed")
        return by_text[value]

    return check


def or_none(check: Check[T]) -> Check[T | None]:
    return lambda place, value: None if value is None else check(place, value)


def each(check: Check[T], most: int) -> Check[tuple[T, ...]]:
    """A list of at most so many."""

    def checks(place: str, value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise FieldError(place, f"a list of at most {most} is needed")
        return tuple(check(f"{place}[{at}]", one) for at, one in enumerate(value))

    return checks


def table(name: Check[str], check: Check[T], most: int) -> Check[dict[str, T]]:
    """An object of at most so many fields, whose names are anything that ``name`` lets through."""

    def checks(place: str, value: object) -> dict[str, T]:
        if not isinstance(value, dict) or len(value) > most:
            raise FieldError(place, f"an object of at most {most} fields is needed")
        return {name(f"a name in {place}", key): check(_inside(place, key), one) for key, one in value.items()}

    return checks


def record(kind: Callable[..., T], fields: Mapping[str, Check[Any]]) -> Check[T]:
    """An object of these fields and no others, as a ``kind``."""

    def check(place: str, value: object) -> T:
        if not isinstance(value, dict):
            raise FieldError(place, "an object is needed")
        if value.keys() != fields.keys():
            odd = ascii(min(value.keys() ^ fields.keys()))[1:-1][:40]
            name = kind.__name__.strip("_")
            raise FieldError(_inside(place, odd), f"the fields of a {name} are needed, and no others")
        return kind(**{name: one(_inside(place, name), value[name]) for name, one in fields.items()})

    return check


class Fields:
    """An object of which other fields than those that are asked for are passed over. One that is missing is null.

    It is a Check itself: ``inner = fields("inner", Fields)``.
    """

    def __init__(self, place: str, value: object) -> None:
        if not isinstance(value, dict):
            raise FieldError(place, "an object is needed")
        self.place, self._body = place, value

    def __call__(self, name: str, check: Check[T]) -> T:
        return check(_inside(self.place, name), self._body.get(name))


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
