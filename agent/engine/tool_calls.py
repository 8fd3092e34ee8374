"""Finds tool calls in an answer as it grows. What is no call after all comes out as text; nothing is lost."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Container

from agent.engine.base import ToolCallDelta
from agent.engine.output_piece import Piece
from agent.engine.reasoning import held
from agent.engine.tool_formats import ToolFormat
from agent.engine.tool_scan import CallScan

_LETTERS = string.ascii_letters + string.digits
# name[ARGS]{…} and name[CALL_ID]id[ARGS]{…}
_NAMED = re.compile(r"([\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*(?=\{)")
_NAMED_BEGIN = re.compile(r"[\w.-]*\s*(\[[A-Z_]*(\]\s*\w*\s*(\[[A-Z]*\]?\s*)?)?)?")
_NAMED_LIMIT = 256  # characters before the object; more is no call


def call_id() -> str:
    """A fresh name for a call, as the API gives them."""
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(24))


class ToolCallParser:
    """Cuts tool calls out of the text of an answer, in one family's format.

    White space before a call and between calls belongs to the markup. Where a call turns out malformed before its name
    and the begin of its arguments were seen, its text is given as it stands.
    """

    def __init__(self, form: ToolFormat, names: Container[str], *, parallel: bool) -> None:
        """``names``: the tools, for calls that have no mark; ``parallel`` False: the first call is the last."""
        self._form = form
        self._names = names
        self._parallel = parallel
        self._state = "text"  # text, begin, object, after (a call), over
        self._held = ""
        self._raw: list[str] = []  # of the call at hand, until it is sure to be one
        self._scan = CallScan()
        self._told = False
        self._list = False
        self._start = True  # nothing but white space has been given yet
        self.count = 0

    @property
    def found(self) -> bool:
        """At least a part of one call is out."""
        return self.count > 0 or self._told

    @property
    def over(self) -> bool:
        """The one call that was allowed is complete; what follows is dropped."""
        return self._state == "over"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain."""
        pieces: list[Piece] = []
        self._held += text
        while self._step(pieces):
            pass
        return pieces

    def end(self) -> list[Piece]:
        """The rest, when the answer is over: a call that was cut off before it was sure is text."""
        pieces: list[Piece] = []
        rest, self._held = self._held, ""
        if self._state == "after":
            rest = "" if self._form.close.startswith(rest.strip()) else rest
        elif self._state in ("begin", "object"):
            rest = rest if self._told else "".join(self._raw) + rest
        elif self._state == "over" or (self.count and not rest.strip()):
            rest = ""
        if rest:
            pieces.append(Piece(rest))
        self._state = "over"
        return pieces

    def _step(self, pieces: list[Piece]) -> bool:
        """One move; False when more text is needed."""
        if not self._held:
            return False
        if self._state == "text":
            return self._text(pieces)
        if self._state == "begin":
            return self._begin(pieces)
        if self._state == "object":
            return self._object(pieces)
        if self._state == "after":
            return self._after()
        self._held = ""
        return False

    def _text(self, pieces: list[Piece]) -> bool:
        text = self._held
        if self._form.bare and self._start:
            if not text.strip():
                return False
            if text.lstrip().startswith("{"):
                return self._open("", text)
        found = [(at, mark) for mark in self._form.opens if (at := text.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            self._give(pieces, text[:at].rstrip())
            return self._open(text[len(text[:at].rstrip()) : at + len(mark)], text[at + len(mark) :])
        cut = len(text) - max(held(text, mark) for mark in self._form.opens)
        self._give(pieces, text[:cut])
        self._held = text[cut:]
        return False

    def _give(self, pieces: list[Piece], text: str) -> None:
        if text:
            self._start = False
            pieces.append(Piece(text))

    def _open(self, raw: str, rest: str) -> bool:
        self._raw = [raw]
        self._held = rest
        self._list = False
        self._state = "begin"
        return True

    def _begin(self, pieces: list[Piece]) -> bool:
        """What stands before the object: white space, the bracket of a list, or the name."""
        body = self._held.lstrip()
        if not body:
            return False
        mistral = (self._form.listed or self._form.named) and not self._list
        if body[0] == "[" and mistral:
            self._list = True
            self._raw.append(self._held[: len(self._held) - len(body) + 1])
            self._held = body[1:]
            return True
        if body[0] == "{":
            bare = self._form.bare and not self._raw[0].strip()
            return self._scan_from(CallScan(self._names if bare else None))
        head = body[:_NAMED_LIMIT]
        named = _NAMED.match(head) if mistral else None
        if named:
            self._raw.append(self._held[: len(self._held) - len(body)] + named[0])
            self._held = body[named.end() :]
            return self._scan_from(CallScan(name=named[1]))
        if mistral and len(head) < _NAMED_LIMIT and _NAMED_BEGIN.fullmatch(head):
            return False
        return self._refuse(pieces)

    def _scan_from(self, scan: CallScan) -> bool:
        self._scan = scan
        self._state = "object"
        return True

    def _object(self, pieces: list[Piece]) -> bool:
        used = self._scan.feed(self._held)
        if not self._told:
            self._raw.append(self._held[:used])
        self._held = self._held[used:]
        if self._scan.started:
            first = not self._told
            arguments = self._scan.take()
            if first or arguments:
                id, name = (call_id(), self._scan.name) if first else (None, None)
                pieces.append(Piece(tool_calls=(ToolCallDelta(self.count, id, name, arguments),)))
            self._told = True  # from here on it is a call, whatever follows
        if self._scan.broken:
            return self._refuse(pieces)
        if not self._scan.done:
            return False
        self.count += 1
        self._told = self._start = False
        self._state = "after" if self._parallel else "over"
        return True

    def _refuse(self, pieces: list[Piece]) -> bool:
        """No call after all: its text, unless a part of it is out as a call, and then text again."""
        if self._told:
            self.count += 1
        else:
            self._give(pieces, "".join(self._raw))
        self._told = self._start = False
        self._state = "text"
        return True

    def _after(self) -> bool:
        """What may stand between a call and the next thing: its closing mark, a separator, the end of a list."""
        body = self._held.lstrip()
        if not body:
            return False
        if self._list:
            if body[0] in ",]":
                self._held = body[1:]
                self._state = "begin" if body[0] == "," else "text"
                self._raw = [body[0]]
                return True
        elif self._form.close and self._form.close.startswith(body[: len(self._form.close)]):
            if len(body) < len(self._form.close):
                return False
            self._held = body[len(self._form.close) :]
        elif self._form.separator and body[0] == self._form.separator:
            return self._separated(body)
        self._state = "text"
        return True

    def _separated(self, body: str) -> bool:
        rest = body[1:].lstrip()
        if not rest:
            return False
        if rest[0] == "{":
            return self._open(body[: len(body) - len(rest)], rest)
        self._state = "text"
        return True
