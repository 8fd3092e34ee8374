"""Reads one tool call as its JSON grows, so that its arguments can be passed on before it is complete."""

from __future__ import annotations

import json
from collections.abc import Container

_SPACE = " \t\r\n"
_PAIRS = {"{": "}", "[": "]"}
_ARGUMENTS = ("arguments", "parameters")


class ValueScan:
    """Finds the end of one JSON value. Tolerant inside strings: models write raw newlines there."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._string = self._escaped = self._begun = False
        self.broken = False

    def ends_with(self, char: str) -> bool:
        """Whether the value, a string or something in brackets, ends with this character, its next one."""
        if self._string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._string = False
                return not self._stack
        elif char == '"':
            self._string = True
        elif char in _PAIRS:
            self._stack.append(_PAIRS[char])
        elif char in "}]":
            self.broken = not self._stack or self._stack.pop() != char
            return self.broken or not self._stack
        return False


class CallScan:
    """One object ``{"name": …, "arguments": {…}}``, its keys in any order, others among them passed over.

    ``feed`` takes characters until ``done`` or ``broken``; ``name`` is set once known, and ``take`` gives the
    arguments that have come since it was last asked.
    """

    def __init__(self, names: Container[str] | None = None, name: str | None = None) -> None:
        """``names``: a call of any other tool is broken. ``name``: known already, and the object is the arguments."""
        self._names = names
        self._state = "value" if name is not None else "open"
        self._key = "arguments" if name is not None else ""
        self._only_arguments = name is not None
        self._text: list[str] = []  # of the key or value at hand
        self._value = ValueScan()
        self._streams = False  # the value at hand is an object of arguments, passed on as it comes
        self._given = False  # arguments have come
        self._ready: list[str] = []
        self.name = name
        self.done = False
        self.broken = False

    @property
    def started(self) -> bool:
        """Name and the begin of the arguments are known: this is a call, whatever follows."""
        return self.name is not None and self._given

    def take(self) -> str:
        """Arguments, as JSON, that have not been taken yet."""
        ready, self._ready = self._ready, []
        return "".join(ready)

    def feed(self, text: str) -> int:
        """Read on; returns how many characters belonged to the object: none from the one that broke it."""
        for count, char in enumerate(text):
            if self.done:
                return count
            self._read(char)
            if self.broken:
                return count
        return len(text)

    def _read(self, char: str) -> None:
        if self._state in ("key", "string", "brackets", "scalar"):
            self._within(char)
        elif char in _SPACE:
            pass
        elif self._state == "open" and char == "{":
            self._state = "first"
        elif self._state in ("first", "next") and char == '"':
            self._begin("key", char)
        elif self._state == "colon" and char == ":":
            self._state = "value"
        elif self._state == "value" and char not in ",:}]":
            self._begin("string" if char == '"' else "brackets" if char in _PAIRS else "scalar", char)
        elif self._state == "after" and char == ",":
            self._state = "next"
        elif self._state in ("first", "after") and char == "}":
            self._finish()
        else:
            self.broken = True

    def _begin(self, state: str, char: str) -> None:
        if self._only_arguments and char != "{":
            self.broken = True
            return
        self._state = state
        self._text = []
        self._value = ValueScan()
        self._streams = char == "{" and self._key in _ARGUMENTS
        self._given = self._given or self._streams
        self._within(char)

    def _within(self, char: str) -> None:
        if self._state == "scalar":
            if char not in ",}" + _SPACE:
                self._text.append(char)
                return
            self._close()
            self._read(char)
            return
        ends = self._value.ends_with(char)
        self.broken = self._value.broken
        if not self.broken:
            (self._ready if self._streams else self._text).append(char)
            if ends:
                self._close()

    def _close(self) -> None:
        """A key or value is complete."""
        state, self._state = self._state, "after"
        if self._streams:
            self._streams = False
            self.done = self._only_arguments
            return
        text = "".join(self._text)
        value: object = None
        if state != "brackets":
            try:
                value = json.loads(text, strict=False)
            except ValueError:
                self.broken = True
                return
        if state == "key":
            self._key = str(value)
            self._state = "colon"
        elif self._key == "name":
            self.name = value if isinstance(value, str) and value else None
            self.broken = self.name is None or (self._names is not None and self.name not in self._names)
        elif self._key in _ARGUMENTS:
            self._give(value if isinstance(value, str) else "{}" if text == "null" else text)

    def _give(self, arguments: str) -> None:
        self._given = True
        self._ready.append(arguments)

    def _finish(self) -> None:
        self.broken = self.name is None
        if not self.broken and not self._given:
            self._give("{}")
        self.done = not self.broken
