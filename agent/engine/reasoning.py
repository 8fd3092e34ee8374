"""Reasoning spans: what a model thinks aloud before its answer."""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine.output_piece import Piece


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """The marks around a span."""

    open: str
    close: str


FORMATS = (ReasoningFormat("<think>", "</think>"), ReasoningFormat("[THINK]", "[/THINK]"))


def recognise(template: str) -> ReasoningFormat | None:
    """The marks that a chat template speaks of; None when its model does not think aloud."""
    return next((form for form in FORMATS if form.close in template or form.open in template), None)


def held(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` must wait: white space, and what may become ``mark`` after it."""
    length = min(len(text), len(mark) - 1)
    while length and not mark.startswith(text[-length:]):
        length -= 1
    before = text[: len(text) - length]
    return len(text) - len(before.rstrip())


class ReasoningParser:
    """Cuts the span off the head of an answer. White space around the marks belongs to them."""

    def __init__(self, form: ReasoningFormat, *, opened: bool) -> None:
        """``opened``: the prompt ends within the span, so the answer begins in it."""
        self._form = form
        self._opened = opened
        self._state = "start"  # start, span, gap (white space after the span), answer
        self._fresh = True  # nothing of the span has been given yet
        self._held = ""

    @property
    def inside(self) -> bool:
        """Whether the text at hand is reasoning."""
        return self._state == "span" or (self._state == "start" and self._opened)

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain."""
        pieces: list[Piece] = []
        self._held += text
        while self._held and self._step(pieces):
            pass
        return pieces

    def end(self) -> list[Piece]:
        """The rest, when the answer is over."""
        rest, self._held = self._held, ""
        if self._state == "gap" or (self._state in ("start", "span") and self.inside and not rest.strip()):
            return []
        return [Piece(reasoning=rest) if self.inside else Piece(rest)] if rest else []

    def _step(self, pieces: list[Piece]) -> bool:
        """One move to another state; False when more text is needed."""
        text = self._held
        if self._state == "answer":
            pieces.append(Piece(text))
            self._held = ""
            return False
        body = text.lstrip()
        if self._state == "gap":
            self._held = body
            self._state = "answer" if body else "gap"
            return bool(body)
        if self._state == "start":
            if body.startswith(self._form.open):
                self._held = body.removeprefix(self._form.open)
                self._state = "span"
                return True
            if self._form.open.startswith(body):
                return False
            self._state = "span" if self._opened else "answer"
            return True
        return self._span(pieces)

    def _span(self, pieces: list[Piece]) -> bool:
        if self._fresh:
            self._held = self._held.lstrip()
            self._fresh = not self._held
        at = self._held.find(self._form.close)
        cut = len(self._held) - held(self._held, self._form.close) if at < 0 else len(self._held[:at].rstrip())
        if cut:
            pieces.append(Piece(reasoning=self._held[:cut]))
        if at < 0:
            self._held = self._held[cut:]
            return False
        self._held = self._held[at + len(self._form.close) :]
        self._state = "gap"
        return True
